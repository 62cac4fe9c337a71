//! A node's process: started in its network with its disk, sent signals, started again.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Reads;
use super::disk::Disk;

/// The keys of the server behind the proxy, as `tests/radosgw/start` makes them; ours takes any.
pub(super) const ACCESS_KEY_ID: &str = "kennel";
pub(super) const SECRET_ACCESS_KEY: &str = "kennel-secret";

/// What moves bytes where there is no card.
pub(super) const FABRIC_PROVIDER: &str = "tcp;ofi_rxm";

/// Ports of every node: addresses differ.
const QUIC_PORT: u16 = 7_400;
const GOSSIP_PORT: u16 = 7_401;
const HTTP_PORT: u16 = 7_402;

/// What a node is told at every start.
#[derive(Debug)]
pub(super) struct Node {
    /// First, so that it is killed before its disk is taken away.
    child: Option<Child>,
    /// Counted from 1.
    pub(super) id: u8,
    /// Where it lives.
    pub(super) disk: Disk,
    address: IpAddr,
    /// The words that put a process into its network.
    enter: Vec<String>,
    program: PathBuf,
    /// What it becomes when it is upgraded.
    newer: PathBuf,
    log: PathBuf,
    assignments: Vec<String>,
}

/// What all nodes of a run share.
#[derive(Debug)]
pub(super) struct NodePlan<'a> {
    /// What it starts as.
    pub(super) program: &'a Path,
    /// What it becomes when it is upgraded.
    pub(super) newer: &'a Path,
    pub(super) logs: &'a Path,
    pub(super) tls: &'a Path,
    pub(super) bucket_url: &'a str,
    pub(super) bucket_endpoint: String,
    pub(super) shards: u16,
    pub(super) addresses: &'a [IpAddr],
    pub(super) reads: Reads,
}

impl Node {
    /// A node that does not run yet.
    pub(super) fn new(id: u8, disk: Disk, enter: Vec<String>, plan: &NodePlan<'_>) -> Self {
        let address = plan.addresses[usize::from(id) - 1];
        let seeds: Vec<_> = plan.addresses.iter().map(|address| format!("\"{address}:{GOSSIP_PORT}\"")).collect();
        let tls = |file: &str| plan.tls.join(file).display().to_string();
        let mut assignments = vec![
            format!("node.id={id}"),
            format!("node.directory={}", disk.directory().join("node").display()),
            format!("node.zone=zone-{id}"),
            format!("listen.quic={address}:{QUIC_PORT}"),
            format!("listen.gossip={address}:{GOSSIP_PORT}"),
            format!("listen.http={address}:{HTTP_PORT}"),
            format!("cluster.seeds=[{}]", seeds.join(",")),
            format!("cluster.shard_count={}", plan.shards),
            format!("bucket.url={}", plan.bucket_url),
            format!("bucket.endpoint={}", plan.bucket_endpoint),
            "bucket.region=us-east-1".to_owned(),
            format!("bucket.access_key_id={ACCESS_KEY_ID}"),
            format!("bucket.secret_access_key={SECRET_ACCESS_KEY}"),
            "bucket.allow_http=true".to_owned(),
            // A run is a minute: what is stuck must be given up within it.
            "bucket.connect_timeout=1s".to_owned(),
            "bucket.attempt_timeout=3s".to_owned(),
            "bucket.overall_timeout=6s".to_owned(),
            format!("tls.ca={}", tls("ca.pem")),
            format!("tls.cert={}", tls("node.pem")),
            format!("tls.key={}", tls("node.key")),
            "journal.size=128 MiB".to_owned(),
            "tail.bytes_max=32 MiB".to_owned(),
            "cache.memory=16 MiB".to_owned(),
            "cache.disk=64 MiB".to_owned(),
            "log.filter=info,chitchat=error".to_owned(),
        ];
        match plan.reads {
            Reads::Quic => {}
            Reads::SharedMemory => {
                let socket = plan.logs.join(format!("node-{id}.sock"));
                assignments.extend([format!("listen.local={}", socket.display()), "local.bytes=16 MiB".to_owned()]);
            }
            Reads::Fabric => assignments.extend([
                "fabric.mode=require".to_owned(),
                format!("fabric.provider={FABRIC_PROVIDER}"),
                format!("fabric.source={address}"),
                "fabric.placed_bytes_min=4 KiB".to_owned(),
                "fabric.send_bytes=8 MiB".to_owned(),
            ]),
        }
        let log = plan.logs.join(format!("node-{id}.log"));
        Self {
            child: None,
            id,
            disk,
            address,
            enter,
            program: plan.program.to_owned(),
            newer: plan.newer.to_owned(),
            log,
            assignments,
        }
    }

    /// Its sessions.
    pub(super) fn quic(&self) -> SocketAddr {
        (self.address, QUIC_PORT).into()
    }

    /// Its status page.
    pub(super) fn http(&self) -> SocketAddr {
        (self.address, HTTP_PORT).into()
    }

    /// Its log file.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Whether a process of it is there, stopped or not.
    pub(super) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it, with its clocks since boot shifted if it is to.
    ///
    /// # Errors
    /// If it cannot start.
    pub(super) fn start(&mut self, shift_seconds: Option<u64>) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let mut words = self.enter.clone();
        if let Some(shift) = shift_seconds {
            words.extend(["unshare", "--time", "--monotonic", &shift.to_string()].map(str::to_owned));
            words.extend(["--boottime", &shift.to_string(), "--"].map(str::to_owned));
        }
        words.push(self.program.display().to_string());
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("run").args(self.assignments.iter().map(|one| format!("--set={one}")));
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);
        // Each of these words becomes the next one's process: the number stays that of the node.
        let child = command.env_remove("KENNEL_CONFIG").kill_on_drop(true).spawn().context("start cache-node")?;
        if let Some(process) = child.id() {
            self.disk.slow_too(process);
        }
        self.child = Some(child);
        Ok(())
    }

    /// Its process, if there is one.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// The next start is of the newer program. Whether that is another one.
    pub(super) fn upgrade(&mut self) -> bool {
        std::mem::replace(&mut self.program, self.newer.clone()) != self.newer
    }

    /// Sends a signal. False if there is no process to get it.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        self.child.as_ref().is_some_and(|child| send(child, signal))
    }

    /// Kills it, and waits until it is gone. False if it was not up.
    ///
    /// # Cancel safety
    /// It is killed.
    pub(super) async fn kill(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        child.kill().await.is_ok()
    }

    /// Whether it ended by itself since it was last looked at, and how.
    pub(super) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }
}

/// Sends a signal to a child that has not been waited for. False if it is gone.
pub(super) fn send(child: &Child, signal: Signal) -> bool {
    // The number is nobody else's while the child has not been waited for.
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    process.is_some_and(|process| kill_process(process, signal).is_ok())
}
