//! Reads runs of whole batches out of one segment file, in windows.
//!
//! Lengths decide here, checksums in `segments`: a run is whole batches by their headers alone. The file's length is
//! that of its opening; what is appended later belongs to a later opening.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use kennel_protocol::batch::{BATCH_HEADER_BYTES, BatchFault, BatchHeader, inspect_chunk};
use kennel_protocol::ids::{Offset, PartitionKey};

/// How much is searched at a time for a batch behind a damaged one.
const SEARCH_WINDOW_BYTES: usize = 1 << 20;
/// A header that claims to be further ahead than this is noise, not a batch.
const OFFSETS_AHEAD_MAX: u64 = 1 << 40;

/// One open segment.
#[derive(Debug)]
pub(super) struct SegmentFile {
    file: File,
    bytes: u64,
}

/// What stands at a position.
#[derive(Debug)]
pub(super) enum Run {
    /// At least one whole batch, by the headers.
    Batches(Bytes),
    /// The end of the file.
    End,
    /// No whole batch.
    Bad(BatchFault),
}

impl SegmentFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whole batches from `position` on, about `bytes_max` of them; more only if the first batch alone is longer.
    pub(super) fn read_run(&self, position: u64, bytes_max: usize) -> io::Result<Run> {
        let remaining = self.bytes.saturating_sub(position);
        if remaining == 0 {
            return Ok(Run::End);
        }
        let mut window = self.read(position, bytes_max.max(BATCH_HEADER_BYTES))?;
        let first = match BatchHeader::decode(&window) {
            Ok(header) => header.batch_length,
            Err(fault) => return Ok(Run::Bad(fault)),
        };
        if first > remaining {
            return Ok(Run::Bad(BatchFault::Truncated { needed: first, available: remaining }));
        }
        // The decoded length is below Iggy's limit, so this allocates at most one batch.
        let first = usize::try_from(first).expect("a batch's length is a usize");
        if first > window.len() {
            window = self.read(position, first)?;
            if window.len() < first {
                let available = window.len() as u64;
                return Ok(Run::Bad(BatchFault::Truncated { needed: first as u64, available }));
            }
        }
        let whole = whole_batches(&window);
        Ok(Run::Batches(Bytes::from(window).slice(..whole)))
    }

    /// The header at `position`; `None` at the end of the file.
    pub(super) fn header(&self, position: u64) -> io::Result<Option<Result<BatchHeader, BatchFault>>> {
        if position >= self.bytes {
            return Ok(None);
        }
        let header = BatchHeader::decode(&self.read(position, BATCH_HEADER_BYTES)?);
        Ok(Some(header.and_then(|header| {
            let available = self.bytes - position;
            let whole = header.batch_length <= available;
            if whole { Ok(header) } else { Err(BatchFault::Truncated { needed: header.batch_length, available }) }
        })))
    }

    /// Where, at or after `from`, a batch of the partition stands that verifies and lies at or after offset `expected`:
    /// the difference between a torn end and damage in the middle.
    pub(super) fn find_batch(&self, from: u64, partition: PartitionKey, expected: Offset) -> io::Result<Option<u64>> {
        let mut position = from;
        while position < self.bytes {
            let window = self.read(position, SEARCH_WINDOW_BYTES + BATCH_HEADER_BYTES)?;
            let candidates = window.windows(BATCH_HEADER_BYTES).take(SEARCH_WINDOW_BYTES).enumerate();
            for (at, header) in candidates {
                if !could_be(header, partition, expected) {
                    continue;
                }
                let candidate = position + at as u64;
                if self.verifies(candidate, partition)? {
                    return Ok(Some(candidate));
                }
            }
            position += SEARCH_WINDOW_BYTES as u64;
        }
        Ok(None)
    }

    fn verifies(&self, position: u64, partition: PartitionKey) -> io::Result<bool> {
        match self.read_run(position, BATCH_HEADER_BYTES)? {
            Run::Batches(batch) => Ok(inspect_chunk(partition, &batch).is_ok()),
            Run::End | Run::Bad(_) => Ok(false),
        }
    }

    /// Up to `bytes` bytes, fewer only at the end of the file.
    fn read(&self, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let remaining = usize::try_from(self.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut window = vec![0; bytes.min(remaining)];
        let mut filled = 0;
        while filled < window.len() {
            match self.file.read_at(&mut window[filled..], position + filled as u64) {
                // The file was cut while it was open.
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        window.truncate(filled);
        Ok(window)
    }
}

/// Length of the whole batches at the start of a window; the first is known to be whole.
fn whole_batches(window: &[u8]) -> usize {
    let mut whole = 0;
    while let Ok(header) = BatchHeader::decode(&window[whole..]) {
        let length = usize::try_from(header.batch_length).expect("a batch's length is a usize");
        if length > window.len() - whole {
            break;
        }
        whole += length;
    }
    whole
}

/// A cheap look before the checksums: most bytes of a file are no header.
fn could_be(header: &[u8], partition: PartitionKey, expected: Offset) -> bool {
    header[..8] == u64::from(partition.partition.0).to_le_bytes()
        && BatchHeader::decode(header)
            .is_ok_and(|header| header.base_offset >= expected && header.base_offset.0 - expected.0 < OFFSETS_AHEAD_MAX)
}
