//! `bench fabric`: fetches of 1 MiB over QUIC, in packets as most networks carry them, and by the fabric, in turns on the
//! same machine.
//!
//! One node as a process, readers in this one. The processor's time is told in hundredths of a second, so a turn is
//! some hundred fetches, and a figure is the median of the rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use kennel_client::{Client, ClientSettings, FetchRequest, Offset, PartitionKey};
use serde::Serialize;
use tokio::task::JoinSet;

use super::figures::{Figures, say, write_json};
use super::load::Shape;
use super::place::PlaceArgs;
use super::ship_cost::Shipping;
use super::stage::{Stage, directory_bucket};
use super::usage::Usage;
use crate::scenario::{FabricSection, median};

/// A chunk of some 63 KiB, of which a fetch brings 16.
const CHUNK: Shape = Shape { messages: 60, payload_bytes: 1_000 };
/// Chunks that fetches are made from: 16 MiB, which the tail holds.
const CHUNKS: u64 = 256;
const CHUNKS_OF_FETCH: u64 = 16;
/// What a node may put into a packet: what Ethernet carries.
const PACKET_BYTES: u32 = 1_452;
/// Times that the fabric must be as fast as QUIC at least.
const FASTER_MIN: f64 = 3.0;
/// How much of QUIC's processor time it may take at most.
const PROCESSOR_MAX: f64 = 1.0 / 3.0;
const MIB: f64 = 1_048_576.0;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct FabricArgs {
    /// How many rounds.
    #[arg(long, default_value_t = 7)]
    pub rounds: u32,
    /// Fetches of each way in a round.
    #[arg(long, default_value_t = 400)]
    pub fetches: u32,
    /// Fetches under way at once.
    #[arg(long, default_value_t = 4)]
    pub readers: u32,
    /// libfabric's provider.
    #[arg(long, value_name = "NAME", default_value = "tcp;ofi_rxm")]
    pub provider: String,
    /// The device, where there are several.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub domain: String,
    /// The own address, for providers with addresses of IP; empty for those without.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub source: String,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// One way of the two; medians of the rounds.
#[derive(Debug, Clone, Default, Serialize)]
struct Way {
    fetch: Figures,
    mib_per_second: f64,
    /// Of the processor, for a MiB.
    node_ms_per_mib: f64,
    reader_ms_per_mib: f64,
}

#[derive(Debug, Serialize)]
struct FabricBench {
    provider: String,
    packet_bytes: u32,
    fetches: u32,
    rounds: u32,
    readers: u32,
    quic: Way,
    fabric: Way,
    /// Times that the fabric was as fast.
    faster: f64,
    /// How much of QUIC's processor time it took, node and reader together.
    processor: f64,
    bars_met: bool,
}

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If there is no such fabric, the node cannot be started, or an answer comes another way than it should.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn fabric(args: FabricArgs) -> anyhow::Result<bool> {
    let own = ["journal.size=512 MiB", "cluster.copies=1", "cluster.min_copies=1", "cluster.durability=memory"];
    let mut assignments: Vec<String> = own.map(str::to_owned).to_vec();
    assignments.extend([directory_bucket(&args.place.directory)?, format!("quic.packet_bytes_max={PACKET_BYTES}")]);
    let (provider, domain, source) = (args.provider.clone(), args.domain.clone(), args.source.clone());
    let section = FabricSection { provider, domain, source };
    assignments.extend(section.assignments());
    let mut stage = args.place.start(1, assignments)?;
    stage.whole().await?;
    let readers = Readers::open(&mut stage, &section).await?;
    readers.compare().await?;
    let (mut quic, mut fabric) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        // Who comes first changes, and so does what it finds.
        for by_fabric in [round % 2 == 1, round % 2 == 0] {
            let turn = readers.turn(by_fabric, args.fetches, args.readers).await?;
            if by_fabric { fabric.push(turn) } else { quic.push(turn) }
        }
    }
    let report = report(&args, Way::of(quic), Way::of(fabric));
    write_json(args.place.json.as_deref(), &report)?;
    tell(&report);
    Ok(report.bars_met)
}

/// Two readers of one node.
struct Readers {
    node: u32,
    partition: PartitionKey,
    quic: Client,
    fabric: Client,
}

/// What one way did in one round.
struct Turn {
    times: Vec<Duration>,
    bytes: f64,
    took: Duration,
    node: Duration,
    reader: Duration,
}

impl Readers {
    async fn open(stage: &mut Stage, section: &FabricSection) -> anyhow::Result<Self> {
        let mut shipping = Shipping::open(stage, CHUNK).await?;
        for _ in 0..CHUNKS {
            shipping.ship().await?;
        }
        let (identity, node) = (stage.reader()?, *stage.processes().first().context("the node runs")?);
        let settings = ClientSettings { local: false, ..ClientSettings::new(stage.addresses()) };
        let quic = Client::connect(settings.clone(), &identity).await?;
        let fabric = Some(section.settings());
        let fabric = Client::connect(ClientSettings { fabric, ..settings }, &identity).await?;
        Ok(Self { node, partition: shipping.partition(), quic, fabric })
    }

    /// Sees that both bring the same, each its own way.
    async fn compare(&self) -> anyhow::Result<()> {
        for chunk in 0..CHUNKS - CHUNKS_OF_FETCH {
            let request = request(self.partition, chunk);
            let (one, other) = (self.quic.fetch(request).await?, self.fabric.fetch(request).await?);
            ensure!(other.by_fabric && !one.by_fabric, "an answer came another way than it should");
            ensure!(one.batch_bytes() == other.batch_bytes(), "chunk {chunk} differs");
        }
        Ok(())
    }

