//! Ceph's S3 server behind the proxy, started and ended with the repository's own scripts.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Where the scripts are in the repository.
const START: &str = "tests/radosgw/start";
const STOP: &str = "tests/radosgw/stop";

/// A server at work. Dropping it ends it.
#[derive(Debug)]
pub struct Radosgw {
    /// Where it listens.
    pub address: SocketAddr,
    directory: PathBuf,
}

impl Radosgw {
    /// Starts it in a new directory below `directory`. Must be called in the repository's root.
    ///
    /// # Errors
    /// If it cannot be had here.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        ensure!(Path::new(START).exists(), "{START} is not here: run this in the repository's root");
        let directory = directory.join(format!("kennel-radosgw-{}", std::process::id()));
        let started = Command::new(START).arg(&directory).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let started = started.context("start radosgw")?;
        ensure!(started.status.success(), "{START} ended with {}", started.status);
        let endpoint = String::from_utf8_lossy(&started.stdout);
        Ok(Self { address: address_of(endpoint.trim())?, directory })
    }
}

impl Drop for Radosgw {
    fn drop(&mut self) {
        // Nothing is left to be done about one that does not end.
        let _ = Command::new(STOP).arg(&self.directory).stdin(Stdio::null()).status();
    }
}

/// The address in `http://host:port`.
///
/// # Errors
/// If it is none.
pub fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.strip_prefix("http://").with_context(|| format!("`{url}` is not http://HOST:PORT"))?;
    let mut found = host.trim_end_matches('/').to_socket_addrs().with_context(|| format!("look up `{host}`"))?;
    found.next().with_context(|| format!("`{host}` has no address"))
}
