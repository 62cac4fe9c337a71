//! The processes of the tour: started with a log file each, ended by their own ids only, and never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a node may take to publish, hand over and end.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// One node's process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct NodeProcess {
    /// Its id, as its configuration says.
    pub(super) id: u64,
    /// Its status page, `host:port`.
    pub(super) http: String,
    /// Its sessions, `host:port`.
    pub(super) quic: String,
    log: PathBuf,
    child: Child,
}

/// What all nodes of the tour share.
#[derive(Debug)]
pub(super) struct Stage {
    /// Where the programs are.
    pub(super) programs: PathBuf,
    /// Where the repository's `configs/local` is.
    pub(super) configs: PathBuf,
    /// Where everything that the tour makes lies.
    pub(super) directory: PathBuf,
}

impl Stage {
    /// The bucket of the tour.
    pub(super) fn bucket(&self) -> PathBuf {
        self.directory.join("kennel-local/bucket")
    }

    /// The certificates of the tour.
    pub(super) fn tls(&self) -> PathBuf {
        self.directory.join("kennel-local/tls")
    }

    /// A node's own directory.
    pub(super) fn node(&self, id: u64) -> PathBuf {
        self.directory.join(format!("kennel-local/node-{id}"))
    }

    /// Runs a program of the tour to its end, with its output on the terminal.
    ///
    /// # Errors
    /// If it cannot start or does not end well.
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let status = self.command(program).args(arguments).status().await;
        let status = status.with_context(|| format!("start {program}"))?;
        if !status.success() {
            bail!("{program} {} ended with {status}", arguments.join(" "));
        }
        Ok(())
    }

    /// Starts a node from its file in `configs/local`.
    ///
    /// # Errors
    /// If it cannot start.
    pub(super) fn start(&self, id: u64) -> anyhow::Result<NodeProcess> {
        let config = self.configs.join(format!("node-{id}.toml"));
        let log = self.directory.join(format!("node-{id}.log"));
        let output =
            File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let child = self
            .command("cache-node")
            .args(["run", "--config"])
            .arg(&config)
            .arg("--set")
            .arg(format!("bucket.url=file://{}", self.bucket().display()))
            .stdout(output.try_clone().context("share the log")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("start cache-node")?;
        let port = 7400 + 10 * id;
        let (quic, http) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 2));
        Ok(NodeProcess { id, http, quic, log, child })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.directory).stdin(Stdio::null());
        command
    }
}

impl NodeProcess {
    /// Ends it as a power cut would: SIGKILL.
    ///
    /// # Errors
    /// If it had ended before.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("kill node {}", self.id))
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not stop in time, or not well.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().with_context(|| format!("node {} had ended; see {}", self.id, self.log.display()))?;
        let asked = Command::new("kill").args(["-TERM", &id.to_string()]).status().await.context("run kill")?;
        if !asked.success() {
            bail!("node {} could not be asked to stop", self.id);
        }
        let ended = timeout(STOP_PATIENCE, self.child.wait()).await;
        let status = ended.with_context(|| format!("node {} does not stop", self.id))?.context("wait for the node")?;
        if !status.success() {
            bail!("node {} ended with {status}; see {}", self.id, self.log.display());
        }
        Ok(())
    }

    /// Leaves it running for good.
    ///
    /// # Errors
    /// If it had ended.
    pub(super) fn keep(self) -> anyhow::Result<u32> {
        let id = self.child.id().with_context(|| format!("node {} had ended", self.id))?;
        // The handle would kill it when dropped.
        core::mem::forget(self.child);
        Ok(id)
    }

    /// Fails with the end of its log if it has ended.
    ///
    /// # Errors
    /// See above.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("look at the node")? {
            bail!("node {} ended with {status}:\n{}", self.id, tail(&self.log));
        }
        Ok(())
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
