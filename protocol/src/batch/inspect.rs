//! Verifying batches, and telling what a run of them amounts to.

use bytes::Bytes;

use crate::batch::header::{batch_hasher, reserved_is_zero};
use crate::batch::{BATCH_HEADER_BYTES, BatchError, BatchFault, BatchView, batches};
use crate::checksum::checksum;
use crate::entry::{EntryHead, EntryKind, IntegritySum, MessageIdentity};
use crate::ids::{Offset, PartitionKey};
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;

/// What a verified batch amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSummary {
    /// Its first message.
    pub first: MessageIdentity,
    /// Its last message.
    pub last: MessageIdentity,
    /// The first offset that its messages leave out; `None` if they are dense.
    pub gap: Option<Offset>,
    /// Sum over its messages.
    pub sum: IntegritySum,
}

impl BatchView<'_> {
    /// Checks everything that can be checked of one batch: that the frames fill it, that offsets rise, each message's
    /// checksum, the batch's checksum, and that the bytes which no checksum covers are zero.
    pub fn verify(&self) -> Result<BatchSummary, BatchError> {
        let header = &self.bytes()[..BATCH_HEADER_BYTES];
        let here = |reason| BatchError { position: self.position(), reason };
        let mut hasher = batch_hasher(header);
        let mut summary: Option<BatchSummary> = None;
        for message in self.messages() {
            let message = message?;
            let identity = message.identity();
            let fail = |reason| BatchError { position: message.position(), reason };
            if checksum(&message.frame()[8..]) != identity.checksum {
                return Err(fail(BatchFault::MessageChecksum { offset: identity.offset }));
            }
            hasher.update(&message.frame()[..8]);
            summary = Some(match summary {
                None => BatchSummary { first: identity, last: identity, gap: None, sum: IntegritySum::of(&identity) },
                Some(before) => before.followed_by(identity).map_err(fail)?,
            });
        }
        let (expected, found) = (self.header().batch_checksum, hasher.value());
        if found != expected {
            return Err(here(BatchFault::BatchChecksum { expected, found }));
        }
        if !reserved_is_zero(header) {
            return Err(here(BatchFault::Reserved));
        }
        summary.ok_or(here(BatchFault::Empty))
    }
}

impl BatchSummary {
    fn followed_by(mut self, next: MessageIdentity) -> Result<Self, BatchFault> {
        if next.offset <= self.last.offset {
            return Err(BatchFault::OffsetOrder { offset: next.offset });
        }
        let expected = self.last.offset.plus(1);
        if next.offset != expected {
            self.gap = self.gap.or(Some(expected));
        }
        self.last = next;
        self.sum.add(IntegritySum::of(&next));
        Ok(self)
    }
}

/// Verifies a run of whole, gapless batches of one partition and makes the head of the chunk that they are.
///
/// `previous` is `None` and `cut` 0: the caller knows what stood before, and the owner assigns cuts. The batches
/// must be whole (PROTOCOL R14): a poll that began inside a batch is to be repeated from the batch's base.
pub fn inspect_chunk(partition: PartitionKey, body: &Bytes) -> Result<EntryHead, BatchError> {
    if body.len() > FRAME_PAYLOAD_BYTES_MAX {
        let reason = BatchFault::BadLength { field: "chunk", found: body.len() as u64 };
        return Err(BatchError { position: 0, reason });
    }
    let mut head: Option<EntryHead> = None;
    for view in batches(body) {
        let view = view?;
        let expected = head.as_ref().map_or(view.header().base_offset, |head| head.end);
        let summary = verify_whole(partition, &view, expected)?;
        let end = summary.last.offset.plus(1);
        match &mut head {
            None => head = Some(chunk_head(partition, body, &summary)),
            Some(head) => {
                head.end = end;
                head.last = Some(summary.last);
                head.sum.add(summary.sum);
            }
        }
    }
    head.ok_or(BatchError { position: 0, reason: BatchFault::Empty })
}

/// Verifies one batch and that it continues its partition at `expected` without leaving anything out.
fn verify_whole(partition: PartitionKey, view: &BatchView<'_>, expected: Offset) -> Result<BatchSummary, BatchError> {
    let fail = |reason| BatchError { position: view.position(), reason };
    let summary = view.verify()?;
    let header = view.header();
    let wanted = u64::from(partition.partition.0);
    if header.partition_id != wanted {
        return Err(fail(BatchFault::WrongPartition { expected: wanted, found: header.partition_id }));
    }
    if !view.is_whole() {
        return Err(fail(BatchFault::Sliced { base: header.base_offset, first: summary.first.offset }));
    }
    if header.base_offset != expected {
        return Err(fail(BatchFault::Gap { expected, found: header.base_offset }));
    }
    if let Some(gap) = summary.gap {
        return Err(fail(BatchFault::Gap { expected: gap, found: summary.last.offset }));
    }
    Ok(summary)
}

fn chunk_head(partition: PartitionKey, body: &Bytes, summary: &BatchSummary) -> EntryHead {
    EntryHead {
        partition,
        kind: EntryKind::Chunk,
        base: summary.first.offset,
        end: summary.last.offset.plus(1),
        previous: None,
        first: Some(summary.first),
        last: Some(summary.last),
        sum: summary.sum,
        cut: 0,
        body_bytes: u32::try_from(body.len()).expect("a chunk is shorter than a frame"),
        body_checksum: checksum(body),
    }
}

/// What the headers alone say about a run of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPeek {
    /// The first message.
    pub base: Offset,
    /// The offset after the last message, provided that offsets are dense.
    pub end: Offset,
    /// How many batches.
    pub batches: u32,
    /// How many messages.
    pub messages: u64,
    /// When the first batch was appended, microseconds since 1970.
    pub first_timestamp: u64,
    /// When the last batch was appended.
    pub last_timestamp: u64,
}

/// Walks a run by its headers alone, to plan: nothing is verified. Empty runs are an error.
pub fn peek(run: &[u8]) -> Result<ChunkPeek, BatchError> {
    let mut peek: Option<ChunkPeek> = None;
    for view in batches(run) {
        let view = view?;
        let header = view.header();
        let before = peek.unwrap_or(ChunkPeek {
            base: view.first_offset(),
            end: view.first_offset(),
            batches: 0,
            messages: 0,
            first_timestamp: header.base_timestamp,
            last_timestamp: header.base_timestamp,
        });
        peek = Some(ChunkPeek {
            end: view.end_if_dense(),
            batches: before.batches + 1,
            messages: before.messages + u64::from(header.message_count),
            last_timestamp: header.base_timestamp,
            ..before
        });
    }
    peek.ok_or(BatchError { position: 0, reason: BatchFault::Empty })
}
