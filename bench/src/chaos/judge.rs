//! The oracle at the end of a run: nothing is in the way any more, so everything must be there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use kennel_client::{Client, FetchRequest, Fetched};
use kennel_protocol::ids::Offset;
use rustix::process::Signal;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::readers::Reading;
use super::shipping::Shipping;
use super::timeline::Timeline;
use super::violation::Violation;
use super::world::World;
use crate::verify::verify;

/// How long a ring without troubles may take to be whole again.
const RING_PATIENCE: Duration = Duration::from_mins(1);
/// How long reading everything may take.
const READ_PATIENCE: Duration = Duration::from_mins(1);
/// How long shipping and storing the rest may take.
const STORE_PATIENCE: Duration = Duration::from_secs(90);
/// How long a node may take to stop in order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(300);
/// Partitions that are read at once.
const PARALLEL: usize = 16;

/// What the oracle counted.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Messages in the bucket at the end.
    pub(super) stored: u64,
    /// How long the ring took to be whole once nothing was in its way.
    pub(super) whole_after: Option<Duration>,
    /// Cold answers, by the tier that gave them.
    pub(super) served_cold: BTreeMap<String, u64>,
}

/// Looks at everything, hot and then cold.
///
/// # Errors
/// If the oracle itself cannot go on. What is wrong with the ring goes to the timeline.
///
/// # Cancel safety
/// Dropping the world ends what it does.
pub(super) async fn judge(
    world: &mut World,
    reading: &Reading,
    shipping: &Shipping,
    ends_with_crash: bool,
) -> anyhow::Result<Judged> {
    let timeline = world.timeline.clone();
    let mut judged = Judged::default();
    let Some(taken) = whole(world, &timeline).await else { return Ok(judged) };
    judged.whole_after = Some(taken);
    // Before anything is shipped again: what was acknowledged must be there without the source's help.
    let acknowledged = |at: usize| reading.marks.acknowledged(at);
    let missing = read_all(reading, acknowledged).await;
    for (at, from) in missing {
        name_missing(reading, at, from, acknowledged(at)).await;
    }
    timeline.note(format!("oracle: {} acknowledged messages read hot", reading.marks.messages()));
    if !store_everything(shipping, &timeline).await {
        return Ok(judged);
    }
    judged.stored = stored(reading, &timeline).await?;
    timeline.note(format!("oracle: {} messages stored", judged.stored));
    restart_cold(world, ends_with_crash, &timeline).await?;
    if whole(world, &timeline).await.is_none() {
        return Ok(judged);
    }
    let ends = reading.source.ends();
    for (at, from) in read_all(reading, |at| ends[at]).await {
        name_missing(reading, at, from, ends[at]).await;
    }
    judged.served_cold = compare(reading, &timeline).await?;
    timeline.note("oracle: everything compared cold");
    Ok(judged)
}

async fn whole(world: &mut World, timeline: &Timeline) -> Option<Duration> {
    match world.whole_ring(RING_PATIENCE).await {
        Ok(taken) => {
            timeline.note(format!("oracle: the ring is whole after {:.2} s", taken.as_secs_f64()));
            Some(taken)
        }
        Err(error) => {
            timeline.violated(Violation::Stuck { what: format!("{error:#}") });
            None
        }
    }
}

/// Reads every partition up to `end`, and returns where those got to that did not.
async fn read_all(reading: &Reading, end: impl Fn(usize) -> u64) -> Vec<(usize, u64)> {
    let until = Instant::now() + READ_PATIENCE;
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let mut clients: Vec<Client> = Vec::new();
    for home in 0..reading.ring.len() {
        clients.push(reading.connect(home).await);
    }
    let mut tasks = JoinSet::new();
    for at in 0..reading.source.partitions.len() {
        let (reading, permits, end) = (reading.clone(), Arc::clone(&permits), end(at));
        let client = clients[at % clients.len()].clone();
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            (at, reading.read_up_to(&client, at, end, until).await)
        });
    }
    let mut missing = Vec::new();
    while let Some(read) = tasks.join_next().await {
        if let Ok((at, Err(from))) = read {
            missing.push((at, from));
        }
    }
    missing
}

