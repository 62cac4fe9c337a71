//! What `/status` answers: one document about one node, for people, dashboards and tests.
//!
//! Fields are added and never renamed. All of it is a snapshot whose parts were read one after the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The node as it sees itself and its cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StatusReport {
    /// Whether the node serves. `/health` answers 200 exactly then.
    pub ready: bool,
    /// Why it does not, or what a person should know although it does.
    pub reason: Option<String>,
    /// The program's version.
    pub version: String,
    /// The node's id.
    pub node: u64,
    /// This start of its process, 32 hex digits.
    pub process: String,
    /// The cluster, 32 hex digits.
    pub cluster: String,
    /// The node's zone.
    pub zone: String,
    /// Since the process started.
    pub uptime_seconds: u64,
    /// The version of the settled membership; counts changes since the start.
    pub membership_version: u64,
    /// The live nodes, in node order.
    pub members: Vec<MemberReport>,
    /// All shards of the cluster, in order.
    pub shards: Vec<ShardReport>,
    /// The write-ahead log.
    pub journal: JournalReport,
    /// Requests since the process started.
    pub bucket: BucketReport,
    /// The cache of cold blocks.
    pub cache: CacheReport,
    /// What there is, by name, as far as this node has seen; none where nobody has told.
    #[serde(default)]
    pub catalog: Option<CatalogReport>,
    /// The newest batches in memory.
    pub tail: TailReport,
    /// Open sessions of all kinds.
    pub sessions: u64,
    /// The gateway for Iggy's clients; none where it is off.
    #[serde(default)]
    pub gateway: Option<GatewayReport>,
    /// What readers of this host share with the node; none where it is off.
    #[serde(default)]
    pub local: Option<LocalReport>,
    /// What writes answers into readers' memory and copies into followers'; none where it is off or cannot be had.
    #[serde(default)]
    pub fabric: Option<FabricReport>,
}

/// What writes answers into readers' memory and copies into followers'. Counts are since the process started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FabricReport {
    /// libfabric's provider.
    pub provider: String,
    /// Its device.
    pub domain: String,
    /// Answers placed.
    pub placed: u64,
    /// Bytes of batches in them.
    pub placed_bytes: u64,
    /// Answers to readers that had offered a landing, which went over QUIC all the same.
    pub inline: u64,
    /// Copies placed in followers' memory.
    #[serde(default)]
    pub copies_placed: u64,
    /// Bytes of batches in them.
    #[serde(default)]
    pub copies_placed_bytes: u64,
    /// Copies that owners have placed in this node's memory, and that verified.
    #[serde(default)]
    pub copies_landed: u64,
    /// Copies that did not verify; their owners repeat them.
    #[serde(default)]
    pub copies_refused: u64,
    /// Placements that failed or were late.
    pub failed: u64,
    /// Transfers that had not ended at their deadline.
    pub quarantined: u64,
    /// How often the landings of a reader or a follower were left alone for a while after a failure.
    pub breaker_opens: u64,
    /// How often the endpoint was opened anew.
    pub reopened: u64,
}

/// What readers of this host share with the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LocalReport {
    /// The socket where they get it.
    pub socket: String,
    /// Readers that have it now.
    pub readers: u64,
    /// Connections turned away since the process started.
    pub refused: u64,
    /// Length of the shared memory.
    pub slab_bytes: u64,
    /// Records written since the process started.
    pub records: u64,
    /// Bytes of batches in them.
    pub record_bytes: u64,
    /// Wakes since the process started.
    pub wakes: u64,
}

/// The gateway for Iggy's clients.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Where it listens.
    pub address: String,
    /// The Iggy server behind it.
    pub origin: String,
    /// Whether that can be reached, as far as sessions have tried.
    pub origin_reachable: bool,
    /// Open sessions.
    pub sessions: u64,
    /// Sessions since the process started.
    pub sessions_total: u64,
    /// Clients turned away since then.
    pub refused: u64,
    /// Polls answered from the ring.
    pub served: u64,
    /// Messages in those answers.
    pub served_messages: u64,
    /// Their bytes.
    pub served_bytes: u64,
    /// Polls answered from the ring while the server was away.
    pub served_without_origin: u64,
    /// Polls that the server answered, by reason.
    pub forwarded: BTreeMap<String, u64>,
    /// Requests that are no polls.
    pub passed: u64,
    /// Times that the server let a session poll a topic.
    pub verdicts: u64,
    /// Times that it did not.
    pub denials: u64,
    /// Times that server and ring held different messages at one offset.
    pub mismatches: u64,
}

