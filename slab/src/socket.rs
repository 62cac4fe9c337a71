//! Messages of one length over a Unix socket, and a descriptor beside one. It neither waits nor knows what they say.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Messages read at once.
const READ_AT_ONCE: usize = 64;

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

/// Messages of one length, as they come: several at once, or one in parts.
#[derive(Debug)]
pub struct Inbox<const LENGTH: usize> {
    messages: [[u8; LENGTH]; READ_AT_ONCE],
    /// Bytes that have come of them.
    length: usize,
}

impl<const LENGTH: usize> Default for Inbox<LENGTH> {
    fn default() -> Self {
        Self { messages: [[0; LENGTH]; READ_AT_ONCE], length: 0 }
    }
}

impl<const LENGTH: usize> Inbox<LENGTH> {
    /// Reads once and hands over each message that is whole, as `decode` reads it, to `take`. Returns whether there may be more
    /// to read.
    ///
    /// # Errors
    /// As the system says; `UnexpectedEof` where nothing will come, `InvalidInput` for what cannot be decoded.
    pub fn read<T>(
        &mut self,
        mut socket: impl Read,
        decode: impl Fn(&[u8; LENGTH]) -> Option<T>,
        mut take: impl FnMut(T),
    ) -> io::Result<bool> {
        let room = &mut self.messages.as_flattened_mut()[self.length..];
        let wanted = room.len();
        let read = match socket.read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            read => read?,
        };
        self.length += read;
        let whole = self.length / LENGTH;
        for message in &self.messages[..whole] {
            take(decode(message).ok_or(io::ErrorKind::InvalidInput)?);
        }
        self.messages.as_flattened_mut().copy_within(whole * LENGTH..self.length, 0);
        self.length -= whole * LENGTH;
        Ok(read == wanted)
    }
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

    /// Every message is one.
    const ALL: fn(&[u8; 3]) -> Option<[u8; 3]> = |message| Some(*message);

    #[test]
    fn messages_are_whole_however_they_come() {
        let (here, there) = UnixStream::pair().expect("sockets");
        there.set_nonblocking(true).expect("a socket");
        let (mut inbox, mut read) = (Inbox::default(), Vec::new());
        for (sent, expected) in [(&b"ab"[..], &[][..]), (b"cdefg", &[*b"abc", *b"def"]), (b"hi", &[*b"ghi"])] {
            rustix::io::write(&here, sent).expect("room");
            read.clear();
            assert!(!inbox.read(&there, ALL, |message| read.push(message)).expect("something came"));
            assert_eq!(read, expected);
        }
        let nothing = |_| panic!("nothing came");
        assert!(!inbox.read(&there, ALL, nothing).expect("nothing has come"));
        rustix::io::write(&here, b"jkl").expect("room");
        let garbage = inbox.read(&there, |_| None::<()>, |()| panic!("it is no message"));
        assert_eq!(garbage.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
        drop(here);
        let end = inbox.read(&there, ALL, nothing);
        assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn more_messages_than_one_read_takes_are_said_to_be_there() {
        let (here, there) = UnixStream::pair().expect("sockets");
        let sent: Vec<_> = (0..=u8::try_from(READ_AT_ONCE).expect("a few")).map(|at| [at; 3]).collect();
        rustix::io::write(&here, sent.as_flattened()).expect("room");
        let (mut inbox, mut read) = (Inbox::default(), Vec::new());
        assert!(inbox.read(&there, ALL, |message| read.push(message)).expect("they came"));
        assert!(!inbox.read(&there, ALL, |message| read.push(message)).expect("the rest"));
        assert_eq!(read, sent);
    }
}