/// Asks every node for what one of them did not serve: that it is gone is another matter than that one is behind.
async fn name_missing(reading: &Reading, at: usize, from: u64, acknowledged: u64) {
    let partition = reading.source.partitions[at].key;
    let mut served = false;
    for home in 0..reading.ring.len() {
        let client = reading.connect(home).await;
        let request = FetchRequest::at(partition, Offset(from)).waiting(AGAIN);
        let said = match client.fetch(request).await {
            Ok(fetched) => {
                served |= fetched.next.0 > from;
                let Fetched { epoch, next, committed, stored, .. } = fetched;
                format!("epoch {epoch}, read up to {next}, committed {committed}, stored {stored}")
            }
            Err(error) => error.to_string(),
        };
        reading.timeline.note(format!("oracle: {partition} at {from} through n{}: {said}", home + 1));
    }
    let client = reading.connect(0).await;
    let reports = client.partitions().await.unwrap_or_default();
    if let Some(report) = reports.iter().find(|report| report.partition == partition) {
        served |= report.committed.0 >= acknowledged;
        let (committed, stored) = (report.committed, report.stored);
        reading.timeline.note(format!("oracle: {partition}: its owner says committed {committed}, stored {stored}"));
    }
    reading.timeline.violated(if served {
        Violation::Stale { partition, from, acknowledged }
    } else {
        Violation::Lost { partition, from, acknowledged }
    });
}

async fn store_everything(shipping: &Shipping, timeline: &Timeline) -> bool {
    let started = Instant::now();
    let tries = async {
        loop {
            match shipping.store_everything().await {
                Ok(()) => return,
                Err(error) => timeline.note(format!("oracle: {error:#}; again")),
            }
            sleep(AGAIN).await;
        }
    };
    if timeout(STORE_PATIENCE, tries).await.is_err() {
        let what = format!("not everything could be shipped and stored within {STORE_PATIENCE:?}");
        timeline.violated(Violation::Stuck { what });
        return false;
    }
    timeline.note(format!("oracle: the rest was shipped and stored after {:.2} s", started.elapsed().as_secs_f64()));
    true
}

/// Shipped must be stored: every owner says so of every partition.
async fn stored(reading: &Reading, timeline: &Timeline) -> anyhow::Result<u64> {
    let client = reading.connect(0).await;
    let reports = client.partitions().await.context("ask owners for their marks")?;
    let reports: BTreeMap<_, _> = reports.into_iter().map(|report| (report.partition, report.stored.0)).collect();
    let mut sum = 0;
    for (source, shipped) in reading.source.partitions.iter().zip(reading.source.ends()) {
        let (partition, stored) = (source.key, reports.get(&source.key).copied().unwrap_or(0));
        if stored < shipped {
            timeline.violated(Violation::NotStored { partition, stored, shipped });
        }
        sum += stored;
    }
    Ok(sum)
}

/// Ends all nodes, takes their caches away and starts them again. Journals stay: they hold promises.
async fn restart_cold(world: &mut World, crash: bool, timeline: &Timeline) -> anyhow::Result<()> {
    timeline.note(if crash { "oracle: SIGKILL of all nodes" } else { "oracle: SIGTERM to all nodes" });
    for node in &mut world.nodes {
        if crash {
            node.kill().await;
        } else {
            node.signal(Signal::TERM);
        }
    }
    let until = Instant::now() + STOP_PATIENCE;
    for node in &mut world.nodes {
        while node.is_up() && node.ended().is_none() {
            if Instant::now() > until {
                timeline.violated(Violation::Stuck { what: format!("n{} does not stop", node.id) });
                node.kill().await;
            }
            sleep(AGAIN).await;
        }
        remove(&node.disk.directory().join("node/cache"))?;
    }
    world.start_all()
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    Ok(())
}

/// The other oracle: every message against the files themselves.
async fn compare(reading: &Reading, timeline: &Timeline) -> anyhow::Result<BTreeMap<String, u64>> {
    let client = reading.connect(1).await;
    let verified = verify(&client, &reading.source.directory, PARALLEL, None, &|_, _| {}).await?;
    if !verified.is_clean() {
        for what in &verified.problems {
            timeline.violated(Violation::Differs { what: what.clone() });
        }
        timeline.violated(Violation::Differs { what: verified.line() });
    }
    Ok(verified.served)
}
