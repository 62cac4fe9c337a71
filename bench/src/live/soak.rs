//! A day in half an hour: a steady trickle over thousands of partitions, bursts, topics that come and go; memory stays
//! flat.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use iggy::prelude::{Identifier, IggyClient, TopicClient};
use kennel_client::Client;
use kennel_protocol::ids::PartitionId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::LiveArgs;
use super::server::{create_topic, send};
use super::world::{Taken, World};
use crate::measure::figures::{say, write_json};

const STREAM: &str = "orders";
const TOPICS: u32 = 50;
const PARTITIONS: u32 = 5_000;
const SECONDS: u64 = 1_800;
const PAYLOAD_BYTES: usize = 500;
/// Files that a server keeps open of each partition that was written to: log and index, each to write and to read.
const FILES_OF_A_PARTITION: u64 = 4;
/// What it has open besides, with the partitions of topics that pass.
const FILES_BESIDE: u64 = 192;
/// The trickle: between two messages, over all partitions in turn.
const TRICKLE: Duration = Duration::from_millis(5);
/// A burst, and what it brings to one topic.
const BURST: Duration = Duration::from_secs(45);
const BURST_SENDS: u32 = 100;
const BURST_MESSAGES: usize = 100;
/// A topic comes, is written to, and goes when the next one has come.
const CHURN: Duration = Duration::from_secs(10);
const CHURN_PARTITIONS: u32 = 4;
const SAMPLE: Duration = Duration::from_secs(10);
/// How much more memory the last third may take than the middle one.
const GROWTH_MAX: f64 = 1.10;
/// How long the ring may take, at the end, to have what the server has.
const CATCH_UP_PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Serialize)]
struct SoakReport {
    seconds: u64,
    partitions: u32,
    /// Resident memory, MiB: the middle third's mean, the last third's, and the most, by process.
    memory: BTreeMap<String, [f64; 3]>,
    partitions_behind: usize,
    bars_met: bool,
}

pub(super) async fn soak(args: &LiveArgs) -> anyhow::Result<bool> {
    let (partitions, seconds) = (args.partitions.unwrap_or(PARTITIONS), args.seconds.unwrap_or(SECONDS));
    allow_open_files(u64::from(partitions) * FILES_OF_A_PARTITION + FILES_BESIDE)?;
    let mut world = World::start(args, 1).await?;
    let producer = world.server().client().await?;
    for topic in 0..TOPICS {
        create_topic(&producer, STREAM, &name(topic), partitions / TOPICS).await?;
    }
    let mut load = JoinSet::new();
    load.spawn(trickle(world.server().client().await?, partitions));
    load.spawn(bursts(world.server().client().await?));
    load.spawn(churn(world.server().client().await?));
    let (mut samples, started) = (Vec::new(), Instant::now());
    while started.elapsed() < Duration::from_secs(seconds) {
        sleep(SAMPLE).await;
        world.check()?;
        if let Some(ended) = load.try_join_next() {
            ended.context("a load panicked")??;
        }
        samples.push(world.taken()?);
    }
    load.shutdown().await;
    let partitions_behind = behind(&producer, &world.reader(0).await?, partitions).await?;
    report(
        args,
        &samples,
        SoakReport { seconds, partitions, memory: BTreeMap::new(), partitions_behind, bars_met: false },
    )
}

/// The server keeps the files of all partitions open, and inherits our limit.
fn allow_open_files(needed: u64) -> anyhow::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let limit = Rlimit { current: Some(needed), maximum: maximum.map(|maximum| maximum.max(needed)) };
    let raised = setrlimit(Resource::Nofile, limit);
    raised.with_context(|| {
        format!("the server needs {needed} open files: `ulimit -n {needed}` as root, or fewer --partitions")
    })
}

fn name(topic: u32) -> String {
    format!("topic-{topic}")
}

async fn trickle(producer: IggyClient, partitions: u32) -> anyhow::Result<()> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let mut tick = interval(TRICKLE);
    for number in (0..partitions).cycle() {
        tick.tick().await;
        let (topic, partition) = (name(number % TOPICS), number / TOPICS);
        send(&producer, STREAM, &topic, partition, vec![payload.clone()]).await.context("send a message")?;
    }
    Ok(())
}

