//! A result on a terminal.

use bytesize::ByteSize;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

use super::outcome::{GroupOutcome, Outcome, RoundOutcome, median};

/// From this share of withheld time on, a reader is told: a host stops a machine for many milliseconds at once.
const WITHHELD_TOLD: f64 = 0.01;

/// A row for each group with the medians of its rounds, and what was taken for it.
pub(super) fn render(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "operations/s", "messages/s", "per second", "p50", "p99", "p99.9", "max", "came from"]);
    for group in &outcome.groups {
        let of = |figure: fn(&RoundOutcome) -> f64| median(group.rounds.iter().map(figure));
        table.add_row([
            group.name.clone(),
            format!("{:.0}", of(|round| round.operations_per_second)),
            format!("{:.0}", of(|round| round.messages_per_second)),
            bytes(of(|round| round.bytes_per_second)),
            time(of(|round| round.p50_us)),
            time(of(|round| round.p99_us)),
            time(of(|round| round.p999_us)),
            time(group.rounds.iter().map(|round| round.max_us).fold(0.0, f64::max)),
            tiers(group),
        ]);
    }
    let mut lines = vec![format!("{}: {}", outcome.scenario.name, outcome.scenario.about), table.to_string()];
    let nodes = median(outcome.usage.iter().map(|usage| usage.nodes_cores));
    let own = median(outcome.usage.iter().map(|usage| usage.bench_cores));
    let resident = outcome.usage.iter().map(|usage| usage.nodes_resident_bytes).max().unwrap_or_default();
    lines.push(format!("cores: nodes {nodes:.2}, load and readers {own:.2}; nodes hold {}", ByteSize::b(resident)));
    let withheld = outcome.usage.iter().map(|usage| usage.withheld).fold(0.0, f64::max);
    if withheld >= WITHHELD_TOLD {
        let percent = withheld * 100.0;
        lines.push(format!(
            "the machine's host withheld {percent:.1}% of the processors' time in a round: times are its own, too"
        ));
    }
    let bucket = &outcome.bucket;
    if bucket.seconds > 0.0 && !bucket.requests.is_empty() {
        let month = bucket.cost_usd / bucket.seconds * 86_400.0 * 30.0;
        let kinds: Vec<_> = bucket.requests.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        lines.push(format!("bucket: {}; {month:.2} USD a month at this pace", kinds.join(", ")));
    }
    lines.extend(outcome.faults.iter().map(|(at, what)| format!("{at:.1} s: {what}")));
    for group in outcome.groups.iter().filter(|group| group.errors > 0) {
        let last = group.last_error.as_deref().unwrap_or_default();
        lines.push(format!("{}: {} tried again, the last: {last}", group.name, group.errors));
    }
    lines.join("\n")
}

/// The last line.
pub(super) fn verdict(outcome: &Outcome) -> String {
    let proof = &outcome.proof;
    let compared = proof.messages_during + proof.messages_after;
    if compared == 0 && proof.problems.is_empty() {
        return "nothing of a ring was read".to_owned();
    }
    let problems = match proof.problems.len() {
        0 => "all as they were shipped, in order".to_owned(),
        some => format!("{some} PROBLEMS"),
    };
    format!("{compared} messages compared, {problems}")
}

fn tiers(group: &GroupOutcome) -> String {
    let all: u64 = group.tiers.values().sum();
    let share = |(tier, count): (&String, &u64)| format!("{tier} {}%", count * 100 / all.max(1));
    group.tiers.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// A time with the unit that suits it.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        small if small < 1_000.0 => format!("{small:.1} us"),
        middling if middling < 1e6 => format!("{:.2} ms", middling / 1e3),
        large => format!("{:.2} s", large / 1e6),
    }
}

/// An amount with the unit that suits it.
pub(super) fn bytes(amount: f64) -> String {
    match amount {
        small if small < 1e3 => format!("{small:.0} B"),
        middling if middling < 1e6 => format!("{:.1} KB", middling / 1e3),
        large if large < 1e9 => format!("{:.1} MB", large / 1e6),
        huge => format!("{:.2} GB", huge / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_suit_what_they_count() {
        assert_eq!([time(8.12), time(1_500.0), time(2.5e6)], ["8.1 us", "1.50 ms", "2.50 s"]);
        assert_eq!([bytes(12.0), bytes(1_500.0), bytes(4e7), bytes(2e9)], ["12 B", "1.5 KB", "40.0 MB", "2.00 GB"]);
    }
}
