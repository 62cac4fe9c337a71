//! Finds a node of the ring that answers, and opens sessions to nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kennel_protocol::ids::{ClusterId, NodeId, ProcessId};
use kennel_protocol::limits::{WIRE_VERSION, WIRE_VERSION_MIN};
use kennel_protocol::wire::{Hello, Role, Welcome};
use kennel_transport::close::Advice;
use kennel_transport::handshake::{HandshakeError, handshake_client};
use kennel_transport::session::{ConnectError, Connector, Session};
use tokio::time::Instant;

/// A node on the same network answers a hello within milliseconds; a loaded one within this.
const HELLO_WAIT: Duration = Duration::from_secs(5);
/// Between two rounds over the addresses.
const SEED_PAUSE: Duration = Duration::from_millis(300);

/// Why a node cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// It cannot be reached.
    #[error("cannot reach the ring at {address}")]
    Connect {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// It was reached and did not welcome us.
    #[error("the node at {address} did not welcome this shipper")]
    Handshake {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: HandshakeError,
    },
    /// Another node than expected answers there. Fix: the ring's addresses; or it is being replaced, retry.
    #[error("node {found} answers at {address} where node {expected} was expected")]
    OtherNode {
        /// Which address.
        address: SocketAddr,
        /// Who was expected.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// No address to try. Fix: name at least one node.
    #[error("no address of the ring is known; name at least one node")]
    NoAddress,
}

impl RingError {
    /// Whether trying again can help.
    fn may_pass(&self) -> bool {
        let advice = match self {
            Self::Connect { source, .. } => source.advice(),
            Self::Handshake { source, .. } => source.advice(),
            Self::OtherNode { .. } => Advice::Retry,
            Self::NoAddress => Advice::Fix,
        };
        matches!(advice, Advice::Retry | Advice::Wait)
    }
}

/// How to reach a ring. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ring {
    connector: Arc<dyn Connector>,
    seeds: Arc<[SocketAddr]>,
    cluster: Option<ClusterId>,
    process: ProcessId,
}

impl Ring {
    /// A ring of which these nodes are known. `process` names this start of the shipper.
    pub fn new(connector: Arc<dyn Connector>, seeds: Vec<SocketAddr>, process: ProcessId) -> Self {
        Self { connector, seeds: seeds.into(), cluster: None, process }
    }

    /// Opens a session to the first node that welcomes us, trying all addresses until `patience` is over.
    ///
    /// # Cancel safety
    /// Safe: a half-open session is dropped.
    pub async fn first_node(&self, patience: Duration) -> Result<(Arc<dyn Session>, Welcome), RingError> {
        let deadline = Instant::now() + patience;
        let mut error = RingError::NoAddress;
        loop {
            for seed in self.seeds.iter() {
                match self.connect(*seed, None).await {
                    Ok(found) => return Ok(found),
                    Err(failed) => error = failed,
                }
            }
            if Instant::now() >= deadline || !error.may_pass() {
                return Err(error);
            }
            tokio::time::sleep(SEED_PAUSE).await;
        }
    }

    /// Opens a session to a node.
    ///
    /// # Cancel safety
    /// Safe: a half-open session is dropped.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: Option<NodeId>,
    ) -> Result<(Arc<dyn Session>, Welcome), RingError> {
        let session = self.connector.connect(address).await.map_err(|source| RingError::Connect { address, source })?;
        let welcome = handshake_client(session.as_ref(), self.hello(), Instant::now() + HELLO_WAIT)
            .await
            .map_err(|source| RingError::Handshake { address, source })?;
        match expected {
            Some(expected) if expected != welcome.node => {
                Err(RingError::OtherNode { address, expected, found: welcome.node })
            }
            _ => Ok((session, welcome)),
        }
    }

    /// The same ring, but only if it is of this cluster: every later session must be of the first one's.
    #[must_use]
    pub fn of_cluster(self, cluster: ClusterId) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    fn hello(&self) -> Hello {
        Hello {
            version_min: WIRE_VERSION_MIN,
            version_max: WIRE_VERSION,
            role: Role::Shipper,
            cluster: self.cluster,
            node: None,
            process: self.process,
            agent: concat!("wal-shipper ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}
