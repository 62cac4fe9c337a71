//! Buffers between two groups: kept, for the pages of new memory cost more than what is copied into them, and given back
//! after a burst.
//!
//! A page stays with the process once it was written to. Without this a node would keep three of the longest groups for ever
//! that it ever wrote.

use super::aligned::AlignedBuffer;

/// Spare group buffers: one is filled, one waits, one is being written.
const SPARE_BUFFERS_MAX: usize = 3;

/// A group up to this size is small, bytes. So much of each buffer stays whatever comes.
const SMALL_BYTES: u64 = 1 << 20;

/// So many small groups in a row say that the burst is over: a few seconds of a node that is not idle. New memory once in so
/// many groups is not felt.
const SMALL_IN_A_ROW: u32 = 1_000;

/// The spare buffers of a journal.
#[derive(Default)]
pub(super) struct SpareBuffers {
    buffers: Vec<AlignedBuffer>,
    /// How many groups in a row were small, the newest one among them.
    small: u32,
    /// Whether one was not since all buffers were given back.
    burst: bool,
}

impl SpareBuffers {
    /// A buffer that was used before, if there is one.
    pub(super) fn take(&mut self) -> Option<AlignedBuffer> {
        self.buffers.pop()
    }

    /// Takes a buffer back that had a group of so many bytes. Returns those that are not needed any more: after a burst all of
    /// them.
    #[must_use]
    pub(super) fn give_back(&mut self, buffer: AlignedBuffer, bytes: u64) -> Vec<AlignedBuffer> {
        let is_small = bytes <= SMALL_BYTES;
        self.burst |= !is_small;
        self.small = if is_small { self.small.saturating_add(1) } else { 0 };
        self.buffers.push(buffer);
        if self.burst && self.small >= SMALL_IN_A_ROW {
            self.burst = false;
            return std::mem::take(&mut self.buffers);
        }
        self.buffers.split_off(self.buffers.len().min(SPARE_BUFFERS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::layout::BLOCK;

    fn given_back(spare: &mut SpareBuffers, bytes: u64) -> usize {
        let buffer = spare.take().unwrap_or_else(|| AlignedBuffer::new(BLOCK));
        spare.give_back(buffer, bytes).len()
    }

    #[test]
    fn after_a_burst_nothing_is_kept_and_without_one_everything() {
        let mut spare = SpareBuffers::default();
        for _ in 0..SPARE_BUFFERS_MAX {
            assert!(spare.give_back(AlignedBuffer::new(BLOCK), 1).is_empty());
        }
        assert_eq!(spare.give_back(AlignedBuffer::new(BLOCK), 1).len(), 1, "one too many");
        for _ in 0..2 * SMALL_IN_A_ROW {
            assert_eq!(given_back(&mut spare, SMALL_BYTES), 0);
        }
        assert_eq!(given_back(&mut spare, SMALL_BYTES + 1), 0);
        for _ in 1..SMALL_IN_A_ROW {
            assert_eq!(given_back(&mut spare, 1), 0);
        }
        assert_eq!(given_back(&mut spare, 1), SPARE_BUFFERS_MAX);
        for _ in 0..2 * SMALL_IN_A_ROW {
            assert_eq!(given_back(&mut spare, 1), 0, "what is new was not large yet");
        }
    }
}