async fn bursts(producer: IggyClient) -> anyhow::Result<()> {
    let payload = Bytes::from(vec![b'y'; PAYLOAD_BYTES]);
    for topic in (0..TOPICS).cycle() {
        sleep(BURST).await;
        for partition in 0..BURST_SENDS {
            let messages = vec![payload.clone(); BURST_MESSAGES];
            send(&producer, STREAM, &name(topic), partition % 10, messages).await.context("send a burst")?;
        }
    }
    Ok(())
}

async fn churn(producer: IggyClient) -> anyhow::Result<()> {
    let payload = Bytes::from(vec![b'z'; PAYLOAD_BYTES]);
    let named = |number: u64| format!("passing-{number}");
    for number in 0.. {
        create_topic(&producer, STREAM, &named(number), CHURN_PARTITIONS).await.context("create a topic")?;
        for partition in 0..CHURN_PARTITIONS {
            let messages = vec![payload.clone(); BURST_MESSAGES];
            send(&producer, STREAM, &named(number), partition, messages).await.context("send to a new topic")?;
        }
        sleep(CHURN).await;
        if number > 0 {
            let gone = named(number - 1);
            producer.delete_topic(&Identifier::named(STREAM)?, &Identifier::named(&gone)?).await?;
        }
    }
    Ok(())
}

/// How many partitions the ring does not have as far as the server, once it had its time.
async fn behind(server: &IggyClient, client: &Client, partitions: u32) -> anyhow::Result<usize> {
    let mut ends = BTreeMap::new();
    for topic in 0..TOPICS {
        let details = server.get_topic(&Identifier::named(STREAM)?, &Identifier::named(&name(topic))?).await?;
        for partition in details.context("the topic is there")?.partitions {
            ends.insert((topic, partition.id), partition.messages_count);
        }
    }
    ensure!(ends.len() == (partitions / TOPICS * TOPICS) as usize, "the server has {} partitions", ends.len());
    let deadline = Instant::now() + CATCH_UP_PATIENCE;
    loop {
        let reports = client.partitions().await?;
        let committed: BTreeMap<_, _> = reports.iter().map(|report| (report.partition, report.committed.0)).collect();
        let mut behind = 0;
        for ((topic, partition), end) in &ends {
            let key = client.locate(STREAM, &name(*topic), PartitionId(*partition)).await?;
            let has = key.and_then(|key| committed.get(&key).copied()).unwrap_or(0);
            behind += usize::from(has < *end);
        }
        if behind == 0 || Instant::now() >= deadline {
            return Ok(behind);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn report(args: &LiveArgs, samples: &[Taken], mut report: SoakReport) -> anyhow::Result<bool> {
    ensure!(samples.len() >= 3, "a soak takes at least three samples, one every {SAMPLE:?}");
    let third = samples.len() / 3;
    let mut flat = true;
    for who in ["nodes", "shipper", "Iggy server"] {
        let of = |taken: &Taken| match who {
            "nodes" => taken.nodes.resident_bytes,
            "shipper" => taken.shippers.resident_bytes,
            _ => taken.server.resident_bytes,
        };
        let mean = |samples: &[Taken]| mebibytes(samples.iter().map(of).sum::<u64>() / samples.len() as u64);
        let (middle, last) = (mean(&samples[third..2 * third]), mean(&samples[2 * third..]));
        let most = mebibytes(samples.iter().map(of).max().unwrap_or_default());
        say(&format!("{who}: {middle:.0} MiB in the middle third, {last:.0} in the last, {most:.0} at most"));
        flat &= last <= middle * GROWTH_MAX || who == "Iggy server";
        report.memory.insert(who.to_owned(), [middle, last, most]);
    }
    report.bars_met = flat && report.partitions_behind == 0;
    write_json(args.place.json.as_deref(), &report)?;
    let verdict = if report.bars_met { "met" } else { "missed" };
    say(&format!("{} s, {} partitions behind, bars {verdict}", report.seconds, report.partitions_behind));
    Ok(report.bars_met)
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process is far below 2^53 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
