//! One run: a world, a load, a schedule, and the oracle.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::Reads;
use super::abilities::Abilities;
use super::conductor::Conductor;
use super::judge::{Judged, judge};
use super::marks::Marks;
use super::node::Node;
use super::readers::{Reading, Seen};
use super::report::RunReport;
use super::schedule::{Bounds, Schedule};
use super::shipping::{Counts, ORDERS_MAX, Shipping};
use super::source::Writer;
use super::timeline::Timeline;
use super::violation::Violation;
use super::watch::{Owners, watch};
use super::world::{World, WorldPlan};

/// How long the first ring may take to form.
const FIRST_RING: Duration = Duration::from_mins(1);
/// Panics of one program that are written down.
const PANICS_MAX: usize = 5;

/// What all runs share.
#[derive(Debug, Clone)]
pub(super) struct RunPlan {
    pub(super) abilities: Abilities,
    pub(super) programs: PathBuf,
    pub(super) upgrade_from: Option<PathBuf>,
    pub(super) bucket: Option<SocketAddr>,
    pub(super) nodes: (u8, u8),
    pub(super) seconds: u64,
    pub(super) shards: u16,
    pub(super) partitions: u32,
    pub(super) bytes_per_second: u64,
    pub(super) reads: Reads,
}

/// Runs one seed in `directory`. A run that cannot go on is a violation too: it proves nothing.
///
/// # Cancel safety
/// Everything that it started ends.
pub(super) async fn run(plan: &RunPlan, seed: u64, directory: &Path, timeline: Timeline) -> RunReport {
    let bounds = Bounds {
        nodes: plan.nodes,
        millis: plan.seconds * 1_000,
        shards: plan.shards,
        possible: plan.abilities.possible,
        upgrade: plan.upgrade_from.is_some(),
    };
    let schedule = Schedule::draw(seed, &bounds);
    let mut report = RunReport::new(seed, schedule.clone());
    if let Err(error) = carry_out(plan, &schedule, directory, &timeline, &mut report).await {
        timeline.violated(Violation::Stuck { what: format!("the run could not go on: {error:#}") });
    }
    (report.violations, report.violations_seen) = timeline.violations();
    report.timeline = timeline.entries();
    report
}

async fn carry_out(
    plan: &RunPlan,
    schedule: &Schedule,
    directory: &Path,
    timeline: &Timeline,
    report: &mut RunReport,
) -> anyhow::Result<()> {
    let world_plan = WorldPlan {
        schedule,
        abilities: &plan.abilities,
        programs: &plan.programs,
        upgrade_from: plan.upgrade_from.as_deref(),
        directory,
        bucket: plan.bucket,
        shards: plan.shards,
        partitions: plan.partitions,
        reads: plan.reads,
    };
    let mut world = World::build(&world_plan, timeline.clone()).await?;
    world.start_all()?;
    let formed = world.whole_ring(FIRST_RING).await.context("form the first ring")?;
    timeline.note(format!("a ring of {} after {:.2} s", schedule.nodes, formed.as_secs_f64()));

    let load = Load::start(plan, schedule, &world).await;
    let mut conductor =
        Conductor::new(&mut world, &plan.abilities, load.owners.clone(), load.orders.clone(), schedule.seed);
    let conducted = conductor.run(schedule, Duration::from_secs(plan.seconds)).await;
    report.ended_by_themselves = conductor.ended_by_themselves;
    conducted?;
    let (reading, shipping, owners) = load.stop().await?;
    let judged = judge(&mut world, &reading, &shipping, schedule.ends_with_crash).await?;
    fill_in(report, &world, &reading, &shipping, &owners, judged);
    for node in &world.nodes {
        for said in panics(node)? {
            timeline.violated(Violation::Panicked { program: format!("n{}", node.id), said });
        }
    }
    Ok(())
}

