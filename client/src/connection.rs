//! Connections to nodes: one session each, a lane for reads and one for questions, made once and shared.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kennel_protocol::ids::{ClusterId, ProcessId};
use kennel_protocol::limits::{WIRE_VERSION, WIRE_VERSION_MIN};
use kennel_protocol::wire::{Hello, Role, Welcome};
use kennel_transport::close::CloseCode;
use kennel_transport::handshake::handshake_client;
use kennel_transport::lane::Lane;
use kennel_transport::rpc::Caller;
use kennel_transport::session::{Connector, Session};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::error::NodeError;
use crate::fabric::is_offered;

/// A session with a node.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) welcome: Welcome,
    /// Fetches.
    pub(crate) reads: Caller,
    /// Views and lists: they must not wait behind data.
    pub(crate) control: Caller,
    /// Whether the node writes answers into this process's landings.
    pub(crate) places: bool,
    session: Arc<dyn Session>,
}

impl Connection {
    /// The session, for whoever wants to know when it ends. Holding it does not keep it open.
    pub(crate) fn session(&self) -> Arc<dyn Session> {
        Arc::clone(&self.session)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.close(CloseCode::DONE, "the reader is done with it");
    }
}

/// The connections of a client, by address.
#[derive(Debug)]
pub(crate) struct Connections {
    connector: Arc<dyn Connector>,
    process: ProcessId,
    cluster: Option<ClusterId>,
    timeout: Duration,
    /// The own provider of the fabric, if there is one.
    provider: Option<String>,
    cells: Mutex<HashMap<SocketAddr, Arc<OnceCell<Arc<Connection>>>>>,
}

impl Connections {
    pub(crate) fn new(
        connector: Arc<dyn Connector>,
        cluster: Option<ClusterId>,
        timeout: Duration,
        provider: Option<String>,
    ) -> Self {
        let process = ProcessId(random_id());
        Self { connector, process, cluster, timeout, provider, cells: Mutex::new(HashMap::new()) }
    }

    /// The connection to a node, made if there is none. Who asks meanwhile waits for the same one.
    ///
    /// # Cancel safety
    /// Safe: whoever else waits makes the connection.
    pub(crate) async fn to(&self, address: SocketAddr) -> Result<Arc<Connection>, NodeError> {
        let cell = Arc::clone(self.cells().entry(address).or_default());
        let connection = cell.get_or_try_init(|| self.open(address)).await?;
        Ok(Arc::clone(connection))
    }

    /// Forgets a connection that turned out to be broken.
    pub(crate) fn forget(&self, address: SocketAddr, broken: &Arc<Connection>) {
        let mut cells = self.cells();
        let same = |cell: &Arc<OnceCell<Arc<Connection>>>| cell.get().is_some_and(|known| Arc::ptr_eq(known, broken));
        if cells.get(&address).is_some_and(same) {
            cells.remove(&address);
        }
    }

    async fn open(&self, address: SocketAddr) -> Result<Arc<Connection>, NodeError> {
        let deadline = Instant::now() + self.timeout;
        timeout_at(deadline, self.open_until(address, deadline)).await.unwrap_or(Err(NodeError::Late))
    }

    async fn open_until(&self, address: SocketAddr, deadline: Instant) -> Result<Arc<Connection>, NodeError> {
        let session = self.connector.connect(address).await.map_err(NodeError::Session)?;
        let hello = Hello {
            version_min: WIRE_VERSION_MIN,
            version_max: WIRE_VERSION,
            role: Role::Client,
            cluster: self.cluster,
            node: None,
            process: self.process,
            agent: concat!("kennel-client ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let welcome = handshake_client(&*session, hello, deadline).await.map_err(NodeError::Handshake)?;
        // Nothing comes unasked on either lane, so the incoming side is dropped.
        let (reads, _) = Caller::new(session.open(Lane::Read).await.map_err(NodeError::Broken)?);
        let (control, _) = Caller::new(session.open(Lane::Control).await.map_err(NodeError::Broken)?);
        let [reads, control] = [reads, control].map(|caller| caller.speaking(welcome.version));
        let places = match &self.provider {
            Some(provider) => is_offered(&control, provider, deadline).await,
            None => false,
        };
        Ok(Arc::new(Connection { welcome, reads, control, places, session }))
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<OnceCell<Arc<Connection>>>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 bits that differ between processes: the standard library seeds its hashers from the operating system.
pub(crate) fn random_id() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}
