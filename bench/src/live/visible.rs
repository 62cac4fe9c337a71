//! From sending a message until it is read: of the server by its own SDK, and of another node of the ring.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use iggy::prelude::{Consumer, Identifier, IggyClient, MessageClient, PollingStrategy};
use kennel_client::{FetchFrom, Follower};
use kennel_protocol::ids::Offset;
use serde::Serialize;
use tokio::time::sleep;

use super::LiveArgs;
use super::server::{create_topic, send};
use super::world::{World, caught_up};
use crate::measure::figures::{Figures, say, write_json};

const STREAM: &str = "orders";
const TOPIC: &str = "events";
const PAYLOAD_BYTES: usize = 1_000;
const COUNT: u64 = 1_000;
/// Messages before those that are timed.
const WARM_UP: u64 = 100;
/// Between two messages: each is timed alone.
const PAUSE: Duration = Duration::from_millis(3);
/// How much later than from the server a message may be read from the ring, milliseconds.
const LATER_P50_MAX: f64 = 1.5;
const LATER_P99_MAX: f64 = 6.0;

#[derive(Debug, Serialize)]
struct VisibleReport {
    direct: Figures,
    ring: Figures,
    later_p50_ms: f64,
    later_p99_ms: f64,
    bars_met: bool,
}

/// The two who wait for a message.
struct Readers {
    consumer: IggyClient,
    follower: Follower,
}

pub(super) async fn visible(args: &LiveArgs) -> anyhow::Result<bool> {
    let world = World::start(args, 1).await?;
    let producer = world.server().client().await?;
    create_topic(&producer, STREAM, TOPIC, 1).await?;
    produce(&producer).await?;
    let reader = world.reader(1).await?;
    let key = caught_up(&reader, (STREAM, TOPIC, 0), Offset(1)).await?;
    let follower = reader.follow(key, FetchFrom::Offset(Offset(1)));
    let mut readers = Readers { consumer: world.server().client().await?, follower };
    let (mut direct, mut ring) = (Vec::new(), Vec::new());
    for number in 1..=(WARM_UP + args.count.unwrap_or(COUNT)) * 2 {
        let offset = Offset(number);
        let sent = Instant::now();
        produce(&producer).await?;
        // By turns, so that whatever the machine does meets both.
        let (times, taken) = if number % 2 == 0 {
            readers.of_server(offset).await?;
            (&mut direct, sent.elapsed())
        } else {
            readers.of_ring(offset).await?;
            (&mut ring, sent.elapsed())
        };
        if number > WARM_UP * 2 {
            times.push(taken);
        }
        readers.of_ring(offset).await?;
        sleep(PAUSE).await;
    }
    report(args, &Figures::of(direct), &Figures::of(ring))
}

async fn produce(producer: &IggyClient) -> anyhow::Result<()> {
    let payload = vec![Bytes::from(vec![b'x'; PAYLOAD_BYTES])];
    send(producer, STREAM, TOPIC, 0, payload).await.context("send a message")
}

impl Readers {
    /// Polls until the message is there, without a rest.
    async fn of_server(&self, offset: Offset) -> anyhow::Result<()> {
        let (stream, topic) = (Identifier::named(STREAM)?, Identifier::named(TOPIC)?);
        let (consumer, strategy) = (Consumer::default(), PollingStrategy::offset(offset.0));
        loop {
            let polled = self.consumer.poll_messages(&stream, &topic, Some(0), &consumer, &strategy, 1, false).await?;
            if !polled.messages.is_empty() {
                return Ok(());
            }
        }
    }

    /// Follows until the message has come.
    async fn of_ring(&mut self, offset: Offset) -> anyhow::Result<()> {
        while self.follower.position().is_none_or(|next| next <= offset) {
            self.follower.next().await?;
        }
        Ok(())
    }
}

fn report(args: &LiveArgs, direct: &Figures, ring: &Figures) -> anyhow::Result<bool> {
    let (later_p50_ms, later_p99_ms) = (ring.p50_ms - direct.p50_ms, ring.p99_ms - direct.p99_ms);
    let bars_met = later_p50_ms <= LATER_P50_MAX && later_p99_ms <= LATER_P99_MAX;
    say(&format!("read from the server: {}", direct.line()));
    say(&format!("read from the ring: {}", ring.line()));
    let verdict = if bars_met { "met" } else { "missed" };
    say(&format!("later by {later_p50_ms:.2} ms at p50, {later_p99_ms:.2} ms at p99, bars {verdict}"));
    let (direct, ring) = (direct.clone(), ring.clone());
    write_json(args.place.json.as_deref(), &VisibleReport { direct, ring, later_p50_ms, later_p99_ms, bars_met })?;
    Ok(bars_met)
}
