//! A node's own small file system, that can be filled to the last byte and slowed down.
//!
//! It lies in a file, on a loop device. Where that is not permitted a node has a plain directory, which cannot be
//! troubled without troubling everybody.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FallocateFlags, fallocate};

use super::command::{run, run_now, word};

/// Room for a journal, a cache, and what a node keeps beside.
const DISK_BYTES: u64 = 320 << 20;
/// Left for nothing but what is written in pieces smaller than the ballast's.
const BALLAST_STEP: u64 = 64 << 10;
/// Where processes are throttled, by the first and by the second version of control groups.
const BLKIO: &str = "/sys/fs/cgroup/blkio";
const UNIFIED: &str = "/sys/fs/cgroup";

/// One node's disk. Dropping it takes it away.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    mounted: bool,
    /// `major:minor` of the loop device.
    device: Option<String>,
    group: Option<Group>,
}

impl Disk {
    /// A plain directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn plain(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), mounted: false, device: None, group: None })
    }

    /// A file system of its own.
    ///
    /// # Errors
    /// If the machine does not permit it.
    ///
    /// # Cancel safety
    /// What was made is taken away.
    pub(super) async fn mounted(directory: &Path) -> anyhow::Result<Self> {
        let mut disk = Self::plain(directory)?;
        let image = directory.with_extension("img");
        let file = File::create_new(&image).with_context(|| format!("make {}", image.display()))?;
        file.set_len(DISK_BYTES).context("size the image")?;
        let (image, at) = (word(&image)?.to_owned(), word(directory)?.to_owned());
        run(&format!("mkfs.ext4 -q -m 0 -E nodiscard {image}")).await?;
        disk.mounted = true;
        run(&format!("mount -o loop {image} {at}")).await?;
        let mode = std::fs::metadata(directory).context("look at the mount")?;
        let device = std::os::unix::fs::MetadataExt::dev(&mode);
        disk.device = Some(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)));
        Ok(disk)
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// If it is a plain directory.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.mounted, "the directory is shared with everybody");
        let mut ballast = File::create(self.ballast()).context("make the ballast")?;
        let (mut length, mut step) = (0, 64 << 20);
        // Blocks are taken without being written; the last ones in small steps.
        while step >= BALLAST_STEP {
            match fallocate(&ballast, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(_) => step /= 2,
            }
        }
        // Until the file system says that it is full: that is what is wanted.
        while ballast.write_all(&[0; 4096]).is_ok() && length > 0 {}
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If it was not filled.
    pub(super) fn relieve(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.ballast()).context("remove the ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Lets a process write so many bytes a second to it.
    ///
    /// # Errors
    /// If the machine does not permit it.
    pub(super) fn slow(&mut self, name: &str, process: Option<u32>, bytes_per_second: u64) -> anyhow::Result<()> {
        let device = self.device.as_ref().context("the directory is shared with everybody")?;
        // Before another of the same name is made: it takes the directory away when it goes.
        self.group = None;
        let group = Group::make(name, device, bytes_per_second)?;
        if let Some(process) = process {
            group.take(process)?;
        }
        self.group = Some(group);
        Ok(())
    }

    /// A process that was started while the disk is slow.
    pub(super) fn slow_too(&self, process: u32) {
        if let Some(group) = &self.group {
            // It may have ended meanwhile.
            let _ = group.take(process);
        }
    }

    /// Ends that.
    pub(super) fn hurry(&mut self) {
        self.group = None;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.group = None;
        if self.mounted
            && let Ok(at) = word(&self.directory)
        {
            // Lazily: a process that was just killed may still hold it for a moment. The loop device goes with it.
            run_now(&format!("umount -l {at}"));
            let _ = std::fs::remove_file(self.directory.with_extension("img"));
        }
    }
}

/// A control group whose members write slowly. Dropping it sets them free.
#[derive(Debug)]
struct Group {
    root: PathBuf,
    directory: PathBuf,
}

impl Group {
    fn make(name: &str, device: &str, bytes_per_second: u64) -> anyhow::Result<Self> {
        let first_version = Path::new(BLKIO).join("blkio.throttle.write_bps_device").exists()
            || Path::new(BLKIO).join("tasks").exists();
        let root = PathBuf::from(if first_version { BLKIO } else { UNIFIED });
        let directory = root.join(name);
        std::fs::create_dir_all(&directory).context("make a control group")?;
        let group = Self { root, directory };
        let (file, line) = if first_version {
            ("blkio.throttle.write_bps_device", format!("{device} {bytes_per_second}"))
        } else {
            ("io.max", format!("{device} wbps={bytes_per_second}"))
        };
        std::fs::write(group.directory.join(file), line).with_context(|| format!("write {file}"))?;
        Ok(group)
    }

    fn take(&self, process: u32) -> anyhow::Result<()> {
        std::fs::write(self.directory.join("cgroup.procs"), process.to_string()).context("put a process into its group")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group must be empty to go: its members return to the root.
        let members = std::fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines() {
            let _ = std::fs::write(self.root.join("cgroup.procs"), member);
        }
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// Whether a node can have a disk of its own, and whether that can be made slow.
///
/// # Errors
/// Why it cannot have one; inside, why it cannot be slow.
pub(super) async fn probe(directory: &Path) -> anyhow::Result<anyhow::Result<()>> {
    let at = directory.join("probe");
    let tried = async {
        let mut disk = Disk::mounted(&at).await?;
        Ok(disk.slow(&format!("kennel-probe-{}", std::process::id()), None, 1 << 20))
    };
    let tried = tried.await;
    let _ = std::fs::remove_dir(&at);
    tried
}
