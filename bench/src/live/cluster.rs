//! Three servers that replicate each other, of which the leader is killed between two loads: the ring goes on with what
//! the others decide, and holds what they hold.
//!
//! Not under load: the servers of today then agree on a new leader whose log its follower does not take, and confirm
//! nothing any more. The ring waits for them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use kennel_protocol::ids::Offset;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::LiveArgs;
use super::proof::{STREAM, TOPIC, natively, producers, through_sdk};
use super::server::{IggyServer, create_topic};
use super::world::{World, caught_up};
use crate::measure::figures::{say, write_json};

const COUNT: u64 = 200_000;
const PARTITIONS: u32 = 12;
/// Between the last confirmation and the end of the leader: its followers have everything by then.
const REST: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct ClusterReport {
    messages: u64,
    partitions: u32,
    confirmed: u64,
    differing: usize,
    bars_met: bool,
}

pub(super) async fn cluster(args: &LiveArgs) -> anyhow::Result<bool> {
    let mut world = World::start_cluster(args, 2).await?;
    let (count, partitions) = (args.count.unwrap_or(COUNT), args.partitions.unwrap_or(PARTITIONS));
    create_topic(&world.server().client().await?, STREAM, TOPIC, partitions).await?;
    let addresses: Vec<SocketAddr> = world.servers.iter().map(IggyServer::address).collect();
    let mut confirmed = all(producers(&addresses, partitions, count / 2)).await?;
    sleep(REST).await;
    // The first to be started leads at first.
    world.servers.remove(0).kill().await?;
    say(&format!("{confirmed} messages were confirmed; the leader is gone"));
    confirmed += all(producers(&addresses[1..], partitions, count / 2)).await?;
    let direct = through_sdk(world.server().address(), partitions).await?;
    let messages = direct.values().map(|content| content.messages).sum();
    say(&format!("the servers that live hold {messages} messages, {confirmed} were confirmed"));
    ensure!(messages >= confirmed, "the servers lost what they confirmed");
    let client = world.reader(2).await?;
    for (partition, content) in &direct {
        caught_up(&client, (STREAM, TOPIC, *partition), Offset(content.messages)).await?;
    }
    world.check()?;
    let ring = natively(&client, partitions).await?;
    let differing = direct.iter().filter(|(partition, content)| ring.get(partition) != Some(content)).count();
    let bars_met = differing == 0;
    write_json(args.place.json.as_deref(), &ClusterReport { messages, partitions, confirmed, differing, bars_met })?;
    let verdict = if bars_met { "all equal" } else { "NOT EQUAL" };
    say(&format!("{messages} messages, the leader killed, {differing} partitions differ: {verdict}"));
    Ok(bars_met)
}

async fn all(mut producers: JoinSet<anyhow::Result<u64>>) -> anyhow::Result<u64> {
    let mut confirmed = 0;
    while let Some(done) = producers.join_next().await {
        confirmed += done.context("a producer panicked")??;
    }
    Ok(confirmed)
}
