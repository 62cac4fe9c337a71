//! What a partition has in memory that is not idle: pieces, oldest first, and what is not so yet.

use std::collections::VecDeque;
use std::ops::AddAssign;

use bytes::Bytes;
use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::Offset;

use crate::read::stow::StowPlace;

/// What a partition has that is not idle.
#[derive(Debug)]
pub(super) struct Busy {
    /// Without gaps up to the partition's end.
    pub(super) pieces: VecDeque<Piece>,
    /// How many of the oldest pieces hold no memory that could be let go: their bodies lie in the journal.
    pub(super) stowed: usize,
    pub(super) stored: Offset,
    /// It may end further on, in the bucket: entries were left out since the last that came here.
    pub(super) doubted: bool,
}

/// A committed chunk or hole.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) number: u64,
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Batches, and where else they lie.
    Chunk {
        batches: Bytes,
        last: Option<MessageIdentity>,
        place: Option<StowPlace>,
    },
    /// Batches that lie in the journal only.
    Stowed {
        bytes: u32,
        last: Option<MessageIdentity>,
        place: StowPlace,
    },
    Hole(HoleReason),
}

/// A chunk that is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StowedChunk {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) place: StowPlace,
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

/// The oldest piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) number: u64,
    /// Whether its memory can go: it is in the bucket, or the journal can give it back.
    pub(super) may_go: bool,
}

/// Stowed chunks that are brought for one read at most.
const STOWED_AT_ONCE: usize = 256;

impl Busy {
    /// Of a partition that was idle until now, and so is stored up to its end.
    pub(super) fn after_rest(end: Offset) -> Self {
        Self { pieces: VecDeque::new(), stowed: 0, stored: end, doubted: false }
    }

    pub(super) fn push(&mut self, piece: Piece) {
        if self.pieces.capacity() == 0 {
            // Most partitions have one piece in memory, and room for the usual four would be most of what they take.
            self.pieces.reserve_exact(1);
        }
        self.pieces.push_back(piece);
        self.pass_stowed();
    }

    /// Lets go of every piece.
    pub(super) fn clear(&mut self) -> Freed {
        self.stowed = 0;
        let pieces = std::mem::take(&mut self.pieces);
        Freed { bytes: pieces.iter().map(Piece::cost).sum(), pieces: pieces.len() }
    }

    pub(super) fn rewind(&mut self, end: Offset) -> Freed {
        let mut freed = Freed::default();
        while let Some(newest) = self.pieces.pop_back_if(|piece| piece.end > end) {
            freed += newest.freed();
            if newest.base < end {
                // Entries may be stored in part only at their own boundaries, so a piece across the end comes from
                // another history: nothing below it is kept either.
                freed += self.clear();
            }
        }
        let covered = self.pieces.back().is_some_and(|newest| newest.end == end);
        if !covered {
            freed += self.clear();
        }
        (self.stored, self.doubted) = (end, false);
        self.stowed = self.stowed.min(self.pieces.len());
        freed
    }

    pub(super) fn set_stored(&mut self, end: Offset) -> Freed {
        self.stored = self.stored.max(end);
        let mut freed = Freed::default();
        while self.stowed > 0 && self.pieces.front().is_some_and(|piece| piece.end <= self.stored) {
            freed += self.drop_front();
        }
        freed
    }

    pub(super) fn let_go_oldest(&mut self) -> Freed {
        let Some(oldest) = self.pieces.get_mut(self.stowed) else { return Freed::default() };
        if self.stowed == 0 && oldest.end <= self.stored {
            return self.drop_front();
        }
        let bytes = oldest.stow();
        self.stowed += 1;
        self.pass_stowed();
        Freed { bytes, pieces: 0 }
    }

    /// Counts pieces that came without a body.
    fn pass_stowed(&mut self) {
        while self.pieces.get(self.stowed).is_some_and(|piece| matches!(piece.body, Body::Stowed { .. })) {
            self.stowed += 1;
        }
    }

    pub(super) fn trim_to(&mut self, trim: Offset) -> Freed {
        let mut freed = Freed::default();
        while self.pieces.front().is_some_and(|piece| piece.end <= trim) {
            freed += self.drop_front();
        }
        freed
    }

    fn drop_front(&mut self) -> Freed {
        let Some(oldest) = self.pieces.pop_front() else { return Freed::default() };
        self.stowed = self.stowed.saturating_sub(1);
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        oldest.freed()
    }

    /// The stowed chunks from a piece on, one after the other, until they hold `bytes_max`.
    pub(super) fn stowed_from(&self, index: usize, bytes_max: u64) -> Vec<StowedChunk> {
        let (mut chunks, mut bytes_before) = (Vec::new(), 0);
        for piece in self.pieces.range(index..).take(STOWED_AT_ONCE) {
            let Body::Stowed { bytes, place, .. } = piece.body else { break };
            if bytes_before >= bytes_max {
                break;
            }
            bytes_before += u64::from(bytes);
            chunks.push(StowedChunk { base: piece.base, end: piece.end, place });
        }
        chunks
    }
}

impl Piece {
    /// Its share of the budget: the body and the bookkeeping.
    pub(super) fn cost(&self) -> u64 {
        let body = match &self.body {
            Body::Chunk { batches, .. } => batches.len(),
            Body::Stowed { .. } | Body::Hole(_) => 0,
        };
        (body + size_of::<Self>()) as u64
    }

    fn freed(&self) -> Freed {
        Freed { bytes: self.cost(), pieces: 1 }
    }

    pub(super) fn stowed(&self) -> Option<StowedChunk> {
        let Body::Stowed { place, .. } = self.body else { return None };
        Some(StowedChunk { base: self.base, end: self.end, place })
    }

    /// Whether the journal can give its body back, or it has none.
    pub(super) fn can_be_stowed(&self) -> bool {
        !matches!(self.body, Body::Chunk { place: None, .. })
    }

    /// Lets go of the body; returns how many bytes that was.
    pub(super) fn stow(&mut self) -> u64 {
        let Body::Chunk { batches, last, place: Some(place) } = &self.body else { return 0 };
        let bytes = u32::try_from(batches.len()).expect("a body is shorter than a frame");
        self.body = Body::Stowed { bytes, last: *last, place: *place };
        u64::from(bytes)
    }
}
