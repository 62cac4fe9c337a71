//! `bench outage`: the bucket answers nothing for a while, under load. Shippers are not refused while the journals have
//! room, hot reads do not notice, and everything drains afterwards (F16).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kennel_client::{Client, ClientSettings};
use kennel_protocol::ids::ShardId;
use kennel_s3_server::{Fault, FaultRule, RunningServer, Server, ServerSettings};
use serde::Serialize;
use tokio::time::sleep;

use super::figures::{Figures, say, write_json};
use super::hot::HotReader;
use super::load::{Load, LoadSettings, Shape, TICK};
use super::place::PlaceArgs;
use super::stage::Stage;

/// How much more than the outage brings a journal has room for: a quick disk's groups are small, and padded to half as much
/// again, and shippers are told to wait when 85% is used.
const JOURNAL_SPARE: f64 = 1.9;
/// What a node needs on the disk beside its journal: the cache of its defaults, and some.
const BESIDE_JOURNAL_MEBIBYTES: u64 = 1_536;
const NODES: usize = 3;
/// Hot reads are timed for as long as the outage lasts before it, and no longer than this: what is shipped meanwhile
/// stays in the memory of the bucket.
const BEFORE_MAX: Duration = Duration::from_mins(1);
/// Until the load is at its pace.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long what was held back may take to get into the bucket.
const DRAIN_PATIENCE: Duration = Duration::from_mins(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);
/// Messages of 1,000 bytes in a chunk.
const MESSAGES: u32 = 8;
const PAYLOAD_BYTES: u32 = 1_000;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct OutageArgs {
    /// How long the bucket is away. Hot reads are timed for as long before, a minute at most.
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Payload shipped, MB a second.
    #[arg(long, default_value_t = 20.0)]
    pub rate: f64,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

#[derive(Debug, Serialize)]
struct OutageReport {
    seconds: u64,
    /// What was acknowledged during the outage, MB of payload a second.
    rate_megabytes: f64,
    refused_ships: u64,
    hot_before: Figures,
    hot_during: Figures,
    /// The longest time without an answer to a hot read during the outage.
    read_gap_ms: f64,
    drained_after_seconds: f64,
    verified_messages: u64,
    bars_met: bool,
}

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If the ring cannot be started or does not drain, or if a message is lost or wrong.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn outage(args: OutageArgs) -> anyhow::Result<bool> {
    ensure!(args.rate > 0.0 && args.rate <= 10_000.0, "--rate is MB a second, above 0");
    // Everything that is shipped in the whole run stays in this memory.
    let bytes_max = 64 << 30;
    let bucket = Server::start(ServerSettings { bytes_max, ..ServerSettings::default() }).await?;
    ensure_room(&args, &args.place.directory()?)?;
    let mut stage = args.place.start(NODES, assignments(&args, &bucket))?;
    let status = stage.whole().await?;
    let shards = u16::try_from(status[0].shards.len()).context("shards are counted in 16 bits")?;
    let settings = load_settings(args.rate, shards);
    let load = Arc::new(Load::start(&stage, settings)?);
    sleep(WARM_UP).await;
    let partition = load.streams(ShardId(0))[0].key;
    let owner = status.iter().position(|status| status.shards[0].role == "owner").context("shard 0 has an owner")?;
    let follower = stage.addresses()[(owner + 1) % status.len()];
    let reader = HotReader::start(follower, &stage.reader()?, partition, Arc::clone(&load)).await?;
    let outage = Duration::from_secs(args.seconds);
    reader.take();
    sleep(outage.min(BEFORE_MAX)).await;
    let before = reader.take();
    let (refused, acknowledged) = (load.refusals(), acknowledged(&load, shards));
    bucket.faults.add(FaultRule::every_request(Fault::Reset));
    say(&format!("the bucket is away for {outage:?}"));
    sleep(outage).await;
    let during = reader.take();
    let refused_ships = load.refusals() - refused;
    let shipped = (self::acknowledged(&load, shards) - acknowledged) * settings.shape.payload_bytes as u64;
    // What is held back fits the memory of the bucket; twice as much would not.
    load.rest();
    bucket.faults.clear();
    let (hot_before, hot_during) = (Figures::of(before.latencies), Figures::of(during.latencies));
    say("the bucket is back");
    say(&format!("hot reads before: {}", hot_before.line()));
    say(&format!("hot reads during: {}, longest gap {:.0?}", hot_during.line(), during.longest_gap));
    let drained = drain(&mut stage, &load, shards).await?;
    drop(reader);
    let client = Client::connect(ClientSettings::new(stage.addresses()), &stage.reader()?).await?;
    let verified_messages = load.verify(&client).await?;
    let report = OutageReport {
        seconds: args.seconds,
        rate_megabytes: megabytes(shipped) / outage.as_secs_f64(),
        refused_ships,
        bars_met: refused_ships == 0 && hot_during.p99_ms <= hot_before.p99_ms * 1.1,
        hot_before,
        hot_during,
        read_gap_ms: during.longest_gap.as_secs_f64() * 1e3,
        drained_after_seconds: drained.as_secs_f64(),
        verified_messages,
    };
    write_json(args.place.json.as_deref(), &report)?;
    tell(&report);
    Ok(report.bars_met)
}

fn tell(report: &OutageReport) {
    say(&format!("acknowledged without a bucket: {:.1} MB/s, {} refused", report.rate_megabytes, report.refused_ships));
    say(&format!(
        "drained after {:.1} s, {} messages read back",
        report.drained_after_seconds, report.verified_messages
    ));
    say(if report.bars_met { "bars met" } else { "bars missed" });
}

/// Journals for rather more than what the outage brings, and a bucket on the loopback.
fn assignments(args: &OutageArgs, bucket: &RunningServer) -> Vec<String> {
    let fixed = [
        "bucket.url=s3://kennel/ring",
        "bucket.region=us-east-1",
        "bucket.access_key_id=kennel",
        "bucket.secret_access_key=kennel-secret",
        "bucket.allow_http=true",
    ];
    let mut assignments: Vec<_> = fixed.map(str::to_owned).into();
    assignments.push(format!("bucket.endpoint={}", bucket.endpoint()));
    let journal = journal_mebibytes(args);
    assignments.push(format!("journal.size={journal} MiB"));
    assignments.push(format!("limits.unstored_bytes_max={journal} MiB"));
    assignments
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "both are bounded and above zero"
)]
fn journal_mebibytes(args: &OutageArgs) -> u64 {
    1_024 + (args.rate * JOURNAL_SPARE * (args.seconds + 30) as f64) as u64
}

