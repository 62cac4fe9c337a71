//! Hello, views and errors: what every connection speaks before and beside the data.

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, NodeId, Offset, PartitionKey, ProcessId, ShardId};

/// Who opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub enum Role {
    /// Another cache node.
    Node,
    /// A shipper.
    Shipper,
    /// A reader.
    Client,
}

/// First message on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Hello {
    /// Lowest wire version that the sender speaks.
    pub version_min: u16,
    /// Highest wire version that the sender speaks.
    pub version_max: u16,
    /// What the sender is.
    pub role: Role,
    /// The cluster that the sender means; `None` from a client that takes whichever it finds.
    pub cluster: Option<ClusterId>,
    /// The sender's node id, if it is a node.
    pub node: Option<NodeId>,
    /// This start of the sender's process.
    pub process: ProcessId,
    /// A name for logs: program and version.
    pub agent: String,
}

/// The answer to a hello that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Welcome {
    /// The version both will speak: the highest in both windows.
    pub version: u16,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that answers.
    pub node: NodeId,
    /// This start of its process.
    pub process: ProcessId,
    /// The cluster's fixed shard count.
    pub shard_count: u16,
}

/// Stable numbers for what went wrong. A gap is a retired number and is never refilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
#[repr(u16)]
pub enum ErrorCode {
    /// The version windows do not meet. Fix: upgrade one side.
    VersionWindow = 1,
    /// The other side belongs to another cluster. Fix: the address or the cluster id.
    WrongCluster = 2,
    /// A frame is larger than the limit. Fix: send smaller frames.
    FrameTooLarge = 3,
    /// A frame is damaged or not one of ours. Fix: the sender.
    Malformed = 4,
    /// A checksum does not match. Retry.
    Checksum = 5,
    /// The message is not for this kind of session. Fix: the sender.
    NotAllowed = 6,
    /// This node cannot answer for the shard; ask the view again. Retry elsewhere.
    Moved = 7,
    /// The shard has no owner right now. Wait and retry.
    NoOwner = 8,
    /// Too much is in flight. Wait and retry.
    Busy = 9,
    /// The offset is below the trim point. Stop or continue at the first offset.
    OffsetTrimmed = 10,
    /// Nobody knows this partition. Check the ids.
    UnknownPartition = 11,
    /// The reader knows a newer epoch than this node. Retry elsewhere (PROTOCOL R26).
    Stale = 12,
    /// The log ends below what the reader has read (PROTOCOL R26). Stop: an operator decided a loss.
    Rewound = 13,
    /// The reader holds other bytes for an offset (PROTOCOL R26). Stop: the source diverged.
    Diverged = 14,
    /// The bucket cannot be reached and the answer needs it. Wait and retry.
    BucketUnavailable = 15,
    /// The stored data is damaged in every place that holds it. Stop and tell an operator.
    Corrupt = 16,
    /// The node is stopping. Retry elsewhere.
    Stopping = 17,
    /// Something broke inside the node; its log says what. Retry.
    Internal = 18,
}

/// The answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct WireError {
    /// What kind.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The offset that the code speaks of: first readable, rewound to, diverged at.
    pub offset: Option<Offset>,
    /// Where to ask instead.
    pub node: Option<NodeId>,
}

/// Asks for the [`View`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ViewRequest;

/// Where a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct NodeAddress {
    /// Which node.
    pub node: NodeId,
    /// Its QUIC address, `ip:port`.
    pub address: String,
    /// Its zone.
    pub zone: String,
}

/// One shard as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ShardView {
    /// Which shard.
    pub shard: ShardId,
    /// The newest epoch known.
    pub epoch: Epoch,
    /// Its owner, if it is open as far as the node knows.
    pub owner: Option<NodeId>,
}

/// The ring, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct View {
    /// The cluster's fixed shard count.
    pub shard_count: u16,
    /// The live nodes, in id order.
    pub nodes: Vec<NodeAddress>,
    /// Every shard, in id order.
    pub shards: Vec<ShardView>,
}

/// Asks a node for the partitions it knows of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PartitionsRequest {
    /// Which shard.
    pub shard: ShardId,
}

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PartitionReport {
    /// Which partition.
    pub partition: PartitionKey,
    /// First offset that is not trimmed.
    pub trim: Offset,
    /// End of what is in the bucket.
    pub stored: Offset,
    /// End of what may be read.
    pub committed: Offset,
}

/// The partitions of a shard that have an entry in it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Partitions {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch that answers.
    pub epoch: Epoch,
    /// In key order.
    pub partitions: Vec<PartitionReport>,
}
