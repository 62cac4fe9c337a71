//! The table at the end of the tour.

use std::fmt::Write;
use std::path::Path;

use bytesize::ByteSize;
use cache_node::http::StatusReport;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

use super::ring::RingStatus;
use super::{Comparison, Seen};

/// What a log object's key begins with, below the bucket's root.
const LOG: &str = "log";

/// Renders what was seen.
///
/// # Errors
/// If the bucket's directory cannot be read.
pub(super) fn render(seen: &Seen, bucket: &Path) -> anyhow::Result<String> {
    let first = seen.comparisons.first().map(|comparison| &comparison.verified);
    let (messages, partitions) = first.map_or((0, 0), |verified| (verified.messages, verified.partitions));
    let (objects, stored) = objects(&bucket.join(LOG))?;
    let requests = |pick: fn(&StatusReport) -> u64| {
        let sum = |status: &RingStatus| status.reports.iter().map(pick).sum::<u64>();
        sum(&seen.before_restart) + sum(&seen.after_restart)
    };
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.add_row(["messages", &messages.to_string()]);
    table.add_row(["bytes shipped", &ByteSize::b(seen.shipped_bytes).to_string()]);
    table.add_row(["partitions", &partitions.to_string()]);
    table.add_row(["objects in the log", &format!("{objects}, {}", ByteSize::b(stored))]);
    table.add_row(["PUTs", &requests(|report| report.bucket.puts).to_string()]);
    table.add_row(["GETs", &requests(|report| report.bucket.gets).to_string()]);
    for (step, taken) in &seen.steps {
        table.add_row([*step, &format!("{:.2} s", taken.as_secs_f64())]);
    }
    for Comparison { when, verified } in &seen.comparisons {
        let tiers: Vec<_> = verified.served.iter().map(|(tier, count)| format!("{tier} {count}")).collect();
        table.add_row([&format!("read {when}"), &format!("{:.2} s ({})", verified.seconds, tiers.join(", "))]);
    }
    table.add_row(["killed", &format!("node {}", seen.killed)]);
    table.add_row(["owners before the restart", &owners(&seen.before_restart)]);
    table.add_row(["owners after the restart", &owners(&seen.after_restart)]);
    Ok(table.to_string())
}

/// `node 1: 0 3 5, node 2: 1 ...`
fn owners(status: &RingStatus) -> String {
    let owners = status.owners();
    let mut text = String::new();
    for report in &status.reports {
        let owned = owners.iter().filter(|(_, node)| **node == report.node);
        let owned: Vec<_> = owned.map(|(shard, _)| shard.to_string()).collect();
        let separator = if text.is_empty() { "" } else { "; " };
        let shards = if owned.is_empty() { "none".to_owned() } else { owned.join(" ") };
        write!(text, "{separator}node {}: {shards}", report.node).expect("writing to a string does not fail");
    }
    text
}

/// How many objects lie below a directory, and their bytes.
fn objects(directory: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (found, size) =
            if entry.file_type()?.is_dir() { objects(&entry.path())? } else { (1, entry.metadata()?.len()) };
        count += found;
        bytes += size;
    }
    Ok((count, bytes))
}
