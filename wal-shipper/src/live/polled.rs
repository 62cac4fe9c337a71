//! What a poll's answer means for a read: whole batches to ship, a hole, an end, or what to poll next.
//!
//! A read asks for the message *before* the one that it wants, so that whatever is shipped carries the identity of what
//! stands before it as this answer has it, never as an earlier one had it (PROTOCOL R15). Iggy slices the batches at both
//! ends of an answer. The slice in front is only looked at; a batch that the count may have cut is left for the next
//! poll (PROTOCOL R14). Nothing here asks anybody anything.

use bytes::Bytes;
use kennel_core::shipper::SourceRest;
use kennel_protocol::batch::{BatchError, BatchFault, BatchView, batches, inspect_chunk};
use kennel_protocol::entry::{EntryHead, HoleReason, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::ShipChunk;

use super::source::Polled;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Which partition.
    pub partition: PartitionKey,
    /// The first offset wanted.
    pub from: Offset,
    /// Chunks end after about so many bytes; a batch that is longer is a chunk of its own.
    pub chunk_bytes: usize,
    /// Where the watch last saw the partition end.
    pub end_seen: Offset,
}

impl Wanted {
    /// The offset to poll: that of the message before, if there is one.
    pub fn poll_from(&self) -> Offset {
        Offset(self.from.0.saturating_sub(1))
    }

    /// How many messages to poll for `count` of those that are wanted.
    pub fn poll_count(&self, count: u32) -> u32 {
        count.saturating_add(u32::from(self.from > Offset(0)))
    }
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Chunks, and what comes after them.
    Chunks {
        /// Each continues the one before it.
        chunks: Vec<ShipChunk>,
        /// What comes after.
        rest: SourceRest,
    },
    /// The source ends at or below what was polled; its last offset is this one, if it has any message.
    Ended {
        /// The last offset, or 0.
        current: Offset,
    },
    /// The first batch alone is more than the count: poll again for more messages.
    TooFew,
    /// Message 0 alone, of a partition in which nothing may be committed yet: ask the watch.
    Uncommitted,
    /// The wanted offset lies inside a batch: poll from that batch's base.
    Inside {
        /// Its first offset.
        base: Offset,
    },
}

/// Tells what the answer to a poll of `count` messages from [`Wanted::poll_from`] means. An error is damage.
pub fn examine(wanted: &Wanted, count: u32, polled: &Polled) -> Result<Meaning, BatchError> {
    let mut views = batches(&polled.batches).peekable();
    let Some(front) = views.peek() else { return Ok(Meaning::Ended { current: polled.current }) };
    let front = (*front)?;
    let (previous, skipped) = match look_at_front(wanted, &front)? {
        Front::Before(identity) if front.header().message_count == 1 => (Some(identity), front.bytes().len()),
        Front::Before(_) => return Ok(Meaning::Inside { base: front.header().base_offset }),
        Front::Later if !front.is_whole() => return Ok(Meaning::Inside { base: front.header().base_offset }),
        Front::Later => (None, 0),
    };
    let whole = whole_length(&polled.batches, skipped, count, polled.current)?;
    if whole == skipped {
        let ended = polled.batches.len() == skipped;
        let rest = SourceRest::Exhausted { end: wanted.from, last: previous };
        return Ok(if ended { Meaning::Chunks { chunks: Vec::new(), rest } } else { Meaning::TooFew });
    }
    if may_be_uncommitted(wanted, polled) {
        return Ok(Meaning::Uncommitted);
    }
    let mut chunks = Vec::new();
    let mut before = previous;
    for piece in pieces(&polled.batches.slice(skipped..whole), wanted.chunk_bytes)? {
        let head = inspect_chunk(wanted.partition, &piece)?;
        let expected = before.map_or(wanted.from, |before| before.offset.plus(1));
        if before.is_none() && head.base > expected {
            chunks.push(hole(wanted.partition, expected, head.base));
        } else if head.base != expected {
            return Err(BatchError { position: 0, reason: BatchFault::Gap { expected, found: head.base } });
        }
        let last = head.last;
        chunks.push(ShipChunk { head: EntryHead { previous: before, ..head }, body: piece });
        before = last;
    }
    let end = before.map_or(wanted.from, |last| last.offset.plus(1));
    let more = whole < polled.batches.len() || end <= polled.current;
    let rest = if more { SourceRest::More } else { SourceRest::Exhausted { end, last: before } };
    Ok(Meaning::Chunks { chunks, rest })
}

