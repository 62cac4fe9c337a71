//! Collects the batches of one answer: whole batches, in offset order, within the reader's limits, without copies.
//!
//! Trusts its input: every byte was verified where it entered. Knows nothing of where chunks and blocks come from.

use bytes::Bytes;
use kennel_core::read::HoleRange;
use kennel_protocol::ids::Offset;

use super::spans::spans;

/// The most that one answer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// At most this many bytes, but always one whole batch.
    pub(crate) bytes: u64,
    /// Stop after the batch that reaches this many messages.
    pub(crate) messages: u64,
    /// At most this many declared holes.
    pub(crate) holes: usize,
}

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Gather {
    limits: Limits,
    next: Offset,
    bytes: u64,
    messages: u64,
    full: bool,
    pieces: Vec<Bytes>,
    holes: Vec<HoleRange>,
}

impl Gather {
    /// An empty answer that begins at `start`.
    pub(crate) fn new(start: Offset, limits: Limits) -> Self {
        Self { limits, next: start, bytes: 0, messages: 0, full: false, pieces: Vec::new(), holes: Vec::new() }
    }

    /// Takes what fits of a run of batches that covers `[base, end)`, from `next` on. Ignores a run that does not
    /// hold `next`.
    pub(crate) fn chunk(&mut self, base: Offset, end: Offset, batches: &Bytes) {
        if self.full || end <= self.next || base > self.next {
            return;
        }
        let fits = self.bytes + batches.len() as u64 <= self.limits.bytes
            && self.messages + (end.0 - base.0) <= self.limits.messages;
        if base == self.next && fits {
            self.take(batches.clone(), end);
        } else {
            self.slice(end, batches);
        }
    }

    /// Declares a hole. Ignores one that does not hold `next`.
    pub(crate) fn hole(&mut self, hole: HoleRange) {
        if self.full || hole.to <= self.next || hole.from > self.next {
            return;
        }
        if self.holes.len() >= self.limits.holes {
            self.full = true;
            return;
        }
        self.holes.push(HoleRange { from: hole.from.max(self.next), ..hole });
        self.next = hole.to;
    }

    /// Where to continue.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// Whether the reader's limits are reached.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether there is nothing to say yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.holes.is_empty()
    }

    /// How many bytes still fit; at least one, because one batch always does.
    pub(crate) fn bytes_left(&self) -> u64 {
        self.limits.bytes.saturating_sub(self.bytes).max(1)
    }

    /// The batches and the holes.
    pub(crate) fn finish(self) -> (Vec<Bytes>, Vec<HoleRange>) {
        (self.pieces, self.holes)
    }

    fn take(&mut self, batches: Bytes, end: Offset) {
        self.bytes += batches.len() as u64;
        self.messages += end.0 - self.next.0;
        self.next = end;
        self.full = self.bytes >= self.limits.bytes || self.messages >= self.limits.messages;
        self.pieces.push(batches);
    }

    /// Cuts a run at batch boundaries.
    fn slice(&mut self, end: Offset, batches: &Bytes) {
        let start = self.next;
        let (mut from, mut to, mut next) = (None, 0, start);
        for span in spans(batches).skip_while(|span| span.end <= start) {
            let bytes = self.bytes + (span.to - from.unwrap_or(span.from)) as u64;
            let first = self.pieces.is_empty() && from.is_none();
            if !first && bytes > self.limits.bytes {
                self.full = true;
                break;
            }
            from = from.or(Some(span.from));
            (to, next) = (span.to, span.end);
            if self.messages + (next.0 - start.0) >= self.limits.messages {
                break;
            }
        }
        if let Some(from) = from {
            self.take(batches.slice(from..to), next.min(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::entry::HoleReason;

    use super::*;
    use crate::read::testing::{batch, run};

    const ALL: Limits = Limits { bytes: u64::MAX, messages: u64::MAX, holes: 8 };

    #[test]
    fn a_whole_chunk_is_shared_and_a_part_is_cut_at_batches() {
        let chunk = run(0, &[3, 3, 3]);
        let mut all = Gather::new(Offset(0), ALL);
        all.chunk(Offset(0), Offset(9), &chunk);
        assert_eq!(all.next(), Offset(9));
        assert_eq!(all.finish().0[0].as_ptr(), chunk.as_ptr());

        let mut part = Gather::new(Offset(4), ALL);
        part.chunk(Offset(0), Offset(9), &chunk);
        let (pieces, _) = part.finish();
        assert_eq!(spans(&pieces[0]).next().map(|span| span.base), Some(Offset(3)), "batches are never split");
    }

    #[test]
    fn limits_stop_it_but_one_batch_always_comes() {
        let chunk = run(0, &[3, 3, 3]);
        let mut bytes = Gather::new(Offset(0), Limits { bytes: 1, ..ALL });
        bytes.chunk(Offset(0), Offset(9), &chunk);
        assert!(bytes.is_full());
        assert_eq!(bytes.next(), Offset(3));
        let mut messages = Gather::new(Offset(1), Limits { messages: 3, ..ALL });
        messages.chunk(Offset(0), Offset(9), &chunk);
        assert_eq!((messages.next(), messages.is_full()), (Offset(6), true));
        bytes.chunk(Offset(3), Offset(6), &batch(3, 3));
        assert_eq!(bytes.next(), Offset(3), "a full answer takes no more");
    }

    #[test]
    fn holes_are_declared_from_where_the_reader_is() {
        let mut gather = Gather::new(Offset(5), ALL);
        gather.hole(HoleRange { from: Offset(0), to: Offset(8), reason: HoleReason::ImportStart });
        gather.chunk(Offset(8), Offset(9), &batch(8, 1));
        let hole = HoleRange { from: Offset(5), to: Offset(8), reason: HoleReason::ImportStart };
        assert_eq!((gather.next(), gather.finish().1), (Offset(9), vec![hole]));
    }
}
