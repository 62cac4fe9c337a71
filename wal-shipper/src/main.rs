//! The `wal-shipper` command. Exit codes: 0 all shipped, 1 could not run, 2 some partitions are not whole, 3 some diverged.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use wal_shipper::barrier::barrier;
use wal_shipper::cli::{Cli, Command};
use wal_shipper::config::{Config, DEFAULTS};
use wal_shipper::import::import;
use wal_shipper::inspect::inspect;
use wal_shipper::recreate::recreate;
use wal_shipper::restore::restore;
use wal_shipper::run::{describe, run as run_live};

/// Some partitions are not whole; the report names them.
const SOME_STOPPED: u8 = 2;

/// The ring and the source hold different histories of some partitions; worse than anything that 2 stands for.
const SOME_DIVERGED: u8 = 3;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // One line with all causes.
            eprintln!("wal-shipper: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Import(args) => {
            let config = load(args.source.config.as_deref(), args.flags())?;
            let runtime = tokio::runtime::Runtime::new()?;
            let report = runtime.block_on(import(&config, args))?;
            // Reads of a partition that nobody waits for any more must not hold the process.
            runtime.shutdown_background();
            anyhow::ensure!(report.finished, "stopped before everything was shipped; run it again to continue");
            Ok(match (report.diverged, report.is_whole()) {
                (0, true) => ExitCode::SUCCESS,
                (0, false) => ExitCode::from(SOME_STOPPED),
                _ => ExitCode::from(SOME_DIVERGED),
            })
        }
        Command::Run(args) => {
            let config = load(args.iggy.config.as_deref(), args.flags())?;
            let runtime = tokio::runtime::Runtime::new()?;
            let report = runtime.block_on(run_live(&config))?;
            // A read that waits for the server must not hold the process.
            runtime.shutdown_background();
            Ok(match (report.diverged, report.stopped) {
                (0, 0) => ExitCode::SUCCESS,
                (0, _) => ExitCode::from(SOME_STOPPED),
                _ => ExitCode::from(SOME_DIVERGED),
            })
        }
        Command::Barrier(args) => {
            let config = load(args.iggy.config.as_deref(), args.iggy.flags())?;
            tokio::runtime::Runtime::new()?.block_on(barrier(&config, args))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Recreate(args) => {
            let config = load(args.config.as_deref(), args.ring.flags())?;
            for key in tokio::runtime::Runtime::new()?.block_on(recreate(&config, args))? {
                writeln!(io::stdout(), "{key}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore(args) => {
            let config = load(args.iggy.config.as_deref(), args.flags())?;
            let report = tokio::runtime::Runtime::new()?.block_on(restore(&config, args))?;
            anyhow::ensure!(report.finished, "stopped before everything was restored; run it again to continue");
            Ok(match (report.foreign, report.is_whole()) {
                (0, true) => ExitCode::SUCCESS,
                (0, false) => ExitCode::from(SOME_STOPPED),
                _ => ExitCode::from(SOME_DIVERGED),
            })
        }
        Command::CheckConfig(args) => {
            let config = load(args.iggy.config.as_deref(), args.flags())?;
            io::stdout().write_all(describe(&config)?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(args) => {
            let config = load(args.source.config.as_deref(), args.source.flags())?;
            let report = inspect(&config, args)?;
            Ok(if report.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_STOPPED) })
        }
        Command::Config => {
            io::stdout().write_all(DEFAULTS.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load(file: Option<&std::path::Path>, flags: Vec<(&'static str, figment::value::Value)>) -> anyhow::Result<Config> {
    let config = Config::load(file, flags)?;
    let filter = EnvFilter::try_new(&config.log.filter)?;
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr).init();
    Ok(config)
}
