//! Three servers that replicate each other, of which the leader is killed under load: the ring goes on with what the
//! others decide, and holds what they hold.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use kennel_protocol::ids::Offset;
use serde::Serialize;
use tokio::time::sleep;

use super::LiveArgs;
use super::proof::{STREAM, TOPIC, natively, producers, through_sdk};
use super::server::{IggyServer, create_topic};
use super::world::{World, caught_up};
use crate::measure::figures::{say, write_json};

const COUNT: u64 = 200_000;
const PARTITIONS: u32 = 12;
/// When the leader is killed, after the producers began.
const KILL: Duration = Duration::from_secs(3);

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
    let mut producers = producers(&addresses, partitions, count);
    sleep(KILL).await;
    ensure!(producers.try_join_next().is_none(), "the producers were done before the leader was killed: raise --count");
    // The first to be started leads at first.
    world.servers.remove(0).kill().await?;
    let mut confirmed = 0;
    while let Some(done) = producers.join_next().await {
        confirmed += done.context("a producer panicked")??;
    }
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
    write_json(args.json.as_deref(), &ClusterReport { messages, partitions, confirmed, differing, bars_met })?;
    let verdict = if bars_met { "all equal" } else { "NOT EQUAL" };
    say(&format!("{messages} messages, the leader killed, {differing} partitions differ: {verdict}"));
    Ok(bars_met)
}
