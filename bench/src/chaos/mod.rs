//! Real processes, real sockets, and everything that can go wrong with them, from one seed.
//!
//! A run is a ring of `cache-node` processes in network namespaces, a bucket behind a proxy that misbehaves, shippers of
//! a source that grows, readers that check every message, a schedule of faults drawn from the seed, and an oracle at
//! the end. The same seed gives the same schedule; what the machine makes of it may differ.

mod abilities;
mod check;
mod command;
mod conductor;
mod disk;
mod judge;
mod marks;
mod network;
mod node;
pub mod proxy;
pub mod radosgw;
mod readers;
pub mod report;
mod run;
pub mod schedule;
mod shipping;
mod source;
mod sweep;
pub mod timeline;
pub mod violation;
mod watch;
mod world;

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use abilities::Abilities;
use report::{ChaosReport, RunReport};
use run::RunPlan;
use sweep::sweep;
use timeline::Timeline;
use world::bucket_url;

/// Shards of a run's cluster.
const SHARDS: u16 = 8;
/// How often a bar shows what happened last.
const SHOW: Duration = Duration::from_millis(200);

/// Which bucket is behind the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bucket {
    /// A small server of our own for each run.
    Builtin,
    /// An S3 server that is there, with bucket and keys as `tests/radosgw/start` makes them.
    At(SocketAddr),
}

/// How readers get their bytes, where they get them otherwise than over QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Reads {
    /// Over QUIC alone.
    #[default]
    Quic,
    /// Out of the memory that nodes share with their host.
    SharedMemory,
    /// Written into their memory by libfabric over TCP, as copies are into followers'.
    Fabric,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct ChaosSettings {
    /// How many runs.
    pub runs: u64,
    /// How long the load of each lasts.
    pub seconds: u64,
    /// Of the first run; each further run's is one more.
    pub seed: u64,
    /// Fewest nodes and most, at least 1.
    pub nodes: (u8, u8),
    /// Runs at once.
    pub parallel: usize,
    /// Partitions of each run's source.
    pub partitions: u32,
    /// What each run's source writes.
    pub bytes_per_second: u64,
    /// Where `cache-node` and `wal-shipper` are.
    pub programs: PathBuf,
    /// An older `cache-node`, that nodes are until half-way through a run.
    pub upgrade_from: Option<PathBuf>,
    /// Where runs have their directories.
    pub directory: PathBuf,
    /// Keep directories of runs without violations too.
    pub keep: bool,
    /// Use nothing that needs a privilege: loopback, plain directories.
    pub plain: bool,
    /// The bucket.
    pub bucket: Bucket,
    /// How readers get their bytes.
    pub reads: Reads,
}

