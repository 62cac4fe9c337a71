//! `bench same-host`: a reader on the node's own host, out of shared memory and over QUIC, in turns on the same machine.
//!
//! One node, one partition, one chunk at a time. Followers are timed from the moment at which the node wrote the record:
//! the memory says when that was, by the clock that all processes of the host share.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kennel_client::{
    Client, ClientSettings, FetchFrom, FetchRequest, Follower, Offset, PartitionKey, Running, Runtime,
};
use kennel_transport::tls::TlsIdentity;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bulk::{Bulk, UNDER_WAY};
use super::figures::{Figures, say, write_json};
use super::load::Shape;
use super::place::PlaceArgs;
use super::ship_cost::Shipping;
use super::stage::{Stage, directory_bucket};
use super::usage::Usage;
use crate::scenario::raw::{RawPeer, RawStream};

/// A chunk of some 63 KiB: one record.
const CHUNK: Shape = Shape { messages: 60, payload_bytes: 1_000 };
/// What a follower is woken for first: one message.
const MESSAGE: Shape = Shape { messages: 1, payload_bytes: 1_000 };
/// Chunks that fetches are made from.
const CHUNKS: u64 = 64;
const KIB_64: u32 = 64 << 10;
const MIB: u32 = 1 << 20;
/// Between two chunks for a follower: it is asleep by then.
const PACE: Duration = Duration::from_millis(3);
/// How long idleness is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// Nothing of this takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct SameHostArgs {
    /// How many of each.
    #[arg(long, default_value_t = 2_000)]
    pub rounds: u32,
    /// Followers of one partition in one process.
    #[arg(long, default_value_t = 1_000)]
    pub followers: u32,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Times, in microseconds.
