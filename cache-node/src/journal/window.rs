//! A stretch of the ring in memory, moved forward in long aligned reads. It knows bytes, not groups.

use std::io;

use super::aligned::AlignedBuffer;
use super::ring::Ring;

/// How much is read at once: long enough for the disk's full rate.
const WINDOW_BYTES: usize = 4 << 20;

/// What of the ring lies in memory: `length` bytes from position `from` on.
pub(super) struct Window<'a> {
    ring: &'a Ring,
    /// Nobody reads at or beyond this position: one lap from where reading began.
    limit: u64,
    buffer: AlignedBuffer,
    from: u64,
    length: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(ring: &'a Ring, limit: u64) -> Self {
        Self { ring, limit, buffer: AlignedBuffer::new(WINDOW_BYTES), from: 0, length: 0 }
    }

    /// The bytes `[position, position + length)`, whole blocks. Forward reading reads every byte once.
    pub(super) fn bytes(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        assert!(position + length as u64 <= self.limit, "nobody reads beyond one lap");
        if position < self.from || position + length as u64 > self.from + self.length as u64 {
            self.move_to(position, length)?;
        }
        let start = usize::try_from(position - self.from).expect("it lies inside the window");
        Ok(&self.buffer.bytes()[start..][..length])
    }

    /// Moves the window to `position`, so that it holds at least `length` bytes. What it holds already is not read again.
    fn move_to(&mut self, position: u64, length: usize) -> io::Result<()> {
        let left = usize::try_from(self.limit - position).unwrap_or(usize::MAX);
        let wanted = length.max(WINDOW_BYTES).min(left);
        let held_until = self.from + self.length as u64;
        let held = if (self.from..held_until).contains(&position) {
            usize::try_from(held_until - position).expect("it lies inside the window")
        } else {
            0
        };
        let held_at = self.length - held;
        if self.buffer.capacity() < wanted {
            let mut larger = AlignedBuffer::new(wanted);
            larger.bytes_mut()[..held].copy_from_slice(&self.buffer.bytes()[held_at..][..held]);
            self.buffer = larger;
        } else {
            self.buffer.bytes_mut().copy_within(held_at..held_at + held, 0);
        }
        // Until the read succeeded it holds nothing.
        self.length = 0;
        self.ring.read(position + held as u64, &mut self.buffer.bytes_mut()[held..wanted])?;
        (self.from, self.length) = (position, wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::file::BlockFile;
    use super::super::layout::{BLOCK, RING_START};
    use super::*;

    /// Every block is filled with its number; remembers what was read.
    #[derive(Default)]
    struct Numbered(Mutex<Vec<u64>>);

    impl BlockFile for Numbered {
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            for (block, number) in buffer.chunks_mut(BLOCK).zip((offset - RING_START) / BLOCK as u64..) {
                block.fill(u8::try_from(number % 251).expect("below 251"));
                self.0.lock().expect("no panic").push(number);
            }
            Ok(())
        }

        fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
            unreachable!("a window only reads")
        }

        fn sync(&self) -> io::Result<()> {
            unreachable!("a window only reads")
        }
    }

    #[test]
    fn forward_reading_reads_every_block_once_whatever_the_steps() {
        let blocks = 5 * WINDOW_BYTES / BLOCK;
        let file = Arc::new(Numbered::default());
        let ring = Ring::new(file.clone(), (blocks * BLOCK) as u64);
        let mut window = Window::new(&ring, (blocks * BLOCK) as u64);
        let mut at = 0;
        // Steps shorter and longer than a window, each looked at twice as recovery does: header, then group.
        for step in [1, 700, 1300, 3, 900, 2000].into_iter().cycle() {
            let step = step.min(blocks - at);
            for length in [1, step] {
                let bytes = window.bytes((at * BLOCK) as u64, length * BLOCK).expect("it reads");
                for (block, number) in bytes.chunks(BLOCK).zip(at..) {
                    assert!(block.iter().all(|byte| usize::from(*byte) == number % 251), "block {number}");
                }
            }
            at += step;
            if at == blocks {
                break;
            }
        }
        assert_eq!(*file.0.lock().expect("no panic"), (0..blocks as u64).collect::<Vec<_>>());
    }
}
