//! What a shipper takes of the processor where most partitions are quiet, and what it makes the server take.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use iggy::prelude::IggyClient;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::LiveArgs;
use super::server::{create_topic, send};
use super::world::{Taken, World};
use crate::measure::figures::{say, write_json};
use crate::measure::usage::Usage;

const STREAM: &str = "orders";
const TOPICS: u32 = 10;
const PARTITIONS: u32 = 1_000;
/// One of so many partitions is written to.
const QUIET_TO_ACTIVE: u32 = 10;
/// How often each of them is.
const TICK: Duration = Duration::from_millis(250);
const PAYLOAD_BYTES: usize = 1_000;
const SECONDS: u64 = 60;
/// Until everything is at its pace.
const WARM_UP: Duration = Duration::from_secs(10);
/// What a shipper may take, percent of a core.
const SHIPPER_MAX: f64 = 25.0;

#[derive(Debug, Serialize)]
struct CostReport {
    partitions: u32,
    active: u32,
    messages_a_second: f64,
    /// Percent of a core.
    server_alone: f64,
    server_shipped_from: f64,
    shipper: f64,
    nodes: f64,
    bars_met: bool,
}

/// What took how much, percent of a core.
#[derive(Debug, Clone, Copy)]
struct Shares {
    server: f64,
    shipper: f64,
    nodes: f64,
}

pub(super) async fn cost(args: &LiveArgs) -> anyhow::Result<bool> {
    let mut world = World::start(args, 0).await?;
    let partitions = args.partitions.unwrap_or(PARTITIONS);
    let producer = world.server().client().await?;
    for topic in 0..TOPICS {
        create_topic(&producer, STREAM, &format!("topic-{topic}"), partitions / TOPICS).await?;
    }
    let (active, seconds) = (partitions / QUIET_TO_ACTIVE, Duration::from_secs(args.seconds.unwrap_or(SECONDS)));
    let load = tokio::spawn(produce(producer, partitions / TOPICS / QUIET_TO_ACTIVE));
    let alone = shares(&world, seconds).await?;
    world.start_shipper(0)?;
    let shipped_from = shares(&world, seconds).await?;
    world.check()?;
    anyhow::ensure!(!load.is_finished(), "the load ended: {:?}", load.await);
    load.abort();
    let report = CostReport {
        partitions,
        active,
        messages_a_second: f64::from(active) / TICK.as_secs_f64(),
        server_alone: alone.server,
        server_shipped_from: shipped_from.server,
        shipper: shipped_from.shipper,
        nodes: shipped_from.nodes,
        bars_met: shipped_from.shipper < SHIPPER_MAX,
    };
    write_json(args.place.json.as_deref(), &report)?;
    say(&format!("{partitions} partitions, {active} of them active, {:.0} messages/s", report.messages_a_second));
    say(&format!("the server: {:.1}% of a core alone, {:.1}% shipped from", alone.server, shipped_from.server));
    say(&format!("the nodes together: {:.1}%", shipped_from.nodes));
    let verdict = if report.bars_met { "met" } else { "missed" };
    say(&format!("the shipper: {:.1}% of a core, bar {verdict}", shipped_from.shipper));
    Ok(report.bars_met)
}

/// One message for every active partition in each tick, evenly in time.
async fn produce(producer: IggyClient, active_of_a_topic: u32) -> anyhow::Result<()> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let mut tick = interval(TICK / (TOPICS * active_of_a_topic).max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for partition in 0..active_of_a_topic {
            for topic in 0..TOPICS {
                tick.tick().await;
                let topic = format!("topic-{topic}");
                send(&producer, STREAM, &topic, partition, vec![payload.clone()]).await.context("send a message")?;
            }
        }
    }
}

async fn shares(world: &World, length: Duration) -> anyhow::Result<Shares> {
    sleep(WARM_UP).await;
    let (before, started) = (world.taken()?, Instant::now());
    sleep(length).await;
    let (after, elapsed) = (world.taken()?, started.elapsed());
    let share = |of: fn(&Taken) -> Usage| of(&after).since(of(&before)).as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    Ok(Shares {
        server: share(|taken| taken.server),
        shipper: share(|taken| taken.shippers),
        nodes: share(|taken| taken.nodes),
    })
}
