//! Progress of an import: a bar on a terminal, plain lines elsewhere, both on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use kennel_core::shipper::{PartitionNews, ShipperStatus};
use kennel_protocol::ids::PartitionKey;

use crate::report::compared;
use crate::ship::Watcher;

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Shows an import as it goes.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    total_bytes: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Progress over so many bytes of segment files.
    pub fn new(total_bytes: u64) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new(total_bytes) };
        let template = "{bar:32} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("a constant template is valid"));
        let now = Instant::now();
        Self { bar, plain, total_bytes, started: now, last_line: now }
    }

    /// Leaves the terminal to the table.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        if self.plain {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Watcher for Progress {
    fn progress(&mut self, status: &ShipperStatus) {
        let settled = format!("{}/{} partitions", status.settled, status.partitions);
        let messages = format!("{} committed, {} stored", status.messages_committed, status.messages_stored);
        self.bar.set_position(status.bytes_committed.min(self.total_bytes));
        self.bar.set_message(format!("{messages}, {settled}"));
        if self.plain && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let (done, total) = (ByteSize::b(status.bytes_committed), ByteSize::b(self.total_bytes));
            let rate = megabytes_per_second(status.bytes_committed, self.started.elapsed());
            self.say(&format!("{done} of {total}, {rate:.1} MB/s, messages: {messages}; {settled}"));
        }
    }

    fn news(&mut self, partition: PartitionKey, news: &PartitionNews) {
        match news {
            PartitionNews::Stopped(problem) => self.say(&format!("partition {partition} stopped: {problem}")),
            PartitionNews::Hole { from, to, reason } => {
                self.say(&format!("partition {partition}: hole [{from}, {to}) declared ({reason:?})"));
            }
            PartitionNews::Behind { end, next, same } => {
                let line = format!("partition {partition}: the files end at {end}, the ring already at {next}");
                self.say(&format!("{line}; {}", compared(*same)));
            }
        }
    }
}

/// Millions of bytes a second.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub(crate) fn megabytes_per_second(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64().max(1e-6)
}
