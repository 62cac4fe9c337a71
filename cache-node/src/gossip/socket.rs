//! A gossip socket that is open before gossip starts: errors come early and a free port is known in time.

use std::net::SocketAddr;
use std::sync::Mutex;

use chitchat::transport::{Socket, Transport, UdpTransport};

/// Hands out the one socket that it opened.
pub(super) struct Bound {
    address: SocketAddr,
    socket: Mutex<Option<Box<dyn Socket>>>,
}

impl Bound {
    pub(super) async fn open(listen: SocketAddr) -> std::io::Result<Self> {
        let io = |error: anyhow::Error| match error.downcast::<std::io::Error>() {
            Ok(error) => error,
            Err(other) => std::io::Error::other(other),
        };
        let socket = UdpTransport.open(listen).await.map_err(io)?;
        let address = socket.local_addr().map_err(io)?;
        Ok(Self { address, socket: Mutex::new(Some(socket)) })
    }

    /// Where it listens, with the port that it really has.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait::async_trait]
impl Transport for Bound {
    /// The error type is the trait's.
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.socket.lock().expect("nobody panics while holding it").take();
        Ok(socket.expect("gossip opens its socket once"))
    }
}