/// A live node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its id.
    pub node: u64,
    /// Where it takes sessions.
    pub address: String,
    /// Where its status page is.
    pub http: Option<String>,
    /// Its zone.
    pub zone: String,
    /// Its share of the shards.
    pub weight: u32,
    /// Whether it is in the settled membership already.
    pub settled: bool,
}

/// One shard, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShardReport {
    /// Which shard.
    pub shard: u16,
    /// What this node is to it: `owner`, `follower`, `candidate`, `claimant`, `idle` or `halted`.
    pub role: String,
    /// The newest epoch known.
    pub epoch: u64,
    /// Its owner, if known.
    pub owner: Option<u64>,
    /// The nodes whose journals the claim names.
    pub copies: Vec<u64>,
    /// End of the journaled entries of the epoch.
    pub tail_lsn: u64,
    /// End of what a quorum holds.
    pub committed_lsn: u64,
    /// End of what the bucket holds.
    pub stored_lsn: u64,
    /// Bytes that wait for the bucket.
    pub unstored_bytes: u64,
    /// How many of them are in memory; the rest lies in the journal only.
    pub resident_bytes: u64,
    /// Partitions known.
    pub partitions: u64,
    /// Partitions that stopped because their source differs from what the shard holds. The owner knows.
    #[serde(default)]
    pub diverged_partitions: u64,
    /// The first of them, in order.
    #[serde(default)]
    pub diverged: Vec<DivergedReport>,
    /// Objects that this process wrote for the shard.
    pub objects: u64,
    /// Why it waits or halted, for people.
    pub note: Option<String>,
}

/// One offset, two messages: the partition stopped there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DivergedReport {
    /// Which partition, `stream/topic/partition`.
    pub partition: String,
    /// Where both have a message. The histories part here or before.
    pub offset: u64,
    /// What the ring holds, and readers were given.
    pub ring: MessageReport,
    /// What the source holds.
    pub source: MessageReport,
}

/// What tells a message from another at the same offset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageReport {
    /// When the broker appended its batch, microseconds since 1970.
    pub timestamp: u64,
    /// Iggy's checksum of the message, 16 hex digits.
    pub checksum: String,
}

/// How full the journal is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JournalReport {
    /// How it writes: `direct`, `buffered` or `memory`.
    pub mode: String,
    /// Bytes in use, dead space between live records included.
    pub used_bytes: u64,
    /// What chunks may use.
    pub capacity_bytes: u64,
    /// Dead bytes behind an older live record.
    pub pinned_bytes: u64,
    /// Accepted bytes that wait for the disk.
    pub queued_bytes: u64,
}

/// Requests to the bucket, as the store bills them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BucketReport {
    /// Which bucket and prefix.
    pub url: String,
    /// Whether the last request was answered.
    pub reachable: bool,
    /// PUT requests.
    pub puts: u64,
    /// GET requests.
    pub gets: u64,
    /// LIST requests, page by page.
    pub lists: u64,
    /// HEAD requests.
    pub heads: u64,
    /// DELETE requests.
    pub deletes: u64,
    /// Body bytes sent.
    pub bytes_put: u64,
    /// Body bytes received.
    pub bytes_got: u64,
    /// What the requests cost at list price, in US dollars.
    pub cost_usd: f64,
}

/// The cache of cold blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheReport {
    /// Blocks found in memory.
    pub hits_memory: u64,
    /// Blocks found on disk.
    pub hits_disk: u64,
    /// Blocks that had to come from elsewhere.
    pub misses: u64,
    /// Hits whose identity or checksum was wrong: counted as misses and refetched.
    pub refused: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Most bytes in memory.
    pub memory_bytes_max: u64,
    /// Most bytes on disk; 0 is off.
    pub disk_bytes_max: u64,
}

/// Streams and topics by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CatalogReport {
    /// Which catalogue.
    pub revision: u64,
    /// Topics in it.
    pub topics_total: u64,
    /// Partitions in it.
    pub partitions_total: u64,
    /// The first streams, with the first topics, in id order.
    pub streams: Vec<StreamReport>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its topics.
    pub topics: Vec<TopicReport>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TopicReport {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u64,
}

/// The newest batches in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TailReport {
    /// Bytes in memory.
    pub used_bytes: u64,
    /// Most bytes in memory.
    pub capacity_bytes: u64,
}
