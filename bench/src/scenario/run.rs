//! One run, from the first process to the written result.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use kennel_client::{Client, ClientSettings};
use kennel_protocol::ids::{Incarnation, Offset, PartitionId, PartitionKey, StreamId, TopicId};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::environment::Environment;
use super::file::{ReadKind, ReadSection, Scenario, ShipSection};
use super::ledger::Ledger;
use super::outcome::{BucketUse, FORMAT, GroupOutcome, Outcome, Proof, RoundUsage};
use super::pace::Pace;
use super::producers::{Feed, Plan, Reach, by_shard, interval};
use super::readers::{Readers, read_back};
use super::record::{Recorder, Rounds};
use super::target::{Target, TargetArgs};
use super::{page, raw, table};
use crate::measure::figures::{say, write_json};
use crate::measure::load::{Shape, Stream};
use crate::measure::usage::{Processors, Usage};

/// How long the last acknowledgements may take, and data its way into the bucket.
const PATIENCE: Duration = Duration::from_mins(1);
/// Readers begin so long after the load, so that there is something new.
const HEAD_START: Duration = Duration::from_millis(500);
/// Bytes of a batch that are not payload: its header, and those of its messages.
const BATCH_OVERHEAD: u64 = 256;
const MESSAGE_OVERHEAD: u64 = 48;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// One of the scenarios that come with the program (`--list` names them), a TOML file like theirs, or a YAML workload of
    /// the `OpenMessaging` Benchmark.
    #[arg(required_unless_present = "list")]
    pub scenario: Option<String>,
    /// Name the scenarios that come with the program, and end.
    #[arg(long)]
    pub list: bool,
    /// Where it runs.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Other than the scenario's number of rounds.
    #[arg(long)]
    pub rounds: Option<u32>,
    /// Other than the scenario's length of a round, as "5s".
    #[arg(long, value_parser = humantime::parse_duration)]
    pub round: Option<Duration>,
    /// Write the result to this file, for programs and `bench compare`.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result to this file as one page, with charts.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Runs it, and says what was found. The last line printed is the verdict: `false` if anything was not as it was shipped.
///
/// # Errors
/// If the scenario cannot be read, the ring cannot be started or reached, or takes less than the scenario's rate.
///
/// # Cancel safety
/// Safe: what was started ends with it.
pub async fn run(args: RunArgs) -> anyhow::Result<bool> {
    if args.list {
        for name in Scenario::names() {
            say(&format!("{name:20} {}", Scenario::load(name)?.about));
        }
        return Ok(true);
    }
    let mut scenario = Scenario::load(args.scenario.as_deref().context("a scenario")?)?;
    scenario.time.rounds = args.rounds.unwrap_or(scenario.time.rounds);
    scenario.time.round = args.round.unwrap_or(scenario.time.round);
    let outcome = measure(&args.target, scenario).await?;
    write_json(args.json.as_deref(), &outcome)?;
    if let Some(path) = &args.html {
        std::fs::write(path, page::render(&outcome)?).with_context(|| format!("write {}", path.display()))?;
    }
    say(&table::render(&outcome));
    for problem in &outcome.proof.problems {
        say(problem);
    }
    say(&table::verdict(&outcome));
    Ok(outcome.proof.problems.is_empty())
}

/// What a scenario finds at a target.
pub(super) async fn measure(target: &TargetArgs, scenario: Scenario) -> anyhow::Result<Outcome> {
    if !scenario.needs_ring() {
        return raw::run(scenario).await;
    }
    let target = Target::open(target, &scenario).await?;
    Session::open(target, scenario).await?.run().await
}

/// A run under way.
struct Session {
    target: Target,
    scenario: Scenario,
    ship: ShipSection,
    ledger: Arc<Ledger>,
    reach: Reach,
    shards: u16,
    streams: Vec<(usize, Stream)>,
    _watching: JoinSet<()>,
}

