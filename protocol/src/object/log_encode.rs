//! Makes a log object out of a run of an epoch's entries, without copying a body.
//!
//! The same header and entries give the same bytes in every build and at every try (PROTOCOL R20): nothing here looks
//! at a clock, a hash map or a counter.

use core::mem;

use bytes::Bytes;

use crate::archive::to_archive;
use crate::batch::{BatchError, peek};
use crate::checksum::{checksum, checksum_shared};
use crate::entry::{EntryKind, NumberedEntry};
use crate::ids::Lsn;
use crate::limits::{LOG_BLOCK_BYTES_TARGET, LOG_INDEX_BYTES_MAX, LOG_OBJECT_BYTES_MAX, LOG_OBJECT_ENTRIES_MAX};
use crate::object::log_layout::{LOG_FOOTER_BYTES, LOG_HEADER_BYTES, LogFooter};
use crate::object::{IndexEntry, LogHeader, LogIndex};

/// A log object ready to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedObject {
    /// The object in order: header, bodies, index, footer. Bodies are shared with the entries.
    pub pieces: Vec<Bytes>,
    /// What is in it.
    pub index: LogIndex,
}

impl EncodedObject {
    /// Length of the object in bytes.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Never: an object has at least its header, index and footer.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// XXH3-64 of the whole object.
    pub fn checksum(&self) -> u64 {
        checksum_shared(&self.pieces)
    }

    /// The whole object as one run of bytes. Copies: for tests and stores that take nothing else.
    pub fn to_contiguous(&self) -> Bytes {
        Bytes::from(self.pieces.concat())
    }
}

/// A run of entries that cannot become a log object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeLogError {
    /// The entries are not exactly the run that the header announces. A bug in the caller: stop the shard.
    #[error("entry {found} stands where {expected} is expected; the header announces a dense run")]
    NotDense {
        /// The next one by the header.
        expected: Lsn,
        /// The one that came.
        found: Lsn,
    },
    /// The object would be larger than a reader accepts. A bug in the caller: close objects earlier.
    #[error("{entries} entries of {bytes} bytes are more than one object may hold; close it earlier")]
    TooLarge {
        /// How many entries.
        entries: usize,
        /// Length of their bodies together.
        bytes: usize,
    },
    /// The body of an entry cannot be walked. It was verified when it came in: stop the shard.
    #[error("the body of entry {lsn} is not a run of batches")]
    Body {
        /// Which entry.
        lsn: Lsn,
        /// What is wrong with it.
        #[source]
        source: BatchError,
    },
}

/// Makes the log object of the entries `[header.lsn_from, header.lsn_end)`, which must be exactly `entries`.
///
/// Lines of the index are sorted by partition and stand in the order of the entries within one. Chunks of one
/// partition that follow each other in one history become one block, up to [`LOG_BLOCK_BYTES_TARGET`]; a hole, a
/// trim or a cut between them begins a new one.
pub fn encode_log_object(header: LogHeader, entries: &[NumberedEntry]) -> Result<EncodedObject, EncodeLogError> {
    check_dense(&header, entries)?;
    check_size(entries)?;
    let mut order: Vec<&NumberedEntry> = entries.iter().collect();
    // Stable, so entries of one partition keep their order.
    order.sort_by_key(|numbered| numbered.entry.head.partition);

    let mut builder = LogObjectBuilder::new(&header);
    for numbered in order {
        builder.push(numbered)?;
    }
    Ok(builder.finish(header))
}

fn check_dense(header: &LogHeader, entries: &[NumberedEntry]) -> Result<(), EncodeLogError> {
    let mut expected = header.lsn_from;
    for numbered in entries {
        if numbered.lsn != expected {
            return Err(EncodeLogError::NotDense { expected, found: numbered.lsn });
        }
        expected = expected.next();
    }
    if expected != header.lsn_end {
        return Err(EncodeLogError::NotDense { expected: header.lsn_end, found: expected });
    }
    Ok(())
}