#[derive(Debug, Clone, Default, Serialize)]
struct Micros {
    count: u64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

#[derive(Debug, Serialize)]
struct SameHostReport {
    shared_64_kib: Micros,
    quic_64_kib: Micros,
    copy_64_kib: Micros,
    bare_quinn_64_kib: Micros,
    shared_1_mib: Micros,
    quic_1_mib: Micros,
    copy_1_mib: Micros,
    bare_quinn_1_mib: Micros,
    /// The same with several under way.
    bulk_mib_per_second: Bulk,
    /// From the writing of a message of 1 KB into the shared memory to the follower's answer.
    wake_shared: Micros,
    /// The same of 64 KiB, which are written, copied and verified meanwhile.
    wake_shared_64_kib: Micros,
    /// Of a message of 1 KB, to a follower over QUIC.
    wake_quic: Micros,
    /// A sleeping thread that is woken over a Unix socket and does nothing: what the system itself takes. It puts both on one
    /// processor, as who wakes sleeps right after.
    wake_bare: Micros,
    /// The same where both stay on processors of their own, as node and follower mostly do.
    wake_bare_apart: Micros,
    /// From the record's writing until every follower has it.
    wake_many: Micros,
    /// Bytes that the node answered over the network while so many followed.
    many_bytes_over_network: u64,
    many_bytes_written: u64,
    idle_node_percent: f64,
    idle_reader_percent: f64,
    bars_met: bool,
}

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If the node cannot be started, shares no memory, or an answer does not come.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn same_host(args: SameHostArgs) -> anyhow::Result<bool> {
    let socket = args.place.directory()?.join("node-1").join("local.sock");
    let own = ["journal.size=512 MiB", "cluster.copies=1", "cluster.min_copies=1", "cluster.durability=memory"];
    let mut assignments: Vec<String> = own.map(str::to_owned).to_vec();
    assignments.extend([directory_bucket(&args.place.directory)?, format!("listen.local={}", socket.display())]);
    let mut stage = args.place.start(1, assignments)?;
    stage.whole().await?;
    let mut bench = Bench::open(&mut stage).await?;
    for _ in 0..CHUNKS {
        bench.shipping.ship().await?;
    }
    let small = bench.fetches(KIB_64, 1, args.rounds).await?;
    let large = bench.fetches(MIB, 16, args.rounds / 4).await?;
    let bulk = bench.bulk().await?;
    let wake_large = bench.wakes(&stage, true, args.rounds).await?;
    bench.shipping.reshape(MESSAGE);
    let wake_shared = bench.wakes(&stage, true, args.rounds).await?;
    let wake_quic = bench.wakes(&stage, false, args.rounds).await?;
    bench.shipping.reshape(CHUNK);
    let wake_bare = tokio::task::block_in_place(|| bare_wakes(args.rounds, false))?;
    let wake_bare_apart = tokio::task::block_in_place(|| bare_wakes(args.rounds, true))?;
    let idle = bench.idle(&stage).await?;
    let many = bench.many(&stage, args.followers, args.rounds / 20).await?;
    let wakes = [wake_shared, wake_large, wake_quic, wake_bare, wake_bare_apart];
    let report = report(small, large, bulk, wakes, many, idle);
    write_json(args.place.json.as_deref(), &report)?;
    tell(&report, args.followers);
    Ok(report.bars_met)
}

/// Two readers and a shipper of one node.
struct Bench {
    shipping: Shipping,
    partition: PartitionKey,
    shared: Client,
    quic: Client,
    bare: RawStream,
    _peer: RawPeer,
}

/// Out of memory, over QUIC, a copy of as many bytes, and as many over bare quinn.
type Fetches = [Micros; 4];

impl Bench {
    async fn open(stage: &mut Stage) -> anyhow::Result<Self> {
        let identity = stage.reader()?;
        let settings = ClientSettings::new(stage.addresses());
        let shared = Client::connect(settings.clone(), &identity).await?;
        let quic = Client::connect(ClientSettings { local: false, ..settings }, &identity).await?;
        let attached = async {
            while !shared.shares_memory() {
                sleep(PACE).await;
            }
        };
        timeout(PATIENCE, attached).await.context("the node shares no memory")?;
        let shipping = Shipping::open(stage, CHUNK).await?;
        let partition = shipping.partition();
        let peer = RawPeer::start().await?;
        let bare = peer.connect().await?;
        Ok(Self { shipping, partition, shared, quic, bare, _peer: peer })
    }

    /// Fetches of so many bytes, which lie in so many records, in turns.
    async fn fetches(&mut self, bytes_max: u32, records: u64, rounds: u32) -> anyhow::Result<Fetches> {
        let (mut shared, mut quic, mut copies, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let chunk_bytes = usize::try_from(KIB_64).context("small")?;
        let source = vec![7_u8; usize::try_from(CHUNKS).context("small")? * chunk_bytes];
        for round in 0..u64::from(rounds) {
            let chunk = round * 7 % (CHUNKS - records);
            let offset = Offset(chunk * u64::from(CHUNK.messages));
            let request = FetchRequest { bytes_max, ..FetchRequest::at(self.partition, offset) };
            let began = Instant::now();
            let fetched = self.shared.fetch(request).await?;
            shared.push(began.elapsed());
            ensure!(fetched.from_shared_memory, "chunk {chunk} is not in the memory");
            let began = Instant::now();
            let other = self.quic.fetch(request).await?;
            quic.push(began.elapsed());
            ensure!(fetched.batch_bytes() == other.batch_bytes(), "chunk {chunk} differs");
            let began = Instant::now();
            self.bare.ask(other.batch_bytes().len() as u64).await?;
            bare.push(began.elapsed());
            let at = usize::try_from(chunk).context("small")? * chunk_bytes;
            let began = Instant::now();
            let copy = source[at..at + fetched.batch_bytes().len()].to_vec();
            copies.push(began.elapsed());
            ensure!(copy.len() == other.batch_bytes().len(), "a copy is as long");
        }
        Ok([shared, quic, copies, bare].map(Micros::of))
    }

    /// Fetches of 1 MiB over QUIC, several under way.
    async fn bulk(&self) -> anyhow::Result<Bulk> {
        let at = |chunk: u64| FetchRequest {
            bytes_max: MIB,
            ..FetchRequest::at(self.partition, Offset(chunk * u64::from(CHUNK.messages)))
        };
        let requests: Vec<_> = (0..CHUNKS - 16).map(at).collect();
        Bulk::measure(&self.quic, &requests, &self.bare).await
    }

    /// A follower that is woken for every chunk.
    async fn wakes(&mut self, stage: &Stage, local: bool, rounds: u32) -> anyhow::Result<Micros> {
        let (told, mut ages) = tokio::sync::mpsc::channel(1);
        let settings = ClientSettings { local, ..ClientSettings::new(stage.addresses()) };
        let from = FetchFrom::Offset(Offset(self.shipping.end().0 - 1));
        let follow = (self.partition, from);
        let _following = follow_apart(settings, stage.reader()?, follow, self.shared.clone(), told)?;
        // The first message was there before it followed.
        timeout(PATIENCE, ages.recv()).await.context("the follower finds nothing")?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            sleep(PACE).await;
            self.shipping.ship().await?;
            let (age, shared) =
                timeout(PATIENCE, ages.recv()).await.context("the follower sleeps")?.context("it ended")?;
            ensure!(shared == local, "the follower was answered another way");
            times.push(age.context("the memory says when")?);
        }
        Ok(Micros::of(times))
    }