/// Runs them all. What happened is shown as it happens.
///
/// # Errors
/// If the settings cannot be, or it was interrupted. Violations are in the report.
///
/// # Cancel safety
/// Everything that was started ends.
pub async fn chaos(settings: &ChaosSettings) -> anyhow::Result<ChaosReport> {
    check(settings)?;
    let directory = std::path::absolute(&settings.directory).context("find the directory")?;
    let scratch = directory.join(format!("kennel-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("make {}", scratch.display()))?;
    let abilities = Abilities::look(&scratch, settings.plain).await;
    for (what, why) in &abilities.skipped.0 {
        say(&format!("SKIPPED {what}: {why}"));
    }
    let skipped = abilities.skipped.clone();
    let plan = RunPlan {
        abilities,
        programs: std::path::absolute(&settings.programs).context("find the programs")?,
        upgrade_from: settings.upgrade_from.as_deref().map(std::path::absolute).transpose()?,
        bucket: if let Bucket::At(address) = settings.bucket { Some(address) } else { None },
        nodes: settings.nodes,
        seconds: settings.seconds,
        shards: SHARDS,
        partitions: settings.partitions,
        bytes_per_second: settings.bytes_per_second,
        reads: settings.reads,
    };
    let mut interrupted = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut runs = JoinSet::new();
    let done = tokio::select! {
        done = all(settings, &plan, &scratch, &mut runs) => Some(done),
        _ = tokio::signal::ctrl_c() => None,
        _ = interrupted.recv() => None,
    };
    // Whatever still runs is taken down before anything is said.
    runs.shutdown().await;
    let Some(mut done) = done else {
        let _ = std::fs::remove_dir_all(&scratch);
        anyhow::bail!("interrupted; everything that was started is gone");
    };
    done.sort_unstable_by_key(|run| run.seed);
    // Only empty if nothing was kept.
    let _ = std::fs::remove_dir(&scratch);
    let bucket = match settings.bucket {
        Bucket::Builtin => "builtin".to_owned(),
        Bucket::At(address) => format!("http://{address}"),
    };
    Ok(ChaosReport { seed: settings.seed, seconds: settings.seconds, bucket, skipped, runs: done })
}

fn check(settings: &ChaosSettings) -> anyhow::Result<()> {
    let (fewest, most) = settings.nodes;
    ensure!((1..=9).contains(&fewest) && (fewest..=9).contains(&most), "--nodes must be between 1 and 9, as 3..5");
    let older = settings.upgrade_from.is_some();
    ensure!(
        !older || settings.reads == Reads::Quic,
        "--upgrade-from: an older node may not know what --reads asks for"
    );
    ensure!(settings.parallel > 0, "--parallel must be at least 1");
    ensure!(settings.seconds > 0, "--seconds must be at least 1");
    ensure!((1..=10_000).contains(&settings.partitions), "--partitions must be between 1 and 10000");
    for program in ["cache-node", "wal-shipper"] {
        let path = settings.programs.join(program);
        ensure!(path.exists(), "{} is not there: build it, or name its directory with --programs", path.display());
    }
    Ok(())
}

async fn all(
    settings: &ChaosSettings,
    plan: &RunPlan,
    scratch: &Path,
    running: &mut JoinSet<(RunReport, PathBuf)>,
) -> Vec<RunReport> {
    let bars = Arc::new(MultiProgress::new());
    let mut seeds: VecDeque<u64> =
        (settings.seed..).take(usize::try_from(settings.runs).unwrap_or(usize::MAX)).collect();
    let mut done = Vec::new();
    loop {
        while running.len() < settings.parallel
            && let Some(seed) = seeds.pop_front()
        {
            let (plan, bars, directory) = (plan.clone(), Arc::clone(&bars), scratch.join(format!("run-{seed}")));
            running.spawn(async move { (shown(&plan, seed, &directory, &bars).await, directory) });
        }
        let Some(ended) = running.join_next().await else { return done };
        let Ok((mut report, directory)) = ended else { continue };
        if report.violations.is_empty() && !settings.keep {
            let _ = std::fs::remove_dir_all(&directory);
            if let Some(server) = plan.bucket
                && let Err(error) = sweep(&bucket_url(&directory), server).await
            {
                bars.suspend(|| say(&format!("seed {}: {error:#}", report.seed)));
            }
        } else {
            report.kept = Some(directory.clone());
        }
        bars.suspend(|| tell(&report));
        done.push(report);
    }
}

/// One run with its bar.
async fn shown(plan: &RunPlan, seed: u64, directory: &Path, bars: &MultiProgress) -> RunReport {
    let bar = bars.add(ProgressBar::new(plan.seconds));
    let style = ProgressStyle::with_template("seed {prefix} {bar:24} {pos}/{len} s  {wide_msg}");
    bar.set_style(style.expect("a constant template is valid"));
    bar.set_prefix(seed.to_string());
    let timeline = Timeline::begin();
    let show = async {
        loop {
            tokio::time::sleep(SHOW).await;
            bar.set_position(timeline.elapsed().as_secs());
            if let Some(last) = timeline.last() {
                bar.set_message(last);
            }
        }
    };
    let report = tokio::select! {
        report = run::run(plan, seed, directory, timeline.clone()) => report,
        () = show => unreachable!("it shows for ever"),
    };
    bar.finish_and_clear();
    report
}

fn tell(report: &RunReport) {
    say(&report.line());
    for violation in &report.violations {
        say(&format!("   {violation}"));
    }
    if let Some(kept) = &report.kept {
        say(&format!("   logs, source and journals are in {}", kept.display()));
    }
}

/// Whoever closed the pipe has read enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
