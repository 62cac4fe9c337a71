//! Making a journal where something else lies: only at a person's explicit word.

use std::path::Path;
use std::sync::Arc;

use kennel_protocol::ids::JournalId;

use super::aligned::AlignedBuffer;
use super::error::JournalError;
use super::file::{BlockFile, DiskFile};
use super::foreign::{FOOT_BYTES, HEAD_BYTES};
use super::layout::{BLOCK, RING_START};
use super::open::{Found, blank_superblock, read_superblock};
use super::ring::Ring;
use super::settings::{BYTES_MIN, JournalSettings};

/// A new, empty journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formatted {
    /// Its id.
    pub journal: JournalId,
    /// How much of the device it uses.
    pub bytes: u64,
}

/// Makes an empty journal of `bytes` bytes, or of the whole device, whatever lies there now.
///
/// A journal that lies there is destroyed only if `replace` is its id: what only it holds is lost.
///
/// # Errors
/// [`JournalError::NotStorage`] if `device` is no block device, [`JournalError::InUse`] if it is mounted or open,
/// [`JournalError::HoldsJournal`], [`JournalError::Settings`] if it is too small, [`JournalError::Io`].
pub fn format(device: &Path, bytes: Option<u64>, replace: Option<JournalId>) -> Result<Formatted, JournalError> {
    let failed = |action| JournalError::io(device, action);
    let file = DiskFile::open(device, false)?;
    if !file.is_device {
        let kind = "regular file, which is formatted at its first use";
        return Err(JournalError::NotStorage { path: device.to_owned(), kind, wanted: "a block device" });
    }
    let size = file.size().map_err(failed("find the device's size"))?;
    let bytes = bytes.map_or(size, |bytes| bytes.min(size));
    if bytes < BYTES_MIN {
        let reason = format!("{bytes} bytes are too few, a journal has at least {BYTES_MIN}");
        return Err(JournalError::Settings { reason });
    }
    if let Found::Present(superblock) = read_superblock(&file, size).map_err(failed("read the device"))?
        && replace != Some(superblock.journal)
    {
        return Err(JournalError::HoldsJournal { path: device.to_owned(), journal: superblock.journal });
    }
    wipe(&file, size).map_err(failed("wipe the ends of the device"))?;
    let ring_bytes = JournalSettings::ring_bytes(bytes);
    let superblock = blank_superblock(ring_bytes);
    Ring::new(Arc::new(file), ring_bytes).write_superblock(&superblock).map_err(failed("write the superblock"))?;
    Ok(Formatted { journal: superblock.journal, bytes: RING_START + ring_bytes })
}

/// Removes the labels by which other programs would know what was there.
fn wipe(file: &DiskFile, size: u64) -> std::io::Result<()> {
    let block = BLOCK as u64;
    let zeros = AlignedBuffer::new(HEAD_BYTES);
    file.write_all_at(zeros.bytes(), 0)?;
    let foot_at = (size - FOOT_BYTES as u64) / block * block;
    let foot = usize::try_from(size / block * block - foot_at).expect("little more than the constant");
    file.write_all_at(&zeros.bytes()[..foot], foot_at)?;
    file.sync()
}
