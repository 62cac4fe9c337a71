//! `bench ship-cost`: what an acknowledgement takes, beside one write and sync of that disk and one round trip over QUIC of
//! the same size. The three take turns, by default at a steady pace, so that they see the same machine.
//!
//! A host that keeps its virtual machines to a share of its processors stops one for some 12 ms at a time, and whatever takes
//! longest meets that most often. Rounds in which the host withheld processors are therefore left out, and counted.
//!
//! The bucket lies in memory where the system has a directory there: a real one shares no disk with the journals.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use kennel_protocol::ids::{Epoch, Incarnation, Offset, PartitionKey, ProcessId, ShardId};
use kennel_protocol::wire::{CatalogAck, CatalogPut, Message, PositionsRequest, Ship, ShipChunk};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{Caller, Inbound};
use kennel_transport::session::{Connector, Listener, Session};
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, timeout};
use wal_shipper::ship::Ring;

use super::disk::Disk;
use super::figures::{Figures, say, write_json};
use super::load::{Shape, Stream};
use super::place::PlaceArgs;
use super::stage::{Stage, directory_bucket};
use super::usage::Processors;

/// Bytes of a chunk, of a write and of a question.
const BYTES: usize = 16 << 10;
/// The file that is written round and round.
const FILE_BYTES: u64 = 16 << 20;
/// Nothing of this takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of each, before counting; at least one.
const WARM_UP: u32 = 50;
/// Shards move to where they belong twice this long after the ring is whole; then they stay.
const SETTLE: Duration = Duration::from_secs(1);
/// A directory in memory, where the system has one.
const IN_MEMORY: &str = "/dev/shm";

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct ShipCostArgs {
    /// How many of each.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub rounds: u32,
    /// Milliseconds from one round of the three to the next; 0 for one right after the other.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 4)]
    pub every: u64,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// One of each.
#[derive(Debug, Clone, Copy)]
struct Round {
    ship: Duration,
    sync: Duration,
    trip: Duration,
    /// The processors' time when it was over.
    processors: Processors,
}

#[derive(Debug, Serialize)]
struct ShipCostReport {
    ship: Figures,
    sync: Figures,
    round_trip: Figures,
    /// p99 of a ship over the sum of the other two.
    ratio_p99: f64,
    ratio_p50: f64,
    /// As above with the rounds that were left out.
    ratio_p99_of_all: f64,
    /// Share of rounds that were left out, 0 to 1.
    left_out: f64,
    /// Share of the processors' time that the machine's host withheld, 0 to 1.
    withheld: f64,
    /// Whether the disk's cache was passed by.
    direct: bool,
    bars_met: bool,
}

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If the ring cannot be started, or does not acknowledge.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn ship_cost(args: ShipCostArgs) -> anyhow::Result<bool> {
    // Declared before the nodes, so that it outlives them.
    let bucket = bucket_place()?;
    let settle = format!("timing.settle={}ms", SETTLE.as_millis());
    let assignments =
        vec![directory_bucket(&bucket.path().join("ship-cost"))?, "journal.size=128 MiB".to_owned(), settle];
    let mut stage = args.place.start(3, assignments)?;
    stage.settled(SETTLE * 3).await?;
    let mut shipping = Shipping::open(&mut stage, Shape { messages: 1, payload_bytes: BYTES }).await?;
    let mut echo = Echo::open(&stage).await?;
    let mut disk = Disk::open(&stage.directory(0).join("beside"), BYTES, FILE_BYTES)?;
    // An interval of nothing is none; one of a microsecond never waits here.
    let mut pace = interval(Duration::from_millis(args.every).max(Duration::from_micros(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = Vec::new();
    // And one after the last that counts, which says whether that one was disturbed.
    for _ in 0..=WARM_UP + args.rounds {
        pace.tick().await;
        let ship = timeout(PATIENCE, shipping.ship()).await.context("a chunk is not acknowledged")??;
        let trip = timeout(PATIENCE, echo.ask()).await.context("a question is not answered")??;
        let sync = tokio::task::block_in_place(|| disk.write())?;
        rounds.push(Round { ship, sync, trip, processors: Processors::now()? });
    }
    let report = judge(&rounds, disk.is_direct())?;
    write_json(args.place.json.as_deref(), &report)?;
    tell(&report);
    Ok(report.bars_met)
}

fn judge(rounds: &[Round], direct: bool) -> anyhow::Result<ShipCostReport> {
    let counted = &rounds[WARM_UP as usize - 1..];
    // The system adds up what is withheld when its clock ticks: perhaps only in the next round.
    let quiet = |of: &[Round]| of[2].processors.has_all_since(of[0].processors);
    let undisturbed: Vec<_> = counted.windows(3).filter(|of| quiet(of)).map(|of| of[1]).collect();
    ensure!(!undisturbed.is_empty(), "the machine's host withheld time in every round: there is nothing to judge by");
    let of = |rounds: &[Round]| {
        let ship = Figures::of(rounds.iter().map(|round| round.ship));
        let sync = Figures::of(rounds.iter().map(|round| round.sync));
        let round_trip = Figures::of(rounds.iter().map(|round| round.trip));
        let ratio_p99 = ship.p99_ms / (sync.p99_ms + round_trip.p99_ms);
        (ship, sync, round_trip, ratio_p99)
    };
    let (ship, sync, round_trip, ratio_p99) = of(&undisturbed);
    let ratio_p50 = ship.p50_ms / (sync.p50_ms + round_trip.p50_ms);
    let (.., ratio_p99_of_all) = of(&counted[1..counted.len() - 1]);
    #[expect(clippy::cast_precision_loss, reason = "rounds are few")]
    let left_out = 1.0 - undisturbed.len() as f64 / (counted.len() - 2) as f64;
    let withheld = counted[counted.len() - 1].processors.withheld_since(counted[0].processors);
    let bars_met = ratio_p99 <= 2.5;
    Ok(ShipCostReport {
        ship,
        sync,
        round_trip,
        ratio_p99,
        ratio_p50,
        ratio_p99_of_all,
        left_out,
        withheld,
        direct,
        bars_met,
    })
}

fn tell(report: &ShipCostReport) {
    let ShipCostReport { ratio_p99, ratio_p50, ratio_p99_of_all, .. } = report;
    say(&format!("ship, three copies, journaled: {}", report.ship.line()));
    let direct = if report.direct { "O_DIRECT" } else { "buffered: the file system has no O_DIRECT" };
    say(&format!("write and fdatasync ({direct}): {}", report.sync.line()));
    say(&format!("QUIC round trip: {}", report.round_trip.line()));
    let (left_out, withheld) = (report.left_out * 100.0, report.withheld * 100.0);
    say(&format!(
        "the machine's host withheld {withheld:.2}% of the processors' time; {left_out:.1}% of the rounds are left out for \
         it, with them ratio p99 {ratio_p99_of_all:.2}"
    ));
    let verdict = if report.bars_met { "met" } else { "missed" };
    say(&format!("ratio p99 {ratio_p99:.2}, p50 {ratio_p50:.2}, bar {verdict}"));
}

/// Where the bucket lies: in memory where the system has a directory there, else among temporary files.
pub(super) fn bucket_place() -> anyhow::Result<TempDir> {
    TempDir::new_in(IN_MEMORY).or_else(|_| TempDir::new()).context("make a directory for the bucket")
}

/// One partition, to its owner.
pub(crate) struct Shipping {
    shard: ShardId,
    epoch: Epoch,
    stream: Stream,
    caller: Caller,
    inbound: Inbound,
    _session: Arc<dyn Session>,
}

impl Shipping {
    pub(crate) async fn open(stage: &mut Stage, shape: Shape) -> anyhow::Result<Self> {
        let statuses = stage.whole().await?;
        let key = "1/1/0".parse().context("a partition")?;
        let shards = u16::try_from(statuses[0].shards.len()).context("shards are counted in 16 bits")?;
        let stream = Stream::new(key, shape);
        let shard = stream.key.shard(shards);
        let owns = |status: &cache_node::http::StatusReport| status.shards[usize::from(shard.0)].role == "owner";
        let owner = stage.addresses()[statuses.iter().position(owns).context("the shard has an owner")?];
        let ring = Ring::new(Arc::new(stage.shipper()?.connector()), vec![owner], ProcessId(0xc057));
        let (session, welcome) = ring.connect(owner, None).await?;
        let (caller, inbound) = Caller::new(session.open(Lane::Shard(shard)).await?);
        let caller = caller.speaking(welcome.version);
        let question = Message::PositionsRequest(PositionsRequest { shard, partitions: vec![stream.key] });
        let answer = caller.call(question, tokio::time::Instant::now() + PATIENCE).await?;
        let Message::Positions(positions) = answer else { bail!("the owner does not say where it stands") };
        ensure!(positions.marks[0].next == Offset(0), "the ring is not a new one");
        Ok(Self { shard, epoch: positions.epoch, stream, caller, inbound, _session: session })
    }

    /// The partition.
    pub(crate) fn partition(&self) -> PartitionKey {
        self.stream.key
    }

    /// Where it ends.
    pub(super) fn end(&self) -> Offset {
        self.stream.next
    }

    /// Chunks are of another size from here on.
    pub(super) fn reshape(&mut self, shape: Shape) {
        self.stream.reshape(shape);
    }

    /// Ships the next chunk, and waits until it is acknowledged.
    pub(crate) async fn ship(&mut self) -> anyhow::Result<Duration> {
        let chunk = self.build();
        self.send(chunk).await
    }

    /// The next chunk.
    pub(super) fn build(&mut self) -> ShipChunk {
        self.stream.chunk()
    }

    /// Ships a chunk, and waits until it is acknowledged.
    pub(super) async fn send(&mut self, chunk: ShipChunk) -> anyhow::Result<Duration> {
        self.send_all(vec![chunk], 1).await
    }

    /// Ships chunks, so many of which may be under way, and waits until all are acknowledged.
    pub(super) async fn send_all(&mut self, chunks: Vec<ShipChunk>, under_way_max: usize) -> anyhow::Result<Duration> {
        let mut under_way = VecDeque::new();
        let began = Instant::now();
        for chunk in chunks {
            while under_way.len() >= under_way_max {
                self.acknowledged(&mut under_way).await?;
            }
            under_way.push_back(chunk.head.end);
            let ship = Ship { shard: self.shard, epoch: self.epoch, chunks: vec![chunk] };
            self.caller.send(Message::Ship(ship)).await?;
        }
        while !under_way.is_empty() {
            self.acknowledged(&mut under_way).await?;
        }
        Ok(began.elapsed())
    }

    /// Hears an answer, and forgets what it acknowledges.
    async fn acknowledged(&mut self, under_way: &mut VecDeque<Offset>) -> anyhow::Result<()> {
        let Message::ShipAck(ack) = self.inbound.next().await?.message else { return Ok(()) };
        ensure!(ack.refusal.is_none() && ack.problems.is_empty(), "the owner refuses: {ack:?}");
        for marks in &ack.marks {
            while under_way.front().is_some_and(|end| *end <= marks.committed) {
                under_way.pop_front();
            }
        }
        Ok(())
    }
}

/// Somebody who answers at once, over the same transport.
struct Echo {
    caller: Caller,
    _unasked: Inbound,
    _session: Arc<dyn Session>,
    answering: tokio::task::JoinHandle<()>,
}

impl Echo {
    async fn open(stage: &Stage) -> anyhow::Result<Self> {
        let endpoint = stage.node(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let mut listener = endpoint.listen()?;
        let address = endpoint.local_address()?;
        let answering = tokio::spawn(async move {
            let Ok(session) = listener.accept().await else { return };
            let Ok(lane) = session.accept().await else { return };
            let (caller, mut inbound) = Caller::new(lane);
            while let Ok(question) = inbound.next().await {
                let answer = CatalogAck { revision: 1, incarnation_next: Incarnation(0) };
                if caller.reply(question.correlation, Message::CatalogAck(answer)).await.is_err() {
                    return;
                }
            }
        });
        let session = stage.shipper()?.connector().connect(address).await?;
        let (caller, unasked) = Caller::new(session.open(Lane::Control).await?);
        Ok(Self { caller, _unasked: unasked, _session: session, answering })
    }

    async fn ask(&mut self) -> anyhow::Result<Duration> {
        let question = Message::CatalogPut(CatalogPut { revision: 1, catalog: Bytes::from(vec![7; BYTES]) });
        let began = Instant::now();
        self.caller.call(question, tokio::time::Instant::now() + PATIENCE).await?;
        Ok(began.elapsed())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.answering.abort();
    }
}
