//! Reads log objects: whole, or from their end alone, and block by block.

use core::ops::Range;

use bytes::Bytes;

use crate::archive::from_archive;
use crate::checksum::checksum;
use crate::entry::EntryKind;
use crate::ids::{Offset, PartitionKey};
use crate::limits::LOG_OBJECT_ENTRIES_MAX;
use crate::object::log_layout::{LOG_FOOTER_BYTES, LOG_FOOTER_MAGIC, LOG_HEADER_BYTES, LogFooter};
use crate::object::{IndexEntry, LogHeader, LogIndex, ObjectError, ObjectKind, OpenRecord, SealObject, SlotObject};
use crate::raw::array_at;

const KIND: ObjectKind = ObjectKind::Log;

/// What a slot holds, from the object's whole bytes. Blocks of a log object are not verified: [`verify_block`] does
/// that for each one when it is used.
pub fn decode_slot(bytes: &Bytes) -> Result<SlotObject, ObjectError> {
    if bytes.len() < 4 {
        return Err(ObjectError::Truncated { needed: 4, available: bytes.len() as u64 });
    }
    let magic = array_at(bytes, 0);
    match ObjectKind::from_magic(magic) {
        Some(ObjectKind::OpenRecord) => OpenRecord::decode(bytes).map(SlotObject::Open),
        Some(ObjectKind::Seal) => SealObject::decode(bytes).map(SlotObject::Seal),
        Some(ObjectKind::Log) => decode_whole_log(bytes).map(SlotObject::Log),
        _ => Err(ObjectError::NotASlot { found: magic }),
    }
}

fn decode_whole_log(bytes: &[u8]) -> Result<LogIndex, ObjectError> {
    let smallest = LOG_HEADER_BYTES + LOG_FOOTER_BYTES;
    if bytes.len() < smallest {
        return Err(ObjectError::Truncated { needed: smallest as u64, available: bytes.len() as u64 });
    }
    let header = LogHeader::decode(&array_at(bytes, 0))?;
    let footer = LogFooter::decode(&array_at(bytes, bytes.len() - LOG_FOOTER_BYTES))?;
    check_length(&footer, bytes.len() as u64)?;
    let index = LogIndex::decode(&footer, &bytes[within(&footer.index_range(), 0)])?;
    if index.header != header {
        return Err(ObjectError::Contradiction { kind: KIND, what: "header and index name different objects" });
    }
    Ok(index)
}

/// What the end of a slot's object told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotSuffix {
    /// Enough was there.
    Complete(SlotObject),
    /// A log object whose index begins earlier: read this range and give it to [`LogIndex::decode`].
    NeedsIndex {
        /// The object's footer.
        footer: LogFooter,
        /// The index, bytes from the front of the object.
        range: Range<u64>,
    },
    /// No log object, or one with a damaged end: read the whole object and give it to [`decode_slot`].
    NeedsWhole,
}

/// Reads the end of a slot's object of `object_bytes` bytes: one range request shows a log object's index.
pub fn decode_slot_suffix(object_bytes: u64, suffix: &Bytes) -> Result<SlotSuffix, ObjectError> {
    let available = suffix.len() as u64;
    if available > object_bytes {
        return Err(ObjectError::Length { kind: KIND, expected: object_bytes, found: available });
    }
    if available == object_bytes {
        return decode_slot(suffix).map(SlotSuffix::Complete);
    }
    if suffix.len() < LOG_FOOTER_BYTES {
        return Err(ObjectError::Truncated { needed: LOG_FOOTER_BYTES as u64, available });
    }
    let end: [u8; LOG_FOOTER_BYTES] = array_at(suffix, suffix.len() - LOG_FOOTER_BYTES);
    if end[..4] != LOG_FOOTER_MAGIC {
        return Ok(SlotSuffix::NeedsWhole);
    }
    let footer = LogFooter::decode(&end)?;
    check_length(&footer, object_bytes)?;
    let range = footer.index_range();
    let suffix_from = object_bytes - available;
    if range.start < suffix_from {
        return Ok(SlotSuffix::NeedsIndex { footer, range });
    }
    let index = LogIndex::decode(&footer, &suffix[within(&range, suffix_from)])?;
    Ok(SlotSuffix::Complete(SlotObject::Log(index)))
}