    /// A follower that has read everything.
    async fn at_the_end(&self, client: &Client) -> anyhow::Result<Follower> {
        let end = self.shipping.end();
        let mut follower = client.follow(self.partition, FetchFrom::Offset(Offset(end.0 - u64::from(CHUNK.messages))));
        while follower.position().is_none_or(|at| at < end) {
            follower.next().await?;
        }
        Ok(follower)
    }

    /// How much of a core node and reader take while a follower waits and nothing happens, percent.
    async fn idle(&self, stage: &Stage) -> anyhow::Result<(f64, f64)> {
        let mut follower = self.at_the_end(&self.shared).await?;
        let following = tokio::spawn(async move { follower.next().await });
        let node = *stage.processes().first().context("the node runs")?;
        let used = || anyhow::Ok([Usage::of(node)?, Usage::of(std::process::id())?]);
        let (began, before) = (Instant::now(), used()?);
        sleep(IDLE).await;
        let (seconds, after) = (began.elapsed().as_secs_f64(), used()?);
        let percent = |at: usize| 100.0 * after[at].since(before[at]).as_secs_f64() / seconds;
        ensure!(!following.is_finished(), "something came");
        following.abort();
        Ok((percent(0), percent(1)))
    }

    /// Many followers of one partition: until the last one has it, and what that cost the network.
    async fn many(&mut self, stage: &Stage, followers: u32, rounds: u32) -> anyhow::Result<(Micros, u64, u64)> {
        let (arrived, mut arrivals) = tokio::sync::mpsc::channel(followers as usize);
        let mut tasks = JoinSet::new();
        for _ in 0..followers {
            let mut follower = self.at_the_end(&self.shared).await?;
            let (arrived, clock) = (arrived.clone(), self.shared.clone());
            tasks.spawn(async move {
                while let Ok(fetched) = follower.next().await {
                    let age = clock.shared_memory_age();
                    if arrived.send((age, fetched.from_shared_memory)).await.is_err() {
                        return;
                    }
                }
            });
        }
        sleep(Duration::from_millis(200)).await;
        let before = stage.traffic().await?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            self.shipping.ship().await?;
            let mut last = Duration::ZERO;
            for _ in 0..followers {
                let arrival = timeout(PATIENCE, arrivals.recv()).await.context("a follower sleeps")?;
                let (age, shared) = arrival.context("a follower ended")?;
                ensure!(shared, "a follower was answered over the network");
                last = last.max(age.context("the memory says when")?);
            }
            times.push(last);
        }
        let after = stage.traffic().await?;
        Ok((Micros::of(times), after.0 - before.0, after.1 - before.1))
    }
}

