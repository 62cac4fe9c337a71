//! Between a shipper and an owner. The ring is the shipper's cursor: it keeps no state of its own.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::EntryHead;
use crate::entry::MessageIdentity;
use crate::ids::{Epoch, Offset, PartitionKey, ShardId};

pub use crate::wire::problem::ShipProblem;

/// Asks the owner of a shard where partitions stand.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PositionsRequest {
    /// Which shard.
    pub shard: ShardId,
    /// Which of its partitions; unknown ones are answered with offset 0.
    pub partitions: Vec<PartitionKey>,
}

/// Where partitions stand, from the owner.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Positions {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch that answers.
    pub epoch: Epoch,
    /// In the order of the request.
    pub marks: Vec<PartitionMarks>,
}

/// The cumulative marks of one partition (PROTOCOL R13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PartitionMarks {
    /// Which partition.
    pub partition: PartitionKey,
    /// The offset that the owner accepts next.
    pub next: Offset,
    /// End of what is acknowledged and may be read.
    pub committed: Offset,
    /// End of what is in the bucket.
    pub stored: Offset,
    /// The last message below `next`, if the owner knows it.
    pub last: Option<MessageIdentity>,
}

/// One partition's part of a [`Ship`]: a chunk, or a hole that the source declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipChunk {
    /// What it is; `cut` is the owner's to assign and is 0 here.
    pub head: EntryHead,
    /// Whole Iggy batches; empty for a hole.
    pub body: Bytes,
}

/// Chunks for one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ship {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch that the shipper believes in; 0 if it does not know.
    pub epoch: Epoch,
    /// In the order they are to be appended.
    pub chunks: Vec<ShipChunk>,
}

/// Why nothing of a [`Ship`] was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum ShipRefusal {
    /// Not the owner, or not open yet: ask for the view.
    NotOwner,
    /// The journal is full until the bucket has taken more. Wait.
    JournalFull,
    /// Too many bytes wait for the bucket in memory. Wait.
    UploadsBehind,
    /// The shard halted; the node's log says why. Only an operator helps.
    Halted,
}

/// What the owner says to a shipper: marks, and what did not move. Cumulative; losing one loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ShipAck {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch that speaks. A shipper drops what comes from an older one.
    pub epoch: Epoch,
    /// Partitions whose marks moved, or of which a duplicate came.
    pub marks: Vec<PartitionMarks>,
    /// Partitions that did not move, and why.
    pub problems: Vec<(PartitionKey, ShipProblem)>,
    /// Set if nothing was taken.
    pub refusal: Option<ShipRefusal>,
}

/// Asks an owner what it holds where a source ends, or where its batches lie otherwise than in the ring: the one way to
/// tell a source that is only behind from one whose history is another (PROTOCOL R15).
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct CompareRequest {
    /// Which shard.
    pub shard: ShardId,
    /// Messages as the source has them.
    pub messages: Vec<(PartitionKey, MessageIdentity)>,
}

/// What the ring holds at the offsets of a [`CompareRequest`]. An owner that finds a difference remembers it for people.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Compared {
    /// Which shard.
    pub shard: ShardId,
    /// Per partition its message at that offset; `None` if there is none: trimmed, or a declared hole. A partition that
    /// is left out could not be read: ask again.
    pub ring: Vec<(PartitionKey, Option<MessageIdentity>)>,
}
