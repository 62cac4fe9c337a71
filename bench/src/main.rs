//! The `bench` command: data to ship, and the oracle that compares what is read with what was shipped.

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use indicatif::{ProgressBar, ProgressStyle};
use kennel_bench::chaos::radosgw::Radosgw;
use kennel_bench::chaos::{self, ChaosSettings};
use kennel_bench::generate::{GenerateSettings, generate};
use kennel_bench::live::{LiveArgs, live};
use kennel_bench::measure::{
    FabricArgs, FailoverArgs, OutageArgs, SameHostArgs, ShipBulkArgs, ShipCostArgs, fabric, failover, outage,
    same_host, ship_bulk, ship_cost,
};
use kennel_bench::quickstart::{self, QuickstartSettings};
use kennel_bench::scenario::{CompareArgs, RawServerArgs, RunArgs, ScaleArgs, compare, raw_server, run, scale};
use kennel_bench::verify::{ExpectServed, Verified, verify};
use kennel_bench::versus::{VersusArgs, versus};
use kennel_client::{Client, ClientSettings};
use kennel_transport::tls::TlsIdentity;

/// Generates Iggy data, verifies reads and measures Kennel.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an Iggy data directory, the same for the same seed.
    Generate(GenerateArgs),
    /// Compare every message of a data directory with what the ring serves.
    Verify(VerifyArgs),
    /// The tour of the README: three real nodes, a kill, a cold restart, every message compared.
    Quickstart(QuickstartArgs),
    /// Rings of real processes, everything that can go wrong with them, and an oracle.
    Chaos(ChaosArgs),
    /// Kill or pause owners of three real nodes under load: how long until acknowledgements go on.
    Failover(FailoverArgs),
    /// Take the bucket away from three real nodes under load.
    Outage(OutageArgs),
    /// What an acknowledgement costs beside one sync and one round trip.
    ShipCost(ShipCostArgs),
    /// Chunks of 1 MiB as fast as they are acknowledged, beside bare quinn and the disk.
    ShipBulk(ShipBulkArgs),
    /// Kennel beside a real Iggy server: latency, polls through a gateway, cost of shipping, proof and soak.
    Live(LiveArgs),
    /// What a reader on the node's own host gets out of shared memory, beside QUIC and a copy.
    SameHost(SameHostArgs),
    /// Answers of 1 MiB written into a reader's memory by libfabric, beside the same over QUIC.
    Fabric(FabricArgs),
    /// A load by the clock against a ring, with everything compared that was read: one of many scenarios, or your own.
    Run(RunArgs),
    /// The same load with more cores and with more nodes: how far a ring goes with them.
    Scale(ScaleArgs),
    /// What differs between two results of `run` beyond noise. Fails if anything became worse.
    Compare(CompareArgs),
    /// The same messages read from Kennel and from what somebody would take instead: Redis, NATS, Iggy, bare sockets.
    Versus(VersusArgs),
    /// Answers over bare quinn, for those who measure against it.
    #[command(hide = true)]
    RawServer(RawServerArgs),
}

