//! The UDP socket below an endpoint: dual-stack where it can be, with buffers that hold a send window.
//!
//! It knows sockets and the kernel's limits; it knows no QUIC.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What the kernel granted of the socket buffers that were asked for, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    /// Asked for, each.
    pub wanted: usize,
    /// Granted to receive.
    pub receive: usize,
    /// Granted to send.
    pub send: usize,
}

impl SocketBuffers {
    /// Whether the kernel granted less than was asked for.
    pub fn short(&self) -> bool {
        self.receive < self.wanted || self.send < self.wanted
    }
}

/// Binds sockets at one address and gives them buffers. Too little granted is a warning, not an error: it costs speed only.
///
/// Linux hashes the two addresses of a packet over several sockets (`SO_REUSEPORT`, socket(7)): a session stays with one.
pub(super) fn bind(
    address: SocketAddr,
    count: u16,
    buffer_bytes: usize,
) -> io::Result<(Vec<UdpSocket>, SocketBuffers)> {
    if count == 1 {
        let (socket, buffers) = bind_one(address, false, buffer_bytes)?;
        return Ok((vec![socket], buffers));
    }
    // Sockets that share an address would share it with another process of this user, too, and take half of its packets.
    drop(bind_one(address, false, buffer_bytes)?);
    let (first, buffers) = bind_one(address, true, buffer_bytes)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind_one(address, true, buffer_bytes)?.0);
    }
    Ok((sockets, buffers))
}

fn bind_one(address: SocketAddr, shared: bool, buffer_bytes: usize) -> io::Result<(UdpSocket, SocketBuffers)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // One socket for both families. A host that forbids it still gets its IPv6 socket.
        let _ = socket.set_only_v6(false);
    }
    // Asking for more than the kernel allows gives what it allows; the look afterwards tells.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&SockAddr::from(address))?;
    let buffers = SocketBuffers {
        wanted: buffer_bytes,
        receive: usable(socket.recv_buffer_size()?),
        send: usable(socket.send_buffer_size()?),
    };
    if buffers.short() {
        tracing::warn!(
            wanted = buffers.wanted,
            receive = buffers.receive,
            send = buffers.send,
            "the kernel grants smaller socket buffers than asked for, packets will be lost under load: \
             raise net.core.rmem_max and net.core.wmem_max to {buffer_bytes}"
        );
    }
    Ok((socket.into(), buffers))
}

/// Linux reports twice what may be used: the other half is its own bookkeeping.
fn usable(reported: usize) -> usize {
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_kernel_says_what_it_granted() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (_, buffers) = bind(any, 1, 64 * 1024).expect("a socket");
        assert!(!buffers.short(), "{buffers:?}");
        let (_, buffers) = bind(any, 1, 1 << 30).expect("a socket");
        assert!(buffers.short(), "no kernel grants a GiB: {buffers:?}");
    }

    #[test]
    fn an_address_is_shared_among_own_sockets_only() {
        let (sockets, _) = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 3, 64 * 1024).expect("three sockets");
        let address = sockets[0].local_addr().expect("bound");
        assert!(sockets.iter().all(|socket| socket.local_addr().expect("bound") == address));
        for count in [1, 2] {
            let error = bind(address, count, 64 * 1024).expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
