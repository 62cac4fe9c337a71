//! What a shard's order is made of: entries, each of one partition.
//!
//! An entry is a run of whole Iggy batches, a declared hole, a trim or a cut. The head is what decisions read;
//! the body is Iggy's own bytes and is only ever passed on.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::checksum::checksum;
use crate::ids::{Lsn, Offset, PartitionKey};
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;

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
        Self { messages: 1, hash: checksum(&bytes) }
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

impl EntryHead {
    /// The head of a declared hole `[from, to)` (PROTOCOL R16).
    pub fn hole(partition: PartitionKey, from: Offset, to: Offset, reason: HoleReason) -> Self {
        Self::bodiless(partition, EntryKind::Hole(reason), from, to)
    }

    /// The head of a trim that moves the trim point from `before` to `to` (PROTOCOL R17).
    pub fn trim(partition: PartitionKey, before: Offset, to: Offset) -> Self {
        Self::bodiless(partition, EntryKind::Trim, before, to)
    }

    /// The head of a fork at `at`, which opens history number `cut` (PROTOCOL R15).
    pub fn cut(partition: PartitionKey, at: Offset, cut: u32) -> Self {
        Self { cut, ..Self::bodiless(partition, EntryKind::Cut, at, at) }
    }

    fn bodiless(partition: PartitionKey, kind: EntryKind, base: Offset, end: Offset) -> Self {
        Self {
            partition,
            kind,
            base,
            end,
            previous: None,
            first: None,
            last: None,
            sum: IntegritySum::default(),
            cut: 0,
            body_bytes: 0,
            body_checksum: 0,
        }
    }

    /// Whether the head agrees with itself: its range, its kind and whether it has a body.
    ///
    /// Asked of every head that is received. It says nothing about the body: see [`Entry::verify_body`] and
    /// [`crate::batch::inspect_chunk`].
    pub fn check(&self) -> Result<(), EntryHeadError> {
        if self.base > self.end {
            return Err(EntryHeadError::Range { base: self.base, end: self.end });
        }
        if self.body_bytes as usize > FRAME_PAYLOAD_BYTES_MAX {
            return Err(EntryHeadError::BodyTooLong { bytes: self.body_bytes });
        }
        let has_body = self.body_bytes > 0;
        if has_body != (self.kind == EntryKind::Chunk) {
            return Err(EntryHeadError::Body { kind: self.kind, bytes: self.body_bytes });
        }
        let empty = self.base == self.end;
        if (self.kind == EntryKind::Chunk && empty) || (self.kind == EntryKind::Cut && !empty) {
            return Err(EntryHeadError::Range { base: self.base, end: self.end });
        }
        Ok(())
    }
}

/// A head that contradicts itself. The sender is wrong: refuse the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryHeadError {
    /// The range is the wrong way round, or empty where it must not be, or not empty where it must be.
    #[error("the range [{base}, {end}) is impossible for its kind")]
    Range {
        /// First offset.
        base: Offset,
        /// End.
        end: Offset,
    },
    /// A chunk without a body, or a body on something that is no chunk.
    #[error("an entry of kind {kind:?} cannot have a body of {bytes} bytes")]
    Body {
        /// What the entry says it is.
        kind: EntryKind,
        /// The length it claims.
        bytes: u32,
    },
    /// The body is longer than any frame.
    #[error("a body of {bytes} bytes is longer than {FRAME_PAYLOAD_BYTES_MAX}")]
    BodyTooLong {
        /// The length it claims.
        bytes: u32,
    },
}

/// An entry with its bytes. Cloning shares the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What decisions read.
    pub head: EntryHead,
    /// Iggy's batches, back to back; empty for anything but a chunk.
    pub body: Bytes,
}

impl Entry {
    /// An entry without a body.
    pub fn bodiless(head: EntryHead) -> Self {
        Self { head, body: Bytes::new() }
    }

    /// The same entry without its bytes: they lie in a journal and come back from there.
    pub fn away(head: EntryHead) -> Self {
        Self { head, body: Bytes::new() }
    }

    /// Whether the bytes lie elsewhere: the head names a body that is not here. Such an entry never leaves a process:
    /// [`Self::verify_body`] refuses it.
    pub fn is_away(&self) -> bool {
        self.body.is_empty() && self.head.body_bytes > 0
    }

