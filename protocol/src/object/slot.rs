//! The slots of an epoch's log: an open record in slot 0, then log objects, then a seal (PROTOCOL R11, R18).
//!
//! Slot `s` of an epoch covers a run of the epoch's entries `[lsn_from, lsn_end)`; the runs of the slots join without
//! holes, so "stored" is one number per epoch.

use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::{EntryKind, IntegritySum, MessageIdentity};
use crate::ids::{ClusterId, Epoch, Lsn, Offset, PartitionKey, ProcessId, PutId, ShardId, Slot};

/// How a partition stands: what an owner keeps per partition and what an open record states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PartitionState {
    /// Which partition.
    pub partition: PartitionKey,
    /// Everything below may be dropped.
    pub trim: Offset,
    /// End of the partition's log, holes included.
    pub end: Offset,
    /// The last message below `end`, if there is one.
    pub last: Option<MessageIdentity>,
    /// Which history.
    pub cut: u32,
}

/// Slot 0 of an epoch's own log: from here on the epoch is open.
///
/// `partitions` is every partition of the shard at the point where the older logs end (before the adopted entries),
/// so nobody needs to read older logs to know where partitions stand.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct OpenRecord {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch that opens.
    pub epoch: Epoch,
    /// The process that opens it.
    pub process: ProcessId,
    /// Names these bytes.
    pub put: PutId,
    /// The newest epoch that was open before, whose tail was gathered; 0 for a new shard.
    pub gathered: Epoch,
    /// How many entries were adopted from it: they are entries `0..adopted` of this epoch.
    pub adopted: Lsn,
    /// How many journals answered the seal, of how many: fewer than needed only after a forced take-over (R2).
    pub answered: (u8, u8),
    /// Every partition where the older logs end.
    pub partitions: Vec<PartitionState>,
}

/// Ends an epoch's log for ever. Never deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SealObject {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch whose log ends here.
    pub epoch: Epoch,
    /// The slot in which the seal stands.
    pub slot: Slot,
    /// The claimant that ended it.
    pub by: Epoch,
    /// The claimant's process.
    pub process: ProcessId,
    /// Names these bytes: two seals never have equal bytes.
    pub put: PutId,
}

/// The fixed part of a log object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LogHeader {
    /// Whose bucket.
    pub cluster: ClusterId,
    /// Which shard.
    pub shard: ShardId,
    /// Whose log.
    pub epoch: Epoch,
    /// Which slot.
    pub slot: Slot,
    /// The process that wrote it.
    pub process: ProcessId,
    /// Names these bytes (PROTOCOL R20).
    pub put: PutId,
    /// First entry of the epoch that the object holds.
    pub lsn_from: Lsn,
    /// End of the entries it holds, exclusive.
    pub lsn_end: Lsn,
}

/// One run of one partition inside a log object, or a declaration without bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct IndexEntry {
    /// Whose log.
    pub partition: PartitionKey,
    /// A block (`Chunk`), or a hole, trim or cut.
    pub kind: EntryKind,
    /// First offset.
    pub base: Offset,
    /// End, exclusive. The next entry of the partition starts here (PROTOCOL R16).
    pub end: Offset,
    /// Where the block begins in the object, bytes; for a declaration, where the next block would.
    pub position: u64,
    /// Length of the block in bytes.
    pub bytes: u32,
    /// XXH3-64 of the block.
    pub checksum: u64,
    /// `base_timestamp` of the first batch, microseconds since 1970.
    pub first_timestamp: u64,
    /// `base_timestamp` of the last batch.
    pub last_timestamp: u64,
    /// The last message, if it is a block.
    pub last: Option<MessageIdentity>,
    /// Sum over its messages.
    pub sum: IntegritySum,
    /// Which history.
    pub cut: u32,
}

/// What is in a log object: sorted by partition, and in the order of the epoch's entries within one.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LogIndex {
    /// The object's identity.
    pub header: LogHeader,
    /// Its blocks and declarations.
    pub entries: Vec<IndexEntry>,
}

/// What a slot turned out to hold, bodies aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotObject {
    /// The open record of slot 0.
    Open(OpenRecord),
    /// A log object's index.
    Log(LogIndex),
    /// The end of the log.
    Seal(SealObject),
}

impl SlotObject {
    /// The id of the object's exact bytes.
    pub fn put(&self) -> PutId {
        match self {
            Self::Open(record) => record.put,
            Self::Log(index) => index.header.put,
            Self::Seal(seal) => seal.put,
        }
    }
}