/// Follows on a thread of its own, as in a process of its own: what the shipper here hears meanwhile is not its business.
/// Each answer is told with its age and whether it came out of shared memory.
fn follow_apart(
    settings: ClientSettings,
    identity: TlsIdentity,
    (partition, from): (PartitionKey, FetchFrom),
    clock: Client,
    told: tokio::sync::mpsc::Sender<(Option<Duration>, bool)>,
) -> anyhow::Result<Running<anyhow::Result<()>>> {
    let local = settings.local;
    Ok(Runtime::start(1)?.run(async move {
        let client = Client::connect(settings, &identity).await?;
        while local && !client.shares_memory() {
            sleep(PACE).await;
        }
        let mut follower = client.follow(partition, from);
        loop {
            let fetched = follower.next().await?;
            told.send((clock.shared_memory_age(), fetched.from_shared_memory)).await?;
        }
    }))
}

/// Wakes a thread that reads from a Unix socket, as seldom as followers are woken here; on another processor, if `apart` says so
/// and there is one.
fn bare_wakes(rounds: u32, apart: bool) -> anyhow::Result<Micros> {
    let (mut sender, mut receiver) = UnixStream::pair().context("make a pair of sockets")?;
    let origin = Instant::now();
    let [here, there] = two_processors()?.map(|processor| processor.filter(|_| apart));
    let sleeping = std::thread::spawn(move || {
        let (mut times, mut sent) = (Vec::new(), [0; 8]);
        stay_on(there)?;
        while receiver.read_exact(&mut sent).is_ok() {
            times.push(origin.elapsed().saturating_sub(Duration::from_nanos(u64::from_le_bytes(sent))));
        }
        anyhow::Ok(times)
    });
    // A thread of its own: where it stays is nobody else's business.
    let waking = std::thread::spawn(move || {
        stay_on(here)?;
        for _ in 0..rounds {
            std::thread::sleep(PACE);
            let now = u64::try_from(origin.elapsed().as_nanos()).context("minutes fit")?;
            sender.write_all(&now.to_le_bytes()).context("wake the thread")?;
        }
        anyhow::Ok(())
    });
    let (Ok(woke), Ok(times)) = (waking.join(), sleeping.join()) else { bail!("a thread panicked") };
    woke?;
    Ok(Micros::of(times?))
}

/// Two processors that this process may run on; nothing where there is only one.
fn two_processors() -> anyhow::Result<[Option<usize>; 2]> {
    let allowed = sched_getaffinity(None).context("ask where threads may run")?;
    let mut found = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    let (first, second) = (found.next(), found.next());
    Ok([first.filter(|_| second.is_some()), second])
}

/// The calling thread runs there and nowhere else from now on.
fn stay_on(processor: Option<usize>) -> anyhow::Result<()> {
    let Some(processor) = processor else { return Ok(()) };
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).context("stay on a processor")
}

impl Micros {
    fn of(times: Vec<Duration>) -> Self {
        let Figures { count, p50_ms, p99_ms, max_ms } = Figures::of(times);
        Self { count, p50_us: p50_ms * 1e3, p99_us: p99_ms * 1e3, max_us: max_ms * 1e3 }
    }

    fn line(&self) -> String {
        format!("p50 {:.1} us, p99 {:.1} us, max {:.0} us of {}", self.p50_us, self.p99_us, self.max_us, self.count)
    }
}

