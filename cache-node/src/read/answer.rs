//! What a reader is told: batches in pieces, or an error with its code.

use bytes::{Bytes, BytesMut};
use kennel_core::read::{HoleRange, ObjectName, Standing};
use kennel_protocol::entry::HoleReason;
use kennel_protocol::frame::{Frame, Payload};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey};
use kennel_protocol::wire::{ErrorCode, Fetched, Message, Served, WireError};

use super::cold::ColdError;
use super::store::StoreError;

/// What this node can do about a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The answer.
    Answer(FetchedPieces),
    /// The owner knows more. Ask it; if it cannot be asked, fetch here again with `forwarded` set, and what the
    /// bucket has is answered.
    AskOwner,
}

/// A [`Fetched`] whose batches still lie where they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPieces {
    /// Whose log.
    pub partition: PartitionKey,
    /// The epoch that answers.
    pub epoch: Epoch,
    /// The offset asked for, resolved.
    pub start: Offset,
    /// Where to continue.
    pub next: Offset,
    /// First offset that is not trimmed.
    pub trim: Offset,
    /// End of what is in the bucket, as far as this node knows.
    pub stored: Offset,
    /// End of what may be read, as far as this node knows.
    pub committed: Offset,
    /// Declared holes in `[start, next)`.
    pub holes: Vec<(Offset, Offset, HoleReason)>,
    /// The tier that answered; the slowest, where several did.
    pub served: Served,
    /// Whole Iggy batches, in offset order, in as many pieces as there were places.
    pub batches: Vec<Bytes>,
    /// The blocks that answered, for `explain`; empty for the tail.
    pub sources: Vec<BlockSource>,
}

/// A block that took part in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSource {
    /// The object.
    pub object: ObjectName,
    /// Where the block begins in it, bytes.
    pub position: u32,
    /// Its length in bytes.
    pub bytes: u32,
    /// The tier that had it.
    pub served: Served,
}

impl FetchedPieces {
    /// An answer without batches.
    pub(super) fn empty(partition: PartitionKey, start: Offset, standing: &Standing) -> Self {
        Self {
            partition,
            epoch: standing.epoch,
            start,
            next: start,
            trim: standing.trim(),
            stored: standing.index.map_or(Offset(0), |index| index.stored),
            committed: standing.committed(),
            holes: Vec::new(),
            served: Served::Nothing,
            batches: Vec::new(),
            sources: Vec::new(),
        }
    }

    pub(super) fn declare(&mut self, holes: &[HoleRange]) {
        self.holes.extend(holes.iter().map(|hole| (hole.from, hole.to, hole.reason)));
    }

    /// The frame of the answer. The pieces become its payload as they are.
    pub fn into_frame(mut self, correlation: u64) -> Frame {
        let batches = std::mem::take(&mut self.batches);
        let mut frame = Message::Fetched(self.into_fetched()).encode(correlation);
        frame.payload = Payload::from(batches);
        frame
    }

    /// The answer as a message of its own. Copies if the batches lie in several pieces.
    pub fn into_fetched(mut self) -> Fetched {
        let batches = match self.batches.len() {
            0 | 1 => self.batches.pop().unwrap_or_default(),
            _ => join(&self.batches),
        };
        Fetched {
            partition: self.partition,
            epoch: self.epoch,
            start: self.start,
            next: self.next,
            trim: self.trim,
            stored: self.stored,
            committed: self.committed,
            holes: self.holes,
            served: self.served,
            batches,
        }
    }
}

fn join(pieces: &[Bytes]) -> Bytes {
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        joined.extend_from_slice(piece);
    }
    joined.freeze()
}

/// An error with its code, for the wire.
pub(super) fn refuse(code: ErrorCode, message: String, offset: Option<Offset>) -> WireError {
    WireError { code, message, offset, node: None }
}

pub(super) fn trimmed(partition: &PartitionKey, first: Offset) -> WireError {
    let message = format!("partition {partition} begins at {first}: older messages are trimmed");
    refuse(ErrorCode::OffsetTrimmed, message, Some(first))
}

pub(super) fn rewound(partition: &PartitionKey, to: Offset) -> WireError {
    let message = format!("partition {partition} ends at {to}, below what was read of it");
    refuse(ErrorCode::Rewound, message, Some(to))
}

pub(super) fn diverged(partition: &PartitionKey, at: Offset) -> WireError {
    let message = format!("partition {partition} holds another message at {at} than was read");
    refuse(ErrorCode::Diverged, message, Some(at))
}

pub(super) fn unknown(partition: &PartitionKey) -> WireError {
    refuse(ErrorCode::UnknownPartition, format!("partition {partition} is not known"), None)
}

pub(super) fn stale(reader: Epoch, ours: Epoch) -> WireError {
    refuse(ErrorCode::Stale, format!("this node knows epoch {ours}, the reader {reader}"), None)
}

/// What a failed cold read means to the reader.
pub(super) fn cold_error(partition: PartitionKey, error: &ColdError) -> WireError {
    let code = match error {
        ColdError::Store(StoreError::Unavailable { .. }) => ErrorCode::BucketUnavailable,
        ColdError::Store(StoreError::Damaged { .. }) | ColdError::Log(_) | ColdError::Corrupt { .. } => {
            ErrorCode::Corrupt
        }
        ColdError::Store(StoreError::Journal { .. }) | ColdError::Gone { .. } | ColdError::Broken(_) => {
            ErrorCode::Internal
        }
    };
    tracing::warn!(%partition, error = error as &dyn std::error::Error, "a cold read failed");
    refuse(code, format!("partition {partition}: {error}"), None)
}
