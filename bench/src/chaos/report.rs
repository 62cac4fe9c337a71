//! What runs came to: JSON for programs, a timeline and a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;

use super::abilities::Skipped;
use super::schedule::Schedule;
use super::timeline::{Entry, render};
use super::violation::Violation;

/// All runs.
#[derive(Debug, Clone, Serialize)]
pub struct ChaosReport {
    /// Of the first run; each further run's is one more.
    pub seed: u64,
    /// Length of a run's load.
    pub seconds: u64,
    /// Which bucket was behind the proxy.
    pub bucket: String,
    /// What this machine did not permit, and why.
    pub skipped: Skipped,
    /// In order of seeds.
    pub runs: Vec<RunReport>,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// Its seed: gives the same schedule again.
    pub seed: u64,
    /// What was to happen.
    pub schedule: Schedule,
    /// Messages that the source wrote.
    pub messages_written: u64,
    /// Of those, told to somebody as committed.
    pub messages_acknowledged: u64,
    /// In the bucket at the end.
    pub messages_stored: u64,
    /// Checked by followers while things went wrong, once by each.
    pub messages_read_online: u64,
    /// Answers that came out of shared memory or by the fabric.
    pub answers_past_quic: u64,
    /// Copies that owners placed in followers' memory by the fabric, as far as they lived to tell.
    pub copies_placed: u64,
    /// Longest time from the writing of a message until a follower had it: shipping, take-over and reading.
    pub longest_read_gap_millis: u64,
    /// Times that a reader's patience ran out.
    pub fetches_given_up: u64,
    /// Times that a shard got a newer owner.
    pub takeovers: u64,
    /// Imports that shipped everything.
    pub imports_whole: u64,
    /// Imports that were killed, or gave up.
    pub imports_broken: u64,
    /// Nodes that ended without having been told to.
    pub ended_by_themselves: u64,
    /// Bucket requests that met a fault.
    pub bucket_requests_hit: u64,
    /// How long the ring took to be whole once nothing was in its way.
    pub whole_again_millis: Option<u64>,
    /// Answers after the cold restart, by the tier that gave them.
    pub served_cold: BTreeMap<String, u64>,
    /// The first of what must not have been.
    pub violations: Vec<Violation>,
    /// How often something of it was seen.
    pub violations_seen: u64,
    /// Where logs and source are, if they were kept.
    pub kept: Option<PathBuf>,
    /// What happened.
    pub timeline: Vec<Entry>,
}

impl RunReport {
    pub(super) fn new(seed: u64, schedule: Schedule) -> Self {
        Self {
            seed,
            schedule,
            messages_written: 0,
            messages_acknowledged: 0,
            messages_stored: 0,
            messages_read_online: 0,
            answers_past_quic: 0,
            copies_placed: 0,
            longest_read_gap_millis: 0,
            fetches_given_up: 0,
            takeovers: 0,
            imports_whole: 0,
            imports_broken: 0,
            ended_by_themselves: 0,
            bucket_requests_hit: 0,
            whole_again_millis: None,
            served_cold: BTreeMap::new(),
            violations: Vec::new(),
            violations_seen: 0,
            kept: None,
            timeline: Vec::new(),
        }
    }

    /// Its line on the terminal.
    pub fn line(&self) -> String {
        let Self { seed, messages_written: written, messages_acknowledged: acknowledged, takeovers, .. } = self;
        let mut line = format!(
            "seed {seed}: {} nodes, {} events, {written} messages, {acknowledged} acknowledged, {takeovers} take-overs, ",
            self.schedule.nodes,
            self.schedule.events.len(),
        );
        let gap = self.longest_read_gap_millis;
        if self.answers_past_quic > 0 {
            write!(line, "{} answers past QUIC, ", self.answers_past_quic).expect("writing to a string does not fail");
        }
        if self.copies_placed > 0 {
            write!(line, "{} copies by the fabric, ", self.copies_placed).expect("writing to a string does not fail");
        }
        let end = match self.violations.len() {
            0 => format!("longest read gap {gap} ms"),
            count => format!("{count} VIOLATIONS"),
        };
        line.push_str(&end);
        line
    }
}

impl ChaosReport {
    /// Violations of all runs.
    pub fn violations(&self) -> usize {
        self.runs.iter().map(|run| run.violations.len()).sum()
    }

    /// The last line of the command, word for word what scripts look for.
    pub fn line(&self) -> String {
        format!("{} runs, {} violations", self.runs.len(), self.violations())
    }

    /// A table of all runs.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "seed",
            "nodes",
            "events",
            "written",
            "acknowledged",
            "stored",
            "take-overs",
            "gap ms",
            "violations",
        ]);
        for run in &self.runs {
            table.add_row([
                run.seed,
                run.schedule.nodes.into(),
                run.schedule.events.len() as u64,
                run.messages_written,
                run.messages_acknowledged,
                run.messages_stored,
                run.takeovers,
                run.longest_read_gap_millis,
                run.violations.len() as u64,
            ]);
        }
        table.to_string()
    }

    /// Writes the JSON to `path`, and the timelines beside it as `.txt`.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self).context("write the report as JSON")?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
        let text = path.with_extension("txt");
        std::fs::write(&text, self.timelines()).with_context(|| format!("write {}", text.display()))
    }

    fn timelines(&self) -> String {
        let mut text = String::new();
        for (what, why) in &self.skipped.0 {
            writeln!(text, "SKIPPED {what}: {why}").expect("writing to a string does not fail");
        }
        for run in &self.runs {
            writeln!(text, "\n== {}", run.line()).expect("writing to a string does not fail");
            text.push_str(&render(&run.timeline));
        }
        text
    }
}
