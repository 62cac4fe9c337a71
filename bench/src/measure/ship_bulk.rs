//! `bench ship-bulk`: chunks of 1 MiB as fast as they are acknowledged, beside what bare quinn carries and what the disk of
//! the journals takes. The three take turns, so that they see the same machine.
//!
//! All copies of a chunk cross this machine's sockets and lie on its disk: what either can do is shared by them.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::figures::{say, write_json};
use super::load::Shape;
use super::place::PlaceArgs;
use super::ship_cost::{Shipping, bucket_place};
use super::stage::{Stage, directory_bucket};
use super::usage::Usage;
use crate::scenario::median;
use crate::scenario::raw::{RawPeer, RawStream};

const MIB: f64 = 1_048_576.0;
/// A chunk: its messages hold 1 MiB, and their heads come on top.
const CHUNK: Shape = Shape { messages: 16, payload_bytes: 64 << 10 };
/// What the disk gets with one sync.
const BLOCK_BYTES: usize = 4 << 20;
/// The file that is written round and round.
const FILE_BYTES: u64 = 256 << 20;
/// Shards move to where they belong twice this long after the ring is whole; then they stay.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two turns: what was shipped is uploaded meanwhile, and leaves the journal.
const REST: Duration = Duration::from_secs(2);
/// No turn takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_mins(1);
/// Share of what quinn and the disk can do.
const BAR: f64 = 0.85;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct ShipBulkArgs {
    /// Turns of each kind.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub turns: u32,
    /// Chunks of a turn.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=1024))]
    pub chunks: u32,
    /// How many of them may be under way.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub under_way: u32,
    /// Copies of each chunk, each on a node of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub copies: u8,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// MiB a second, medians of the turns.
#[derive(Debug, Serialize)]
struct ShipBulkReport {
    copies: u8,
    ship: f64,
    bare_quinn: f64,
    disk: f64,
    /// What was shipped over what the slower of the two can do for so many copies.
    share: f64,
    /// Processor time of nodes for each MiB shipped, milliseconds.
    nodes_ms_per_mib: f64,
    /// The same of who ships.
    shipper_ms_per_mib: f64,
    /// Whether the disk's cache was passed by.
    direct: bool,
    bars_met: bool,
}

/// One turn of each kind, MiB a second; and processor time for each MiB shipped, nodes' and shipper's.
type Turn = ([f64; 3], [f64; 2]);

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If the ring cannot be started, or does not acknowledge.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn ship_bulk(args: ShipBulkArgs) -> anyhow::Result<bool> {
    // Declared before the nodes, so that it outlives them.
    let bucket = bucket_place()?;
    let assignments = vec![
        directory_bucket(&bucket.path().join("ship-bulk"))?,
        "journal.size=2 GiB".to_owned(),
        format!("timing.settle={}ms", SETTLE.as_millis()),
        format!("cluster.copies={}", args.copies),
        format!("cluster.min_copies={}", args.copies.min(2)),
    ];
    let mut stage = args.place.start(args.copies.into(), assignments)?;
    stage.settled(SETTLE * 3).await?;
    let mut bench = Bench::open(&mut stage, &args).await?;
    // The first turn fills pools and windows, and does not count.
    bench.turn(&stage).await?;
    let mut turns = Vec::new();
    for _ in 0..args.turns {
        turns.push(bench.turn(&stage).await?);
    }
    let report = report(&turns, args.copies, bench.disk.is_direct());
    write_json(args.place.json.as_deref(), &report)?;
    tell(&report);
    Ok(report.bars_met)
}

/// Who ships, and what it is measured by.
struct Bench {
    shipping: Shipping,
    chunks: usize,
    under_way: usize,
    streams: Vec<RawStream>,
    _peer: RawPeer,
    disk: Disk,
}

impl Bench {
    async fn open(stage: &mut Stage, args: &ShipBulkArgs) -> anyhow::Result<Self> {
        let (chunks, under_way) = (usize::try_from(args.chunks)?, usize::try_from(args.under_way)?);
        let shipping = Shipping::open(stage, CHUNK).await?;
        let peer = RawPeer::start().await?;
        let first = peer.connect().await?;
        let mut streams = Vec::new();
        for _ in 1..under_way {
            streams.push(first.another().await?);
        }
        streams.push(first);
        let disk = Disk::open(&stage.directory(0).join("beside"), BLOCK_BYTES, FILE_BYTES)?;
        Ok(Self { shipping, chunks, under_way, streams, _peer: peer, disk })
    }

    /// One turn of each kind.
    async fn turn(&mut self, stage: &Stage) -> anyhow::Result<Turn> {
        let chunks: Vec<_> = (0..self.chunks).map(|_| self.shipping.build()).collect();
        let bytes: usize = chunks.iter().map(|chunk| chunk.body.len()).sum();
        let used = || anyhow::Ok([nodes_usage(stage)?, Usage::of(std::process::id())?.processor]);
        let before = used()?;
        let shipping = self.shipping.send_all(chunks, self.under_way);
        let took = timeout(PATIENCE, shipping).await.context("chunks are not acknowledged")??;
        let after = used()?;
        let ms = |at: usize| after[at].saturating_sub(before[at]).as_secs_f64() * 1e3 / mib(bytes);
        let ship = mib(bytes) / took.as_secs_f64();
        sleep(REST).await;
        let quinn = self.ask(bytes).await?;
        let disk = tokio::task::block_in_place(|| self.write(bytes))?;
        Ok(([ship, quinn, disk], [ms(0), ms(1)]))
    }

    /// As many bytes in as many answers of bare quinn.
    async fn ask(&mut self, bytes: usize) -> anyhow::Result<f64> {
        let answer = (bytes / self.chunks) as u64;
        let (began, rounds) = (Instant::now(), self.chunks / self.under_way);
        let asking = self.streams.iter_mut().map(async |stream| {
            for _ in 0..rounds {
                stream.ask(answer).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(asking).await?;
        Ok(mib(bytes / self.chunks * rounds * self.under_way) / began.elapsed().as_secs_f64())
    }

    /// As many bytes to the disk.
    fn write(&mut self, bytes: usize) -> anyhow::Result<f64> {
        let blocks = bytes / BLOCK_BYTES;
        ensure!(blocks > 0, "a turn is too short");
        let took = (0..blocks).map(|_| self.disk.write()).sum::<anyhow::Result<Duration>>()?;
        Ok(mib(blocks * BLOCK_BYTES) / took.as_secs_f64())
    }
}

/// Processor time of all nodes so far.
fn nodes_usage(stage: &Stage) -> anyhow::Result<Duration> {
    stage.processes().into_iter().map(|process| Ok(Usage::of(process)?.processor)).sum()
}

fn report(turns: &[Turn], copies: u8, direct: bool) -> ShipBulkReport {
    let speed = |at: usize| median(turns.iter().map(|(speeds, _)| speeds[at]));
    let cost = |at: usize| median(turns.iter().map(|(_, costs)| costs[at]));
    let (ship, bare_quinn, disk) = (speed(0), speed(1), speed(2));
    let share = ship * f64::from(copies) / bare_quinn.min(disk);
    let (nodes_ms_per_mib, shipper_ms_per_mib) = (cost(0), cost(1));
    let bars_met = share >= BAR;
    ShipBulkReport { copies, ship, bare_quinn, disk, share, nodes_ms_per_mib, shipper_ms_per_mib, direct, bars_met }
}

fn tell(report: &ShipBulkReport) {
    let ShipBulkReport { copies, ship, bare_quinn, disk, nodes_ms_per_mib, shipper_ms_per_mib, .. } = report;
    say(&format!("chunks of 1 MiB, copies {copies}: {ship:.0} MiB/s acknowledged"));
    say(&format!("processor for each MiB: nodes {nodes_ms_per_mib:.2} ms, shipper {shipper_ms_per_mib:.2} ms"));
    let direct = if report.direct { "O_DIRECT" } else { "buffered: the file system has no O_DIRECT" };
    say(&format!("bare quinn: {bare_quinn:.0} MiB/s; the disk, synced every 4 MiB ({direct}): {disk:.0} MiB/s"));
    let (share, verdict) = (report.share, if report.bars_met { "met" } else { "missed" });
    say(&format!("share {share:.2} of the slower for as many copies, bar {BAR} {verdict}"));
}

#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / MIB
}
