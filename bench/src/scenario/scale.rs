//! `bench scale`: scenarios again and again, first with more cores for one node, then with more nodes of one core each.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use maud::{Markup, html};
use serde::Serialize;

use super::chart::{Chart, Curve, draw};
use super::environment::Environment;
use super::file::{RingSection, Scenario};
use super::outcome::{Outcome, RoundOutcome, median};
use super::page::{document, drawing};
use super::run::measure;
use super::table::{bytes, time};
use super::target::TargetArgs;
use crate::measure::figures::{say, write_json};
use crate::measure::stage::COPIES;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct ScaleArgs {
    /// Scenarios, as `bench run` takes them. The last group of each is what is looked at: the load, or who reads.
    #[arg(default_values_t = ["most-reads".to_owned(), "most-ships".to_owned()])]
    pub scenarios: Vec<String>,
    /// Cores of one node, step by step. The load has all others of this machine, and needs at least one.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2, 4, 8, 12])]
    pub cores: Vec<usize>,
    /// Nodes of one core each, step by step.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    pub nodes: Vec<usize>,
    /// Where cache-node is; beside this program by default.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where nodes and logs go; emptied before each step. In memory (under /dev/shm), so that no disk is measured.
    #[arg(long, value_name = "DIR", default_value = "/dev/shm/kennel-bench-scale")]
    pub directory: PathBuf,
    /// A setting of the nodes, over the scenario's, as `cache-node --set` takes it. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
    /// Write the result to this file, for programs.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result to this file as one page, with charts.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write each chart into this directory, as SCENARIO-cores.svg and SCENARIO-nodes.svg.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// What grows from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Axis {
    /// Cores of one node.
    Cores,
    /// Nodes of one core each.
    Nodes,
}

/// All steps of all scenarios.
#[derive(Debug, Serialize)]
struct Scaling {
    environment: Environment,
    scenarios: Vec<ScenarioScaling>,
}

#[derive(Debug, Serialize)]
struct ScenarioScaling {
    name: String,
    about: String,
    steps: Vec<Step>,
}

/// Medians of one step's rounds.
#[derive(Debug, Serialize)]
struct Step {
    axis: Axis,
    nodes: usize,
    /// Of all nodes together.
    cores: usize,
    messages_per_second: f64,
    bytes_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Cores that the nodes kept busy, of those that they have.
    nodes_cores_busy: f64,
    /// Cores that load and readers kept busy, of the machine's others.
    load_cores_busy: f64,
    withheld: f64,
    problems: Vec<String>,
}

/// Runs all steps that this machine has cores for, and says what was found. `false` if anything was not as it was shipped.
///
/// # Errors
/// If a scenario cannot be read, or a step fails.
///
/// # Cancel safety
/// Safe: what was started ends with it.
pub async fn scale(args: ScaleArgs) -> anyhow::Result<bool> {
    let machine = std::thread::available_parallelism().context("ask for this machine's cores")?.get();
    let environment =
        Environment::here("processes on this machine, over loopback, each on cores of its own".to_owned());
    let (mut scenarios, counts) = (Vec::new(), steps_of(&args, machine));
    for name in &args.scenarios {
        let scenario = Scenario::load(name)?;
        ensure!(scenario.needs_ring() && scenario.fault.is_none(), "{name} needs no ring, or breaks it");
        let mut steps = Vec::new();
        for &(axis, count) in &counts {
            let step = step(&args, &scenario, axis, count).await;
            steps.push(step.with_context(|| format!("{name} with {count} {}", axis.word()))?);
        }
        say(&format!("{name}: {}\n{}", scenario.about, table(&steps)));
        scenarios.push(ScenarioScaling { name: scenario.name, about: scenario.about, steps });
    }
    let scaling = Scaling { environment, scenarios };
    write_json(args.json.as_deref(), &scaling)?;
    if let Some(path) = &args.html {
        std::fs::write(path, page(&scaling)?).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(directory) = &args.svg {
        write_charts(directory, &scaling)?;
    }
    let problems: Vec<_> = scaling.scenarios.iter().flat_map(|of| &of.steps).flat_map(|step| &step.problems).collect();
    for problem in &problems {
        say(problem);
    }
    say(&format!("{} problems in what was read", problems.len()));
    Ok(problems.is_empty())
}

impl Axis {
    fn word(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Nodes => "nodes",
        }
    }
}

/// The steps that leave the load a core.
fn steps_of(args: &ScaleArgs, machine: usize) -> Vec<(Axis, usize)> {
    let cores = args.cores.iter().map(|count| (Axis::Cores, *count));
    let nodes = args.nodes.iter().map(|count| (Axis::Nodes, *count));
    let (fit, others): (Vec<_>, Vec<_>) = cores.chain(nodes).partition(|(_, count)| (1..machine).contains(count));
    for (axis, count) in others {
        say(&format!("left out: {count} {}, as this machine has {machine} cores and the load needs one", axis.word()));
    }
    fit
}