/// Every line has its index entry and every body its bytes, so what is refused here could never be read.
fn check_size(entries: &[NumberedEntry]) -> Result<(), EncodeLogError> {
    let bytes = entries.iter().map(|numbered| numbered.entry.body.len()).sum();
    let fixed = LOG_HEADER_BYTES + LOG_INDEX_BYTES_MAX + LOG_FOOTER_BYTES;
    if entries.len() > LOG_OBJECT_ENTRIES_MAX || bytes > LOG_OBJECT_BYTES_MAX - fixed {
        return Err(EncodeLogError::TooLarge { entries: entries.len(), bytes });
    }
    Ok(())
}

/// Lays out blocks one after another. Entries come sorted by partition.
struct LogObjectBuilder {
    pieces: Vec<Bytes>,
    lines: Vec<IndexEntry>,
    /// The bodies of the last line, if it is a block: its checksum is computed when it closes.
    open: Vec<Bytes>,
    position: u64,
}

impl LogObjectBuilder {
    fn new(header: &LogHeader) -> Self {
        let pieces = vec![Bytes::copy_from_slice(&header.encode())];
        Self { pieces, lines: Vec::new(), open: Vec::new(), position: LOG_HEADER_BYTES as u64 }
    }

    fn push(&mut self, numbered: &NumberedEntry) -> Result<(), EncodeLogError> {
        let line = self.line_of(numbered)?;
        let body = &numbered.entry.body;
        match self.lines.last_mut() {
            Some(before) if joins(before, &line) => {
                before.end = line.end;
                before.bytes += line.bytes;
                before.last_timestamp = line.last_timestamp;
                before.last = line.last;
                before.sum.add(line.sum);
            }
            _ => {
                self.close_block();
                self.lines.push(line);
            }
        }
        if !body.is_empty() {
            self.position += body.len() as u64;
            self.open.push(body.clone());
        }
        Ok(())
    }

    /// The line that an entry would have alone. Its checksum is 0 until the block closes.
    fn line_of(&self, numbered: &NumberedEntry) -> Result<IndexEntry, EncodeLogError> {
        let head = &numbered.entry.head;
        let (first_timestamp, last_timestamp) = if head.kind == EntryKind::Chunk {
            let peek =
                peek(&numbered.entry.body).map_err(|source| EncodeLogError::Body { lsn: numbered.lsn, source })?;
            (peek.first_timestamp, peek.last_timestamp)
        } else {
            (0, 0)
        };
        Ok(IndexEntry {
            partition: head.partition,
            kind: head.kind,
            base: head.base,
            end: head.end,
            position: self.position,
            bytes: u32::try_from(numbered.entry.body.len()).expect("a body is shorter than a frame"),
            checksum: 0,
            first_timestamp,
            last_timestamp,
            last: head.last,
            sum: head.sum,
            cut: head.cut,
        })
    }

    fn close_block(&mut self) {
        let bodies = mem::take(&mut self.open);
        if let Some(line) = self.lines.last_mut()
            && !bodies.is_empty()
        {
            line.checksum = checksum_shared(&bodies);
            self.pieces.extend(bodies);
        }
    }

    fn finish(mut self, header: LogHeader) -> EncodedObject {
        self.close_block();
        let index = LogIndex { header, entries: self.lines };
        let archived = to_archive(&index);
        let footer = LogFooter {
            index_position: self.position,
            index_bytes: u32::try_from(archived.len()).expect("an index is bounded by the entries of an object"),
            index_checksum: checksum(&archived),
            header_checksum: header.own_checksum(),
            object_bytes: self.position + archived.len() as u64 + LOG_FOOTER_BYTES as u64,
        };
        self.pieces.push(archived);
        self.pieces.push(Bytes::copy_from_slice(&footer.encode()));
        EncodedObject { pieces: self.pieces, index }
    }
}

/// Whether a line continues the block before it.
fn joins(before: &IndexEntry, line: &IndexEntry) -> bool {
    let both_chunks = before.kind == EntryKind::Chunk && line.kind == EntryKind::Chunk;
    let continues = before.partition == line.partition && before.cut == line.cut && before.end == line.base;
    both_chunks && continues && before.bytes as usize + line.bytes as usize <= LOG_BLOCK_BYTES_TARGET
}
