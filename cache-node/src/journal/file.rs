//! The journal's view of storage: read, write, sync at an offset. Here the real file; tests bring one that fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

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
    /// Writes, and returns once this is durable.
    fn write_durably(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)?;
        self.sync()
    }
    /// The next part at or behind `from` that was reserved and never written; `None` where there is none, or nobody knows.
    fn next_hole(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let _ = from;
        Ok(None)
    }
}

/// What statfs(2) calls a file system in memory.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    /// Nothing, or a file without a byte in it.
    Absent,
    /// A regular file.
    File,
    /// A block device.
    Device,
}

impl Storage {
    /// Finds out, following links. Nothing is opened: opening a terminal or a pipe can block.
    pub(super) fn at(path: &Path) -> Result<Self, JournalError> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // A file that is created here would be in memory, and gone after the next boot.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_among_devices(path) => {
                return Err(JournalError::NoDevice { path: path.to_owned() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(JournalError::io(path, "read the file's metadata")(error)),
        };
        let file_type = metadata.file_type();
        let kind = if file_type.is_block_device() {
            return Ok(Self::Device);
        } else if file_type.is_file() {
            return Ok(if metadata.len() == 0 { Self::Absent } else { Self::File });
        } else if file_type.is_dir() {
            "directory"
        } else if file_type.is_char_device() {
            "character device"
        } else {
            "pipe or socket"
        };
        Err(JournalError::NotStorage { path: path.to_owned(), kind, wanted: "a regular file or a block device" })
    }
}

fn is_among_devices(path: &Path) -> bool {
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
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
        let is_device = Storage::at(path)? == Storage::Device;
        // On a device: refuses one that is mounted, part of a RAID, or open elsewhere in the same way.
        let exclusive = if is_device { OFlags::EXCL } else { OFlags::empty() };
        let open = |flags: OFlags| {
            let flags = (flags | exclusive).bits().cast_signed();
            OpenOptions::new().read(true).write(true).create(create).truncate(false).custom_flags(flags).open(path)
        };
        let (file, mode) = match direct_or_buffered(open) {
            Ok(opened) => opened,
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                return Err(JournalError::InUse { path: path.to_owned() });
            }
            Err(error) => return Err(JournalError::io(path, "open the file")(error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file, mode, is_device }),
            Err(Errno::WOULDBLOCK) => Err(JournalError::InUse { path: path.to_owned() }),
            Err(errno) => Err(JournalError::io(path, "lock the file")(errno.into())),
        }
    }

    /// Opens it to be looked at, locked or not; says whether another process has it.
    pub(super) fn open_to_read(path: &Path) -> Result<(Self, bool), JournalError> {
        let is_device = match Storage::at(path)? {
            Storage::Absent => {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                return Err(JournalError::io(path, "find anything to read there")(missing));
            }
            storage => storage == Storage::Device,
        };
        let open = |flags: OFlags| OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let (file, mode) = direct_or_buffered(open).map_err(JournalError::io(path, "open the file"))?;
        // Held for an instant, shared: enough to know.
        let in_use = match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => false,
            Err(Errno::WOULDBLOCK) => true,
            Err(errno) => return Err(JournalError::io(path, "ask for its lock")(errno.into())),
        };
        let unlocked = rustix::fs::flock(&file, FlockOperation::Unlock);
        unlocked.map_err(|errno| JournalError::io(path, "give back its lock")(errno.into()))?;
        Ok((Self { file, mode, is_device }, in_use))
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

    /// One call instead of two, and one command instead of two where the disk can write through its cache.
    fn write_durably(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwritev2(&self.file, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                // A kernel or a file system that does not know the flag.
                Err(Errno::NOTSUP | Errno::NOSYS) => {
                    self.write_all_at(bytes, offset)?;
                    return self.sync();
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn next_hole(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        // A file in memory gains nothing by being written ahead, and is looked through page by page for each answer.
        if self.is_device || rustix::fs::fstatfs(&self.file)?.f_type == TMPFS {
            return Ok(None);
        }
        let size = rustix::fs::fstat(&self.file)?.st_size.cast_unsigned();
        if from >= size {
            return Ok(None);
        }
        let start = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(from))?;
        if start >= size {
            return Ok(None);
        }
        let end = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(start)) {
            Ok(end) => end,
            // No data behind it.
            Err(Errno::NXIO) => size,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Some(start..end))
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
    fn in_memory_no_space_is_worth_writing_ahead() {
        let Ok(file) = tempfile::tempfile_in("/dev/shm") else { return };
        let in_memory = rustix::fs::fstatfs(&file).expect("a file system").f_type == TMPFS;
        let file = DiskFile { file, mode: IoMode::Buffered, is_device: false };
        file.preallocate(2 * BLOCK as u64).expect("there is room");
        assert!(!in_memory || file.next_hole(0).expect("it answers").is_none());
    }

    #[test]
    fn what_no_journal_can_live_on_is_refused_by_its_kind() {
        let kind_of = |path: &str| match Storage::at(Path::new(path)) {
            Err(JournalError::NotStorage { kind, .. }) => kind,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!((kind_of("/tmp"), kind_of("/dev/null")), ("directory", "character device"));
        let absent = Storage::at(Path::new("/dev/no-such-disk"));
        assert!(matches!(absent, Err(JournalError::NoDevice { .. })), "{absent:?}");
        assert_eq!(Storage::at(Path::new("/tmp/no/such/file")).expect("nothing is there"), Storage::Absent);
    }

    #[test]
    fn another_error_is_not_taken_for_a_missing_feature() {
        let denied = |_| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(direct_or_buffered(denied).expect_err("denied").kind(), io::ErrorKind::PermissionDenied);
    }
}