fn fill_in(
    report: &mut RunReport,
    world: &World,
    reading: &Reading,
    shipping: &Shipping,
    owners: &Owners,
    judged: Judged,
) {
    report.messages_written = reading.source.messages();
    report.messages_acknowledged = reading.marks.messages();
    report.messages_stored = judged.stored;
    report.messages_read_online = reading.seen.messages.load(Ordering::Relaxed);
    report.answers_past_quic = reading.seen.past_quic.load(Ordering::Relaxed);
    report.longest_read_gap_millis = reading.seen.longest_gap_millis.load(Ordering::Relaxed);
    report.fetches_given_up = reading.seen.gave_up.load(Ordering::Relaxed);
    report.takeovers = owners.takeovers();
    report.copies_placed = owners.copies_placed();
    report.imports_whole = shipping.counts.whole.load(Ordering::Relaxed);
    report.imports_broken = shipping.counts.broken.load(Ordering::Relaxed);
    report.bucket_requests_hit = world.proxy.faults.hits();
    report.whole_again_millis = judged.whole_after.map(|taken| u64::try_from(taken.as_millis()).unwrap_or(u64::MAX));
    report.served_cold = judged.served_cold;
}

/// What runs beside the schedule.
struct Load {
    owners: Owners,
    orders: Vec<mpsc::Sender<super::shipping::Order>>,
    reading: Reading,
    shipping: Shipping,
    shippers: JoinSet<()>,
    readers: JoinSet<()>,
    watchers: JoinSet<()>,
    writer: WriterThread,
}

impl Load {
    async fn start(plan: &RunPlan, schedule: &Schedule, world: &World) -> Self {
        let (owners, timeline) = (Owners::default(), world.timeline.clone());
        let mut watchers = JoinSet::new();
        for node in &world.nodes {
            watchers.spawn(watch(node.id, node.http(), owners.clone(), timeline.clone()));
        }
        let marks = Arc::new(Marks::new(world.source.partitions.len()));
        let writer = WriterThread::start(Writer::new(Arc::clone(&world.source), schedule.seed), plan.bytes_per_second);
        let shipping = Shipping {
            program: plan.programs.join("wal-shipper"),
            source: Arc::clone(&world.source),
            marks: Arc::clone(&marks),
            ring: world.ring(),
            tls: world.tls.clone(),
            logs: world.logs.clone(),
            timeline: timeline.clone(),
            counts: Arc::new(Counts::default()),
        };
        let (mut orders, mut shippers) = (Vec::new(), JoinSet::new());
        for number in 1..=1 + u8::from(schedule.two_shippers) {
            let (order, ordered) = mpsc::channel(ORDERS_MAX);
            orders.push(order);
            shippers.spawn(shipping.clone().run(number, ordered));
        }
        let reading = Reading {
            reads: plan.reads,
            host: world.network.host(),
            source: Arc::clone(&world.source),
            marks,
            ring: world.ring(),
            identity: world.identity.clone(),
            timeline,
            seen: Arc::new(Seen::default()),
        };
        let mut readers = JoinSet::new();
        reading.start(schedule.seed, &mut readers).await;
        Self { owners, orders, reading, shipping, shippers, readers, watchers, writer }
    }

    /// Ends it: the writer first, the watchers last.
    async fn stop(mut self) -> anyhow::Result<(Reading, Shipping, Owners)> {
        self.writer.stop().await?;
        self.shippers.shutdown().await;
        self.readers.shutdown().await;
        self.watchers.shutdown().await;
        Ok((self.reading, self.shipping, self.owners))
    }
}

/// The source's writer on a thread of its own. Dropping it tells it to stop.
struct WriterThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl WriterThread {
    fn start(writer: Writer, bytes_per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = tokio::task::spawn_blocking(move || writer.run(bytes_per_second, &told));
        Self { stop, thread: Some(thread) }
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.await.context("join the writer")?.context("write the source")
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Panics that a node's log tells of.
fn panics(node: &Node) -> anyhow::Result<Vec<String>> {
    let log = std::fs::read(node.log()).with_context(|| format!("read {}", node.log().display()))?;
    let log = String::from_utf8_lossy(&log);
    Ok(log.lines().filter(|line| line.contains("panicked at")).take(PANICS_MAX).map(str::to_owned).collect())
}