    /// Length of the body in bytes, wherever it lies.
    pub fn body_len(&self) -> u64 {
        u64::from(self.head.body_bytes)
    }

    /// Whether the body is the one that the head names: its length and its checksum.
    ///
    /// Done wherever an entry enters: from a peer, from the journal, from the bucket.
    pub fn verify_body(&self) -> Result<(), BodyError> {
        verify_body(&self.head, &self.body)
    }
}

/// Whether `body` is the one that `head` names. An empty body has nothing to check but its length.
pub fn verify_body(head: &EntryHead, body: &[u8]) -> Result<(), BodyError> {
    if body.len() != head.body_bytes as usize {
        return Err(BodyError::Length { expected: head.body_bytes, found: body.len() });
    }
    let found = if body.is_empty() { head.body_checksum } else { checksum(body) };
    if found != head.body_checksum {
        return Err(BodyError::Checksum { expected: head.body_checksum, found });
    }
    Ok(())
}

/// A body that is not the one its head names. Ask for the entry again, from elsewhere if it stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Cut short, or too long.
    #[error("the body has {found} bytes where its head says {expected}; read it again")]
    Length {
        /// By the head.
        expected: u32,
        /// As it is.
        found: usize,
    },
    /// Damaged.
    #[error("the body is damaged: checksum {found:016x} where its head says {expected:016x}; read it again")]
    Checksum {
        /// By the head.
        expected: u64,
        /// As it is.
        found: u64,
    },
}

/// An entry at its place in an epoch's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEntry {
    /// Its place.
    pub lsn: Lsn,
    /// What stands there.
    pub entry: Entry,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionKey {
        "1/2/3@4".parse().expect("a partition")
    }

    fn chunk(body: &'static [u8]) -> Entry {
        let mut head = EntryHead::hole(partition(), Offset(5), Offset(7), HoleReason::Lost);
        head.kind = EntryKind::Chunk;
        head.body_bytes = u32::try_from(body.len()).expect("short");
        head.body_checksum = checksum(body);
        Entry { head, body: Bytes::from_static(body) }
    }

    #[test]
    fn a_body_is_the_one_its_head_names() {
        let mut entry = chunk(b"batches");
        assert_eq!(entry.verify_body(), Ok(()));
        entry.body = Bytes::from_static(b"batcher");
        assert!(matches!(entry.verify_body(), Err(BodyError::Checksum { .. })));
        entry.body = Bytes::from_static(b"batch");
        assert_eq!(entry.verify_body(), Err(BodyError::Length { expected: 7, found: 5 }));
        let hole = EntryHead::hole(partition(), Offset(0), Offset(9), HoleReason::ImportStart);
        assert_eq!(Entry::bodiless(hole).verify_body(), Ok(()));
    }

    #[test]
    fn heads_that_contradict_themselves_are_refused() {
        assert_eq!(chunk(b"batches").head.check(), Ok(()));
        assert!(matches!(chunk(b"").head.check(), Err(EntryHeadError::Body { .. })));
        assert_eq!(EntryHead::trim(partition(), Offset(3), Offset(9)).check(), Ok(()));
        assert_eq!(EntryHead::cut(partition(), Offset(3), 1).check(), Ok(()));
        let backwards = EntryHead::hole(partition(), Offset(9), Offset(3), HoleReason::Lost);
        assert!(matches!(backwards.check(), Err(EntryHeadError::Range { .. })));
        let mut long = chunk(b"batches").head;
        long.body_bytes = u32::MAX;
        assert!(matches!(long.check(), Err(EntryHeadError::BodyTooLong { .. })));
        let mut wide_cut = EntryHead::cut(partition(), Offset(3), 1);
        wide_cut.end = Offset(4);
        assert!(matches!(wide_cut.check(), Err(EntryHeadError::Range { .. })));
    }

    #[test]
    fn sums_do_not_depend_on_the_order() {
        let of = |offset| IntegritySum::of(&MessageIdentity { offset: Offset(offset), base_timestamp: 1, checksum: 2 });
        let (mut forth, mut back) = (of(1), of(2));
        forth.add(of(2));
        back.add(of(1));
        assert_eq!(forth, back);
        assert_eq!(forth.messages, 2);
        assert_ne!(of(1), of(2));
    }
}
