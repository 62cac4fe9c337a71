//! `bench versus`: the same hundred messages of 1 KB, read from Kennel and from what somebody would take instead; with `--ships`,
//! given to them until they are acknowledged.
//!
//! | file | what it is |
//! |---|---|
//! | `contenders` | everybody who answers, behind one trait |
//! | `kennel` | a node's tail, over QUIC and out of shared memory |
//! | `others` | Redis, NATS `JetStream`, a live Iggy server |
//! | `object_store` | an object's range over S3's protocol |
//! | `floor` | what is below them all: bare quinn, bare TCP, a file, a copy |
//! | `ships` | the same the other way |
//!
//! All run on this machine, over loopback, with one question under way; they take turns within each round, so that they see
//! the same machine, and each figure is the median of the rounds. Who is not installed is left out, and the table says so.

mod contenders;
mod floor;
mod kennel;
mod object_store;
mod others;
mod ships;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;

use crate::measure::PlaceArgs;
use crate::measure::figures::{Figures, say, write_json};
use crate::measure::usage::Usage;
use crate::scenario::{Environment, median, time};
use contenders::{Contender, Presence};

/// Messages of an answer.
const MESSAGES: u32 = 100;
/// Payload of each.
const MESSAGE_BYTES: u32 = 1_000;
/// Questions that are asked and not counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct VersusArgs {
    /// Give messages away instead of reading them.
    #[arg(long)]
    pub ships: bool,
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// How long each has in a round, as "1s".
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub turn: Duration,
    /// The ring, and the result.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The Iggy server to run beside it.
    #[arg(long, env = "IGGY_SERVER_BIN", value_name = "PROGRAM")]
    pub iggy: Option<PathBuf>,
}

/// One who answers.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    /// Medians of the rounds.
    p50_us: f64,
    p99_us: f64,
    messages_per_second: f64,
    /// Messages for each second of processor that both sides took together.
    messages_per_core_second: f64,
    /// Times that Kennel takes as long, and does as much per core: over QUIC, and with a journal.
    p50_of_kennel: f64,
    per_core_of_kennel: f64,
}

#[derive(Debug, Serialize)]
struct VersusReport {
    environment: Environment,
    ships: bool,
    messages: u32,
    message_bytes: u32,
    rounds: u32,
    rows: Vec<Row>,
    absent: Vec<String>,
    bars: Vec<Bar>,
}

/// What must hold between two of them.
#[derive(Debug, Clone, Serialize)]
struct Bar {
    what: String,
    found: f64,
    asked: f64,
    met: bool,
}

/// One turn of one contender.
struct Turn {
    figures: Figures,
    answers: f64,
    seconds: f64,
    processor: Duration,
}

/// Runs it. The last line printed is the verdict.
///
/// # Errors
/// If a node or a server that is installed cannot be started, or an answer is not what it must be.
///
/// # Cancel safety
/// Safe: the processes end with it.
pub async fn versus(args: VersusArgs) -> anyhow::Result<bool> {
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for presence in contenders::all(&args).await? {
        match presence {
            Presence::Here(contender) => present.push(contender),
            Presence::Absent(why) => absent.push(why),
        }
    }
    let mut turns: Vec<Vec<Turn>> = present.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds {
        for (contender, turns) in present.iter_mut().zip(&mut turns) {
            turns.push(take_turn(contender.as_mut(), args.turn).await?);
        }
    }
    let names = present.iter().map(|contender| contender.name().to_owned());
    let mut rows: Vec<Row> = names.zip(&turns).map(|(name, turns)| row(name, turns)).collect();
    relate(&mut rows);
    let bars = judge(&rows);
    let met = bars.iter().all(|bar| bar.met);
    let environment = Environment::here("everything on this machine, over loopback".to_owned());
    let (messages, message_bytes, rounds) = (MESSAGES, MESSAGE_BYTES, args.rounds);
    let report = VersusReport { environment, ships: args.ships, messages, message_bytes, rounds, rows, absent, bars };
    write_json(args.place.json.as_deref(), &report)?;
    tell(&report);
    Ok(met)
}

async fn take_turn(contender: &mut dyn Contender, turn: Duration) -> anyhow::Result<Turn> {
    let mut question = 0;
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        contender.ask(question).await?;
        question += 1;
    }
    let processes: Vec<u32> = contender.processes()?.into_iter().chain([std::process::id()]).collect();
    let taken = || processes.iter().map(|process| Usage::of(*process)).collect::<anyhow::Result<Vec<_>>>();
    let (before, began) = (taken()?, Instant::now());
    let mut times = Vec::new();
    while began.elapsed() < turn {
        let asked = Instant::now();
        contender.ask(question).await?;
        times.push(asked.elapsed());
        question += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let processor = taken()?.into_iter().zip(before).map(|(after, before)| after.since(before)).sum();
    #[expect(clippy::cast_precision_loss, reason = "questions of seconds are far below 2^53")]
    let answers = times.len() as f64;
    Ok(Turn { figures: Figures::of(times), answers, seconds, processor })
}

