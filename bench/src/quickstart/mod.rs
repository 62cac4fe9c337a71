//! The tour of README's first command: three real nodes, real Iggy data, a kill, a cold restart, every message compared.
//!
//! It drives the same programs that a user would, and looks at them from outside only.

mod processes;
mod ring;
mod table;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kennel_client::{Client, ClientSettings};
use kennel_transport::certs::DevelopmentCa;
use kennel_transport::tls::TlsIdentity;

use crate::verify::{ExpectServed, Verified, verify};
use processes::{NodeProcess, Stage};
use ring::{RingStatus, taken_over, whole_ring};

/// Nodes of the tour; each has a file in `configs/local`.
const NODES: u64 = 3;

/// Partitions compared at once.
const PARALLEL: usize = 16;

/// A data directory up to this size lies in the nodes' tails as a whole, whichever node owns it.
const TAIL_BYTES_SAFE: u64 = 32 << 20;

/// How long a read may look for a node that answers: longer than a take-over.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// What the tour is told.
#[derive(Debug, Clone)]
pub struct QuickstartSettings {
    /// Where the programs are.
    pub programs: PathBuf,
    /// `configs/local`.
    pub configs: PathBuf,
    /// The Iggy data directory to ship.
    pub data_dir: PathBuf,
    /// Where everything that the tour makes goes; emptied first.
    pub directory: PathBuf,
    /// Leave the ring running.
    pub keep: bool,
}

/// One comparison of everything, and under which circumstances.
#[derive(Debug)]
struct Comparison {
    when: &'static str,
    verified: Verified,
}

