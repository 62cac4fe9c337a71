//! Membership by gossip: who lives, where, and which shards each node believes that it owns.
//!
//! Gossip is UDP, neither encrypted nor authenticated, and its news may be late, lost or forged. It says when to try
//! something and whom to ask first; claims and seals in the bucket and the certificates of sessions decide what is
//! true. A liar on this port can make nodes try needlessly and can delay a take-over, and cannot make the cluster lose,
//! repeat or mix up a byte. Its port still belongs on a private network.
//!
//! This module knows nothing of rings, claims or settle times: it publishes what it sees.

mod news;
mod socket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use kennel_core::membership::Member;
use kennel_protocol::ids::{ClusterId, Epoch, NodeId, ShardId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use news::{GossipView, Ownership};
use socket::Bound;

/// A node is thought dead when it has been silent this many times longer than usual (phi accrual).
const PHI_THRESHOLD: f64 = 8.0;
/// Silence is compared with so many of the last heartbeats.
const HEARTBEATS_SAMPLED: usize = 200;
/// How long the state of a dead node and of a deleted key is kept, so that late news does not bring it back.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// A node that leaves says so, and stays for so many rounds that its neighbours hear it.
const FAREWELL_ROUNDS: u32 = 2;

/// What gossip is told at its start.
#[derive(Debug, Clone)]
pub struct GossipSettings {
    /// The UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host under which others reach it; `None` for the address that it listens on.
    pub advertise: Option<String>,
    /// `host:port` of some nodes of the cluster. Names are resolved again every minute.
    pub seeds: Vec<String>,
    /// News of other clusters is ignored.
    pub cluster: ClusterId,
    /// Shards above this count are not news.
    pub shard_count: u16,
    /// How often it speaks.
    pub interval: Duration,
    /// This node, as others shall see it.
    pub member: Member,
    /// The address of this node's status page, `host:port`.
    pub http: String,
}

/// Why gossip did not start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The address is taken or is not one of this host. Fix: `listen.gossip`.
    #[error("cannot listen for gossip on {address}: is another node running there? (listen.gossip)")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The advertised name means no address. Fix: `listen.advertise`.
    #[error("`{host}` has no address that others could reach (listen.advertise)")]
    Advertise {
        /// Which name.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Running gossip. Dropping it without [`Gossip::stop`] ends it as a crash would.
#[derive(Debug)]
pub struct Gossip {
    address: SocketAddr,
    owned: watch::Sender<BTreeMap<ShardId, Ownership>>,
    view: watch::Receiver<GossipView>,
    draining: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gossip {
    /// Listens, and starts to look for the seeds.
    ///
    /// # Cancel safety
    /// Cancelled, it leaves no socket and no task behind, unless gossip itself had started by then: it then ends
    /// with the runtime.
    pub async fn start(settings: GossipSettings) -> Result<Self, GossipError> {
        let listen_failed = |source| GossipError::Listen { address: settings.listen, source };
        let bound = Bound::open(settings.listen).await.map_err(listen_failed)?;
        let address = bound.address();
        let advertised = advertised(&settings, address).await?;
        let config = config(&settings, address, advertised);
        let keys = news::announce(&settings.member, &settings.http);
        let handle = spawn_chitchat(config, keys, &bound).await.expect("the socket is open already");

        let (owned, owned_changes) = watch::channel(BTreeMap::new());
        let (view_changes, view) = watch::channel(GossipView::alone(settings.member.clone(), settings.http.clone()));
        let (draining, drain) = watch::channel(false);
        let (stopping, stop) = watch::channel(false);
        let speaker = Speaker {
            handle,
            announced: BTreeMap::new(),
            owned: owned_changes,
            drain,
            view: view_changes,
            shard_count: settings.shard_count,
            farewell: settings.interval * FAREWELL_ROUNDS,
        };
        let task = tokio::spawn(speaker.run(stop));
        Ok(Self { address: advertised, owned, view, draining, stopping, task })
    }

    /// Where others reach this node's gossip: a seed for them.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says that this node owns a shard and how far it is stored (PROTOCOL R27). Never blocks; news between two rounds
    /// of gossip is folded together.
    pub fn set_ownership(&self, shard: ShardId, epoch: Epoch, stored: u64) {
        let ownership = Ownership { epoch, stored };
        self.owned.send_if_modified(|owned| owned.insert(shard, ownership) != Some(ownership));
    }

    /// Says that this node no longer owns a shard.
    pub fn clear_ownership(&self, shard: ShardId) {
        self.owned.send_if_modified(|owned| owned.remove(&shard).is_some());
    }

    /// Says that nothing new is to be placed on this node.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// What this node sees, itself included, from the first moment on. The channel closes when gossip has ended.
    pub fn watch(&self) -> watch::Receiver<GossipView> {
        self.view.clone()
    }

    /// Says farewell, so that others need not wait for silence, and ends.
    ///
    /// # Cancel safety
    /// Cancelled, gossip ends all the same; only nobody waits for it.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        if self.task.await.is_err() {
            tracing::warn!("gossip had ended before it was stopped");
        }
    }
}

/// The address that others are told; a name is resolved once.
async fn advertised(settings: &GossipSettings, bound: SocketAddr) -> Result<SocketAddr, GossipError> {
    let Some(host) = &settings.advertise else { return Ok(bound) };
    let failed = |source| GossipError::Advertise { host: host.clone(), source };
    let mut addresses = tokio::net::lookup_host((host.as_str(), bound.port())).await.map_err(failed)?;
    addresses
        .find(|address| address.is_ipv4() == bound.is_ipv4())
        .ok_or_else(|| failed(std::io::Error::other("no address of the family that gossip listens on")))
}

fn config(settings: &GossipSettings, listen_addr: SocketAddr, advertised: SocketAddr) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: ChitchatId::new(settings.member.node.to_string(), generation(), advertised),
        cluster_id: settings.cluster.to_string(),
        gossip_interval: settings.interval,
        listen_addr,
        seed_nodes: settings.seeds.clone(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI_THRESHOLD,
            sampling_window_size: HEARTBEATS_SAMPLED,
            // A gap this long is an outage and says nothing about the usual rhythm.
            max_interval: settings.interval * 25,
            initial_interval: settings.interval * 2,
            dead_node_grace_period: FORGET_AFTER,
        },
        marked_for_deletion_grace_period: FORGET_AFTER,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

/// Tells this start of the process from earlier ones. A clock that ran backwards only makes others notice later.
fn generation() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The task that turns ownership into keys and keys into views.
struct Speaker {
    handle: ChitchatHandle,
    announced: BTreeMap<ShardId, Ownership>,
    owned: watch::Receiver<BTreeMap<ShardId, Ownership>>,
    drain: watch::Receiver<bool>,
    view: watch::Sender<GossipView>,
    shard_count: u16,
    farewell: Duration,
}

impl Speaker {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut live = self.handle.chitchat().lock().await.live_nodes_watcher();
        let ended = self.handle.termination_watcher();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                // An error means that the handle was dropped: the node crashes or stops without a word.
                changed = stop.changed() => return if changed.is_ok() { self.leave().await } else { self.handle.abort() },
                result = &mut ended => {
                    tracing::error!(error = ?result.err(), "gossip ended by itself; this node no longer sees others");
                    return;
                }
                Ok(()) = self.owned.changed() => self.announce().await,
                Ok(()) = self.drain.changed() => self.say(news::DRAINING).await,
                Ok(()) = live.changed() => self.publish(&live.borrow_and_update()),
            }
        }
    }

    fn publish(&self, live: &BTreeMap<ChitchatId, chitchat::NodeState>) {
        let seen = news::view(live, self.shard_count);
        if let Some(member) = seen.members.iter().find(|member| member.node == self.node())
            && member.process != self.view.borrow().process
        {
            tracing::error!(node = %member.node, other = %member.process, "another process uses this node's id");
        }
        self.view.send_if_modified(|view| view.update(seen));
    }

    fn node(&self) -> NodeId {
        self.view.borrow().node
    }

    async fn announce(&mut self) {
        let owned = self.owned.borrow_and_update().clone();
        let chitchat = self.handle.chitchat();
        let mut chitchat = chitchat.lock().await;
        let keys = chitchat.self_node_state();
        for (shard, ownership) in &owned {
            keys.set(news::shard_key(*shard), ownership);
        }
        for shard in self.announced.keys().filter(|shard| !owned.contains_key(shard)) {
            keys.delete(&news::shard_key(*shard));
        }
        self.announced = owned;
    }

    async fn say(&self, key: &str) {
        let chitchat = self.handle.chitchat();
        chitchat.lock().await.self_node_state().set(key, "1");
    }

    async fn leave(self) {
        self.say(news::LEFT).await;
        tokio::time::sleep(self.farewell).await;
        if let Err(error) = self.handle.shutdown().await {
            tracing::warn!(%error, "gossip did not end cleanly");
        }
    }
}

#[cfg(test)]
mod tests;
