//! What an import or an inspection came to: a table for people, JSON for programs.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use kennel_core::shipper::{PartitionNews, PartitionProblem};
use serde::Serialize;

use crate::progress::megabytes_per_second;
use crate::ship::ShipReport;

/// The result of an import.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    /// Partitions chosen.
    pub partitions: usize,
    /// Of those, stopped with a problem.
    pub stopped: usize,
    /// Of those, because the ring holds other messages at the same offsets (PROTOCOL R15).
    pub diverged: usize,
    /// Partitions whose files end below what the ring has: nothing of them is missing there. Whether the last message
    /// was found to be the same stands with each.
    pub behind: usize,
    /// Messages of the files that the ring has committed.
    pub messages_committed: u64,
    /// Of those, in the bucket as far as the ring has told.
    pub messages_stored: u64,
    /// Bytes of batches that this run sent and a quorum has.
    pub bytes_committed: u64,
    /// Bytes sent, counting what was sent twice.
    pub bytes_sent: u64,
    /// Declared holes.
    pub holes: Vec<HoleReport>,
    /// What stopped partitions, and what else there is to say of them.
    pub problems: Vec<ProblemReport>,
    /// Bytes of torn ends, left out.
    pub torn_bytes: u64,
    /// Whether the ring took the names.
    pub catalog_put: bool,
    /// Whether it ran to its end.
    pub finished: bool,
    /// How long it took.
    pub seconds: f64,
    /// Rate of `bytes_committed`.
    pub megabytes_per_second: f64,
}

/// A range without messages.
#[derive(Debug, Clone, Serialize)]
pub struct HoleReport {
    /// Where.
    pub partition: String,
    /// First offset.
    pub from: u64,
    /// End.
    pub to: u64,
}

/// What there is to say of a partition.
#[derive(Debug, Clone, Serialize)]
pub struct ProblemReport {
    /// Which.
    pub partition: String,
    /// Whether it stopped.
    pub stopped: bool,
    /// What.
    pub problem: String,
}

impl ImportReport {
    /// Whether the ring is known to have everything that the files hold.
    pub fn is_whole(&self) -> bool {
        self.stopped == 0 && self.behind == 0
    }

    /// From what the driver saw.
    pub fn new(report: &ShipReport, elapsed: Duration) -> Self {
        let status = report.status;
        let hole = |(partition, from, to): &(_, kennel_protocol::ids::Offset, kennel_protocol::ids::Offset)| {
            let partition: &kennel_protocol::ids::PartitionKey = partition;
            HoleReport { partition: partition.to_string(), from: from.0, to: to.0 }
        };
        let problems = report
            .news
            .iter()
            .flat_map(|(partition, news)| news.iter().map(|news| problem_report(partition.to_string(), news)));
        let count =
            |fits: fn(&PartitionNews) -> bool| report.news.values().filter(|news| news.iter().any(fits)).count();
        Self {
            partitions: status.partitions,
            stopped: status.stopped,
            diverged: count(is_divergence),
            behind: count(|news| matches!(news, PartitionNews::Behind { .. })),
            messages_committed: status.messages_committed,
            messages_stored: status.messages_stored,
            bytes_committed: status.bytes_committed,
            bytes_sent: status.bytes_sent,
            holes: report.holes.iter().map(hole).collect(),
            problems: problems.collect(),
            torn_bytes: report.torn_bytes.values().sum(),
            catalog_put: report.catalog_put,
            finished: report.finished,
            seconds: elapsed.as_secs_f64(),
            megabytes_per_second: megabytes_per_second(status.bytes_committed, elapsed),
        }
    }

    /// Prints the table.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = [
            ("partitions", format!("{} ({} stopped, {} behind the ring)", self.partitions, self.stopped, self.behind)),
            ("diverged", self.diverged.to_string()),
            ("messages committed", self.messages_committed.to_string()),
            ("messages stored", self.messages_stored.to_string()),
            ("bytes", ByteSize::b(self.bytes_committed).to_string()),
            ("holes", self.holes.len().to_string()),
            ("torn bytes left out", self.torn_bytes.to_string()),
            ("names", if self.catalog_put { "taken by the ring" } else { "not taken: ids only" }.to_owned()),
            ("time", format!("{:.2} s", self.seconds)),
            ("rate", format!("{:.1} MB/s", self.megabytes_per_second)),
        ];
        print_rows(out, &rows)?;
        for problem in &self.problems {
            writeln!(out, "partition {}: {}", problem.partition, problem.problem)?;
        }
        Ok(())
    }
}

/// Prints two columns.
pub(crate) fn print_rows(out: &mut dyn Write, rows: &[(&str, String)]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    for (name, value) in rows {
        table.add_row([*name, value]);
    }
    writeln!(out, "{table}")
}

/// Writes a result as JSON.
pub(crate) fn write_json(path: &Path, report: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(report).map_err(io::Error::other)?;
    std::fs::write(path, text)
}

/// Whether two histories were found.
pub(crate) fn is_divergence(news: &PartitionNews) -> bool {
    matches!(news, PartitionNews::Stopped(PartitionProblem::Diverged { .. }))
}

/// What is known of a source that is behind.
pub(crate) fn compared(same: bool) -> &'static str {
    if same { "their last message is the same there" } else { "their last message could not be compared" }
}

fn problem_report(partition: String, news: &PartitionNews) -> ProblemReport {
    match news {
        PartitionNews::Stopped(problem) => {
            ProblemReport { partition, stopped: true, problem: format!("stopped: {problem}") }
        }
        PartitionNews::Hole { from, to, .. } => {
            ProblemReport { partition, stopped: false, problem: format!("hole [{from}, {to})") }
        }
        PartitionNews::Behind { end, next, same } => {
            let problem = format!("the files end at offset {end}, the ring already at {next}; {}", compared(*same));
            ProblemReport { partition, stopped: false, problem }
        }
    }
}