impl Session {
    async fn open(target: Target, scenario: Scenario) -> anyhow::Result<Self> {
        let ship = scenario.ship.clone().context("checked: a ring has a load")?;
        let mut watching = JoinSet::new();
        let (reach, shards) = target.reach(&mut watching).await?;
        // A ring that runs already may know the last run's partitions: these are new ones.
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("after 1970")?;
        let incarnation = Incarnation(began.as_secs());
        let (stream, topic) = (StreamId(9_001), TopicId(1));
        let keys = (0..ship.partitions).map(|number| {
            let partition = PartitionId(number);
            PartitionKey { stream, topic, partition, incarnation }
        });
        let payload_bytes = usize::try_from(ship.message_bytes).context("checked to be small")?;
        let shape = Shape { messages: ship.messages_per_batch, payload_bytes };
        let streams = keys.clone().map(|key| Stream::new(key, shape)).enumerate().collect();
        let ledger = Arc::new(Ledger::new(keys, ship.messages_per_batch));
        Ok(Self { target, scenario, ship, ledger, reach, shards, streams, _watching: watching })
    }

    async fn run(mut self) -> anyhow::Result<Outcome> {
        let environment = Environment::here(self.target.describe());
        let before = self.ship_before().await?;
        let rounds = Rounds::from_now(self.scenario.time);
        let recorder = Arc::new(Recorder::new(rounds));
        let mut feeds = self.start_load(&recorder)?;
        sleep(HEAD_START).await;
        let (mut readers, recorders) = self.start_readers(rounds, &Arc::new(before)).await?;
        let watched = self.watch_rounds(rounds, &recorder).await?;
        let mut proof = Proof::default();
        while let Some(read) = readers.join_next().await {
            match read? {
                Ok(messages) => proof.messages_during += messages,
                Err(problem) => self.ledger.problem(format!("{problem:#}")),
            }
        }
        while let Some(fed) = feeds.join_next().await {
            fed??;
        }
        proof.messages_after = self.prove().await?;
        proof.problems = self.ledger.problems();
        let mut groups = vec![self.ship_outcome(&recorder)];
        groups.extend(self.scenario.read.iter().zip(&recorders).map(|(read, recorder)| read_outcome(read, recorder)));
        let Watched { usage, bucket, faults } = watched;
        self.target.close().await;
        Ok(Outcome { format: FORMAT, scenario: self.scenario, environment, groups, usage, bucket, faults, proof })
    }

    /// Ships what is to be there before, and at least a batch of each partition where only some go on. Where each ends.
    async fn ship_before(&self) -> anyhow::Result<Vec<Offset>> {
        let payload = self.batch_payload_bytes();
        let of_each = match self.scenario.before {
            Some(before) => (before.bytes.as_u64() / payload / u64::from(self.ship.partitions)).max(1),
            None => u64::from(self.ship.active > 0),
        };
        if of_each > 0 {
            let spinner = progress("ships what is there before, and waits for the bucket");
            let plan = || Ok(Plan::Unpaced { batches_of_each: of_each, end: None });
            let mut feeds = self.start(self.streams.clone(), None, |_| plan())?;
            while let Some(fed) = feeds.join_next().await {
                fed??;
            }
            if self.scenario.before.is_some() {
                self.wait_until_stored(Offset(of_each * u64::from(self.ship.messages_per_batch))).await?;
            }
            spinner.finish_and_clear();
        }
        Ok((0..self.ledger.partitions.len()).map(|partition| self.ledger.committed(partition)).collect())
    }

    async fn wait_until_stored(&self, end: Offset) -> anyhow::Result<()> {
        let client = Client::connect(ClientSettings::new(self.target.addresses()), &self.target.reader()?).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reports = client.partitions().await?;
            let stored: BTreeSet<_> =
                reports.iter().filter(|report| report.stored >= end).map(|report| report.partition).collect();
            let missing = self.ledger.partitions.iter().filter(|line| !stored.contains(&line.key)).count();
            if missing == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{missing} partitions are not in the bucket after a minute");
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn batch_payload_bytes(&self) -> u64 {
        u64::from(self.ship.messages_per_batch) * u64::from(self.ship.message_bytes)
    }

    fn active(&self) -> usize {
        let active = if self.ship.active == 0 { self.ship.partitions } else { self.ship.active };
        usize::try_from(active).expect("partitions fit memory")
    }

    fn start_load(&self, recorder: &Arc<Recorder>) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        #[expect(clippy::cast_precision_loss, reason = "rates and counts are far below 2^53")]
        let (rate, batch, active) =
            (self.ship.rate.as_u64() as f64, self.batch_payload_bytes() as f64, self.active() as f64);
        let end = recorder.rounds().end();
        let start = Instant::now();
        let plan = |streams: usize| {
            if self.ship.rate.as_u64() == 0 {
                return Ok(Plan::Unpaced { batches_of_each: u64::MAX, end: Some(end) });
            }
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            let share = streams as f64 / active;
            Ok(Plan::Paced(Pace::start(start, interval(rate, batch, share)?, end)))
        };
        self.start(self.streams[..self.active()].to_vec(), Some(recorder), plan)
    }

