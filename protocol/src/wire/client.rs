//! Between a reader and a node, and between nodes on a reader's behalf.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::{HoleReason, MessageIdentity};
use crate::ids::{Epoch, Offset, PartitionKey};

/// Where to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum FetchFrom {
    /// At this offset.
    Offset(Offset),
    /// At the first batch appended at or after this time, microseconds since 1970.
    Timestamp(u64),
    /// At the oldest message that is not trimmed.
    First,
    /// At the newest batch.
    Last,
}

/// Asks for batches of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Fetch {
    /// Whose log.
    pub partition: PartitionKey,
    /// Where to start. The first batch returned may begin below an asked offset: batches are never split.
    pub from: FetchFrom,
    /// At most this many bytes, but always one whole batch.
    pub bytes_max: u32,
    /// Stop after the batch that reaches this many messages from the start.
    pub messages_max: u32,
    /// How long to wait for the first message, milliseconds.
    pub wait_millis: u32,
    /// The newest epoch that the reader has seen (PROTOCOL R26); 0 at first.
    pub epoch: Epoch,
    /// The last message that the reader has read (PROTOCOL R26).
    pub last: Option<MessageIdentity>,
    /// Set by a node that asks on behalf of a reader: answer from here or refuse, do not ask on.
    pub forwarded: bool,
}

/// Which tier answered: `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub enum Served {
    /// The memory tail of the node asked.
    Tail,
    /// The memory half of its block cache.
    CacheMemory,
    /// The disk half of its block cache.
    CacheDisk,
    /// The bucket.
    Bucket,
    /// There was nothing to serve.
    Nothing,
    /// The journal of the node asked: committed, in no memory any more, not in the bucket yet.
    Journal,
}

/// Batches of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whose log.
    pub partition: PartitionKey,
    /// The epoch that answers.
    pub epoch: Epoch,
    /// The offset asked for, resolved.
    pub start: Offset,
    /// Where to continue: end of the batches returned, or of the hole at `start`.
    pub next: Offset,
    /// First offset that is not trimmed.
    pub trim: Offset,
    /// End of what is in the bucket.
    pub stored: Offset,
    /// End of what may be read.
    pub committed: Offset,
    /// Declared holes in `[start, next)`.
    pub holes: Vec<(Offset, Offset, HoleReason)>,
    /// Which tier answered.
    pub served: Served,
    /// Whole Iggy batches, back to back, in offset order.
    pub batches: Bytes,
}

/// Asks for batches as they commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Follow {
    /// Whose log.
    pub partition: PartitionKey,
    /// Where to start.
    pub from: FetchFrom,
    /// At most this many bytes at a time, but always one whole batch.
    pub bytes_max: u32,
    /// The newest epoch that the reader has seen (PROTOCOL R26); 0 at first.
    pub epoch: Epoch,
    /// The last message that the reader has read (PROTOCOL R26).
    pub last: Option<MessageIdentity>,
}

/// One push of a [`Follow`]. Shaped like the answer to a fetch.
pub type Followed = Fetched;
