//! Settings as the rest of the node sees them: checked, in units of the standard library, never re-read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kennel_fabric::FabricChoice;
use kennel_gateway::GatewaySettings;
use kennel_protocol::ids::{ClusterId, NodeId};
use kennel_transport::quic::QuicSettings;
use serde::{Deserialize, Serialize};

use crate::bucket::BucketSettings;

/// Everything that a node is told at its start. What the keys mean stands in `configs/cache-node.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who this node is.
    pub node: NodeSettings,
    /// Where it listens.
    pub listen: ListenSettings,
    /// What all nodes of the cluster must agree on.
    pub cluster: ClusterSettings,
    /// Gossip addresses of some nodes, `host:port`. Local: nodes may name different ones.
    pub seeds: Vec<String>,
    /// The bucket.
    pub bucket: BucketSettings,
    /// Certificates.
    pub tls: TlsSettings,
    /// The write-ahead log.
    pub journal: JournalSettings,
    /// When objects are closed and uploaded.
    pub flush: FlushSettings,
    /// Most bytes of newest batches in memory.
    pub tail_bytes_max: u64,
    /// The cache of cold blocks.
    pub cache: CacheSettings,
    /// Where back-pressure begins.
    pub limits: LimitSettings,
    /// How long things may take. For liveness only.
    pub timing: TimingSettings,
    /// The gateway for Iggy's clients; `None` if it is off.
    pub gateway: Option<GatewaySettings>,
    /// What readers of this host share with the node; `None` if it is off.
    pub local: Option<LocalSettings>,
    /// How answers are written into readers' memory; `None` if it is off.
    pub fabric: Option<FabricSettings>,
    /// How sessions use the network.
    pub quic: QuicSettings,
    /// The log filter, as `tracing` reads it.
    pub log_filter: String,
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its id.
    pub id: NodeId,
    /// Its directory.
    pub directory: PathBuf,
    /// Its zone; empty is a zone too.
    pub zone: String,
    /// Its share of the shards: points on the ring.
    pub weight: u32,
    /// Threads that serve it.
    pub threads: usize,
}

/// Where the node listens and is reached.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// Sessions (UDP).
    pub quic: SocketAddr,
    /// Gossip (UDP).
    pub gossip: SocketAddr,
    /// Health, metrics, status (TCP).
    pub http: SocketAddr,
    /// The host under which others reach the node, where it is not the address it listens on.
    pub advertise: Option<String>,
}

impl ListenSettings {
    /// The `host:port` under which others reach a listener that is bound to `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match &self.advertise {
            Some(host) if host.contains(':') => format!("[{host}]:{}", bound.port()),
            Some(host) => format!("{host}:{}", bound.port()),
            None => bound.to_string(),
        }
    }
}

/// What readers of this host share with the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSettings {
    /// The Unix socket where they get it.
    pub socket: PathBuf,
    /// Length of the shared memory, whole pages.
    pub bytes: u64,
}

/// How answers are written into readers' memory, and copies into followers'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabricSettings {
    /// Whether the node does not start without it.
    pub required: bool,
    /// Which one.
    pub choice: FabricChoice,
    /// Smaller answers and copies are not placed.
    pub placed_bytes_min: u64,
    /// How long one placement may take.
    pub placement_timeout: Duration,
    /// Memory to send from, where the provider wants some.
    pub send_bytes: u64,
    /// The largest copy that the node takes by the fabric.
    pub landing_bytes: u64,
    /// Copies that may be on their way to the node at once; none: copies come over QUIC.
    pub landing_count: usize,
}

/// When an entry counts as journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk, by a group-committed sync.
    Journal,
    /// In memory.
    Memory,
}

/// What all nodes of the cluster must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The cluster, if one is insisted on; else whatever the bucket says.
    pub id: Option<ClusterId>,
    /// Shards, for the creation of the bucket prefix and checked against it later.
    pub shard_count: u16,
    /// Journals that hold each entry.
    pub copies: u8,
    /// Below this many copies acknowledgements wait for the bucket.
    pub min_copies: u8,
    /// When an entry counts as journaled.
    pub durability: Durability,
}

/// Certificates, PEM files.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The authority.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The write-ahead log.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// Bytes on disk, preallocated.
    pub bytes: u64,
    /// File or block device.
    pub path: PathBuf,
}

/// When objects are closed and uploaded.
#[derive(Debug, Clone)]
pub struct FlushSettings {
    /// How long the oldest entry waits for company.
    pub interval: Duration,
    /// The same in a shard with little to say.
    pub interval_idle: Duration,
    /// An object is closed early at this many bytes.
    pub object_bytes_max: u64,
    /// Uploads of one shard at once.
    pub uploads_in_flight: usize,
}

/// The cache of cold blocks.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes on disk; 0 is off.
    pub disk_bytes: u64,
    /// Where the disk part lives.
    pub directory: PathBuf,
}

/// Where back-pressure begins.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// Bytes that wait for the bucket in memory, over all shards; the rest lies in the journal only.
    pub resident_bytes_max: u64,
    /// Accepted bytes of one shard that may wait for the bucket.
    pub unstored_bytes_max: u64,
    /// Sessions at once.
    pub sessions_max: usize,
    /// Most bytes in one answer to a reader.
    pub fetch_bytes_max: u64,
}

/// How long things may take. For liveness only.
#[derive(Debug, Clone)]
pub struct TimingSettings {
    /// How often an owner speaks to its followers.
    pub heartbeat: Duration,
    /// How long an owner may be silent.
    pub owner_timeout: Duration,
    /// How long a change of the live nodes must stand.
    pub settle: Duration,
    /// How often nodes gossip.
    pub gossip: Duration,
}
