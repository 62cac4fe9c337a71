//! `bench failover`: an owner is killed or paused again and again under load; how long until its shards acknowledge again,
//! and whether readers elsewhere notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cache_node::http::StatusReport;
use kennel_client::{Client, ClientSettings};
use kennel_protocol::ids::{Epoch, ShardId};
use serde::Serialize;
use tokio::time::sleep;

use super::figures::{Figures, say, write_json};
use super::hot::{HotReader, HotReads};
use super::load::{Load, LoadSettings, Shape};
use super::place::PlaceArgs;
use super::stage::{Signal, Stage, directory_bucket};

/// Until a round begins: readers and load are at their pace.
const BEFORE: Duration = Duration::from_millis(500);
/// How long a reader is watched after the last shard is back.
const AFTER: Duration = Duration::from_millis(500);
/// A shard that does not acknowledge again within this never will.
const PATIENCE: Duration = Duration::from_mins(1);
/// A longer gap is told with what the reader saw in it.
const GAP_WORTH_TELLING: Duration = Duration::from_millis(50);
/// Between two looks for the first acknowledgement; the time itself is taken where it arrives.
const LOOK: Duration = Duration::from_millis(5);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct FailoverArgs {
    /// What happens to the owner.
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// How often.
    #[arg(long, default_value_t = 100)]
    pub rounds: u32,
    /// How long an owner is paused at least, seconds.
    #[arg(long, default_value_t = 4)]
    pub pause_seconds: u64,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What happens to an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGSTOP, and SIGCONT when another owns its shards.
    Stop,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct FailoverReport {
    kind: String,
    rounds: u32,
    /// From the signal to the first acknowledgement, for every shard that the node had owned.
    first_ack: Figures,
    /// The longest time without an answer to a hot read, for every round.
    read_gap: Figures,
    /// Answers of the same reads.
    hot_reads: Figures,
    /// What woken owners acknowledged after their time.
    late_acknowledgements: Vec<String>,
    /// Chunks that were found to differ.
    problems: u64,
    /// Messages that were acknowledged, read back and compared.
    verified_messages: u64,
    bars_met: bool,
}

/// Everything of a run.
struct Run {
    stage: Stage,
    load: Arc<Load>,
    first_acks: Vec<Duration>,
    gaps: Vec<Duration>,
    hot: Vec<Duration>,
}

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If the ring cannot be started or does not heal, or if a message is lost or wrong.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn failover(args: FailoverArgs) -> anyhow::Result<bool> {
    let assignments = vec![directory_bucket(&args.place.directory)?, "journal.size=512 MiB".to_owned()];
    let mut stage = args.place.start(3, assignments)?;
    let status = stage.whole().await?;
    let shards = u16::try_from(status[0].shards.len()).context("shards are counted in 16 bits")?;
    let shape = Shape { messages: 8, payload_bytes: 1_000 };
    let load = Load::start(&stage, LoadSettings { shards, partitions_of_a_shard: 2, shape, chunks_a_tick: 1 })?;
    let mut run = Run { stage, load: Arc::new(load), first_acks: Vec::new(), gaps: Vec::new(), hot: Vec::new() };
    for round in 1..=args.rounds {
        let (slowest, reads) = run.round(args.kind, Duration::from_secs(args.pause_seconds)).await?;
        let gap = reads.longest_gap;
        say(&format!("round {round}: first acknowledgement after {slowest:.0?} at the latest, read gap {gap:.0?}"));
        if gap > GAP_WORTH_TELLING {
            say(&format!("    the gap ended with {}", reads.gap_story));
        }
    }
    let report = run.finish(&args).await?;
    write_json(args.place.json.as_deref(), &report)?;
    say(&format!("first acknowledgement: {}", report.first_ack.line()));
    say(&format!("longest gap of hot reads: {}", report.read_gap.line()));
    say(&format!("hot reads: {}", report.hot_reads.line()));
    for late in &report.late_acknowledgements {
        say(late);
    }
    let verdict = if report.bars_met { "met" } else { "missed" };
    let messages = report.verified_messages;
    say(&format!("{} rounds, {messages} messages read back, bars {verdict}", report.rounds));
    Ok(report.bars_met)
}

impl Run {
    /// Hits whoever owns most; the slowest of its shards, and the longest gap that a reader elsewhere saw.
    async fn round(&mut self, kind: Kind, pause: Duration) -> anyhow::Result<(Duration, HotReads)> {
        let statuses = self.stage.whole().await?;
        let owned = |status: &StatusReport| -> BTreeMap<ShardId, Epoch> {
            let own = status.shards.iter().filter(|shard| shard.role == "owner");
            own.map(|shard| (ShardId(shard.shard), Epoch(shard.epoch))).collect()
        };
        let victim = (0..statuses.len()).max_by_key(|at| owned(&statuses[*at]).len()).context("there are nodes")?;
        let lost = owned(&statuses[victim]);
        let first = *lost.keys().next().context("somebody owns something")?;
        let partition = self.load.streams(first)[0].key;
        let follower = self.stage.addresses()[(victim + 1) % statuses.len()];
        self.flowing(&lost).await?;
        let reader = HotReader::start(follower, &self.stage.reader()?, partition, Arc::clone(&self.load)).await?;
        sleep(BEFORE).await;
        reader.take();
        let told = match kind {
            Kind::Kill => self.stage.kill(victim).await?,
            Kind::Stop => self.stage.signal(victim, Signal::Stop).await?,
        };
        let acks = self.first_acks(&lost, told).await?;
        let slowest = acks.iter().max().copied().unwrap_or_default();
        self.first_acks.extend(acks);
        sleep(AFTER).await;
        let reads = reader.take();
        self.gaps.push(reads.longest_gap);
        self.hot.extend_from_slice(&reads.latencies);
        match kind {
            Kind::Kill => self.stage.start_node(victim)?,
            Kind::Stop => {
                sleep(pause.saturating_sub(told.elapsed())).await;
                self.stage.signal(victim, Signal::Continue).await?;
                // What it still had to say is said now.
                sleep(BEFORE).await;
            }
        }
        Ok((slowest, reads))
    }

    /// Waits until every shard of these acknowledges in the epoch that the nodes name: a round that begins earlier would
    /// measure the one before.
    async fn flowing(&self, shards: &BTreeMap<ShardId, Epoch>) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while shards.iter().any(|(shard, epoch)| self.load.epoch(*shard) < *epoch) {
            ensure!(Instant::now() < deadline, "the load does not flow");
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn first_acks(&self, lost: &BTreeMap<ShardId, Epoch>, told: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut acks = Vec::new();
        for (shard, epoch) in lost {
            let ack = loop {
                if let Some(at) = self.load.first_above(*shard, *epoch) {
                    break at;
                }
                ensure!(told.elapsed() < PATIENCE, "shard {shard} acknowledges nothing after epoch {epoch}");
                sleep(LOOK).await;
            };
            acks.push(ack.saturating_duration_since(told));
        }
        Ok(acks)
    }

    /// The oracle: everything that was acknowledged is read back.
    async fn finish(mut self, args: &FailoverArgs) -> anyhow::Result<FailoverReport> {
        self.stage.whole().await?;
        let settings = ClientSettings::new(self.stage.addresses());
        let client = Client::connect(settings, &self.stage.reader()?).await?;
        let verified_messages = self.load.verify(&client).await?;
        let (first_ack, read_gap) = (Figures::of(self.first_acks), Figures::of(self.gaps));
        let (late, problems) = (self.load.late(), self.load.problems());
        let quick = first_ack.p50_ms <= 1_000.0 && first_ack.p99_ms <= 3_000.0 && read_gap.max_ms < 200.0;
        Ok(FailoverReport {
            kind: format!("{:?}", args.kind).to_lowercase(),
            rounds: args.rounds,
            bars_met: quick && late.is_empty() && problems == 0,
            first_ack,
            read_gap,
            hot_reads: Figures::of(self.hot),
            late_acknowledgements: late,
            problems,
            verified_messages,
        })
    }
}
