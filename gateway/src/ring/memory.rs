//! A ring in memory, for tests: it answers as a node does, from logs that the test wrote.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use iggy_binary_protocol::WireIdentifier;
use kennel_protocol::batch::{BatchView, batches};
use kennel_protocol::entry::HoleReason;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::FetchFrom;

use crate::ring::{Ring, RingError, RingHole, RingRead};

/// Logs by partition, and the names of streams and topics.
#[derive(Debug, Default)]
pub struct MemoryRing {
    logs: Mutex<BTreeMap<PartitionKey, Log>>,
    names: Mutex<BTreeMap<(String, String), PartitionKey>>,
    reads: AtomicUsize,
    /// Most bytes of one read, but always one batch; 0 for no limit.
    bytes_max: AtomicUsize,
}

#[derive(Debug, Default, Clone)]
struct Log {
    runs: Vec<Bytes>,
    holes: Vec<RingHole>,
    first: Offset,
    committed: Offset,
}

impl MemoryRing {
    /// Names a stream and a topic: their partitions are found by these, too.
    pub fn name(&self, stream: &str, topic: &str, any_partition: PartitionKey) {
        lock(&self.names).insert((stream.to_owned(), topic.to_owned()), any_partition);
    }

    /// Adds whole batches at the end of a log, which begins with the first of them or at 0 by [`Self::hole`]. No bytes
    /// make an empty log.
    ///
    /// # Panics
    /// If the bytes are no batches.
    pub fn append(&self, partition: PartitionKey, run: Bytes) {
        let mut logs = lock(&self.logs);
        let log = logs.entry(partition).or_default();
        if let Some(last) = views(&run).last() {
            log.committed = last.end_if_dense();
            log.runs.push(run);
        }
    }

    /// Declares a hole at the end of a log.
    pub fn hole(&self, partition: PartitionKey, to: Offset, reason: HoleReason) {
        let mut logs = lock(&self.logs);
        let log = logs.entry(partition).or_default();
        log.holes.push(RingHole { from: log.committed, to, reason });
        log.committed = to;
    }

    /// Forgets what lies below `first`.
    pub fn trim(&self, partition: PartitionKey, first: Offset) {
        lock(&self.logs).entry(partition).or_default().first = first;
    }

    /// Limits each read, bytes; a read still brings one batch.
    pub fn limit(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// How many reads there were.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Ring for MemoryRing {
    async fn locate(
        &self,
        stream: &WireIdentifier,
        topic: &WireIdentifier,
        partition: u32,
    ) -> Result<Option<PartitionKey>, RingError> {
        let named = |key: &PartitionKey| {
            let names = lock(&self.names);
            let found = names.iter().find(|(_, named)| (named.stream, named.topic) == (key.stream, key.topic));
            found.map(|(names, _)| names.clone()).unwrap_or_default()
        };
        let is = |identifier: &WireIdentifier, id: u32, name: &str| match identifier {
            WireIdentifier::Numeric(wanted) => *wanted == id,
            WireIdentifier::String(wanted) => wanted.as_str() == name,
        };
        let keys: Vec<PartitionKey> = lock(&self.logs).keys().copied().collect();
        Ok(keys.into_iter().rev().find(|key| {
            let (stream_name, topic_name) = named(key);
            key.partition.0 == partition
                && is(stream, key.stream.0, &stream_name)
                && is(topic, key.topic.0, &topic_name)
        }))
    }

    async fn read(&self, partition: PartitionKey, from: FetchFrom, messages_max: u32) -> Result<RingRead, RingError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let log = lock(&self.logs).get(&partition).cloned().ok_or(RingError::Unknown(partition))?;
        let start = log.resolve(from);
        if start < log.first {
            return Err(RingError::Trimmed { first: log.first });
        }
        Ok(log.read(start, messages_max, self.bytes_max.load(Ordering::Relaxed)))
    }
}

impl Log {
    fn resolve(&self, from: FetchFrom) -> Offset {
        let all = || self.runs.iter().flat_map(views);
        match from {
            FetchFrom::Offset(offset) => offset,
            FetchFrom::First => self.first,
            FetchFrom::Last => all().last().map_or(self.committed, |view| view.first_offset()),
            FetchFrom::Timestamp(timestamp) => all()
                .find(|view| view.header().base_timestamp >= timestamp)
                .map_or(self.committed, |view| view.first_offset()),
        }
    }

    fn read(&self, start: Offset, messages_max: u32, bytes_max: usize) -> RingRead {
        let mut read =
            RingRead { batches: Vec::new(), holes: Vec::new(), first: self.first, committed: self.committed };
        let (mut messages, mut bytes) = (0, 0);
        let mut end = start;
        'runs: for run in &self.runs {
            let mut range = 0..0;
            for view in views(run).filter(|view| view.end_if_dense() > start) {
                let full = bytes_max > 0 && bytes > 0 && bytes + view.bytes().len() > bytes_max;
                if messages >= u64::from(messages_max) || full {
                    read.push(run, range);
                    break 'runs;
                }
                end = view.end_if_dense();
                messages += end.0 - view.first_offset().max(start).0;
                bytes += view.bytes().len();
                let from = if range.start == range.end { view.position() } else { range.start };
                range = from..view.position() + view.bytes().len();
            }
            read.push(run, range);
        }
        read.holes = self.holes.iter().filter(|hole| hole.to > start && hole.from <= end).copied().collect();
        read
    }
}

impl RingRead {
    fn push(&mut self, run: &Bytes, range: core::ops::Range<usize>) {
        if !range.is_empty() {
            self.batches.push(run.slice(range));
        }
    }
}

fn views(run: &Bytes) -> impl Iterator<Item = BatchView<'_>> {
    batches(run).map(|view| view.expect("a test writes batches"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
