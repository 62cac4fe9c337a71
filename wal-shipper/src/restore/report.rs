//! What a restore came to: a table for people, JSON for programs.

use std::io::{self, Write};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use super::copy::{Copied, CopyError};
use super::plan::TopicPlan;
use super::target::{Place, TargetError};
use crate::progress::megabytes_per_second;
use crate::report::print_rows;

/// The result of a restore.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestoreReport {
    /// Partitions, in the order of the catalogue.
    pub partitions: Vec<PartitionRestored>,
    /// Partitions of which the target holds something else.
    pub foreign: usize,
    /// Partitions that are not whole for another reason.
    pub failed: usize,
    /// Partitions of the ring that no catalogue names: they cannot be restored by name.
    pub nameless: usize,
    /// Topics whose messages expired at the source.
    pub topics_with_expiry: usize,
    /// Of these, the topics whose messages expire at the target as well: whole ones, if it was asked for.
    pub expiries_set: usize,
    /// Why others did not get their expiry, though they are whole and it was asked for.
    pub expiry_problems: Vec<String>,
    /// Messages sent by this run.
    pub messages_sent: u64,
    /// Messages that an earlier run had sent.
    pub messages_present: u64,
    /// Messages read back and found to be the ring's.
    pub messages_verified: u64,
    /// Bytes of payloads and headers sent.
    pub bytes_sent: u64,
    /// How long it took.
    pub seconds: f64,
    /// Whether it ran to its end.
    pub finished: bool,
}

/// One partition.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartitionRestored {
    /// Which, `stream/topic/partition` by name.
    pub place: String,
    /// Its key in the ring.
    pub partition: String,
    /// Messages sent by this run.
    pub sent: u64,
    /// Messages that were there before.
    pub present: u64,
    /// Messages read back and found to be the ring's.
    pub verified: u64,
    /// Why it is not whole.
    pub problem: Option<String>,
}

impl RestoreReport {
    /// Whether everything chosen is in the target and was compared, and expires there if that was asked for.
    pub fn is_whole(&self) -> bool {
        self.foreign == 0 && self.failed == 0 && self.expiry_problems.is_empty()
    }

    /// Adds what became of a topic's expiry.
    pub fn add_expiry(&mut self, topic: &TopicPlan, set: Result<(), TargetError>) {
        match set {
            Ok(()) => self.expiries_set += 1,
            Err(error) => self.expiry_problems.push(format!("{}/{}: {error}", topic.stream, topic.topic)),
        }
    }

    /// Adds a partition.
    pub fn add(&mut self, partition: String, place: &Place, result: &Result<Copied, CopyError>) {
        let mut line = PartitionRestored { place: place.to_string(), partition, ..PartitionRestored::default() };
        match result {
            Ok(Copied { present, sent, bytes, verified }) => {
                (line.present, line.sent, line.verified) = (*present, *sent, *verified);
                self.messages_sent += sent;
                self.messages_present += present;
                self.messages_verified += verified;
                self.bytes_sent += bytes;
            }
            Err(error) => {
                line.problem = Some(chain(error));
                *(if error.is_foreign() { &mut self.foreign } else { &mut self.failed }) += 1;
            }
        }
        self.partitions.push(line);
    }

    /// Prints the table, and the partitions that are not whole.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let rate = megabytes_per_second(self.bytes_sent, Duration::from_secs_f64(self.seconds));
        let rows = [
            ("partitions", self.partitions.len().to_string()),
            ("not whole", format!("{}, and {} hold something else", self.failed, self.foreign)),
            ("messages", format!("{} sent, {} were there", self.messages_sent, self.messages_present)),
            ("verified", self.messages_verified.to_string()),
            ("bytes sent", format!("{} in {:.1} s, {rate:.1} MB/s", ByteSize::b(self.bytes_sent), self.seconds)),
            ("partitions without a name", self.nameless.to_string()),
            ("topics with an expiry", format!("{}, set again for {}", self.topics_with_expiry, self.expiries_set)),
        ];
        print_rows(out, &rows)?;
        for line in &self.partitions {
            if let Some(problem) = &line.problem {
                writeln!(out, "{} (partition {}): {problem}", line.place, line.partition)?;
            }
        }
        for problem in &self.expiry_problems {
            writeln!(out, "without its expiry: {problem}")?;
        }
        Ok(())
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = core::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
