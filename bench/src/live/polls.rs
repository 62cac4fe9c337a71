//! Polls of a hundred messages of 1 KB by the stock SDK: of the server, and through a node's gateway.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use iggy::prelude::{Consumer, Identifier, IggyClient, MessageClient, PollingStrategy};
use kennel_protocol::ids::Offset;
use serde::Serialize;
use tokio::task::JoinSet;

use super::LiveArgs;
use super::server::{client_at, create_topic, send};
use super::world::{Taken, World, caught_up};
use crate::measure::figures::{Figures, say, write_json};

const STREAM: &str = "orders";
const TOPIC: &str = "events";
const PAYLOAD_BYTES: usize = 1_000;
/// Messages of a poll.
const POLLED: u32 = 100;
const MESSAGES: u64 = 20_000;
/// Polls of one client, one after the other, in each round.
const COUNT: u64 = 2_000;
const ROUNDS: usize = 3;
/// Clients that poll at once when what a core can do is measured.
const CLIENTS: usize = 4;
const LOADED: Duration = Duration::from_secs(4);
/// So many times the server's polls per second and core a gateway answers at least.
const PER_CORE_MIN: f64 = 2.0;

#[derive(Debug, Serialize)]
struct PollsReport {
    direct: Figures,
    gateway: Figures,
    /// The gateway's median as a share of the server's.
    p50_ratio: f64,
    direct_polls_per_core_second: f64,
    gateway_polls_per_core_second: f64,
    per_core_ratio: f64,
    bars_met: bool,
}

/// Who is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Direct,
    Gateway,
}

/// What one side came to.
#[derive(Debug, Default)]
struct Measured {
    times: Vec<Duration>,
    /// Polls per second of processor, one number a round.
    per_core: Vec<f64>,
}

pub(super) async fn polls(args: &LiveArgs) -> anyhow::Result<bool> {
    let world = World::start(args, 1).await?;
    let producer = world.server().client().await?;
    create_topic(&producer, STREAM, TOPIC, 1).await?;
    for _ in 0..MESSAGES / u64::from(POLLED) {
        let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
        send(&producer, STREAM, TOPIC, 0, vec![payload; POLLED as usize]).await.context("send messages")?;
    }
    caught_up(&world.reader(0).await?, (STREAM, TOPIC, 0), Offset(MESSAGES)).await?;
    let gateway = world.gateways().await?[0];
    let (mut direct, mut through) = (Measured::default(), Measured::default());
    for _ in 0..ROUNDS {
        for side in [Side::Direct, Side::Gateway] {
            let (address, measured) = match side {
                Side::Direct => (world.server().address(), &mut direct),
                Side::Gateway => (gateway, &mut through),
            };
            measured.times.extend(alone(address, args.count.unwrap_or(COUNT)).await?);
            let before = world.taken()?;
            let polls = together(address).await?;
            measured.per_core.push(polls / spent(side, &before, &world.taken()?).as_secs_f64());
        }
    }
    report(args, direct, through)
}

/// One client, one poll after the other.
async fn alone(address: SocketAddr, count: u64) -> anyhow::Result<Vec<Duration>> {
    let client = client_at(address).await?;
    let mut times = Vec::new();
    for number in 0..count + count / 10 {
        let started = Instant::now();
        poll(&client, number).await?;
        // The first of a session ask the server whether it may poll.
        if number >= count / 10 {
            times.push(started.elapsed());
        }
    }
    Ok(times)
}

/// Several clients at once; how many polls were answered.
async fn together(address: SocketAddr) -> anyhow::Result<f64> {
    let mut clients = JoinSet::new();
    let deadline = Instant::now() + LOADED;
    for start in 0..CLIENTS as u64 {
        let client = client_at(address).await?;
        clients.spawn(async move {
            let mut polls: u32 = 0;
            while Instant::now() < deadline {
                poll(&client, start * 41 + u64::from(polls)).await?;
                polls += 1;
            }
            anyhow::Ok(polls)
        });
    }
    let mut polls = 0.0;
    while let Some(done) = clients.join_next().await {
        polls += f64::from(done.context("a client panicked")??);
    }
    Ok(polls)
}

async fn poll(client: &IggyClient, number: u64) -> anyhow::Result<()> {
    let (stream, topic) = (Identifier::named(STREAM)?, Identifier::named(TOPIC)?);
    let strategy = PollingStrategy::offset(number * 37 % (MESSAGES - u64::from(POLLED)));
    let polled = client.poll_messages(&stream, &topic, Some(0), &Consumer::default(), &strategy, POLLED, false).await?;
    ensure!(polled.messages.len() == POLLED as usize, "a poll brought {} messages", polled.messages.len());
    Ok(())
}

/// Of those who answer: the server, or the nodes and whatever they made the server do. The load's own share is in
/// neither, and that of the shipper, which rests, in both.
fn spent(side: Side, before: &Taken, after: &Taken) -> Duration {
    let server = after.server.since(before.server);
    match side {
        Side::Direct => server,
        Side::Gateway => server + after.nodes.since(before.nodes),
    }
}

fn report(args: &LiveArgs, direct: Measured, through: Measured) -> anyhow::Result<bool> {
    let (direct_per_core, gateway_per_core) = (median(direct.per_core), median(through.per_core));
    let (direct, gateway) = (Figures::of(direct.times), Figures::of(through.times));
    let (p50_ratio, per_core_ratio) = (gateway.p50_ms / direct.p50_ms, gateway_per_core / direct_per_core);
    let bars_met = p50_ratio < 1.0 && per_core_ratio >= PER_CORE_MIN;
    say(&format!("of the server: {}; {direct_per_core:.0} polls per second of a core", direct.line()));
    say(&format!("through a gateway: {}; {gateway_per_core:.0} polls per second of a core", gateway.line()));
    let verdict = if bars_met { "met" } else { "missed" };
    say(&format!("{p50_ratio:.2} of the time at p50, {per_core_ratio:.2} times the polls per core, bars {verdict}"));
    let report = PollsReport {
        direct,
        gateway,
        p50_ratio,
        direct_polls_per_core_second: direct_per_core,
        gateway_polls_per_core_second: gateway_per_core,
        per_core_ratio,
        bars_met,
    };
    write_json(args.place.json.as_deref(), &report)?;
    Ok(bars_met)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