fn report(
    [shared_64_kib, quic_64_kib, copy_64_kib, bare_quinn_64_kib]: Fetches,
    [shared_1_mib, quic_1_mib, copy_1_mib, bare_quinn_1_mib]: Fetches,
    bulk: Bulk,
    [wake_shared, wake_shared_64_kib, wake_quic, wake_bare, wake_bare_apart]: [Micros; 5],
    (wake_many, many_bytes_over_network, many_bytes_written): (Micros, u64, u64),
    (idle_node_percent, idle_reader_percent): (f64, f64),
) -> SameHostReport {
    let bars_met = shared_64_kib.p50_us <= 15.0
        && quic_64_kib.p50_us >= 10.0 * shared_64_kib.p50_us
        && copy_1_mib.p50_us >= 0.6 * shared_1_mib.p50_us
        && bulk.share() >= 0.9
        && wake_shared.p50_us <= 25.0
        && idle_node_percent < 1.0
        && idle_reader_percent < 1.0
        && many_bytes_over_network == 0;
    SameHostReport {
        shared_64_kib,
        quic_64_kib,
        copy_64_kib,
        bare_quinn_64_kib,
        shared_1_mib,
        quic_1_mib,
        copy_1_mib,
        bare_quinn_1_mib,
        bulk_mib_per_second: bulk,
        wake_shared,
        wake_shared_64_kib,
        wake_quic,
        wake_bare,
        wake_bare_apart,
        wake_many,
        many_bytes_over_network,
        many_bytes_written,
        idle_node_percent,
        idle_reader_percent,
        bars_met,
    }
}

fn tell(report: &SameHostReport, followers: u32) {
    say(&format!("64 KiB, shared memory: {}", report.shared_64_kib.line()));
    say(&format!("64 KiB, QUIC:          {}", report.quic_64_kib.line()));
    say(&format!("64 KiB, a copy:        {}", report.copy_64_kib.line()));
    say(&format!("64 KiB, bare quinn:    {}", report.bare_quinn_64_kib.line()));
    say(&format!("1 MiB, shared memory:  {}", report.shared_1_mib.line()));
    say(&format!("1 MiB, QUIC:           {}", report.quic_1_mib.line()));
    say(&format!("1 MiB, a copy:         {}", report.copy_1_mib.line()));
    say(&format!("1 MiB, bare quinn:     {}", report.bare_quinn_1_mib.line()));
    let Bulk { quic, bare_quinn } = report.bulk_mib_per_second;
    say(&format!("1 MiB, {UNDER_WAY} under way:   QUIC {quic:.0} MiB/s, bare quinn {bare_quinn:.0} MiB/s"));
    say(&format!("woken, shared memory:  {}", report.wake_shared.line()));
    say(&format!("    with 64 KiB:       {}", report.wake_shared_64_kib.line()));
    say(&format!("woken, QUIC:           {}", report.wake_quic.line()));
    say(&format!("woken, a bare thread:  {}", report.wake_bare.line()));
    say(&format!("    on another core:   {}", report.wake_bare_apart.line()));
    let (over, written) = (report.many_bytes_over_network, report.many_bytes_written);
    say(&format!("{followers} followers, the last: {}", report.wake_many.line()));
    say(&format!("meanwhile {written} bytes were written once, and {over} bytes of answers sent"));
    let (node, reader) = (report.idle_node_percent, report.idle_reader_percent);
    say(&format!("idle: node {node:.2}% of a core, reader {reader:.2}%"));
    let faster = report.quic_64_kib.p50_us / report.shared_64_kib.p50_us;
    let share = 100.0 * report.copy_1_mib.p50_us / report.shared_1_mib.p50_us;
    let goodput = 100.0 * report.bulk_mib_per_second.share();
    let verdict = if report.bars_met { "met" } else { "missed" };
    say(&format!(
        "64 KiB {faster:.1} times as fast as QUIC, 1 MiB at {share:.0}% of a copy, {UNDER_WAY} of it over QUIC at {goodput:.0}% of bare \
         quinn; bars {verdict}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_given() {
        let micros = Micros::of((1..=1_000).map(Duration::from_micros).collect());
        assert!((micros.p50_us - 500.0).abs() < 2.0 && (micros.p99_us - 990.0).abs() < 2.0, "{micros:?}");
    }
}
