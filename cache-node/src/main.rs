//! The command line of a cache node. It parses, prints and starts; everything else is in the library.

mod fabric_command;
mod journal_command;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use cache_node::config::{Layers, Settings, Sources};
use clap::{Args, Parser, Subcommand};
use fabric_command::FabricSelftest;
use journal_command::JournalCommand;
use kennel_protocol::ids::ShardId;
use kennel_transport::certs::{Overwrite, create_development_ca};
use tracing_subscriber::EnvFilter;

/// Buffers of many sizes come and go beside small things that stay. The C library's allocator gives little of that back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "cache-node", version, about = "A node of the Kennel cache ring.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node until it is told to stop (SIGTERM, SIGINT).
    Run(Configuration),
    /// Accept, for one shard, the loss of what unreachable journals alone hold. Only where bringing them back is hopeless.
    Force(Force),
    /// Look at a journal, or make one on a device.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Look whether the fabric carries bytes here, how fast, and whether it refuses what it must.
    FabricSelftest(FabricSelftest),
    /// Check a configuration and print what it comes to, secrets redacted.
    CheckConfig(Configuration),
    /// Make a development CA with certificates for nodes, shippers and readers.
    Certs(Certs),
    /// Print the version.
    Version,
}

#[derive(Args)]
struct Configuration {
    /// A TOML file over the built-in defaults.
    #[arg(long, env = "KENNEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// One value over file and environment, as in `--set node.id=2`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
}

#[derive(Args)]
struct Force {
    /// Of the running node that is to take the shard over.
    #[command(flatten)]
    configuration: Configuration,
    /// Which shard; its number is in the log and on the status page.
    #[arg(long)]
    shard: u16,
}

#[derive(Args)]
struct Certs {
    /// Where the files go; created if absent.
    #[arg(long)]
    directory: PathBuf,
    /// A host name or address that nodes are reached under, beside localhost. May be repeated.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Replace files that are there already; every process must then load the new ones.
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(configuration) => run(&configuration),
        Command::Force(force) => accept_loss(&force),
        Command::Journal(command) => journal_command::run(&command),
        Command::FabricSelftest(arguments) => fabric_command::run(&arguments),
        Command::CheckConfig(configuration) => check_config(&configuration),
        Command::Certs(certs) => make_certificates(&certs),
        Command::Version => {
            say(&format!("cache-node {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with the whole chain: what failed, and why.
            eprintln!("cache-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(configuration: &Configuration) -> anyhow::Result<()> {
    let settings = layers(configuration)?.settings()?;
    start_logging(&settings)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(settings.node.threads).enable_all().build().context("start the runtime")?;
    runtime.block_on(cache_node::node::run(settings))?;
    Ok(())
}

fn accept_loss(force: &Force) -> anyhow::Result<()> {
    let settings = layers(&force.configuration)?.settings()?;
    cache_node::node::force(&settings, ShardId(force.shard))?;
    say("told; the node's log says when it has taken the shard over and what was lost");
    Ok(())
}

fn check_config(configuration: &Configuration) -> anyhow::Result<()> {
    let layers = layers(configuration)?;
    layers.settings()?;
    say(layers.effective().trim_end());
    Ok(())
}

fn make_certificates(certs: &Certs) -> anyhow::Result<()> {
    let overwrite = if certs.force { Overwrite::Replace } else { Overwrite::Refuse };
    let made = create_development_ca(&certs.directory, &certs.hosts, overwrite)?;
    for (what, path) in [
        ("authority", &made.ca),
        ("nodes", &made.node.certificate),
        ("shippers", &made.shipper.certificate),
        ("readers", &made.client.certificate),
    ] {
        say(&format!("{what:10} {}", path.display()));
    }
    Ok(())
}

fn layers(configuration: &Configuration) -> anyhow::Result<Layers> {
    // A variable that is not Unicode cannot be one of ours.
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let sources = Sources {
        file: configuration.config.as_deref(),
        environment: &environment,
        assignments: &configuration.assignments,
    };
    Ok(Layers::read(sources)?)
}

fn start_logging(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_filter).context("read `log.filter`")?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}

/// Prints an answer. Whoever closed the pipe has read enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
