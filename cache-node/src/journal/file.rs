//! The journal's view of storage: read, write, sync at an offset. Here the real file; tests bring one that fails.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use super::aligned::AlignedBuffer;
use super::error::JournalError;
use super::layout::BLOCK;

/// How the journal reaches its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoMode {
    /// `O_DIRECT`: past the page cache, straight from the group buffer.
    Direct,
    /// Through the page cache, because the file system refuses `O_DIRECT`; every group is synced all the same.
    Buffered,
    /// No storage at all: durability `memory`.
    Memory,
}

/// Random access storage. Offsets, lengths and addresses are multiples of a block.
pub(super) trait BlockFile: Send + Sync {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once everything that was written before is durable.
    fn sync(&self) -> io::Result<()>;
}

/// A regular file or a block device, locked against a second process for as long as it is open.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    pub(super) mode: IoMode,
    pub(super) is_device: bool,
}

impl DiskFile {
    /// Opens and locks the file at `path`, which may be `create`d.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, JournalError> {
        let open = |flags: OFlags| {
            let flags = i32::try_from(flags.bits()).expect("open flags are small");
            OpenOptions::new().read(true).write(true).create(create).truncate(false).custom_flags(flags).open(path)
        };
        let (file, mode) = direct_or_buffered(open).map_err(JournalError::io(path, "open the file"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(JournalError::InUse { path: path.to_owned() }),
            Err(errno) => return Err(JournalError::io(path, "lock the file")(errno.into())),
        }
        let metadata = file.metadata().map_err(JournalError::io(path, "read the file's metadata"))?;
        Ok(Self { file, mode, is_device: metadata.file_type().is_block_device() })
    }

    /// Size of the file or device in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        (&self.file).seek(SeekFrom::End(0))
    }

    /// Reserves `bytes` bytes on disk, so that a full file system shows now and not in the middle of a write.
    pub(super) fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes)?;
        self.file.sync_all()
    }
}

/// `open`s with `O_DIRECT`, and without it where the file system refuses the flag or the I/O.
fn direct_or_buffered(open: impl Fn(OFlags) -> io::Result<File>) -> io::Result<(File, IoMode)> {
    match open(OFlags::DIRECT) {
        Ok(file) if takes_direct_reads(&file) => Ok((file, IoMode::Direct)),
        Err(error) if error.raw_os_error() != Some(Errno::INVAL.raw_os_error()) => Err(error),
        _ => Ok((open(OFlags::empty())?, IoMode::Buffered)),
    }
}

/// Some file systems accept the flag and refuse the I/O. The end of an empty file is an answer too.
fn takes_direct_reads(file: &File) -> bool {
    let mut buffer = AlignedBuffer::new(BLOCK);
    file.read_at(buffer.bytes_mut(), 0).is_ok()
}

impl BlockFile for DiskFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_o_direct_is_reached_through_the_page_cache() {
        let refuses = |flags: OFlags| {
            if flags.contains(OFlags::DIRECT) { Err(Errno::INVAL.into()) } else { tempfile::tempfile() }
        };
        let (file, mode) = direct_or_buffered(refuses).expect("the second try works");
        assert_eq!(mode, IoMode::Buffered);
        let file = DiskFile { file, mode, is_device: false };
        file.preallocate(2 * BLOCK as u64).expect("there is room");
        file.write_all_at(&[7; BLOCK], BLOCK as u64).expect("the disk works");
        file.sync().expect("the disk works");
        let mut read = [0; BLOCK];
        file.read_exact_at(&mut read, BLOCK as u64).expect("the disk works");
        assert_eq!((read, file.size().expect("a size")), ([7; BLOCK], 2 * BLOCK as u64));
    }

    #[test]
    fn another_error_is_not_taken_for_a_missing_feature() {
        let denied = |_| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(direct_or_buffered(denied).expect_err("denied").kind(), io::ErrorKind::PermissionDenied);
    }
}
