//! One partition's newest committed entries, without gaps. The oldest of them may lie in the journal only.

use kennel_core::read::{HoleRange, TailRange};
use kennel_protocol::entry::{Entry, EntryKind, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::object::slot::PartitionState;
use kennel_protocol::wire::PartitionReport;

use super::busy::{Body, Busy, Freed, Oldest, Piece, StowedChunk};
use crate::read::gather::Gather;
use crate::read::spans::{identity_at, spans};
use crate::read::stow::StowPlace;

/// What is in memory of one partition. Of most of a hundred thousand that is nothing: those take these three words.
#[derive(Debug)]
pub(super) struct PartitionTail {
    /// End of what is committed.
    end: Offset,
    trim: Offset,
    /// `None`: nothing is in memory, all of it is stored, and the end is known.
    busy: Option<Box<Busy>>,
}

const _: () = assert!(size_of::<PartitionTail>() <= 24, "a node has one for every idle partition");

/// What was looked for, or the chunk that has it and must be brought first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    Here(Offset),
    Stowed(StowedChunk),
}

/// What an append did to the memory in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Bytes of the new piece; zero where the entry brought none.
    pub(super) added: u64,
    pub(super) freed: Freed,
}

impl PartitionTail {
    /// A partition whose first entry here begins at `base`: everything below is in the bucket (a follower starts at
    /// what is stored).
    pub(super) fn starting_at(base: Offset) -> Self {
        Self { end: base, trim: Offset(0), busy: None }
    }

    /// A partition as an open record states it: stored up to its end.
    pub(super) fn stated(state: &PartitionState) -> Self {
        Self { end: state.end, trim: state.trim, busy: None }
    }

    /// Takes in an entry that continues the partition. `place` says where its body lies besides. A body that is nowhere
    /// any more was let go while its showing waited for the disk: the bucket covers it, and memory begins behind it.
    pub(super) fn append(&mut self, entry: &Entry, place: Option<StowPlace>, number: u64) -> Change {
        let head = &entry.head;
        let body = match head.kind {
            EntryKind::Trim => return Change { added: 0, freed: self.trim_to(head.end) },
            EntryKind::Cut => return Change::default(),
            EntryKind::Chunk if entry.is_away() => match place {
                Some(place) => Body::Stowed { bytes: head.body_bytes, last: head.last, place },
                None if head.end <= self.end => return Change::default(),
                None => return Change { added: 0, freed: self.restart(head.end) },
            },
            EntryKind::Chunk => Body::Chunk { batches: entry.body.clone(), last: head.last, place },
            EntryKind::Hole(reason) => Body::Hole(reason),
        };
        if head.end <= self.end {
            return Change::default();
        }
        assert!(head.base >= self.end, "R12: committed entries of {} overlap at {}", head.partition, head.base);
        // A jump means that this copy began later: what lies between is stored, and memory begins anew.
        let jumps = head.base > self.end;
        let busy = self.busy();
        busy.doubted = false;
        let freed = if jumps { busy.clear() } else { Freed::default() };
        let piece = Piece { number, base: head.base, end: head.end, body };
        let added = piece.cost();
        busy.push(piece);
        self.end = head.end;
        Change { added, freed }
    }

    /// Drops everything at or above the stated end (PROTOCOL R26).
    pub(super) fn rewind(&mut self, state: &PartitionState) -> Freed {
        let mut freed = self.busy.as_mut().map_or_else(Freed::default, |busy| busy.rewind(state.end));
        self.end = state.end;
        freed += self.trim_to(state.trim);
        freed
    }

    /// More may have been committed than this node will ever be given: it does not know where the partition ends.
    pub(super) fn doubt(&mut self) {
        self.busy().doubted = true;
    }

