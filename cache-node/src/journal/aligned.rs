//! Memory whose address O_DIRECT accepts, without `unsafe`: a little too much of it, used from the first boundary on.

use super::layout::BLOCK;

/// A buffer of a fixed capacity (a multiple of the block size) that starts at a block boundary in memory.
pub(super) struct AlignedBuffer {
    storage: Box<[u8]>,
    start: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// Zeroed memory for at least `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let capacity = bytes.next_multiple_of(BLOCK);
        // A boxed slice never moves, so the offset of the boundary stays right.
        let storage = vec![0; capacity + BLOCK].into_boxed_slice();
        let start = storage.as_ptr().addr().next_multiple_of(BLOCK) - storage.as_ptr().addr();
        Self { storage, start, capacity }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..][..self.capacity]
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.storage[self.start..][..self.capacity]
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_a_boundary_and_holds_whole_blocks() {
        for wanted in [1, BLOCK, BLOCK + 1, 9 * BLOCK] {
            let mut buffer = AlignedBuffer::new(wanted);
            assert_eq!(buffer.bytes().as_ptr().addr() % BLOCK, 0);
            assert_eq!(buffer.bytes_mut().len(), wanted.next_multiple_of(BLOCK));
        }
    }
}
