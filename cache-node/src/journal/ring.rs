//! The circular part of the file: positions that only rise, mapped to offsets that wrap. Knows nothing of groups.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::aligned::AlignedBuffer;
use super::file::BlockFile;
use super::layout::{BLOCK, RING_START, Superblock};

/// The file as a ring of `bytes` bytes behind its superblocks.
#[derive(Clone)]
pub(super) struct Ring {
    file: Arc<dyn BlockFile>,
    bytes: u64,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Ring {
    pub(super) fn new(file: Arc<dyn BlockFile>, bytes: u64) -> Self {
        Self { file, bytes }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (offset, before_wrap) = self.split(position, buffer.len());
        let (first, rest) = buffer.split_at_mut(before_wrap);
        self.file.read_exact_at(first, offset)?;
        if rest.is_empty() { Ok(()) } else { self.file.read_exact_at(rest, RING_START) }
    }

    /// Writes, and returns once it is durable. Where it wraps, both parts are on their way before the sync.
    pub(super) fn write_durably(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let (offset, before_wrap) = self.split(position, bytes.len());
        let (first, rest) = bytes.split_at(before_wrap);
        if rest.is_empty() {
            return self.file.write_durably(first, offset);
        }
        self.file.write_all_at(first, offset)?;
        self.file.write_all_at(rest, RING_START)?;
        self.file.sync()
    }

    /// Where in the file a write of so many bytes at `position` ends at most.
    pub(super) fn write_end(&self, position: u64, length: usize) -> u64 {
        let (offset, before_wrap) = self.split(position, length);
        if before_wrap < length { RING_START + self.bytes } else { offset + length as u64 }
    }

    pub(super) fn file(&self) -> &Arc<dyn BlockFile> {
        &self.file
    }

    /// Makes both copies of the superblock durable, one after the other: a crash leaves at least one whole, and a bit
    /// that rots in one of them later leaves the other current.
    pub(super) fn write_superblock(&self, superblock: &Superblock) -> io::Result<()> {
        let mut buffer = AlignedBuffer::new(BLOCK);
        superblock.encode(buffer.bytes_mut());
        for offset in [0, BLOCK as u64] {
            self.file.write_all_at(buffer.bytes(), offset)?;
            self.file.sync()?;
        }
        Ok(())
    }

    /// The offset of `position` in the file, and how much of `length` lies before the wrap.
    fn split(&self, position: u64, length: usize) -> (u64, usize) {
        let place = position % self.bytes;
        let before_wrap = usize::try_from(self.bytes - place).unwrap_or(usize::MAX).min(length);
        (RING_START + place, before_wrap)
    }
}