fn row(name: String, turns: &[Turn]) -> Row {
    let of = |figure: &dyn Fn(&Turn) -> f64| median(turns.iter().map(figure));
    let messages = f64::from(MESSAGES);
    Row {
        name,
        p50_us: of(&|turn| turn.figures.p50_ms * 1e3),
        p99_us: of(&|turn| turn.figures.p99_ms * 1e3),
        messages_per_second: of(&|turn| turn.answers * messages / turn.seconds),
        // A tick of the processor's clock is the least that can be told.
        messages_per_core_second: of(&|turn| turn.answers * messages / turn.processor.as_secs_f64().max(0.01)),
        p50_of_kennel: 0.0,
        per_core_of_kennel: 0.0,
    }
}

fn relate(rows: &mut [Row]) {
    let is_own = |row: &&Row| [kennel::QUIC, ships::JOURNALED].contains(&row.name.as_str());
    let Some(own) = rows.iter().find(is_own).cloned() else { return };
    for row in rows {
        row.p50_of_kennel = own.p50_us / row.p50_us;
        row.per_core_of_kennel = own.messages_per_core_second / row.messages_per_core_second;
    }
}

fn judge(rows: &[Row]) -> Vec<Bar> {
    let per_core = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.messages_per_core_second);
    let p50 = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.p50_us);
    let mut bars = Vec::new();
    let mut at_least = |what: &str, above: Option<f64>, below: Option<f64>, asked: f64| {
        if let (Some(above), Some(below)) = (above, below) {
            let found = above / below;
            bars.push(Bar { what: what.to_owned(), found, asked, met: found >= asked });
        }
    };
    let (shared, quic) = (per_core(kennel::SHARED), per_core(kennel::QUIC));
    at_least("shared memory against Redis, messages per core", shared, per_core(others::REDIS), 10.0);
    at_least("shared memory against Iggy, messages per core", shared, per_core(others::IGGY), 5.0);
    at_least("QUIC against Redis, messages per core", quic, per_core(others::REDIS), 1.0);
    at_least("QUIC against Iggy, messages per core", quic, per_core(others::IGGY), 1.0);
    at_least("bare quinn's p50 against a fetch over QUIC", p50(floor::QUINN), p50(kennel::QUIC), 1.0 / 1.25);
    bars
}

fn tell(report: &VersusReport) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let own = if report.ships { "Kennel, synced: p50" } else { "Kennel, QUIC: p50" };
    table.set_header(["100 x 1 KB", "p50", "p99", "messages/s", "messages/s and core", own, "per core"]);
    for row in &report.rows {
        table.add_row([
            row.name.clone(),
            time(row.p50_us),
            time(row.p99_us),
            format!("{:.0}", row.messages_per_second),
            format!("{:.0}", row.messages_per_core_second),
            format!("{:.2} x", row.p50_of_kennel),
            format!("{:.2} x", row.per_core_of_kennel),
        ]);
    }
    say(&table.to_string());
    for absent in &report.absent {
        say(&format!("left out: {absent}"));
    }
    for bar in &report.bars {
        let word = if bar.met { "met" } else { "missed" };
        say(&format!("{}: {:.2} (asked {:.2}, {word})", bar.what, bar.found, bar.asked));
    }
    let missed = report.bars.iter().filter(|bar| !bar.met).count();
    say(&format!("{} rows, {} bars, {missed} missed", report.rows.len(), report.bars.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, p50_us: f64, per_core: f64) -> Row {
        let (messages_per_second, messages_per_core_second) = (per_core, per_core);
        let (p50_of_kennel, per_core_of_kennel) = (0.0, 0.0);
        let p99_us = p50_us * 2.0;
        let name = name.to_owned();
        Row { name, p50_us, p99_us, messages_per_second, messages_per_core_second, p50_of_kennel, per_core_of_kennel }
    }

    #[test]
    fn bars_are_of_those_who_are_there() {
        let mut rows =
            vec![plain(kennel::QUIC, 200.0, 1e5), plain(kennel::SHARED, 10.0, 3e6), plain(others::REDIS, 100.0, 2e5)];
        relate(&mut rows);
        assert!((rows[2].p50_of_kennel - 2.0).abs() < 1e-9 && (rows[2].per_core_of_kennel - 0.5).abs() < 1e-9);
        let bars = judge(&rows);
        assert_eq!(bars.iter().map(|bar| bar.met).collect::<Vec<_>>(), [true, false], "{bars:?}");
    }
}
