//! What a poll is told: the bytes of a reply, or why the server must be asked.

use bytes::Bytes;
use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};

use crate::ring::RingError;

/// Length of the head of a poll's reply in protocol 0.11.
pub(super) const HEAD_BYTES: usize = 16;

/// An answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollAnswer {
    /// A reply: its body is the head and then the records, in order.
    Served {
        /// Partition id, current offset, count of messages.
        head: [u8; HEAD_BYTES],
        /// Batches in pieces, back to back.
        records: Vec<Bytes>,
        /// What the reply amounts to.
        served: Served,
    },
    /// Only the server can answer this faithfully.
    Forward(ForwardReason),
}

/// What a reply amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Whose log.
    pub partition: PartitionKey,
    /// Its first message, to be compared with what the server says; `None` if it is empty.
    pub first: Option<MessageIdentity>,
    /// How many messages.
    pub messages: u32,
    /// Length of the records, bytes.
    pub bytes: usize,
    /// Where the reader goes on.
    pub next: Offset,
    /// End of what the ring had committed when the poll came; the head's current offset is the one before.
    pub committed: Offset,
    /// Why it ends where it ends.
    pub reach: Reach,
}

/// Why a reply ends where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The poll has all the messages that it asked for.
    Count,
    /// The ring has no more, and may be some milliseconds behind the server: an empty reply, or one that lacks what a
    /// reader has just sent itself, is for the caller to pass on or to forward.
    End,
    /// A declared hole follows. The next poll finds out.
    Hole,
}

/// Why a poll goes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ForwardReason {
    /// The server keeps the members of a group apart.
    #[error("a consumer group polls")]
    Group,
    /// The poll stores an offset.
    #[error("the poll stores an offset")]
    AutoCommit,
    /// The server may know strategies that this build does not.
    #[error("the strategy is unknown")]
    UnknownStrategy,
    /// What a poll of nothing is told is up to the server.
    #[error("no message is asked for")]
    NoCount,
    /// The caller has not asked for the stored offset.
    #[error("the stored offset is not known")]
    NoStoredOffset,
    /// The ring knows no such partition.
    #[error("the ring does not know the partition")]
    UnknownPartition,
    /// Messages below this offset are trimmed from the ring; the server may have them.
    #[error("the ring begins at {first}")]
    Trimmed {
        /// First offset that is left.
        first: Offset,
    },
    /// The ring lacks a range that the server may have.
    #[error("the ring has a hole at {at} ({reason:?})")]
    Hole {
        /// Where.
        at: Offset,
        /// Why.
        reason: HoleReason,
    },
    /// Append times fall from one batch to the next, and whom the server then skips depends on its files.
    #[error("the append times fall at {at}")]
    TimestampsFall {
        /// First message of the batch that is older than one before it.
        at: Offset,
    },
    /// The reply would be longer than is kept for one poll.
    #[error("the reply is too long")]
    TooLong,
    /// The ring knows of more than it can show now.
    #[error("the ring cannot show what it knows of")]
    Behind,
    /// What the ring brought is not what was asked for.
    #[error("the ring's batches do not join at {at}")]
    Broken {
        /// Where.
        at: Offset,
    },
    /// The ring's history is not, or not only, the server's.
    #[error("the ring's history is not fit to be read")]
    Unfit,
    /// The ring cannot be read now.
    #[error("the ring cannot be read now")]
    Unavailable,
}

impl ForwardReason {
    /// A word for metrics: one of few, whatever the offsets.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::AutoCommit => "auto_commit",
            Self::UnknownStrategy => "unknown_strategy",
            Self::NoCount => "no_count",
            Self::NoStoredOffset => "no_stored_offset",
            Self::UnknownPartition => "unknown_partition",
            Self::Trimmed { .. } => "trimmed",
            Self::Hole { .. } => "hole",
            Self::TimestampsFall { .. } => "timestamps_fall",
            Self::TooLong => "too_long",
            Self::Behind => "behind",
            Self::Broken { .. } => "broken",
            Self::Unfit => "unfit",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<RingError> for ForwardReason {
    fn from(error: RingError) -> Self {
        match error {
            RingError::Trimmed { first } => Self::Trimmed { first },
            RingError::Unknown(_) => Self::UnknownPartition,
            RingError::Unfit(..) => Self::Unfit,
            RingError::Unavailable(_) => Self::Unavailable,
        }
    }
}

/// The head of a reply: `[partition_id u32][current_offset u64][count u32]`, little-endian. Zero is the current offset of
/// an empty partition, as the server says.
pub(super) fn head(partition: u32, committed: Offset, messages: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&partition.to_le_bytes());
    head[4..12].copy_from_slice(&committed.0.saturating_sub(1).to_le_bytes());
    head[12..].copy_from_slice(&messages.to_le_bytes());
    head
}