#[derive(Debug, Args)]
struct QuickstartArgs {
    /// Where cache-node and wal-shipper are.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// The repository's configs/local.
    #[arg(long, value_name = "DIR")]
    configs: PathBuf,
    /// The Iggy data directory to ship.
    #[arg(long, value_name = "DIR", overrides_with = "data_dir")]
    data_dir: PathBuf,
    /// Where logs, certificates, journals and the bucket go; emptied first.
    #[arg(long, value_name = "DIR", overrides_with = "directory")]
    directory: PathBuf,
    /// Leave the ring running.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct ChaosArgs {
    /// How many runs.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// How long the load of each lasts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Of the first run; each further run's is one more. The same seed gives the same schedule.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the result to this file, and the timelines beside it as .txt.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Nodes of a ring: a number, or a range to draw from, as "3..5".
    #[arg(long, default_value = "3..5", value_parser = parse_nodes)]
    nodes: (u8, u8),
    /// Runs at once.
    #[arg(long, default_value_t = 1)]
    parallel: usize,
    /// Partitions of each run's source.
    #[arg(long, default_value_t = 64)]
    partitions: u32,
    /// What each run's source writes in a second.
    #[arg(long, default_value = "2MB")]
    rate: ByteSize,
    /// The bucket behind the proxy: "builtin", "radosgw" (started with tests/radosgw/start), or http://ADDRESS:PORT.
    #[arg(long, default_value = "builtin")]
    s3: String,
    /// Where cache-node and wal-shipper are; beside this program by default.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// An older cache-node: nodes start as it, and half-way through a run become the newer one, one by one.
    #[arg(long, value_name = "PROGRAM")]
    upgrade_from: Option<PathBuf>,
    /// Where runs have their directories.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// Keep the directories of runs without violations too.
    #[arg(long)]
    keep: bool,
    /// Use nothing that needs a privilege: loopback instead of namespaces, plain directories instead of disks.
    #[arg(long)]
    plain: bool,
    /// How readers get their bytes where they can; the fabric needs libfabric.
    #[arg(long, value_enum, default_value_t)]
    reads: chaos::Reads,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// Where to write; must not hold `streams` yet.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Partitions in all.
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    /// Streams that they are spread over.
    #[arg(long, default_value_t = 4)]
    streams: u32,
    /// Topics in each stream.
    #[arg(long, default_value_t = 2)]
    topics: u32,
    /// Bytes of all segments, about: "1GiB".
    #[arg(long, default_value = "64MiB")]
    bytes: ByteSize,
    /// Usual payload: sizes lie between half and four times this.
    #[arg(long, default_value_t = 1000)]
    message_bytes: u32,
    /// Usual messages in a batch.
    #[arg(long, default_value_t = 100)]
    batch: u32,
    /// Size at which segments are sealed.
    #[arg(long, default_value = "8MiB")]
    segment_bytes: ByteSize,
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The Iggy data directory that was shipped.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Nodes of the ring, `host:port`, separated by commas.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', required = true)]
    ring: Vec<String>,
    /// A directory with ca.pem, client.pem and client.key.
    #[arg(long, value_name = "DIR", required_unless_present_all = ["ca", "cert", "key"])]
    tls_dir: Option<PathBuf>,
    /// The CA's certificate.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The reader's certificate.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Fail if an answer came from elsewhere.
    #[arg(long, value_enum)]
    expect_served: Option<ExpectServed>,
    /// Partitions compared at once.
    #[arg(long, default_value_t = 16)]
    parallel: usize,
    /// How long a read may look for a node that answers, seconds.
    #[arg(long, default_value_t = 30)]
    patience_seconds: u64,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Generate(args) => run_generate(args),
        Command::Verify(args) => run_verify(&args),
        Command::Quickstart(args) => run_quickstart(args),
        Command::Chaos(args) => run_chaos(args),
        Command::Failover(args) => measured(failover(args)),
        Command::Outage(args) => measured(outage(args)),
        Command::ShipCost(args) => measured(ship_cost(args)),
        Command::ShipBulk(args) => measured(ship_bulk(args)),
        Command::Live(args) => measured(live(args)),
        Command::SameHost(args) => measured(same_host(args)),
        Command::Fabric(args) => measured(fabric(args)),
        Command::Run(args) => measured(run(args)),
        Command::Scale(args) => measured(scale(args)),
        Command::Compare(args) => compare(&args).map(exit_code),
        Command::Versus(args) => measured(versus(args)),
        Command::RawServer(args) => measured(raw_server(args)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // One line with all causes.
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_generate(args: GenerateArgs) -> anyhow::Result<ExitCode> {
    let settings = GenerateSettings {
        directory: args.directory,
        partitions: args.partitions,
        streams: args.streams,
        topics: args.topics,
        bytes: args.bytes.as_u64(),
        message_bytes: args.message_bytes,
        batch: args.batch,
        segment_bytes: args.segment_bytes.as_u64(),
        seed: args.seed,
    };
    let bar = ProgressBar::new(settings.bytes);
    bar.set_style(ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes}  {binary_bytes_per_sec}")?);
    let started = Instant::now();
    let generated = generate(&settings, &|bytes| bar.set_position(bytes))?;
    bar.finish_and_clear();
    writeln!(
        io::stdout(),
        "generated {} messages, {} in {} segments of {} partitions, {:.2} s",
        generated.messages,
        ByteSize::b(generated.bytes),
        generated.segments,
        settings.partitions,
        started.elapsed().as_secs_f64()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn run_quickstart(args: QuickstartArgs) -> anyhow::Result<ExitCode> {
    let QuickstartArgs { programs, configs, data_dir, directory, keep } = args;
    let settings = QuickstartSettings { programs, configs, data_dir, directory, keep };
    tokio::runtime::Runtime::new()?.block_on(quickstart::run(settings))?;
    Ok(ExitCode::SUCCESS)
}

fn run_chaos(args: ChaosArgs) -> anyhow::Result<ExitCode> {
    let beside = || -> anyhow::Result<PathBuf> {
        let own = std::env::current_exe().context("find this program")?;
        Ok(own.parent().context("a program is in a directory")?.to_owned())
    };
    let radosgw = if args.s3 == "radosgw" { Some(Radosgw::start(&args.directory)?) } else { None };
    let bucket = match (&radosgw, args.s3.as_str()) {
        (Some(radosgw), _) => chaos::Bucket::At(radosgw.address),
        (None, "builtin") => chaos::Bucket::Builtin,
        (None, url) => chaos::Bucket::At(chaos::radosgw::address_of(url)?),
    };
    let settings = ChaosSettings {
        runs: args.runs,
        seconds: args.seconds,
        seed: args.seed,
        nodes: args.nodes,
        parallel: args.parallel,
        partitions: args.partitions,
        bytes_per_second: args.rate.as_u64(),
        programs: args.programs.map_or_else(beside, Ok)?,
        upgrade_from: args.upgrade_from,
        directory: args.directory,
        keep: args.keep,
        plain: args.plain,
        bucket,
        reads: args.reads,
    };
    let report = tokio::runtime::Runtime::new()?.block_on(chaos::chaos(&settings))?;
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    writeln!(io::stdout(), "{}\n{}", report.table(), report.line())?;
    Ok(if report.violations() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse_nodes(text: &str) -> Result<(u8, u8), String> {
    let (fewest, most) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim_start_matches('=').parse().map_err(|_| format!("`{text}` is not a number"));
    Ok((number(fewest)?, number(most)?))
}

/// Exit code 0 if the bars were met.
fn measured(measuring: impl Future<Output = anyhow::Result<bool>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(measuring).map(exit_code)
}

fn exit_code(met: bool) -> ExitCode {
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let verified = tokio::runtime::Runtime::new()?.block_on(connect_and_verify(args))?;
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&verified)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&mut io::stdout(), &verified)?;
    Ok(if verified.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn connect_and_verify(args: &VerifyArgs) -> anyhow::Result<Verified> {
    anyhow::ensure!(args.parallel > 0, "--parallel must be at least 1");
    let identity = identity(args)?;
    let settings = ClientSettings {
        patience: Duration::from_secs(args.patience_seconds),
        ..ClientSettings::new(addresses(args)?)
    };
    let client = Client::connect(settings, &identity).await?;
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{bar:32} {pos}/{len} partitions  {msg}")?);
    let progress = |sum: &Verified, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(sum.partitions);
        bar.set_message(format!("{} messages", sum.messages));
    };
    let verified = verify(&client, &args.data_dir, args.parallel, args.expect_served, &progress).await;
    bar.finish_and_clear();
    verified
}

fn identity(args: &VerifyArgs) -> anyhow::Result<TlsIdentity> {
    let choose = |file: &Option<PathBuf>, name: &str| {
        let within = || args.tls_dir.as_ref().map(|directory| directory.join(name));
        file.clone().or_else(within).context("name the certificates with --tls-dir DIR, or with --ca, --cert and --key")
    };
    let ca = choose(&args.ca, "ca.pem")?;
    let (certificate, key) = (choose(&args.cert, "client.pem")?, choose(&args.key, "client.key")?);
    Ok(TlsIdentity::load(&ca, &certificate, &key)?)
}

fn addresses(args: &VerifyArgs) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in &args.ring {
        addresses.extend(address.to_socket_addrs().with_context(|| format!("`{address}` is not an address"))?);
    }
    Ok(addresses)
}

/// The table, the problems, and as the very last line the verdict.
fn print(out: &mut dyn Write, verified: &Verified) -> io::Result<()> {
    let tiers: Vec<String> = verified.served.iter().map(|(tier, count)| format!("{tier} {count}")).collect();
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.add_row(["partitions", &verified.partitions.to_string()]);
    table.add_row(["messages", &verified.messages.to_string()]);
    table.add_row(["payload", &ByteSize::b(verified.payload_bytes).to_string()]);
    table.add_row(["answers", &tiers.join(", ")]);
    table.add_row(["time", &format!("{:.2} s", verified.seconds)]);
    writeln!(out, "{table}")?;
    for problem in &verified.problems {
        writeln!(out, "{problem}")?;
    }
    if verified.served_elsewhere > 0 {
        writeln!(out, "{} answers came from another tier than expected", verified.served_elsewhere)?;
    }
    writeln!(out, "{}", verified.line())
}