async fn step(args: &ScaleArgs, scenario: &Scenario, axis: Axis, count: usize) -> anyhow::Result<Step> {
    let nodes = if axis == Axis::Nodes { count } else { 1 };
    let copies = nodes.min(COPIES);
    let mut set = scenario.ring.set.clone();
    set.extend([format!("cluster.copies={copies}"), format!("cluster.min_copies={}", copies.min(2))]);
    let scenario =
        Scenario { ring: RingSection { nodes, cores: count, set, ..scenario.ring.clone() }, ..scenario.clone() };
    let target = TargetArgs {
        ring: Vec::new(),
        tls_dir: None,
        one_process: false,
        programs: args.programs.clone(),
        directory: args.directory.clone(),
        assignments: args.assignments.clone(),
    };
    let outcome = measure(&target, scenario).await?;
    // A step's bucket may hold gigabytes, in memory.
    for directory in [args.directory.clone(), args.directory.with_extension("bucket")] {
        std::fs::remove_dir_all(&directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    Step::of(axis, nodes, count, outcome)
}

impl Step {
    fn of(axis: Axis, nodes: usize, cores: usize, outcome: Outcome) -> anyhow::Result<Self> {
        let group = outcome.groups.last().context("a scenario has a group")?;
        let of = |figure: fn(&RoundOutcome) -> f64| median(group.rounds.iter().map(figure));
        Ok(Self {
            axis,
            nodes,
            cores,
            messages_per_second: of(|round| round.messages_per_second),
            bytes_per_second: of(|round| round.bytes_per_second),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            nodes_cores_busy: median(outcome.usage.iter().map(|usage| usage.nodes_cores)),
            load_cores_busy: median(outcome.usage.iter().map(|usage| usage.bench_cores)),
            withheld: median(outcome.usage.iter().map(|usage| usage.withheld)),
            problems: outcome.proof.problems,
        })
    }

    fn cells(&self) -> [String; 9] {
        [
            self.nodes.to_string(),
            self.cores.to_string(),
            format!("{:.0}", self.messages_per_second),
            bytes(self.bytes_per_second),
            time(self.p50_us),
            time(self.p99_us),
            format!("{:.2}", self.nodes_cores_busy),
            format!("{:.2}", self.load_cores_busy),
            format!("{:.0}", self.messages_per_second / self.nodes_cores_busy.max(1e-9)),
        ]
    }
}

const HEADER: [&str; 9] = [
    "nodes",
    "their cores",
    "messages/s",
    "per second",
    "p50",
    "p99",
    "cores busy: nodes",
    "load",
    "messages/s for each busy core of a node",
];

fn table(steps: &[Step]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(HEADER);
    table.add_rows(steps.iter().map(Step::cells));
    table.to_string()
}

/// Messages a second by cores or nodes, beside what the first step would come to in proportion.
#[expect(clippy::cast_precision_loss, reason = "counts of cores are small")]
fn chart(steps: &[Step], axis: Axis) -> anyhow::Result<Option<Chart>> {
    let points: Vec<_> = steps
        .iter()
        .filter(|step| step.axis == axis)
        .map(|step| (step.cores as f64, step.messages_per_second / 1e6))
        .collect();
    let [first, .., last] = points[..] else { return Ok(None) };
    let proportion = vec![(0.0, 0.0), (last.0, first.1 / first.0 * last.0)];
    let found = Curve { name: "found".to_owned(), points };
    let proportion = Curve { name: "in proportion to the first".to_owned(), points: proportion };
    let across = move |at: f64| format!("{at:.0} {}", axis.word());
    Ok(Some(draw(vec![found, proportion], &[], &across, &|value| format!("{value:.1} M/s"))?))
}

const AXES: [(Axis, &str); 2] =
    [(Axis::Cores, "One node with more cores"), (Axis::Nodes, "More nodes of one core each")];

fn page(scaling: &Scaling) -> anyhow::Result<String> {
    let mut sections = Vec::new();
    for scenario in &scaling.scenarios {
        let mut charts = Vec::new();
        for (axis, title) in AXES {
            charts.extend(chart(&scenario.steps, axis)?.map(|chart| (title, chart)));
        }
        sections.push(section(scenario, &charts));
    }
    let here = &scaling.environment;
    let body = html! {
        h1 { "scale" }
        p { "Messages a second with more cores and with more nodes; load and readers have the machine's other cores." }
        @for section in &sections { (section) }
        p class="soft" { (here.began) ", " (here.cores) " cores of " (here.processor) ", " (here.kernel) ", " (here.version) " " (here.build) }
    };
    Ok(document("scale", &body))
}

fn section(scenario: &ScenarioScaling, charts: &[(&str, Chart)]) -> Markup {
    html! {
        h2 { (scenario.name) }
        p { (scenario.about) }
        @for (title, chart) in charts { (drawing(title, "messages a second", chart)) }
        table {
            tr { @for word in HEADER { th { (word) } } }
            @for step in &scenario.steps { tr { @for cell in step.cells() { td { (cell) } } } }
        }
    }
}

fn write_charts(directory: &std::path::Path, scaling: &Scaling) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    for scenario in &scaling.scenarios {
        for (axis, _) in AXES {
            let Some(chart) = chart(&scenario.steps, axis)? else { continue };
            let path = directory.join(format!("{}-{}.svg", scenario.name, axis.word()));
            std::fs::write(&path, chart.svg).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
