//! Runs seeds from the command line: `kennel-sim run --seeds 1000`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kennel_sim::run::{Life, run_many, run_recorded};

/// How much of a failed seed's trace is shown.
const TAIL: usize = 200;

/// The world in a box.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs worlds and checks what must hold.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How many threads.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Shows the whole trace of the first seed instead.
        #[arg(long)]
        trace: bool,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let Command::Run { seeds, seed, threads, trace } = Arguments::parse().command;
    // A machine that panics is reported with its seed; the default report would come without.
    std::panic::set_hook(Box::new(|_| {}));
    let mut out = std::io::stdout().lock();
    if trace {
        let life = run_recorded(seed, usize::MAX);
        return show(&mut out, &life);
    }
    let started = Instant::now();
    if let Some(life) = run_many(seed, seeds, threads) {
        let life = run_recorded(life.seed, TAIL);
        return show(&mut out, &life);
    }
    let rate = u128::from(seeds) * 1000 / started.elapsed().as_millis().max(1);
    writeln!(out, "{seeds} seeds, 0 violations, {rate} seeds/s").context("write the result")?;
    Ok(ExitCode::SUCCESS)
}

/// Shows a life's trace and what it broke.
fn show(out: &mut impl Write, life: &Life) -> anyhow::Result<ExitCode> {
    for line in &life.tail {
        writeln!(out, "{line}").context("write the trace")?;
    }
    let Some(violation) = &life.violation else {
        writeln!(out, "seed {}: {} events, fingerprint {:016x}", life.seed, life.events, life.hash)
            .context("write the result")?;
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(out, "seed {} breaks {}: {}", life.seed, violation.rule, violation.what).context("write the result")?;
    Ok(ExitCode::FAILURE)
}
