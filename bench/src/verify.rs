//! The oracle: every message of an Iggy data directory against what the ring serves, in order, byte for byte.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kennel_client::{Client, FetchRequest, Fetched, Message, Offset, PartitionKey, Served};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::Epoch;
use serde::Serialize;
use tokio::sync::Semaphore;
use wal_shipper::source::{FoundPartition, scan};

use crate::walk::{SourceMessage, Walk};

/// How long an answer may take to come where the source has more than the ring has committed.
const BEHIND_WAIT: Duration = Duration::from_secs(5);
/// Problems that are told in words; the counts have them all.
const PROBLEMS_MAX: usize = 20;

/// Where answers are expected to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExpectServed {
    /// All from memory tails.
    Tail,
    /// None from memory tails: from the bucket, or from a cache in front of it.
    Bucket,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verified {
    /// Partitions compared.
    pub partitions: u64,
    /// Messages that are equal.
    pub messages: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Messages of the source that the ring did not serve.
    pub lost: u64,
    /// Messages that the ring served again.
    pub duplicated: u64,
    /// Messages that differ, or that the source does not have.
    pub wrong: u64,
    /// Fetches by the tier that answered.
    pub served: BTreeMap<String, u64>,
    /// Answers from a tier that was not expected.
    pub served_elsewhere: u64,
    /// The first problems, in words.
    pub problems: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Verified {
    /// Whether nothing is lost, doubled or wrong, and every answer came from where it was expected.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.wrong == 0 && self.served_elsewhere == 0
    }

    /// The last line of the command, word for word what scripts look for.
    pub fn line(&self) -> String {
        let Self { messages, lost, duplicated, wrong, .. } = self;
        format!("verified {messages} messages, {lost} lost, {duplicated} duplicated, {wrong} wrong")
    }

    fn problem(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem());
        }
    }

    fn add(&mut self, other: Self) {
        self.partitions += other.partitions;
        self.messages += other.messages;
        self.payload_bytes += other.payload_bytes;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.served_elsewhere += other.served_elsewhere;
        for (tier, count) in other.served {
            *self.served.entry(tier).or_default() += count;
        }
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }
}

/// Compares every partition of a data directory, `parallel` at a time; `progress` is told of each one that is done.
///
/// # Cancel safety
/// Safe: it only reads.
pub async fn verify(
    client: &Client,
    data_dir: &Path,
    parallel: usize,
    expect: Option<ExpectServed>,
    progress: &(dyn Fn(&Verified, usize) + Sync),
) -> anyhow::Result<Verified> {
    let started = Instant::now();
    let found: Vec<FoundPartition> = scan(data_dir)?.into_iter().filter(|found| found.bytes() > 0).collect();
    let total = found.len();
    let permits = Arc::new(Semaphore::new(parallel));
    let mut tasks = tokio::task::JoinSet::new();
    for found in found {
        let (client, permits) = (client.clone(), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            verify_partition(&client, &found, expect).await
        });
    }
    let mut sum = Verified::default();
    while let Some(result) = tasks.join_next().await {
        sum.add(result??);
        progress(&sum, total);
    }
    sum.seconds = started.elapsed().as_secs_f64();
    Ok(sum)
}

async fn verify_partition(
    client: &Client,
    found: &FoundPartition,
    expect: Option<ExpectServed>,
) -> io::Result<Verified> {
    let mut comparison = Comparison::new(found.key, Walk::open(&found.directory)?, found.start());
    let (mut epoch, mut last): (Epoch, Option<MessageIdentity>) = (Epoch(0), None);
    loop {
        let more = comparison.source.peek()?.is_some();
        let wait = if more { BEHIND_WAIT } else { Duration::ZERO };
        let request = FetchRequest { epoch, last, ..FetchRequest::at(found.key, comparison.next).waiting(wait) };
        match client.fetch(request).await {
            Ok(fetched) if fetched.is_empty() => break,
            Ok(fetched) => {
                epoch = epoch.max(fetched.epoch);
                last = fetched.last.or(last);
                comparison.count_served(&fetched, expect);
                comparison.take(&fetched)?;
            }
            Err(error) => {
                comparison.sum.problem(|| format!("partition {}: {}", found.key, chain(&error)));
                break;
            }
        }
    }
    comparison.finish()
}

/// One partition's messages from both sides, in step.
struct Comparison {
    partition: PartitionKey,
    source: Walk,
    next: Offset,
    sum: Verified,
}

impl Comparison {
    fn new(partition: PartitionKey, source: Walk, next: Offset) -> Self {
        Self { partition, source, next, sum: Verified { partitions: 1, ..Verified::default() } }
    }

