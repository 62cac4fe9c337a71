//! The shippers of a run: `wal-shipper import`, again and again, over files that grow.
//!
//! An import that ends well says that everything that the files held when it began is committed: an acknowledgement
//! for every partition at once, from the program itself.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::marks::Marks;
use super::node::send;
use super::source::Source;
use super::timeline::Timeline;
use super::violation::Violation;

/// Between two imports: what was written meanwhile waits so long.
const PAUSE: Duration = Duration::from_millis(50);
/// After one that could not run.
const BACKOFF: Duration = Duration::from_millis(300);
/// Orders that wait for a shipper.
pub(super) const ORDERS_MAX: usize = 16;
/// What an import ends with if it could not ship something.
const SOME_STOPPED: i32 = 2;

/// What a shipper's process is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Kill,
    Pause,
    Continue,
}

/// Everything that an import needs.
#[derive(Debug, Clone)]
pub(super) struct Shipping {
    pub(super) program: PathBuf,
    pub(super) source: Arc<Source>,
    pub(super) marks: Arc<Marks>,
    pub(super) ring: Vec<SocketAddr>,
    pub(super) tls: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) timeline: Timeline,
    pub(super) counts: Arc<Counts>,
}

/// How shipping went.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Imports that ended well.
    pub(super) whole: AtomicU64,
    /// Imports that did not.
    pub(super) broken: AtomicU64,
}

impl Shipping {
    /// Ships for ever, one import after the other, and obeys.
    ///
    /// # Cancel safety
    /// The process is killed.
    pub(super) async fn run(self, number: u8, mut orders: mpsc::Receiver<Order>) {
        for turn in u64::from(number).. {
            let pause = match self.import(number, turn, &mut orders).await {
                Ok(()) => PAUSE,
                Err(error) => {
                    self.timeline.note(format!("shipper {number}: {error:#}"));
                    BACKOFF
                }
            };
            sleep(pause).await;
        }
    }

    /// One import, from the present end of the files to its exit.
    async fn import(&self, number: u8, turn: u64, orders: &mut mpsc::Receiver<Order>) -> anyhow::Result<()> {
        let ends = self.source.ends();
        let report = self.logs.join(format!("shipper-{number}.json"));
        let mut child = self.spawn(number, turn, &report, "committed")?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.context("wait for wal-shipper")?,
                Some(order) = orders.recv() => obey(&child, order),
            }
        };
        self.conclude(number, status, &report, &ends)
    }

    /// One import that waits until the bucket has everything, without disturbance.
    ///
    /// # Errors
    /// If it did not ship everything.
    ///
    /// # Cancel safety
    /// The process is killed.
    pub(super) async fn store_everything(&self) -> anyhow::Result<()> {
        let ends = self.source.ends();
        let report = self.logs.join("shipper-last.json");
        let status = self.spawn(0, 0, &report, "stored")?.wait().await.context("wait for wal-shipper")?;
        self.conclude(0, status, &report, &ends)?;
        anyhow::ensure!(status.success(), "the last import ended with {status}");
        Ok(())
    }

    fn spawn(&self, number: u8, turn: u64, report: &PathBuf, wait: &str) -> anyhow::Result<Child> {
        // Another node is asked first each time.
        let first = usize::try_from(turn).unwrap_or_default() % self.ring.len();
        let ring: Vec<_> =
            self.ring.iter().cycle().skip(first).take(self.ring.len()).map(SocketAddr::to_string).collect();
        let path = self.logs.join(format!("shipper-{number}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        let _ = std::fs::remove_file(report);
        Command::new(&self.program)
            .arg("import")
            .args(["--ring", &ring.join(","), "--wait", wait])
            .arg("--data-dir")
            .arg(&self.source.directory)
            .arg("--tls-dir")
            .arg(&self.tls)
            .arg("--json")
            .arg(report)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start wal-shipper")
    }

    fn conclude(&self, number: u8, status: ExitStatus, report: &PathBuf, ends: &[u64]) -> anyhow::Result<()> {
        if status.success() {
            self.counts.whole.fetch_add(1, Ordering::Relaxed);
            for (partition, end) in ends.iter().enumerate() {
                self.marks.raise(partition, *end);
            }
            return Ok(());
        }
        self.counts.broken.fetch_add(1, Ordering::Relaxed);
        if status.code() == Some(SOME_STOPPED) {
            for said in stopped(report)? {
                self.timeline.violated(Violation::ShipperStopped { said });
            }
            return Ok(());
        }
        self.timeline.note(format!("shipper {number} ended with {status}"));
        Ok(())
    }
}

fn obey(child: &Child, order: Order) {
    let signal = match order {
        Order::Kill => Signal::KILL,
        Order::Pause => Signal::STOP,
        Order::Continue => Signal::CONT,
    };
    send(child, signal);
}

/// The partitions that an import gave up. That a file is behind the ring is none: another shipper was quicker.
fn stopped(report: &PathBuf) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read(report).context("read the import's report")?;
    let report: serde_json::Value = serde_json::from_slice(&text).context("read the import's report")?;
    let problems = report["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stopped = problems.iter().filter(|problem| problem["stopped"] == true);
    Ok(stopped.map(|problem| format!("{}: {}", problem["partition"], problem["problem"])).collect())
}