/// Makes one chunk of the batch that holds the wanted offset inside, polled from its base: the ring has other batches.
/// `None` if the count may have cut it.
pub(super) fn whole_batch(wanted: &Wanted, polled: &Polled) -> Result<Option<ShipChunk>, BatchError> {
    let Some(first) = batches(&polled.batches).next() else { return Ok(None) };
    let length = first?.bytes().len();
    let body = polled.batches.slice(..length);
    let head = inspect_chunk(wanted.partition, &body)?;
    let whole = length < polled.batches.len() || head.end > polled.current;
    Ok((whole && head.end > wanted.from).then_some(ShipChunk { head, body }))
}

/// The last message of an answer, for a source that ends there.
pub(super) fn last_message(polled: &Polled) -> Result<Option<MessageIdentity>, BatchError> {
    let mut last = None;
    for view in batches(&polled.batches) {
        last = Some(view?.verify()?.last);
    }
    Ok(last)
}

/// The first message of an answer.
pub(super) fn first_message(polled: &Polled) -> Result<Option<MessageIdentity>, BatchError> {
    let Some(view) = batches(&polled.batches).next() else { return Ok(None) };
    Ok(Some(view?.verify()?.first))
}

/// What an answer begins with.
enum Front {
    /// The message before the wanted one.
    Before(MessageIdentity),
    /// The wanted one, or one behind it: the message before is not to be had.
    Later,
}

fn look_at_front(wanted: &Wanted, front: &BatchView<'_>) -> Result<Front, BatchError> {
    let first = front.verify()?.first;
    let before = wanted.from.0.checked_sub(1);
    match before {
        Some(before) if first.offset.0 == before => Ok(Front::Before(first)),
        Some(before) if first.offset.0 < before => {
            let reason = BatchFault::Gap { expected: wanted.poll_from(), found: first.offset };
            Err(BatchError { position: front.position(), reason })
        }
        _ => Ok(Front::Later),
    }
}

/// Where the batches end that are known to be whole: all of them, unless the count may have cut the last one.
fn whole_length(run: &[u8], skipped: usize, count: u32, current: Offset) -> Result<usize, BatchError> {
    let (mut messages, mut last_start, mut end) = (0_u64, 0, Offset(0));
    for view in batches(run) {
        let view = view?;
        messages += u64::from(view.header().message_count);
        last_start = view.position();
        end = view.end_if_dense();
    }
    // Nothing is committed in parts of a batch: what ends with the last message of all ends with a whole one.
    let cut = messages >= u64::from(count) && end <= current;
    Ok(if cut { last_start.max(skipped) } else { run.len() })
}

/// Iggy's last offset is 0 before the first message is committed and after it. A replica that has the first batch, of
/// however many messages, and not yet the cluster's word for it answers with message 0 of it. Only where the watch has
/// seen exactly one message is that a batch.
fn may_be_uncommitted(wanted: &Wanted, polled: &Polled) -> bool {
    wanted.from == Offset(0) && polled.current == Offset(0) && wanted.end_seen != Offset(1)
}

/// Runs of whole batches of about so many bytes.
fn pieces(run: &Bytes, bytes: usize) -> Result<Vec<Bytes>, BatchError> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for view in batches(run) {
        let view = view?;
        let end = view.position() + view.bytes().len();
        if end - start > bytes && view.position() > start {
            pieces.push(run.slice(start..view.position()));
            start = view.position();
        }
    }
    pieces.push(run.slice(start..));
    Ok(pieces)
}

fn hole(partition: PartitionKey, from: Offset, to: Offset) -> ShipChunk {
    let reason = if from == Offset(0) { HoleReason::ImportStart } else { HoleReason::SourceRetention };
    ShipChunk { head: EntryHead::hole(partition, from, to, reason), body: Bytes::new() }
}

#[cfg(test)]
mod tests;