    fn count_served(&mut self, fetched: &Fetched, expect: Option<ExpectServed>) {
        *self.sum.served.entry(format!("{:?}", fetched.served)).or_default() += 1;
        let elsewhere = match expect {
            None => false,
            Some(ExpectServed::Tail) => fetched.served != Served::Tail,
            Some(ExpectServed::Bucket) => fetched.served == Served::Tail,
        };
        // A hole alone comes from no tier.
        if elsewhere && fetched.messages().next().is_some() {
            self.sum.served_elsewhere += 1;
            let (partition, served) = (self.partition, fetched.served);
            self.sum.problem(|| format!("partition {partition}: answered from {served:?}"));
        }
    }

    fn take(&mut self, fetched: &Fetched) -> io::Result<()> {
        for message in fetched.messages() {
            self.compare(&message)?;
        }
        self.next = self.next.max(fetched.next);
        Ok(())
    }

    fn compare(&mut self, message: &Message) -> io::Result<()> {
        let partition = self.partition;
        let offset = message.offset;
        if offset < self.next {
            self.sum.duplicated += 1;
            self.sum.problem(|| format!("partition {partition}: offset {offset} came again"));
            return Ok(());
        }
        self.next = offset.plus(1);
        while self.source.peek()?.is_some_and(|ours| ours.offset < offset.0) {
            self.lose();
        }
        match self.source.peek()? {
            Some(ours) if ours.offset == offset.0 => {
                if same(ours, message) {
                    self.sum.messages += 1;
                    self.sum.payload_bytes += message.payload.len() as u64;
                } else {
                    self.sum.wrong += 1;
                    self.sum.problem(|| format!("partition {partition}: offset {offset} differs"));
                }
                self.source.advance();
            }
            _ => {
                self.sum.wrong += 1;
                self.sum.problem(|| format!("partition {partition}: offset {offset} is not in the source"));
            }
        }
        Ok(())
    }

    fn lose(&mut self) {
        let partition = self.partition;
        if self.sum.lost == 0 {
            let next = self.next;
            self.sum.problem(|| format!("partition {partition}: messages below offset {next} are lost"));
        }
        self.sum.lost += 1;
        self.source.advance();
    }

    fn finish(mut self) -> io::Result<Verified> {
        while self.source.peek()?.is_some() {
            self.lose();
        }
        Ok(self.sum)
    }
}

fn same(ours: &SourceMessage, theirs: &Message) -> bool {
    ours.timestamp == theirs.timestamp
        && ours.origin_timestamp == theirs.origin_timestamp
        && ours.id == theirs.id
        && ours.checksum == theirs.checksum
        && ours.payload == theirs.payload
        && ours.user_headers == theirs.user_headers
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kennel_protocol::batch::BatchBuilder;
    use kennel_protocol::ids::PartitionId;

    use super::*;

    /// Ten messages on disk, and what a ring would serve of them.
    fn comparison() -> (tempfile::TempDir, Comparison, Vec<Message>) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut batch = BatchBuilder::new(PartitionId(0), Offset(0), 77);
        for number in 0..10_u8 {
            batch = batch.payload(&[number; 5]);
        }
        std::fs::write(directory.path().join("00000000000000000000.log"), batch.build()).expect("a segment");
        let mut walk = Walk::open(directory.path()).expect("a walk");
        let mut messages = Vec::new();
        while let Some(ours) = walk.peek().expect("readable").cloned() {
            messages.push(Message {
                offset: Offset(ours.offset),
                timestamp: ours.timestamp,
                origin_timestamp: ours.origin_timestamp,
                id: ours.id,
                checksum: ours.checksum,
                payload: ours.payload,
                user_headers: ours.user_headers,
            });
            walk.advance();
        }
        let walk = Walk::open(directory.path()).expect("a walk");
        (directory, Comparison::new("0/0/0".parse().expect("a partition"), walk, Offset(0)), messages)
    }

    fn verdict(change: impl FnOnce(&mut Vec<Message>)) -> (u64, u64, u64, u64) {
        let (_directory, mut comparison, mut messages) = comparison();
        change(&mut messages);
        for message in &messages {
            comparison.compare(message).expect("readable");
        }
        let sum = comparison.finish().expect("readable");
        assert_eq!(sum.is_clean(), sum.problems.is_empty());
        (sum.messages, sum.lost, sum.duplicated, sum.wrong)
    }

    #[test]
    fn the_oracle_sees_what_is_wrong() {
        assert_eq!(verdict(|_| {}), (10, 0, 0, 0));
        assert_eq!(verdict(|messages| messages.truncate(7)), (7, 3, 0, 0));
        assert_eq!(verdict(|messages| drop(messages.remove(4))), (9, 1, 0, 0));
        assert_eq!(verdict(|messages| messages.insert(5, messages[4].clone())), (10, 0, 1, 0));
        assert_eq!(verdict(|messages| messages[3].payload = Bytes::from_static(b"other")), (9, 0, 0, 1));
        assert_eq!(verdict(|messages| messages[3].timestamp += 1), (9, 0, 0, 1));
        let beyond = |messages: &mut Vec<Message>| {
            let last = messages[9].clone();
            messages.push(Message { offset: Offset(10), ..last });
        };
        assert_eq!(verdict(beyond), (10, 0, 0, 1));
    }
}
