//! A result as one page: no script, no network, and as good on paper as on a screen.

use bytesize::ByteSize;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart;
use super::outcome::{GroupOutcome, Outcome, RoundOutcome, median};
use super::table::{bytes, time, verdict};

const STYLE: &str = "
:root { --ink: #1c2530; --soft: #5d6b7a; --line: #dfe5eb; --fill: #f5f7f9; --good: #00745a; --bad: #b23b00; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 920px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; } p { margin: .2rem 0; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .85em; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
.wide td { text-align: left; } .wide td:first-child { width: 30%; color: var(--soft); }
svg { width: 100%; height: auto; } .legend i { display: inline-block; width: 18px; height: 3px; margin: 0 6px 4px 16px; } .bar { display: flex; height: 22px; border-radius: 4px; overflow: hidden; }
.bar span { color: #fff; font-size: 12px; padding: 2px 6px; white-space: nowrap; overflow: hidden; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } section { break-inside: avoid; } }
";

const TIERS: [&str; 6] = ["#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#56b4e9"];

/// The page.
///
/// # Errors
/// If a chart cannot be drawn.
pub(super) fn render(outcome: &Outcome) -> anyhow::Result<String> {
    let charts = [
        ("Throughput", "each second", chart::throughput(outcome)?),
        ("Latency over time", "of what was due in each second", chart::latency_over_time(outcome)?),
        ("Latency by percentile", "of all rounds", chart::percentiles(outcome)?),
    ];
    let scenario = &outcome.scenario;
    let body = html! {
        h1 { (scenario.name) }
        p { (scenario.about) }
        p class=(if outcome.proof.problems.is_empty() { "good" } else { "bad" }) { (verdict(outcome)) }
        @for problem in &outcome.proof.problems { p class="bad" { (problem) } }
        section { h2 { "Medians of " (scenario.time.rounds) " rounds" } (figures(outcome)) (explain(outcome)) }
        @for (title, what, chart) in &charts { (drawing(title, what, chart)) }
        section { h2 { "Where answers came from" } (tiers(outcome)) }
        section { h2 { "What it took" } (usage(outcome)) }
        section { h2 { "The scenario" } (asked(outcome)) }
        section { h2 { "The machine" } (machine(outcome)) }
    };
    Ok(document(&scenario.name, &body))
}

/// A whole page.
pub(super) fn document(name: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Kennel bench: " (name) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// A chart under its title, with what its lines are.
pub(super) fn drawing(title: &str, what: &str, chart: &chart::Chart) -> Markup {
    html! {
        section {
            h2 { (title) " " span class="soft" { (what) } }
            p class="legend" { @for (colour, name) in &chart.legend { i style=(format!("background: {colour}")) {} (name) } }
            (PreEscaped(&chart.svg))
        }
    }
}

fn figures(outcome: &Outcome) -> Markup {
    html! {
        table {
            tr { th {} th { "messages/s" } th { "per second" } th { "p50" } th { "p99" } th { "p99.9" } th { "longest" } }
            @for group in &outcome.groups {
                @let of = |figure: fn(&RoundOutcome) -> f64| median(group.rounds.iter().map(figure));
                tr {
                    td { (group.name) }
                    td { (format!("{:.0}", of(|round| round.messages_per_second))) }
                    td { (bytes(of(|round| round.bytes_per_second))) }
                    td { (time(of(|round| round.p50_us))) }
                    td { (time(of(|round| round.p99_us))) }
                    td { (time(of(|round| round.p999_us))) }
                    td { (time(group.rounds.iter().map(|round| round.max_us).fold(0.0, f64::max))) }
                }
            }
        }
    }
}

fn explain(outcome: &Outcome) -> Markup {
    html! {
        @for group in &outcome.groups {
            p class="soft" {
                (group.name) ": times are " (group.timed) "; "
                @if group.open_loop { "work comes by the clock, so a stall counts for all that it held up." }
                @else { "the next one begins when the last is done." }
                @if group.errors > 0 {
                    " " (group.errors) " were tried again"
                    @if let Some(last) = &group.last_error { ", the last: " (last) }
                    "."
                }
            }
        }
    }
}

fn tiers(outcome: &Outcome) -> Markup {
    let reading: Vec<&GroupOutcome> = outcome.groups.iter().filter(|group| !group.tiers.is_empty()).collect();
    html! {
        @if reading.is_empty() { p class="soft" { "Nothing was read from a ring." } }
        @for group in reading {
            @let all = group.tiers.values().sum::<u64>().max(1);
            p { (group.name) }
            div class="bar" {
                @for (number, (tier, count)) in group.tiers.iter().enumerate() {
                    span style=(format!("flex: {count}; background: {}", TIERS[number % TIERS.len()])) title=(tier) {
                        (tier) " " (count * 100 / all) "%"
                    }
                }
            }
        }
    }
}

fn usage(outcome: &Outcome) -> Markup {
    let of = |figure: fn(&super::outcome::RoundUsage) -> f64| median(outcome.usage.iter().map(figure));
    let resident = outcome.usage.iter().map(|usage| usage.nodes_resident_bytes).max().unwrap_or_default();
    let bucket = &outcome.bucket;
    html! {
        table class="wide" {
            tr { td { "cores of the nodes" } td { (format!("{:.2}", of(|usage| usage.nodes_cores))) } }
            tr { td { "cores of load and readers" } td { (format!("{:.2}", of(|usage| usage.bench_cores))) } }
            tr { td { "memory of the nodes" } td { (ByteSize::b(resident)) } }
            tr { td { "withheld by the machine's host" } td { (format!("{:.2}%", of(|usage| usage.withheld * 100.0))) } }
            @for (kind, count) in &bucket.requests { tr { td { "requests to the bucket: " (kind) } td { (count) } } }
            @if bucket.seconds > 0.0 && !bucket.requests.is_empty() {
                tr {
                    td { "their price" }
                    td {
                        (format!("{:.6} USD in {:.0} s, ", bucket.cost_usd, bucket.seconds))
                        (format!("{:.2} USD a month at this pace", bucket.cost_usd / bucket.seconds * 86_400.0 * 30.0))
                    }
                }
            }
            @for (at, what) in &outcome.faults { tr { td { (format!("at {at:.1} s")) } td { (what) } } }
        }
    }
}

fn asked(outcome: &Outcome) -> Markup {
    let scenario = &outcome.scenario;
    html! {
        table class="wide" {
            @if let Some(ship) = &scenario.ship {
                tr { td { "load" } td { (ship.partitions) " partitions, batches of " (ship.messages_per_batch) " x " (ship.message_bytes) " B, " (ship.rate) " a second" } }
            }
            @if let Some(before) = &scenario.before { tr { td { "there before" } td { (before.bytes) } } }
            @for read in &scenario.read {
                tr {
                    td { "readers" }
                    td {
                        (read.readers) " " (format!("{:?}", read.kind).to_lowercase()) ", at most " (read.bytes) " an answer"
                        @if read.rate > 0.0 { ", " (read.rate) " a second each" }
                        @if read.shared_memory { ", out of shared memory" }
                        @if read.fabric { ", by the fabric " code { (scenario.ring.fabric.provider) } }
                    }
                }
            }
            @for set in &scenario.ring.set { tr { td { "set" } td { code { (set) } } } }
        }
    }
}

fn machine(outcome: &Outcome) -> Markup {
    let here = &outcome.environment;
    html! {
        table class="wide" {
            tr { td { "began" } td { (here.began) } }
            tr { td { "nodes" } td { (here.nodes) } }
            tr { td { "processor" } td { (here.cores) " cores of " (here.processor) } }
            tr { td { "memory" } td { (ByteSize::b(here.memory_bytes)) } }
            tr { td { "kernel" } td { (here.kernel) } }
            tr { td { "build" } td { (here.version) ", " (here.build) } }
            tr { td { "load before it began" } td { (here.load_before) } }
        }
    }
}
