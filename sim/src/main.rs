//! Runs seeds from the command line: `kennel-sim run --seeds 1000`, and `kennel-sim mutants`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kennel_sim::mutants::{self, Hunt, MUTANTS, Mutant, Verdict};
use kennel_sim::paths::Path as CorePath;
use kennel_sim::plan::Plan;
use kennel_sim::run::{Life, record_plan, run_plans};
use kennel_sim::shrink::shrink;

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
        /// Draws worlds of the first vintage: without the rare and heavy faults.
        #[arg(long)]
        first_vintage: bool,
    },
    /// Makes the world of a failing seed small, and tells what is left of it.
    Shrink {
        /// The failing seed.
        #[arg(long)]
        seed: u64,
        /// How much of the end of its trace is shown.
        #[arg(long, default_value_t = 60)]
        lines: usize,
        /// Draws a world of the first vintage.
        #[arg(long)]
        first_vintage: bool,
    },
    /// Takes one path of a batch through the pure packages, for profilers and for counting instructions.
    Path {
        /// Which.
        path: CorePath,
        /// How often.
        #[arg(long, default_value_t = 1_000)]
        rounds: u64,
    },
    /// Breaks one rule of the protocol after the other and sees whether anybody notices.
    Mutants {
        /// Most seeds per mutant, instead of what each states.
        #[arg(long)]
        seeds: Option<u64>,
        /// How often each mutant is hunted, every time in other worlds.
        #[arg(long, default_value_t = 5)]
        repeat: u64,
        /// How many threads.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Only mutants whose names contain this.
        #[arg(long)]
        only: Option<String>,
        /// Only mutants that must be caught within so many seeds.
        #[arg(long)]
        within: Option<u64>,
        /// Writes the result there as well.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    // A machine that panics is reported with its seed; the default report would come without.
    std::panic::set_hook(Box::new(|_| {}));
    match Arguments::parse().command {
        Command::Run { seed, trace: true, first_vintage, .. } => {
            show(&record_plan(vintage(first_vintage)(seed), seed, usize::MAX))
        }
        Command::Run { seeds, seed, threads, first_vintage, .. } => run((seed, seeds), threads, vintage(first_vintage)),
        Command::Path { path, rounds } => {
            path.take(rounds);
            Ok(ExitCode::SUCCESS)
        }
        Command::Shrink { seed, lines, first_vintage } => shrink_seed(seed, lines, vintage(first_vintage)),
        Command::Mutants { seeds, repeat, threads, only, within, json } => {
            let wanted = |mutant: &&Mutant| {
                only.as_ref().is_none_or(|part| mutant.name.contains(part.as_str()))
                    && within.is_none_or(|within| mutant.within <= within)
            };
            let mutants = MUTANTS.iter().filter(wanted).copied().collect();
            hunt(&Hunt { mutants, seeds, rounds: repeat, threads }, json.as_deref())
        }
    }
}

/// Hunts mutants and tells of each as soon as it is known.
fn hunt(hunt: &Hunt, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let verdicts = mutants::hunt_all(hunt, |verdict| {
        // A reader that has gone away does not stop the hunt: the last line fails for it.
        let _ = writeln!(std::io::stdout().lock(), "{}", mutants::line(verdict));
    });
    if let Some(path) = json {
        std::fs::write(path, mutants::json(&verdicts)).with_context(|| format!("write {}", path.display()))?;
    }
    let worlds: u64 = verdicts.iter().map(Verdict::worlds).sum();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{worlds} worlds, {} worlds/s", per_second(worlds, started)).context("write the result")?;
    writeln!(out, "{}", mutants::summary(&verdicts)).context("write the result")?;
    let caught = verdicts.iter().all(Verdict::is_caught);
    Ok(if caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn vintage(first: bool) -> fn(u64) -> Plan {
    if first { Plan::draw_first } else { Plan::draw }
}

/// Runs seeds in order until one breaks a rule.
fn run((seed, seeds): (u64, u64), threads: usize, plan: fn(u64) -> Plan) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    if let Some(life) = run_plans(plan, seed, seeds, threads) {
        return show(&record_plan(plan(life.seed), life.seed, TAIL));
    }
    let rate = per_second(seeds, started);
    writeln!(std::io::stdout(), "{seeds} seeds, 0 violations, {rate} seeds/s").context("write the result")?;
    Ok(ExitCode::SUCCESS)
}

fn per_second(count: u64, since: Instant) -> u128 {
    u128::from(count) * 1000 / since.elapsed().as_millis().max(1)
}

/// Shows what is left of a failing world, and the end of its story.
fn shrink_seed(seed: u64, lines: usize, plan: fn(u64) -> Plan) -> anyhow::Result<ExitCode> {
    let Some(shrunk) = shrink(plan(seed), seed) else {
        let mut out = std::io::stdout();
        writeln!(out, "seed {seed} breaks no rule: there is nothing to make smaller").context("write the result")?;
        return Ok(ExitCode::SUCCESS);
    };
    let exit = show(&record_plan(shrunk.plan.clone(), seed, lines))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{} worlds were tried; it still breaks {} without", shrunk.tried, shrunk.rule)
        .context("write what was taken")?;
    writeln!(out, "  {}", shrunk.taken.join(", ")).context("write what was taken")?;
    writeln!(out, "what is left of the world:").context("write the plan")?;
    for line in shrunk.lines() {
        writeln!(out, "  {line}").context("write the plan")?;
    }
    Ok(exit)
}

/// Shows a life's trace and what it broke.
fn show(life: &Life) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
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