/// A range of the object as a range of bytes that begin at `from` in it.
fn within(range: &Range<u64>, from: u64) -> Range<usize> {
    let place = |position: u64| usize::try_from(position - from).expect("an object's length is below the limit");
    place(range.start)..place(range.end)
}

fn check_length(footer: &LogFooter, object_bytes: u64) -> Result<(), ObjectError> {
    if footer.object_bytes != object_bytes {
        return Err(ObjectError::Length { kind: KIND, expected: footer.object_bytes, found: object_bytes });
    }
    Ok(())
}

/// Checks the bytes of a block against its line of the index.
pub fn verify_block(line: &IndexEntry, bytes: &[u8]) -> Result<(), ObjectError> {
    let position = line.position;
    if bytes.len() != line.bytes as usize {
        return Err(ObjectError::BlockLength { position, expected: line.bytes, found: bytes.len() });
    }
    if !bytes.is_empty() && checksum(bytes) != line.checksum {
        return Err(ObjectError::BlockChecksum { position });
    }
    Ok(())
}

impl IndexEntry {
    /// Where the block lies in the object, bytes from the front; empty for a declaration.
    pub fn range(&self) -> Range<u64> {
        self.position..self.position + u64::from(self.bytes)
    }
}

impl LogIndex {
    /// The index in the bytes that the footer points at, after checking it against the footer and itself.
    pub fn decode(footer: &LogFooter, bytes: &[u8]) -> Result<Self, ObjectError> {
        if bytes.len() != footer.index_bytes as usize {
            let (expected, found) = (footer.index_bytes.into(), bytes.len() as u64);
            return Err(ObjectError::Length { kind: KIND, expected, found });
        }
        if checksum(bytes) != footer.index_checksum {
            return Err(ObjectError::Checksum { kind: KIND });
        }
        let index: Self = from_archive(bytes).map_err(|_| ObjectError::Body { kind: KIND })?;
        index.check(footer).map_err(|what| ObjectError::Contradiction { kind: KIND, what })?;
        Ok(index)
    }

    /// The lines of one partition, in log order.
    pub fn lines_of(&self, partition: PartitionKey) -> &[IndexEntry] {
        let from = self.entries.partition_point(|line| line.partition < partition);
        let to = self.entries.partition_point(|line| line.partition <= partition);
        &self.entries[from..to]
    }

    /// The block of a partition that holds an offset; the newest history's where several do.
    pub fn block_of(&self, partition: PartitionKey, offset: Offset) -> Option<&IndexEntry> {
        let holds = |line: &&IndexEntry| line.kind == EntryKind::Chunk && line.base <= offset && offset < line.end;
        self.lines_of(partition).iter().rev().find(holds)
    }

    /// The object's bytes from the index alone: where the blocks end.
    pub fn blocks_end(&self) -> u64 {
        self.entries.last().map_or(LOG_HEADER_BYTES as u64, |line| line.range().end)
    }

    fn check(&self, footer: &LogFooter) -> Result<(), &'static str> {
        if self.header.own_checksum() != footer.header_checksum {
            return Err("footer and index name different objects");
        }
        if self.header.lsn_from > self.header.lsn_end {
            return Err("its run of entries ends before it begins");
        }
        if self.entries.len() > LOG_OBJECT_ENTRIES_MAX {
            return Err("its index has more lines than allowed");
        }
        let mut position = LOG_HEADER_BYTES as u64;
        let mut partition = None;
        for line in &self.entries {
            if partition > Some(line.partition) {
                return Err("its index is not sorted by partition");
            }
            partition = Some(line.partition);
            line.check(position)?;
            position = line.range().end;
        }
        if position != footer.index_position {
            return Err("its blocks do not reach to its index");
        }
        Ok(())
    }
}

impl IndexEntry {
    /// Whether a line agrees with itself and begins where the blocks before it end.
    fn check(&self, position: u64) -> Result<(), &'static str> {
        if self.base > self.end {
            return Err("a line's range is the wrong way round");
        }
        if self.position != position {
            return Err("a block does not begin where the one before it ends");
        }
        if (self.kind == EntryKind::Chunk) != (self.bytes > 0) {
            return Err("a block has no bytes, or a declaration has some");
        }
        if position.checked_add(self.bytes.into()).is_none() {
            return Err("a block ends beyond the largest position");
        }
        Ok(())
    }
}