/// What the tour saw.
#[derive(Debug)]
struct Seen {
    comparisons: Vec<Comparison>,
    shipped_bytes: u64,
    steps: Vec<(&'static str, Duration)>,
    killed: u64,
    before_restart: RingStatus,
    after_restart: RingStatus,
}

/// Runs the tour. The last line printed is the verdict.
///
/// # Errors
/// If a program fails, or a message is lost, duplicated or wrong.
///
/// # Cancel safety
/// Safe: nodes that it started end with it.
pub async fn run(settings: QuickstartSettings) -> anyhow::Result<()> {
    let stage = prepare(&settings).await?;
    let mut seen = Seen {
        comparisons: Vec::new(),
        shipped_bytes: 0,
        steps: Vec::new(),
        killed: 0,
        before_restart: RingStatus::default(),
        after_restart: RingStatus::default(),
    };

    say("1. three nodes on loopback, one local directory as the bucket");
    let mut nodes = start_all(&stage)?;
    let taken = whole_ring(&mut nodes).await?;
    seen.steps.push(("ring formed", taken));

    say("2. ship the Iggy data directory, and wait until the bucket has it");
    let started = Instant::now();
    import(&stage, &nodes, &settings.data_dir).await?;
    seen.steps.push(("shipped and stored", started.elapsed()));
    seen.shipped_bytes = shipped_bytes(&settings.data_dir)?;

    say("3. read every message back, hot");
    let fits = seen.shipped_bytes <= TAIL_BYTES_SAFE;
    let expect = fits.then_some(ExpectServed::Tail);
    compare(&mut seen, "hot, from memory", &stage, &nodes, &settings.data_dir, expect).await?;

    say("4. kill -9 the node that owns the most, and read everything again");
    let status = RingStatus::ask(&nodes).await?;
    seen.killed = status.busiest().context("no node owns anything")?;
    let victim = nodes.iter().position(|node| node.id == seen.killed).context("the owner is one of the nodes")?;
    nodes.remove(victim).kill().await?;
    compare(&mut seen, "after the kill", &stage, &nodes, &settings.data_dir, None).await?;
    let taken = taken_over(&mut nodes).await?;
    seen.steps.push(("shards taken over after that", taken));
    compare(&mut seen, "after the take-over", &stage, &nodes, &settings.data_dir, None).await?;
    seen.before_restart = RingStatus::ask(&nodes).await?;

    say("5. stop all nodes, empty their caches, start them again, and read everything cold");
    for node in nodes {
        node.stop().await?;
    }
    empty_caches(&stage)?;
    let mut nodes = start_all(&stage)?;
    let taken = whole_ring(&mut nodes).await?;
    seen.steps.push(("restarted cold", taken));
    let expect = Some(ExpectServed::Bucket);
    compare(&mut seen, "cold, from the bucket", &stage, &nodes, &settings.data_dir, expect).await?;
    seen.after_restart = RingStatus::ask(&nodes).await?;

    finish(&settings, &stage, nodes, &seen).await
}

async fn prepare(settings: &QuickstartSettings) -> anyhow::Result<Stage> {
    let directory = std::path::absolute(&settings.directory).context("find the tour's directory")?;
    if directory.exists() {
        std::fs::remove_dir_all(&directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    let stage = Stage {
        programs: std::path::absolute(&settings.programs).context("find the programs")?,
        configs: std::path::absolute(&settings.configs).context("find configs/local")?,
        directory,
    };
    std::fs::create_dir_all(stage.bucket()).with_context(|| format!("make {}", stage.bucket().display()))?;
    stage.run("cache-node", &["certs", "--directory", "kennel-local/tls"]).await?;
    Ok(stage)
}

fn start_all(stage: &Stage) -> anyhow::Result<Vec<NodeProcess>> {
    (1..=NODES).map(|id| stage.start(id)).collect()
}

async fn import(stage: &Stage, nodes: &[NodeProcess], data_dir: &Path) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(data_dir).context("find the Iggy data directory")?;
    let data_dir = data_dir.to_str().context("the data directory's path is not Unicode")?.to_owned();
    let ring: Vec<_> = nodes.iter().map(|node| node.quic.clone()).collect();
    let ring = ring.join(",");
    let arguments =
        ["import", "--data-dir", &data_dir, "--ring", &ring, "--tls-dir", "kennel-local/tls", "--wait", "stored"];
    stage.run("wal-shipper", &arguments).await
}

async fn compare(
    seen: &mut Seen,
    when: &'static str,
    stage: &Stage,
    nodes: &[NodeProcess],
    data_dir: &Path,
    expect: Option<ExpectServed>,
) -> anyhow::Result<()> {
    let files = DevelopmentCa::in_dir(&stage.tls());
    let identity = TlsIdentity::load(&files.ca, &files.client.certificate, &files.client.key)?;
    let addresses: Result<Vec<SocketAddr>, _> = nodes.iter().map(|node| node.quic.parse()).collect();
    let settings = ClientSettings { patience: READ_PATIENCE, ..ClientSettings::new(addresses?) };
    let client = Client::connect(settings, &identity).await.context("connect to the ring")?;
    let verified = verify(&client, data_dir, PARALLEL, expect, &|_, _| {}).await?;
    say(&format!("   {}", verified.line()));
    for problem in &verified.problems {
        say(&format!("   {problem}"));
    }
    seen.comparisons.push(Comparison { when, verified });
    Ok(())
}

/// Removes what a node may keep of the bucket's blocks. Journals stay: they hold promises.
fn empty_caches(stage: &Stage) -> anyhow::Result<()> {
    for id in 1..=NODES {
        let cache = stage.node(id).join("cache");
        if cache.exists() {
            std::fs::remove_dir_all(&cache).with_context(|| format!("empty {}", cache.display()))?;
        }
    }
    Ok(())
}

fn shipped_bytes(data_dir: &Path) -> anyhow::Result<u64> {
    Ok(wal_shipper::source::scan(data_dir)?.iter().map(wal_shipper::source::FoundPartition::bytes).sum())
}

async fn finish(
    settings: &QuickstartSettings,
    stage: &Stage,
    nodes: Vec<NodeProcess>,
    seen: &Seen,
) -> anyhow::Result<()> {
    say("");
    say(&table::render(seen, &stage.bucket())?);
    if settings.keep {
        for node in nodes {
            let (id, http) = (node.id, node.http.clone());
            let process = node.keep()?;
            say(&format!("node {id} stays up as process {process}: http://{http}/"));
        }
    } else {
        for node in nodes {
            node.stop().await?;
        }
    }
    say(&format!("logs, certificates and the bucket are in {}", stage.directory.display()));
    let total = total(seen);
    let clean = total.is_clean();
    say(&total.line());
    ensure!(clean, "not everything that was shipped was read back as it was");
    Ok(())
}

/// The messages of one whole comparison, and everything that went wrong in any of them.
fn total(seen: &Seen) -> Verified {
    let mut total = Verified::default();
    for Comparison { verified, .. } in &seen.comparisons {
        total.messages = total.messages.max(verified.messages);
        total.lost += verified.lost;
        total.duplicated += verified.duplicated;
        total.wrong += verified.wrong;
        total.served_elsewhere += verified.served_elsewhere;
    }
    total
}

#[expect(clippy::print_stdout, reason = "the tour talks to a person")]
fn say(line: &str) {
    println!("{line}");
}