    /// So many fetches in one way.
    #[expect(clippy::cast_precision_loss, reason = "some hundred MiB")]
    async fn turn(&self, by_fabric: bool, fetches: u32, readers: u32) -> anyhow::Result<Turn> {
        let (client, partition) = (if by_fabric { &self.fabric } else { &self.quic }, self.partition);
        let next = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let mut tasks: JoinSet<anyhow::Result<(Vec<Duration>, u64)>> = JoinSet::new();
        let used = || anyhow::Ok((Usage::of(self.node)?, Usage::of(std::process::id())?));
        let (before, began) = (used()?, Instant::now());
        for _ in 0..readers {
            let (client, next) = (client.clone(), Arc::clone(&next));
            tasks.spawn(async move {
                let (mut times, mut bytes) = (Vec::new(), 0);
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= fetches {
                        return Ok((times, bytes));
                    }
                    let chunk = u64::from(number) * 37 % (CHUNKS - CHUNKS_OF_FETCH);
                    let asked = Instant::now();
                    let fetched = client.fetch(request(partition, chunk)).await?;
                    times.push(asked.elapsed());
                    ensure!(fetched.by_fabric == by_fabric, "an answer came another way than it should");
                    bytes += fetched.batch_bytes().len() as u64;
                }
            });
        }
        let (mut times, mut bytes) = (Vec::new(), 0);
        while let Some(ended) = tasks.join_next().await {
            let (more_times, more_bytes) = ended.context("a reader panicked")??;
            times.extend(more_times);
            bytes += more_bytes;
        }
        let (took, after) = (began.elapsed(), used()?);
        let (node, reader) = (after.0.since(before.0), after.1.since(before.1));
        Ok(Turn { times, bytes: bytes as f64, took, node, reader })
    }
}

fn request(partition: PartitionKey, chunk: u64) -> FetchRequest {
    FetchRequest::at(partition, Offset(chunk * u64::from(CHUNK.messages)))
}

impl Way {
    fn of(turns: Vec<Turn>) -> Self {
        let median_of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
        Self {
            mib_per_second: median_of(|turn| turn.bytes / MIB / turn.took.as_secs_f64()),
            node_ms_per_mib: median_of(|turn| turn.node.as_secs_f64() * 1e3 * MIB / turn.bytes),
            reader_ms_per_mib: median_of(|turn| turn.reader.as_secs_f64() * 1e3 * MIB / turn.bytes),
            fetch: Figures::of(turns.into_iter().flat_map(|turn| turn.times)),
        }
    }

    fn processor(&self) -> f64 {
        self.node_ms_per_mib + self.reader_ms_per_mib
    }
}

fn report(args: &FabricArgs, quic: Way, fabric: Way) -> FabricBench {
    let (faster, processor) = (fabric.mib_per_second / quic.mib_per_second, fabric.processor() / quic.processor());
    FabricBench {
        provider: args.provider.clone(),
        packet_bytes: PACKET_BYTES,
        fetches: args.fetches,
        rounds: args.rounds,
        readers: args.readers,
        quic,
        fabric,
        faster,
        processor,
        bars_met: faster >= FASTER_MIN && processor <= PROCESSOR_MAX,
    }
}

fn tell(report: &FabricBench) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["1 MiB", "p50 ms", "p99 ms", "MiB/s", "node ms/MiB", "reader ms/MiB", "both"]);
    let names = [format!("QUIC, packets of {}", report.packet_bytes), format!("fabric, {}", report.provider)];
    for (name, way) in names.into_iter().zip([&report.quic, &report.fabric]) {
        let figures = [
            way.fetch.p50_ms,
            way.fetch.p99_ms,
            way.mib_per_second,
            way.node_ms_per_mib,
            way.reader_ms_per_mib,
            way.processor(),
        ];
        table.add_row([name].into_iter().chain(figures.map(|figure| format!("{figure:.2}"))));
    }
    say(&table.to_string());
    let verdict = if report.bars_met { "met" } else { "missed" };
    let percent = 100.0 * report.processor;
    say(&format!(
        "{:.2} times as fast as QUIC, with {percent:.0}% of its processor time; bars {verdict}",
        report.faster
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(bytes: f64, millis: u64) -> Turn {
        let took = Duration::from_millis(millis);
        Turn { times: vec![took], bytes, took, node: took / 2, reader: took / 4 }
    }

    #[test]
    fn ways_are_medians_and_ratios_follow() {
        let slow = Way::of(vec![turn(MIB, 400), turn(MIB, 100), turn(MIB, 9)]);
        assert!((slow.mib_per_second - 10.0).abs() < 1e-6 && (slow.processor() - 75.0).abs() < 1e-6, "{slow:?}");
        let quick = Way::of(vec![turn(MIB, 20)]);
        let args = FabricArgs {
            rounds: 1,
            fetches: 1,
            readers: 1,
            provider: String::new(),
            domain: String::new(),
            source: String::new(),
            place: PlaceArgs::default(),
        };
        let met = report(&args, slow.clone(), quick.clone());
        assert!((met.faster - 5.0).abs() < 1e-6 && (met.processor - 0.2).abs() < 1e-6 && met.bars_met);
        assert!(!report(&args, quick, slow).bars_met);
    }
}
