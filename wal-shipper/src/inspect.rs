//! `wal-shipper inspect`: reads and verifies everything that a data directory holds, without a ring.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use bytesize::ByteSize;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use kennel_core::shipper::SourceRest;
use kennel_protocol::entry::EntryKind;
use serde::Serialize;

use crate::cli::InspectArgs;
use crate::config::Config;
use crate::import::choose;
use crate::progress::megabytes_per_second;
use crate::report::{print_rows, write_json};
use crate::source::{FoundPartition, Mapping, PartitionReader};

/// What one read asks for: large reads, one at a time per thread.
const WINDOW_BYTES: usize = 4 << 20;
/// Partitions that get a line of their own; the rest is in the sums and in the JSON.
const LINES_MAX: usize = 100;

/// What a data directory holds.
#[derive(Debug, Clone, Serialize)]
pub struct InspectReport {
    /// In id order.
    pub partitions: Vec<PartitionInspection>,
    /// All messages.
    pub messages: u64,
    /// All bytes of whole batches.
    pub bytes: u64,
    /// How many partitions are damaged.
    pub damaged: usize,
    /// How long it took.
    pub seconds: f64,
}

/// What one partition holds.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionInspection {
    /// Its ids.
    pub partition: String,
    /// Its stream's and topic's names.
    pub name: String,
    /// Segment files.
    pub segments: usize,
    /// First offset.
    pub start: u64,
    /// End of what is readable.
    pub end: u64,
    /// Messages that verify.
    pub messages: u64,
    /// Bytes of whole batches that verify.
    pub bytes: u64,
    /// Ranges without messages.
    pub holes: Vec<(u64, u64)>,
    /// Bytes after the last whole batch.
    pub torn_bytes: u64,
    /// What is wrong, if something is.
    pub problem: Option<String>,
}

/// Reads everything; the report says what was found. An error means that it could not run. Blocks.
pub fn inspect(config: &Config, args: &InspectArgs) -> anyhow::Result<InspectReport> {
    let (found, mapping) = choose(config)?;
    let started = Instant::now();
    let partitions = inspect_all(&found, &mapping);
    let report = InspectReport {
        messages: partitions.iter().map(|partition| partition.messages).sum(),
        bytes: partitions.iter().map(|partition| partition.bytes).sum(),
        damaged: partitions.iter().filter(|partition| partition.problem.is_some()).count(),
        seconds: started.elapsed().as_secs_f64(),
        partitions,
    };
    report.print(&mut io::stdout(), started).context("cannot print the result")?;
    if let Some(path) = &args.source.json {
        write_json(path, &report).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

/// One thread per core takes partitions until there are none left.
fn inspect_all(found: &[FoundPartition], mapping: &Mapping) -> Vec<PartitionInspection> {
    let queue: Mutex<VecDeque<&FoundPartition>> = Mutex::new(found.iter().collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut inspected = Vec::new();
        while let Some(found) = next() {
            inspected.push((found.key, inspect_partition(found, mapping)));
        }
        inspected
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("an inspection does not panic"));
        results.flatten().collect::<Vec<_>>()
    });
    all.sort_unstable_by_key(|(key, _)| *key);
    all.into_iter().map(|(_, inspection)| inspection).collect()
}

fn inspect_partition(found: &FoundPartition, mapping: &Mapping) -> PartitionInspection {
    let mut reader = PartitionReader::new(found.clone());
    let key = found.key;
    let mut next = found.start();
    let mut inspection = PartitionInspection {
        partition: key.to_string(),
        name: format!("{}/{}", mapping.stream_name(key.stream), mapping.topic_name(key.stream, key.topic)),
        segments: found.segments.len(),
        start: next.0,
        end: next.0,
        messages: 0,
        bytes: 0,
        holes: Vec::new(),
        torn_bytes: 0,
        problem: None,
    };
    loop {
        let read = reader.read(next, WINDOW_BYTES);
        for chunk in &read.chunks {
            if let EntryKind::Hole(_) = chunk.head.kind {
                inspection.holes.push((chunk.head.base.0, chunk.head.end.0));
            }
            inspection.messages += chunk.head.sum.messages;
            inspection.bytes += chunk.body.len() as u64;
            next = chunk.head.end;
        }
        inspection.end = next.0;
        inspection.torn_bytes = read.torn_bytes;
        match read.rest {
            SourceRest::More => {}
            SourceRest::Exhausted { .. } => return inspection,
            SourceRest::Damaged(damage) => {
                inspection.problem = Some(damage.to_string());
                return inspection;
            }
        }
    }
}

impl InspectReport {
    fn print(&self, out: &mut dyn Write, started: Instant) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["partition", "name", "segments", "offsets", "messages", "bytes", "holes", "torn"]);
        for partition in self.partitions.iter().take(LINES_MAX) {
            table.add_row([
                partition.partition.clone(),
                partition.name.clone(),
                partition.segments.to_string(),
                format!("[{}, {})", partition.start, partition.end),
                partition.messages.to_string(),
                ByteSize::b(partition.bytes).to_string(),
                partition.holes.len().to_string(),
                partition.torn_bytes.to_string(),
            ]);
        }
        writeln!(out, "{table}")?;
        if self.partitions.len() > LINES_MAX {
            writeln!(out, "and {} more; --json FILE has them all", self.partitions.len() - LINES_MAX)?;
        }
        let rows = [
            ("partitions", format!("{} ({} damaged)", self.partitions.len(), self.damaged)),
            ("messages", self.messages.to_string()),
            ("bytes", ByteSize::b(self.bytes).to_string()),
            ("rate", format!("{:.0} MB/s", megabytes_per_second(self.bytes, started.elapsed()))),
        ];
        print_rows(out, &rows)?;
        for partition in &self.partitions {
            if let Some(problem) = &partition.problem {
                writeln!(out, "partition {}: {problem}", partition.partition)?;
            }
        }
        Ok(())
    }
}