    /// Whether it knows where the partition ends.
    pub(super) fn is_doubted(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.doubted)
    }

    /// Lets go of everything, before it is dropped itself.
    pub(super) fn clear(&mut self) -> Freed {
        self.busy.take().map_or_else(Freed::default, |mut busy| busy.clear())
    }

    /// Says up to where the partition is in the bucket. What lies in the journal only is let go: the bucket serves it.
    pub(super) fn set_stored(&mut self, end: Offset) -> Freed {
        if self.busy.is_none() && end <= self.end {
            return Freed::default();
        }
        let freed = self.busy().set_stored(end);
        self.rest();
        freed
    }

    /// Lets go of the memory of the oldest piece that has some: of all of it if it is stored, else of its body.
    pub(super) fn let_go_oldest(&mut self) -> Freed {
        let freed = self.busy.as_mut().map_or_else(Freed::default, |busy| busy.let_go_oldest());
        self.rest();
        freed
    }

    /// The oldest piece that has memory to let go.
    pub(super) fn oldest(&self) -> Option<Oldest> {
        let busy = self.busy.as_ref()?;
        let piece = busy.pieces.get(busy.stowed)?;
        Some(Oldest { number: piece.number, may_go: piece.end <= busy.stored || piece.can_be_stowed() })
    }

    /// Whether the piece of that number is still here.
    pub(super) fn holds(&self, number: u64) -> bool {
        let holds = |busy: &Busy| busy.pieces.binary_search_by_key(&number, |piece| piece.number).is_ok();
        self.busy.as_deref().is_some_and(holds)
    }

    pub(super) fn range(&self) -> TailRange {
        let oldest = self.busy.as_ref().and_then(|busy| busy.pieces.front());
        TailRange { start: oldest.map_or(self.end, |oldest| oldest.base), committed: self.end, trim: self.trim }
    }

    pub(super) fn report(&self, partition: PartitionKey) -> PartitionReport {
        let stored = self.busy.as_ref().map_or(self.end, |busy| busy.stored.min(self.end));
        PartitionReport { partition, trim: self.trim, stored, committed: self.end }
    }

    /// Adds what is in memory; returns what has to be brought before it can go on.
    pub(super) fn read(&self, gather: &mut Gather) -> Vec<StowedChunk> {
        let Some(busy) = &self.busy else { return Vec::new() };
        let first = busy.pieces.partition_point(|piece| piece.end <= gather.next());
        for (index, piece) in busy.pieces.iter().enumerate().skip(first) {
            if gather.is_full() {
                break;
            }
            match &piece.body {
                Body::Chunk { batches, .. } => gather.chunk(piece.base, piece.end, batches),
                Body::Stowed { .. } => return busy.stowed_from(index, gather.bytes_left()),
                Body::Hole(reason) => gather.hole(HoleRange { from: piece.base, to: piece.end, reason: *reason }),
            }
        }
        Vec::new()
    }

    pub(super) fn identity(&self, offset: Offset) -> Option<MessageIdentity> {
        let pieces = &self.busy.as_ref()?.pieces;
        let index = pieces.partition_point(|piece| piece.end <= offset);
        let piece = pieces.get(index).filter(|piece| piece.base <= offset)?;
        match &piece.body {
            Body::Chunk { last, .. } | Body::Stowed { last, .. } if last.is_some_and(|last| last.offset == offset) => {
                *last
            }
            Body::Chunk { batches, .. } => identity_at(batches, offset),
            Body::Stowed { .. } | Body::Hole(_) => None,
        }
    }

    /// The first batch appended at or after `timestamp`.
    pub(super) fn at_timestamp(&self, timestamp: u64) -> Option<Lookup> {
        let late = |last: &Option<MessageIdentity>| last.is_none_or(|last| last.base_timestamp >= timestamp);
        self.busy.as_ref()?.pieces.iter().find_map(|piece| match &piece.body {
            Body::Chunk { batches, last, .. } if late(last) => {
                let span = spans(batches).find(|span| span.base_timestamp >= timestamp);
                span.map(|span| Lookup::Here(span.base))
            }
            Body::Stowed { last, .. } if late(last) => piece.stowed().map(Lookup::Stowed),
            _ => None,
        })
    }

    /// The newest batch.
    pub(super) fn last_batch(&self) -> Option<Lookup> {
        self.busy.as_ref()?.pieces.iter().rev().find_map(|piece| match &piece.body {
            Body::Chunk { batches, .. } => spans(batches).last().map(|span| Lookup::Here(span.base)),
            Body::Stowed { .. } => piece.stowed().map(Lookup::Stowed),
            Body::Hole(_) => None,
        })
    }

    #[cfg(test)]
    pub(super) fn holds_no_bodies(&self) -> bool {
        let holds = |busy: &Busy| busy.pieces.iter().any(|piece| matches!(piece.body, Body::Chunk { .. }));
        !self.busy.as_deref().is_some_and(holds)
    }

    fn restart(&mut self, at: Offset) -> Freed {
        let freed = self.busy().clear();
        self.end = at;
        self.rest();
        freed
    }

    fn trim_to(&mut self, trim: Offset) -> Freed {
        self.trim = self.trim.max(trim);
        let freed = self.busy.as_mut().map_or_else(Freed::default, |busy| busy.trim_to(self.trim));
        self.rest();
        freed
    }

    /// What it has beyond an idle partition, which it is no longer.
    fn busy(&mut self) -> &mut Busy {
        let end = self.end;
        self.busy.get_or_insert_with(|| Box::new(Busy::after_rest(end)))
    }

    /// Is idle again where nothing speaks against it.
    fn rest(&mut self) {
        let idle = |busy: &Busy| busy.pieces.is_empty() && busy.stored == self.end && !busy.doubted;
        if self.busy.as_deref().is_some_and(idle) {
            self.busy = None;
        }
    }
}
