//! What a shard's order is made of: entries, each of one partition.
//!
//! An entry is a run of whole Iggy batches, a declared hole, a trim or a cut. The head is what decisions read;
//! the body is Iggy's own bytes and is only ever passed on.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::{Lsn, Offset, PartitionKey};

/// What makes two messages the same (PROTOCOL R14). Never the batch checksum: polls slice batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub struct MessageIdentity {
    /// The message's offset.
    pub offset: Offset,
    /// The time at which the broker appended its batch, microseconds since 1970.
    pub base_timestamp: u64,
    /// Iggy's XXH3-64 over the message frame.
    pub checksum: u64,
}

/// Why a range of offsets holds no messages (PROTOCOL R16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub enum HoleReason {
    /// Iggy's retention removed the range before it could be shipped.
    SourceRetention,
    /// The first shipment started above offset 0.
    ImportStart,
    /// A trim policy removed the range before it was uploaded.
    Trimmed,
    /// The range was lost and an operator accepted that (PROTOCOL R2).
    Lost,
}

/// What an entry says about its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub enum EntryKind {
    /// Whole batches for `[base, end)`; the body is theirs, back to back.
    Chunk,
    /// `[base, end)` holds nothing, for a reason. No body.
    Hole(HoleReason),
    /// Everything below `end` may be dropped; `base` is the trim point before (PROTOCOL R17). No body.
    Trim,
    /// The history forks here: what follows at `base` need not continue what was before (PROTOCOL R15).
    /// `base == end`. No body.
    Cut,
}

/// An order-independent sum over messages: shipped = stored + trimmed, however the work was split.
///
/// Wrapping addition of one XXH3-64 per message over (offset, timestamp, message checksum).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub struct IntegritySum {
    /// How many messages.
    pub messages: u64,
    /// The wrapping sum of their hashes.
    pub hash: u64,
}

impl IntegritySum {
    /// The sum over one message.
    pub fn of(identity: &MessageIdentity) -> Self {
        let mut bytes = [0; 24];
        bytes[0..8].copy_from_slice(&identity.offset.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&identity.base_timestamp.to_le_bytes());
        bytes[16..24].copy_from_slice(&identity.checksum.to_le_bytes());
        Self { messages: 1, hash: xxhash_rust::xxh3::xxh3_64(&bytes) }
    }

    /// Adds what another sum counted.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// Everything about an entry but its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct EntryHead {
    /// Whose log.
    pub partition: PartitionKey,
    /// What it says.
    pub kind: EntryKind,
    /// First offset of the range.
    pub base: Offset,
    /// End of the range, exclusive.
    pub end: Offset,
    /// The message right before `base` as the source had it, if there is one (PROTOCOL R15).
    pub previous: Option<MessageIdentity>,
    /// The first message of a chunk.
    pub first: Option<MessageIdentity>,
    /// The last message of a chunk.
    pub last: Option<MessageIdentity>,
    /// Sum over the messages of a chunk; zero for everything else.
    pub sum: IntegritySum,
    /// Which history of the partition: raised by the owner when it forks (PROTOCOL R2, R15).
    pub cut: u32,
    /// Length of the body in bytes.
    pub body_bytes: u32,
    /// XXH3-64 of the body.
    pub body_checksum: u64,
}

/// An entry with its bytes. Cloning shares the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What decisions read.
    pub head: EntryHead,
    /// Iggy's batches, back to back; empty for anything but a chunk.
    pub body: Bytes,
}

/// An entry at its place in an epoch's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEntry {
    /// Its place.
    pub lsn: Lsn,
    /// What stands there.
    pub entry: Entry,
}
