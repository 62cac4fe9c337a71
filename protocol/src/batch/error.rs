//! What can be wrong with bytes that should be batches.

use crate::ids::Offset;
use crate::limits::BATCH_BYTES_MAX;

/// Bytes that are not the batches they should be, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes at {position} are not a valid Iggy batch")]
pub struct BatchError {
    /// Where in the run of batches: the batch, or the message frame, in bytes from the start.
    pub position: usize,
    /// What is wrong there.
    #[source]
    pub reason: BatchFault,
}

impl BatchError {
    /// Whether the bytes just end too early: more of the same source may complete them. Everything else is damage.
    pub fn is_truncated(&self) -> bool {
        matches!(self.reason, BatchFault::Truncated { .. })
    }
}

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    /// The bytes end before the batch does. Read more, or again.
    #[error("{needed} bytes are needed and {available} are there; read the rest")]
    Truncated {
        /// Length of what should stand there.
        needed: u64,
        /// How much stands there.
        available: u64,
    },
    /// A length or count is impossible, or the frames do not fill the batch exactly. Damage: read again.
    #[error("{field} of {found} is impossible there (a batch has at most {BATCH_BYTES_MAX} bytes); read again")]
    BadLength {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: u64,
    },
    /// Bytes that must be zero are not: damage, or a batch of an Iggy that this build does not know.
    #[error("reserved bytes of the batch header are not zero; read again or upgrade")]
    Reserved,
    /// The header, or the order of the messages, was damaged. Read again.
    #[error("the batch checksum is {found:016x} where the header says {expected:016x}; read again")]
    BatchChecksum {
        /// By the header.
        expected: u64,
        /// As computed.
        found: u64,
    },
    /// One message was damaged. Read again.
    #[error("the message at offset {offset} does not match its checksum; read again")]
    MessageChecksum {
        /// Which message.
        offset: Offset,
    },
    /// Offsets do not rise within the batch, or run past the largest number. The source is wrong: stop.
    #[error("the message at offset {offset} does not follow the one before it")]
    OffsetOrder {
        /// Which message.
        offset: Offset,
    },
    /// The batch is a slice of a larger one where a whole one is needed. Read it from its base offset.
    #[error("the batch at offset {base} begins with offset {first}; read it whole")]
    Sliced {
        /// The base offset of the batch.
        base: Offset,
        /// Its first message.
        first: Offset,
    },
    /// A message or a batch does not begin where the one before it ends. Read from the expected offset.
    #[error("offset {found} stands where {expected} is expected; read from there")]
    Gap {
        /// Where the one before ends.
        expected: Offset,
        /// What stands there.
        found: Offset,
    },
    /// The batch belongs to another partition. The source is wrong: stop.
    #[error("the batch is of partition {found}, not {expected}")]
    WrongPartition {
        /// The partition asked for.
        expected: u64,
        /// By the header.
        found: u64,
    },
    /// There is no batch at all.
    #[error("there is no batch where at least one is needed")]
    Empty,
}
