//! One partition's newest committed entries, without gaps.

use std::collections::VecDeque;
use std::ops::AddAssign;

use bytes::Bytes;
use kennel_core::read::{HoleRange, TailRange};
use kennel_protocol::entry::{Entry, EntryKind, HoleReason, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::object::slot::PartitionState;
use kennel_protocol::wire::PartitionReport;

use crate::read::gather::Gather;
use crate::read::spans::{identity_at, spans};

/// What is in memory of one partition. 80 bytes where nothing is.
#[derive(Debug)]
pub(super) struct PartitionTail {
    pieces: VecDeque<Piece>,
    /// First offset in memory.
    start: Offset,
    /// End of what is committed.
    end: Offset,
    stored: Offset,
    trim: Offset,
}

/// A committed chunk or hole.
#[derive(Debug)]
struct Piece {
    number: u64,
    base: Offset,
    end: Offset,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Chunk { batches: Bytes, last: Option<MessageIdentity> },
    Hole(HoleReason),
}

/// What was let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) bytes: u64,
    pub(super) pieces: usize,
}

impl AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.pieces += other.pieces;
    }
}

/// What an append did to the memory in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Bytes of the new piece; zero where the entry brought none.
    pub(super) added: u64,
    pub(super) freed: Freed,
}

/// The oldest piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) number: u64,
    pub(super) stored: bool,
}

impl PartitionTail {
    /// A partition whose first entry here begins at `base`: everything below is in the bucket (a follower starts at
    /// what is stored).
    pub(super) fn starting_at(base: Offset) -> Self {
        Self { pieces: VecDeque::new(), start: base, end: base, stored: base, trim: Offset(0) }
    }

    /// A partition as an open record states it: stored up to its end.
    pub(super) fn stated(state: &PartitionState) -> Self {
        Self { trim: state.trim, ..Self::starting_at(state.end) }
    }

    /// Takes in an entry that continues the partition.
    pub(super) fn append(&mut self, entry: &Entry, number: u64) -> Change {
        let head = &entry.head;
        let body = match head.kind {
            EntryKind::Trim => return Change { added: 0, freed: self.trim_to(head.end) },
            EntryKind::Cut => return Change::default(),
            EntryKind::Chunk => Body::Chunk { batches: entry.body.clone(), last: head.last },
            EntryKind::Hole(reason) => Body::Hole(reason),
        };
        if head.end <= self.end {
            return Change::default();
        }
        assert!(head.base >= self.end, "R12: committed entries of {} overlap at {}", head.partition, head.base);
        // A jump means that this copy began later: what lies between is stored, and memory begins anew.
        let freed = if head.base > self.end { self.restart(head.base) } else { Freed::default() };
        let piece = Piece { number, base: head.base, end: head.end, body };
        let added = piece.cost();
        self.end = head.end;
        self.pieces.push_back(piece);
        Change { added, freed }
    }

    /// Drops everything at or above the stated end (PROTOCOL R26).
    pub(super) fn rewind(&mut self, state: &PartitionState) -> Freed {
        let mut freed = Freed::default();
        while let Some(newest) = self.pieces.pop_back_if(|piece| piece.end > state.end) {
            freed += newest.freed();
            if newest.base < state.end {
                // Entries may be stored in part only at their own boundaries, so a piece across the end comes from
                // another history: nothing below it is kept either.
                freed += self.clear();
            }
        }
        let covered = self.pieces.back().is_some_and(|newest| newest.end == state.end);
        if !covered {
            freed += self.restart(state.end);
        }
        (self.end, self.stored) = (state.end, state.end);
        freed += self.trim_to(state.trim);
        freed
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self) -> Freed {
        self.start = self.end;
        let pieces = std::mem::take(&mut self.pieces);
        Freed { bytes: pieces.iter().map(Piece::cost).sum(), pieces: pieces.len() }
    }

    pub(super) fn set_stored(&mut self, end: Offset) {
        self.stored = self.stored.max(end);
    }

    /// Lets go of the oldest piece.
    pub(super) fn drop_oldest(&mut self) -> Freed {
        let Some(oldest) = self.pieces.pop_front() else { return Freed::default() };
        self.start = oldest.end;
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        oldest.freed()
    }

    pub(super) fn oldest(&self) -> Option<Oldest> {
        self.pieces.front().map(|piece| Oldest { number: piece.number, stored: piece.end <= self.stored })
    }

    /// Whether the piece of that number is still here.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.pieces.binary_search_by_key(&number, |piece| piece.number).is_ok()
    }

    pub(super) fn range(&self) -> TailRange {
        TailRange { start: self.start, committed: self.end, trim: self.trim }
    }

    pub(super) fn report(&self, partition: PartitionKey) -> PartitionReport {
        PartitionReport { partition, trim: self.trim, stored: self.stored.min(self.end), committed: self.end }
    }

    pub(super) fn read(&self, gather: &mut Gather) {
        let first = self.pieces.partition_point(|piece| piece.end <= gather.next());
        for piece in self.pieces.range(first..) {
            if gather.is_full() {
                return;
            }
            match &piece.body {
                Body::Chunk { batches, .. } => gather.chunk(piece.base, piece.end, batches),
                Body::Hole(reason) => gather.hole(HoleRange { from: piece.base, to: piece.end, reason: *reason }),
            }
        }
    }

    pub(super) fn identity(&self, offset: Offset) -> Option<MessageIdentity> {
        let index = self.pieces.partition_point(|piece| piece.end <= offset);
        let piece = self.pieces.get(index).filter(|piece| piece.base <= offset)?;
        match &piece.body {
            Body::Chunk { last, .. } if last.is_some_and(|last| last.offset == offset) => *last,
            Body::Chunk { batches, .. } => identity_at(batches, offset),
            Body::Hole(_) => None,
        }
    }

    pub(super) fn at_timestamp(&self, timestamp: u64) -> Option<Offset> {
        let chunks = self.pieces.iter().filter_map(Piece::chunk);
        let mut late = chunks.filter(|(_, last)| last.is_none_or(|last| last.base_timestamp >= timestamp));
        late.find_map(|(batches, _)| spans(batches).find(|span| span.base_timestamp >= timestamp)).map(|span| span.base)
    }

    pub(super) fn last_batch(&self) -> Option<Offset> {
        let (batches, _) = self.pieces.iter().rev().find_map(Piece::chunk)?;
        spans(batches).last().map(|span| span.base)
    }

    fn restart(&mut self, at: Offset) -> Freed {
        self.end = at;
        self.clear()
    }

    fn trim_to(&mut self, trim: Offset) -> Freed {
        self.trim = self.trim.max(trim);
        let mut freed = Freed::default();
        while self.pieces.front().is_some_and(|piece| piece.end <= self.trim) {
            freed += self.drop_oldest();
        }
        freed
    }
}

impl Piece {
    /// Its share of the budget: the body and the bookkeeping.
    fn cost(&self) -> u64 {
        let body = match &self.body {
            Body::Chunk { batches, .. } => batches.len(),
            Body::Hole(_) => 0,
        };
        (body + size_of::<Self>()) as u64
    }

    fn freed(&self) -> Freed {
        Freed { bytes: self.cost(), pieces: 1 }
    }

    fn chunk(&self) -> Option<(&Bytes, Option<MessageIdentity>)> {
        match &self.body {
            Body::Chunk { batches, last } => Some((batches, *last)),
            Body::Hole(_) => None,
        }
    }
}