    fn start(
        &self,
        streams: Vec<(usize, Stream)>,
        recorder: Option<&Arc<Recorder>>,
        plan: impl Fn(usize) -> anyhow::Result<Plan>,
    ) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        let mut feeds = JoinSet::new();
        for (shard, streams) in by_shard(streams, self.shards) {
            let plan = plan(streams.len())?;
            let shape = (self.ship.messages_per_batch, self.ship.message_bytes);
            let feed = Feed::new(shard, streams, Arc::clone(&self.ledger), recorder.cloned(), shape);
            feeds.spawn(feed.run(self.reach.clone(), plan, PATIENCE));
        }
        Ok(feeds)
    }

    async fn start_readers(
        &self,
        rounds: Rounds,
        before: &Arc<Vec<Offset>>,
    ) -> anyhow::Result<(JoinSet<anyhow::Result<u64>>, Vec<Arc<Recorder>>)> {
        let (addresses, identity) = (self.target.addresses(), self.target.reader()?);
        let (mut all, mut recorders) = (JoinSet::new(), Vec::new());
        let messages_per_batch = u64::from(self.ship.messages_per_batch);
        for section in &self.scenario.read {
            let recorder = Arc::new(Recorder::new(rounds));
            recorders.push(Arc::clone(&recorder));
            let readers = Readers {
                section: section.clone(),
                fabric: self.scenario.ring.fabric.clone(),
                ledger: Arc::clone(&self.ledger),
                recorder,
                before: Arc::clone(before),
                messages_per_batch,
                batch_bytes: self.batch_payload_bytes() + BATCH_OVERHEAD + MESSAGE_OVERHEAD * messages_per_batch,
                active: self.active(),
            };
            let mut tasks = readers.start(&addresses, &identity).await?;
            all.spawn(async move {
                let mut messages = 0;
                while let Some(read) = tasks.join_next().await {
                    messages += read??;
                }
                Ok(messages)
            });
        }
        Ok((all, recorders))
    }

    /// Lives through the rounds: shows how they go, looks what they take, and makes go wrong what is to.
    async fn watch_rounds(&mut self, rounds: Rounds, recorder: &Arc<Recorder>) -> anyhow::Result<Watched> {
        sleep_until(rounds.start.into()).await;
        let bar = progress("");
        let mut watched = Watched::default();
        let bucket_before = self.target.bucket().await?;
        for round in 0..rounds.time.rounds {
            let (nodes_before, own_before) = (self.target.usage()?, Usage::of(std::process::id())?);
            let processors = Processors::now()?;
            let shown = recorder.outcome(String::new(), "", 0.0, true);
            let last = round.checked_sub(1).and_then(|last| shown.rounds.get(usize::try_from(last).ok()?));
            let told = last.map_or_else(String::new, |last| {
                format!("; the last: {:.0} messages/s, p99 {:.2} ms", last.messages_per_second, last.p99_us / 1e3)
            });
            bar.set_message(format!("round {} of {}{told}", round + 1, rounds.time.rounds));
            if self.scenario.fault.is_some() {
                watched.faults.extend(self.kill_an_owner(rounds, round).await?);
            }
            sleep_until(rounds.end_of(round).into()).await;
            let (nodes, own) = (self.target.usage()?, Usage::of(std::process::id())?);
            let cores = |used: Duration| used.as_secs_f64() / rounds.time.round.as_secs_f64();
            watched.usage.push(RoundUsage {
                nodes_cores: cores(nodes.since(&nodes_before)),
                bench_cores: cores(own.since(own_before)),
                nodes_resident_bytes: nodes.resident_bytes(),
                bench_resident_bytes: own.resident_bytes,
                withheld: Processors::now()?.withheld_since(processors),
            });
        }
        if watched.faults.is_empty() {
            // A node that was killed took its counts with it.
            watched.bucket = since(self.target.bucket().await?, &bucket_before, rounds);
        }
        bar.finish_and_clear();
        Ok(watched)
    }

    /// Kills the first partition's owner a quarter into the round, and starts it again half-way.
    async fn kill_an_owner(&mut self, rounds: Rounds, round: u32) -> anyhow::Result<Vec<(f64, String)>> {
        let began = rounds.start + rounds.time.round * round;
        let shard = self.ledger.partitions[0].key.shard(self.shards);
        sleep_until((began + rounds.time.round / 4).into()).await;
        let owner = self.reach.owners.borrow().get(&shard).map(|(_, address)| *address);
        let addresses = self.target.addresses();
        let at = addresses.iter().position(|address| Some(*address) == owner).context("the shard has an owner")?;
        let stage = self.target.stage()?;
        let killed = stage.kill(at).await?;
        sleep_until((began + rounds.time.round / 2).into()).await;
        stage.start_node(at)?;
        let after = |moment: Instant| moment.duration_since(rounds.start).as_secs_f64();
        Ok(vec![
            (after(killed), format!("node {} is killed", at + 1)),
            (after(Instant::now()), format!("node {} is started again", at + 1)),
        ])
    }

    /// Reads back everything that was acknowledged.
    async fn prove(&self) -> anyhow::Result<u64> {
        let settings = ClientSettings { local: false, ..ClientSettings::new(self.target.addresses()) };
        let client = Client::connect(settings, &self.target.reader()?).await?;
        let bar = ProgressBar::new(self.ledger.partitions.len() as u64);
        bar.set_style(ProgressStyle::with_template("{bar:32} {pos}/{len} partitions read back and compared")?);
        let read = read_back(&client, &self.ledger, &bar).await;
        bar.finish_and_clear();
        match read {
            Ok(messages) => Ok(messages),
            Err(problem) => {
                self.ledger.problem(format!("read back: {problem:#}"));
                Ok(0)
            }
        }
    }

    fn ship_outcome(&self, recorder: &Recorder) -> GroupOutcome {
        #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
        let offered = self.ship.rate.as_u64() as f64;
        let timed = "from when a batch was due until it was acknowledged";
        recorder.outcome("ship".to_owned(), timed, offered, offered > 0.0)
    }
}

