//! The node: everything wired together, started in order and stopped in order.
//!
//! ```text
//! sessions ──► serve ──► shard_task (one per shard: the machine) ──► journal_edge ──► journal
//!    readers ──► read_lane ──► answers ──► read::Reader        ├──► bucket_edge ──► bucket
//! gossip ──► members ──► placement of every shard ─────────────┘──► peers ──► other nodes
//! ```
//!
//! All long-lived tasks are spawned in `start`. Stopping refuses new work, publishes and hands over, then closes
//! sessions, then the journal. `kill -9` at any point is as safe, only slower to come back from.

mod announcing;
mod answers;
mod bucket_edge;
mod catalog_book;
mod catalog_store;
mod clock;
mod compare;
mod error;
mod gateway;
mod journal_edge;
mod ledger;
mod link;
mod members;
mod peers;
mod read_lane;
mod recovery;
mod residence;
mod roles;
mod serve;
mod shard_settings;
mod shard_task;
mod showing;
mod start;
mod status;
mod stowed;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kennel_core::shard::Input;
use kennel_gateway::Gateway;
use kennel_protocol::ids::{ClusterId, NodeId, ShardId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub use error::NodeError;

use crate::config::Settings;
use crate::gossip::Gossip;
use crate::http::Http;
use crate::journal::Journal;
use crate::read::BlockCache;
use peers::Peers;
use shard_task::ShardInput;

pub(crate) use verify::bodies_hold;

/// How long a stopping node tries to publish and hand over before it stops all the same.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How often a stopping node looks whether it is through.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// A running node.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    cluster: ClusterId,
    quic: SocketAddr,
    gossip_address: SocketAddr,
    http: Http,
    shards: Vec<mpsc::Sender<ShardInput>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    fatal: mpsc::Receiver<String>,
    peers: Peers,
    gossip: Arc<Gossip>,
    cache: Arc<BlockCache>,
    journal: Journal,
    gateway: Option<Gateway>,
}

impl Node {
    /// Starts a node: certificates, bucket, journal, then everything that listens.
    ///
    /// # Errors
    /// With the first thing that is not as it must be; nothing is left running.
    ///
    /// # Cancel safety
    /// Not safe: listeners may be left open until the runtime ends.
    pub async fn start(settings: Settings) -> Result<Self, NodeError> {
        start::start(settings).await
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its cluster, as the bucket names it.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Where it takes sessions.
    pub fn quic_address(&self) -> SocketAddr {
        self.quic
    }

    /// Where it gossips.
    pub fn gossip_address(&self) -> SocketAddr {
        self.gossip_address
    }

    /// Where Iggy's clients connect; `None` where that is off.
    pub fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(Gateway::address)
    }

    /// Where its status page is.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Returns when something happened that the node cannot live with, and says what.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&mut self) -> String {
        match self.fatal.recv().await {
            Some(what) => what,
            None => "every shard has ended".to_owned(),
        }
    }

    /// Publishes, hands over, closes. Takes ten seconds at most, and then stops all the same.
    ///
    /// # Cancel safety
    /// Not safe: call it once and let it end; a crash is safe, too.
    pub async fn stop(mut self) {
        let handed_over = timeout(STOP_PATIENCE, self.hand_over()).await.is_ok();
        tracing::info!(handed_over, "stopping");
        self.end().await;
        // The shards held it; they have ended.
        if let Some(gossip) = Arc::into_inner(self.gossip) {
            gossip.stop().await;
        }
        if let Err(error) = self.journal.close() {
            tracing::warn!(error = %error, "the journal did not close cleanly");
        }
    }

    /// Ends without handing anything over, as a crash would: for tests that want to be quick.
    ///
    /// # Cancel safety
    /// Safe: what is left ends with the runtime.
    pub async fn abandon(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
        self.tasks.shutdown().await;
        self.peers.stop().await;
        self.cache.close().await;
    }

    /// Asks every shard to stop, and waits until none is owned.
    async fn hand_over(&self) {
        self.gossip.drain();
        for inbox in &self.shards {
            if inbox.send(ShardInput::Machine(Input::Stop)).await.is_err() {
                return;
            }
        }
        let started = Instant::now();
        while self.owns_any().await && started.elapsed() < STOP_PATIENCE {
            sleep(STOP_LOOK).await;
        }
    }

    async fn owns_any(&self) -> bool {
        for inbox in &self.shards {
            let (answer, answered) = oneshot::channel();
            if inbox.send(ShardInput::Status(answer)).await.is_ok()
                && answered.await.is_ok_and(|status| status.role == "owner")
            {
                return true;
            }
        }
        false
    }
}

/// Tells the node of this directory that an operator accepts the loss of what unreachable journals of a shard alone
/// hold (PROTOCOL R2). The node takes the word within seconds if it has no owner for the shard, and says so in its log.
///
/// # Errors
/// If the node's directory cannot be written.
pub fn force(settings: &Settings, shard: ShardId) -> Result<(), NodeError> {
    let path = force_file(settings, shard);
    std::fs::write(&path, []).map_err(|source| NodeError::Directory { path, source })
}

fn force_file(settings: &Settings, shard: ShardId) -> PathBuf {
    settings.node.directory.join(format!("force-shard-{shard}"))
}

/// Runs a node until SIGINT or SIGTERM, or until it fails.
///
/// # Errors
/// If it cannot start, or meets something that it cannot live with.
///
/// # Cancel safety
/// Not safe: see [`Node::start`].
pub async fn run(settings: Settings) -> Result<(), NodeError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signal)?;
    let mut node = Node::start(settings).await?;
    tracing::info!(node = %node.id(), quic = %node.quic_address(), http = %node.http_address(), "the node serves");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        what = node.failed() => {
            node.abandon().await;
            return Err(NodeError::Failed(what));
        }
    }
    node.stop().await;
    Ok(())
}
