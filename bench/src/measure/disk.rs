//! A file on the disk of the journals, written as they are: whole blocks past the system's cache, each with a sync.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

/// What `O_DIRECT` asks for on every disk that there is.
const ALIGNMENT: usize = 4_096;
/// `O_DIRECT` of this system.
const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits().cast_signed();

/// The file, written round and round.
pub(crate) struct Disk {
    file: File,
    buffer: Vec<u8>,
    block_bytes: usize,
    file_bytes: u64,
    position: u64,
    direct: bool,
}

impl Disk {
    /// Makes a file of blocks of so many bytes. Each is written once, so that no later sync has metadata to write.
    pub(crate) fn open(path: &Path, block_bytes: usize, file_bytes: u64) -> anyhow::Result<Self> {
        let open =
            |flags| File::options().create(true).truncate(false).read(true).write(true).custom_flags(flags).open(path);
        let (file, direct) = match open(O_DIRECT) {
            Ok(file) => (file, true),
            Err(_) => (open(0).with_context(|| format!("open {}", path.display()))?, false),
        };
        let buffer = vec![7; block_bytes + ALIGNMENT];
        let mut disk = Self { file, buffer, block_bytes, file_bytes, position: 0, direct };
        while disk.position + (block_bytes as u64) < file_bytes {
            disk.write()?;
        }
        disk.file.sync_all().context("sync the file")?;
        Ok(disk)
    }

    /// Writes the next block, and has it on the disk.
    pub(crate) fn write(&mut self) -> anyhow::Result<Duration> {
        let from = self.buffer.as_ptr().align_offset(ALIGNMENT);
        let began = Instant::now();
        self.file
            .write_all_at(&self.buffer[from..from + self.block_bytes], self.position)
            .context("write beside the journal")?;
        self.file.sync_data().context("sync beside the journal")?;
        self.position = (self.position + self.block_bytes as u64) % self.file_bytes;
        Ok(began.elapsed())
    }

    /// Whether the system's cache is passed by.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }
}
