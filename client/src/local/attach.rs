//! Getting the node's memory: asked for over the session, fetched at a Unix socket, and again when it is gone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kennel_protocol::ids::NodeId;
use kennel_protocol::local::{Entrance, Grant, LOCAL_MESSAGE_BYTES};
use kennel_protocol::wire::{LocalRequest, LocalSocket};
use kennel_slab::host::host_id;
use kennel_slab::socket::receive_with_descriptor;
use kennel_slab::{MapError, SlabReader};
use kennel_transport::quiet::QuietStream;
use kennel_transport::session::Session;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::link::Link;
use crate::client::Inner;
use crate::error::NodeError;

/// The first pause after the memory is gone: a node that restarts takes about so long.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The pause where the node offers nothing: a question of 48 bytes every half minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long the node's socket may take for anything.
const SOCKET_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no memory of the node.
#[derive(Debug, thiserror::Error)]
enum NoSlab {
    #[error("this system does not say which host it is")]
    NoHost,
    #[error("the node could not be asked")]
    Node(#[source] NodeError),
    #[error("the node offers none")]
    NotOffered,
    #[error("the node's socket at {path} cannot be used")]
    Socket {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("what the node's socket gave cannot be used")]
    Slab(#[source] MapError),
}

/// Attaches to the memory of a node, and attaches anew when it is gone, as long as the client lives.
pub(crate) async fn keep(client: Weak<Inner>, node: NodeId, known_at: SocketAddr) {
    let mut pause = PAUSE_MIN;
    loop {
        // Held no longer than it takes: a client that nobody has any more ends.
        let Some(inner) = client.upgrade() else { return };
        let attached = attach(&inner, node, known_at).await;
        if let Ok((link, _)) = &attached {
            inner.local().set(Some(Arc::clone(link)));
        }
        drop(inner);
        match attached {
            Ok((link, session)) => {
                tracing::debug!(%node, "reads from the node's memory");
                // A node that is paused keeps its sockets open, and wakes nobody: the session notices.
                tokio::select! {
                    () = link.listen() => {}
                    _ = session.closed() => {}
                }
                link.end();
                let Some(inner) = client.upgrade() else { return };
                inner.local().set(None);
                pause = PAUSE_MIN;
                tracing::debug!(%node, "the node's memory is gone; reads go over the network");
            }
            Err(error) => {
                tracing::debug!(%node, error = &error as &dyn std::error::Error, "no memory of the node");
                pause = if matches!(error, NoSlab::Node(_)) { (pause * 2).min(PAUSE_MAX) } else { PAUSE_MAX };
            }
        }
        sleep(pause).await;
    }
}

async fn attach(inner: &Inner, node: NodeId, known_at: SocketAddr) -> Result<(Arc<Link>, Arc<dyn Session>), NoSlab> {
    let host = host_id().ok_or(NoSlab::NoHost)?;
    let offer = inner.ask_local(node, known_at, LocalRequest { host }).await.map_err(NoSlab::Node)?;
    let (offer, session) = offer.ok_or(NoSlab::NotOffered)?;
    let socket = offer.socket.ok_or(NoSlab::NotOffered)?;
    let failed = |source| NoSlab::Socket { path: socket.path.clone(), source };
    let opening = timeout(SOCKET_PATIENCE, open(&socket)).await;
    let (stream, grant, descriptor) =
        opening.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
    let slab = SlabReader::map(descriptor.as_fd(), grant.bytes, socket.slab).map_err(NoSlab::Slab)?;
    let stream = QuietStream::new(stream).map_err(failed)?;
    Ok((Arc::new(Link::new(slab, stream)), session))
}

async fn open(socket: &LocalSocket) -> io::Result<(UnixStream, Grant, OwnedFd)> {
    let mut stream = UnixStream::connect(&socket.path).await?;
    stream.write_all(&Entrance { token: socket.token }.encode()).await?;
    let mut bytes = [0; LOCAL_MESSAGE_BYTES];
    let receive = || receive_with_descriptor(&stream, &mut bytes);
    let (length, descriptor) = stream.async_io(Interest::READABLE, receive).await?;
    let grant = Grant::decode(&bytes).filter(|grant| length == bytes.len() && grant.slab == socket.slab);
    match (grant, descriptor) {
        (Some(grant), Some(descriptor)) => Ok((stream, grant, descriptor)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
