//! One message with one descriptor over a Unix socket. It neither waits nor knows what the message says.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Sends bytes and a descriptor together. Returns how many bytes went; the descriptor goes with the first.
///
/// # Errors
/// As the system says; `WouldBlock` where the socket does not block and has no room.
pub fn send_with_descriptor(socket: impl AsFd, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is space for one");
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes, and the descriptor that came with them, if one did. More than one are closed.
///
/// # Errors
/// As the system says; `WouldBlock` where the socket does not block and nothing came.
pub fn receive_with_descriptor(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok((received.bytes, descriptors.flatten().next()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_travels_with_its_bytes() {
        let (here, there) = UnixStream::pair().expect("sockets");
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
        rustix::io::write(&file, b"hello").expect("room");
        assert_eq!(send_with_descriptor(&here, b"take it", file.as_fd()).expect("room"), 7);
        let mut bytes = [0; 16];
        let (received, descriptor) = receive_with_descriptor(&there, &mut bytes).expect("it came");
        assert_eq!(&bytes[..received], b"take it");
        let mut content = [0; 5];
        rustix::io::pread(descriptor.expect("with it"), &mut content, 0).expect("the same file");
        assert_eq!(&content, b"hello");
        rustix::io::write(&here, b"bare").expect("room");
        assert!(receive_with_descriptor(&there, &mut bytes).expect("it came").1.is_none());
    }
}
