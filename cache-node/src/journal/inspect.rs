//! A journal looked at from outside: nothing is written, no lock is kept. It knows records, not what they mean.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kennel_protocol::ids::JournalId;

use super::damage::Damage;
use super::error::JournalError;
use super::file::{BlockFile, DiskFile};
use super::layout::{BLOCK, RECORD_HEADER_BYTES, RING_START, VERSION};
use super::open::{Found, read_superblock};
use super::record::{RecordClass, RecordId};
use super::recovery::{FoundRecord, scan};
use super::ring::Ring;

/// What a journal says of itself, and what a start would find in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Where it is.
    pub path: PathBuf,
    /// Whether that is a block device.
    pub is_device: bool,
    /// Another process has it open: everything below is of a moment, and damage may be a write that was under way.
    pub is_in_use: bool,
    /// Version of the format.
    pub version: u32,
    /// Unit of alignment, bytes.
    pub block_bytes: u64,
    /// Which journal.
    pub journal: JournalId,
    /// Size of the file or device, bytes.
    pub size_bytes: u64,
    /// Size of the circular part, bytes.
    pub ring_bytes: u64,
    /// Whether it was closed properly; if not, it crashed or is open.
    pub is_closed: bool,
    /// From the oldest group that is needed to the end, bytes.
    pub used_bytes: u64,
    /// Groups in that stretch.
    pub groups: u64,
    /// Bytes of the records in it. Which of them were freed since is not on disk.
    pub record_bytes: u64,
    /// Bytes of an incomplete last group, which a start would cut.
    pub torn_bytes: u64,
    /// Damaged places that a start already answered with a new id.
    pub known_damage: u64,
    /// New damage, which the next start would answer with a new id.
    pub damage: Option<Damage>,
    /// The records, in the order of their ids.
    pub records: Vec<InspectedRecord>,
}

/// A record that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedRecord {
    /// Its name.
    pub id: RecordId,
    /// Where it begins, bytes from the start of the file or device.
    pub offset: u64,
    /// Number of the group that holds it.
    pub group: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Which space it uses.
    pub class: RecordClass,
    /// Its head.
    pub head: Bytes,
}

impl Inspection {
    /// What the log could still take, bytes: without the parts that are kept for recovery.
    pub fn free_bytes(&self) -> u64 {
        self.ring_bytes - self.used_bytes
    }

    /// Bytes in use that no record needs: padding, and copies that were replaced.
    pub fn pinned_bytes(&self) -> u64 {
        self.used_bytes.saturating_sub(self.record_bytes)
    }
}

/// Reads the journal at `path`, also while a node has it open.
///
/// Blocks for as long as recovery would. Memory holds heads, never bodies.
///
/// # Errors
/// [`JournalError::Unreadable`] if no journal is there, [`JournalError::NotStorage`], [`JournalError::Io`].
pub fn inspect(path: &Path) -> Result<Inspection, JournalError> {
    let failed = |action| JournalError::io(path, action);
    let (file, is_in_use) = DiskFile::open_to_read(path)?;
    let is_device = file.is_device;
    let size = file.size().map_err(failed("find its size"))?;
    let found = inspect_storage(Arc::new(file), size, path)?;
    Ok(Inspection { is_device, is_in_use, ..found })
}

/// Reads a journal that lies in memory, as [`inspect`] does a file: for tests, and for bytes that a fuzzer made up.
///
/// # Errors
/// [`JournalError::Unreadable`] if it is no journal.
pub fn inspect_image(image: Vec<u8>) -> Result<Inspection, JournalError> {
    let size = image.len() as u64;
    inspect_storage(Arc::new(Image(image)), size, Path::new("an image in memory"))
}

fn inspect_storage(file: Arc<dyn BlockFile>, size_bytes: u64, path: &Path) -> Result<Inspection, JournalError> {
    let failed = |action| JournalError::io(path, action);
    let unreadable = |reason| JournalError::Unreadable { path: path.to_owned(), reason };
    let superblock = match read_superblock(&*file, size_bytes).map_err(failed("read the superblock"))? {
        Found::Present(superblock) => superblock,
        Found::Blank => return Err(unreadable("it is blank".to_owned())),
        Found::Unreadable(reason) => return Err(unreadable(reason)),
    };
    let ring_bytes = superblock.ring_bytes;
    let found = scan(&Ring::new(file, ring_bytes), &superblock).map_err(failed("read the log"))?;
    let new_places = found.damage.places_count;
    Ok(Inspection {
        path: path.to_owned(),
        is_device: false,
        is_in_use: false,
        version: VERSION,
        block_bytes: BLOCK as u64,
        journal: superblock.journal,
        size_bytes,
        ring_bytes,
        is_closed: superblock.clean,
        used_bytes: found.end.position - found.head.position,
        groups: found.groups.len() as u64,
        record_bytes: found.records.values().map(|record| record.bytes).sum(),
        torn_bytes: found.torn_bytes,
        known_damage: (found.holes.len() as u64).saturating_sub(new_places),
        damage: found.is_damaged().then_some(found.damage),
        records: found.records.into_iter().map(|(id, record)| inspected(id, record, ring_bytes)).collect(),
    })
}

fn inspected(id: RecordId, found: FoundRecord, ring_bytes: u64) -> InspectedRecord {
    let head_bytes = found.head.len() as u64;
    InspectedRecord {
        id,
        offset: RING_START + found.position % ring_bytes,
        group: found.group,
        body_bytes: found.bytes - RECORD_HEADER_BYTES as u64 - head_bytes,
        class: found.class,
        head: found.head,
    }
}

/// A journal in memory, to be read only.
struct Image(Vec<u8>);

impl BlockFile for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = self.0.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