fn read_outcome(read: &ReadSection, recorder: &Recorder) -> GroupOutcome {
    let (word, timed) = match read.kind {
        ReadKind::Hot => ("read hot", "from when a read was due until its answer was there"),
        ReadKind::Follow => ("follow", "from when a batch was due at the source until a follower had it"),
        ReadKind::Cold => ("read cold", "from when a read was due until its answer was there"),
        ReadKind::Scan => ("scan", "of one answer"),
        ReadKind::RawQuic => ("raw quic", "of one round trip"),
    };
    let way = match read {
        ReadSection { shared_memory: true, .. } => ", shared memory",
        ReadSection { fabric: true, .. } => ", fabric",
        _ => "",
    };
    recorder.outcome(format!("{word}{way}"), timed, 0.0, read.rate > 0.0 || read.kind == ReadKind::Follow)
}

/// What was seen from outside.
#[derive(Debug, Default)]
struct Watched {
    usage: Vec<RoundUsage>,
    bucket: BucketUse,
    faults: Vec<(f64, String)>,
}

fn since(mut now: BucketUse, before: &BucketUse, rounds: Rounds) -> BucketUse {
    for (kind, count) in &mut now.requests {
        *count = count.saturating_sub(before.requests.get(kind).copied().unwrap_or_default());
    }
    now.requests.retain(|_, count| *count > 0);
    now.cost_usd = (now.cost_usd - before.cost_usd).max(0.0);
    now.seconds = (rounds.time.round * rounds.time.rounds).as_secs_f64();
    now
}

fn progress(message: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(120));
    bar.set_message(message.to_owned());
    bar
}
