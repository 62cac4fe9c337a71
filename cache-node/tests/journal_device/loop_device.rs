//! A block device made of a file, for as long as a test runs. Needs root and `losetup`; says so where it has neither.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

/// An attached loop device. Dropping it detaches it, also while a test fails.
pub(crate) struct LoopDevice {
    path: PathBuf,
    // What it is made of: removed when it is detached.
    _file: NamedTempFile,
}

impl LoopDevice {
    /// Attaches a blank device of `bytes` bytes; `None`, and the reason on the terminal, where that cannot be done.
    pub(crate) fn attach(bytes: u64) -> Option<Self> {
        let file = NamedTempFile::new().expect("a file");
        file.as_file().set_len(bytes).expect("a sparse file");
        let attached = Command::new("losetup").args(["--find", "--show"]).arg(file.path()).output();
        match attached {
            Ok(output) if output.status.success() => {
                let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
                Some(Self { path, _file: file })
            }
            Ok(output) => skip(String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => skip(&error.to_string()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn skip<T>(reason: &str) -> Option<T> {
    eprintln!("SKIPPED: this machine lends no loop device, so nothing was tested on one: losetup: {reason}");
    None
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.path).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("{} is still attached: losetup --detach {}", self.path.display(), self.path.display());
        }
    }
}
