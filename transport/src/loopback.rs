//! Sessions inside one process, for tests and for clusters in a box.
//!
//! The same frames, codecs and limits as over QUIC; only the bytes travel through bounded queues. There is no CA: a peer
//! is whoever the test says it is.

mod pipe;
mod session;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kennel_protocol::wire::Role;
use tokio::sync::mpsc;

use crate::close::{CloseCode, SessionError};
use crate::session::{ConnectError, Connector, Listener, ListenerClosed, Peer, Session};

pub(crate) use pipe::{Reader, Writer};

/// Sessions that wait to be accepted. A burst of a test's whole cluster fits.
const SESSIONS_WAITING_MAX: usize = 64;

/// The first of the made-up ports: above those that a system hands out, so that a mix-up shows.
const PORT_FIRST: u16 = 61_000;

/// A network in memory: who listens where. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct LoopbackNetwork {
    places: Arc<Mutex<Places>>,
}

#[derive(Debug, Default)]
struct Places {
    listeners: BTreeMap<SocketAddr, Listening>,
    ports_used: u16,
}

#[derive(Debug, Clone)]
struct Listening {
    identity: LoopbackIdentity,
    sessions: mpsc::Sender<Arc<dyn Session>>,
}

/// Who a side of a loopback session is, in the place of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopbackIdentity {
    /// In the place of the certificate's common name.
    pub common_name: String,
    /// What the certificate would say that it may be.
    pub role: Option<Role>,
}

impl LoopbackNetwork {
    /// A network where nobody listens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens at a new address.
    pub fn listen(&self, identity: LoopbackIdentity) -> LoopbackListener {
        let mut places = self.places();
        let address = places.next_address();
        let (sender, sessions) = mpsc::channel(SESSIONS_WAITING_MAX);
        places.listeners.insert(address, Listening { identity, sessions: sender });
        LoopbackListener { network: self.clone(), address, sessions }
    }

    /// Connects as `identity`.
    pub fn connector(&self, identity: LoopbackIdentity) -> LoopbackConnector {
        LoopbackConnector { network: self.clone(), identity }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Every change is one insert or remove, so a panic elsewhere cannot have left it half done.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn next_address(&mut self) -> SocketAddr {
        let port = PORT_FIRST.checked_add(self.ports_used).expect("a test has fewer than 4,000 sides");
        self.ports_used += 1;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// Takes loopback sessions.
#[derive(Debug)]
pub struct LoopbackListener {
    network: LoopbackNetwork,
    address: SocketAddr,
    sessions: mpsc::Receiver<Arc<dyn Session>>,
}

#[async_trait]
impl Listener for LoopbackListener {
    async fn accept(&mut self) -> Result<Arc<dyn Session>, ListenerClosed> {
        self.sessions.recv().await.ok_or(ListenerClosed)
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn close(&mut self) {
        self.network.places().listeners.remove(&self.address);
        self.sessions.close();
    }
}

impl Drop for LoopbackListener {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens loopback sessions.
#[derive(Debug, Clone)]
pub struct LoopbackConnector {
    network: LoopbackNetwork,
    identity: LoopbackIdentity,
}

#[async_trait]
impl Connector for LoopbackConnector {
    async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Session>, ConnectError> {
        let nobody = || ConnectError::Failed { address, source: SessionError::Silent };
        let (listening, here) = {
            let mut places = self.network.places();
            let listening = places.listeners.get(&address).cloned().ok_or_else(nobody)?;
            (listening, places.next_address())
        };
        let (near, far) = session::pair(peer(address, &listening.identity), peer(here, &self.identity));
        listening.sessions.send(Arc::new(far)).await.map_err(|_| nobody())?;
        Ok(Arc::new(near))
    }
}

fn peer(address: SocketAddr, identity: &LoopbackIdentity) -> Peer {
    Peer { address, common_name: identity.common_name.clone(), role_hint: identity.role }
}

/// How a pair of loopback sessions ended, seen from both sides.
#[derive(Debug, Clone)]
struct Ended {
    by: usize,
    code: CloseCode,
    reason: String,
}

impl Ended {
    fn seen_by(&self, side: usize) -> SessionError {
        if self.by == side {
            SessionError::ClosedHere
        } else {
            SessionError::ClosedByPeer { code: self.code, reason: self.reason.clone() }
        }
    }
}