/// A disk that fills up half-way takes everything else on it along.
fn ensure_room(args: &OutageArgs, directory: &Path) -> anyhow::Result<()> {
    let needed = NODES as u64 * (journal_mebibytes(args) + BESIDE_JOURNAL_MEBIBYTES);
    let parent = directory.parent().context("a directory is in another")?;
    let disk = rustix::fs::statvfs(parent).with_context(|| format!("look at the disk of {}", parent.display()))?;
    let free = (disk.f_bavail * disk.f_frsize) >> 20;
    ensure!(free > needed, "the nodes' journals take {needed} MiB, {free} MiB are free at {}", parent.display());
    Ok(())
}

/// One partition a shard, so many chunks in each tick that the rate comes out.
fn load_settings(rate: f64, shards: u16) -> LoadSettings {
    let chunk = f64::from(MESSAGES) * f64::from(PAYLOAD_BYTES);
    let chunks = rate * 1e6 * TICK.as_secs_f64() / chunk / f64::from(shards);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rate is bounded")]
    let chunks_a_tick = chunks.ceil().max(1.0) as u32;
    // Rather smaller messages than another rate.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the constant")]
    let payload_bytes = (f64::from(PAYLOAD_BYTES) * chunks / f64::from(chunks_a_tick)).max(16.0) as usize;
    LoadSettings { shards, partitions_of_a_shard: 1, shape: Shape { messages: MESSAGES, payload_bytes }, chunks_a_tick }
}

fn acknowledged(load: &Load, shards: u16) -> u64 {
    (0..shards).flat_map(|shard| load.streams(ShardId(shard))).map(|stream| load.committed(&stream.key).0).sum()
}

/// Waits until the bucket has everything that was acknowledged by now.
async fn drain(stage: &mut Stage, load: &Load, shards: u16) -> anyhow::Result<Duration> {
    let streams = (0..shards).flat_map(|shard| load.streams(ShardId(shard)));
    let ends: Vec<_> = streams.map(|stream| (stream.key, load.committed(&stream.key))).collect();
    let client = Client::connect(ClientSettings::new(stage.addresses()), &stage.reader()?).await?;
    let began = Instant::now();
    loop {
        stage.check()?;
        let reports = client.partitions().await?;
        let stored = |key| {
            reports.iter().find(|report| report.partition == key).map_or_else(Default::default, |report| report.stored)
        };
        if ends.iter().all(|(key, end)| stored(*key) >= *end) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < DRAIN_PATIENCE, "the bucket does not get what was held back");
        sleep(LOOK).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
