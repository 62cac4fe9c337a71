//! What was shipped, batch by batch, and what readers got of it.
//!
//! A batch's checksum covers its place, its times and the checksums of its messages, and readers verify batches against
//! it. So the checksums in order are a chain: whoever read batches with these, in this order, read what was shipped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use kennel_client::Fetched;
use kennel_protocol::batch::batches;
use kennel_protocol::ids::{Offset, PartitionKey};

/// Problems that are kept word for word.
const PROBLEMS_MAX: usize = 20;

/// All partitions of a load.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) partitions: Vec<Line>,
    messages_per_batch: u64,
    problems: Mutex<Vec<String>>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) key: PartitionKey,
    batches: Mutex<Vec<Shipped>>,
    /// End of what was acknowledged: the owner's word.
    committed: AtomicU64,
}

/// One batch. When it was due is when its messages were there to be shipped.
#[derive(Debug, Clone, Copy)]
struct Shipped {
    checksum: u64,
    due: Instant,
}

/// What an answer amounts to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// When its first batch was due.
    pub(super) due: Option<Instant>,
}

impl Ledger {
    pub(super) fn new(keys: impl IntoIterator<Item = PartitionKey>, messages_per_batch: u32) -> Self {
        let line = |key| Line { key, batches: Mutex::default(), committed: AtomicU64::new(0) };
        let partitions = keys.into_iter().map(line).collect();
        Self { partitions, messages_per_batch: messages_per_batch.into(), problems: Mutex::default() }
    }

    /// Writes a batch down before it is shipped. The same again is fine: an owner was lost.
    pub(super) fn shipping(&self, partition: usize, base: Offset, checksum: u64, due: Instant) {
        let mut batches = lock(&self.partitions[partition].batches);
        let at = usize::try_from(base.0 / self.messages_per_batch).expect("batches fit memory");
        match batches.get(at) {
            Some(known) => assert_eq!(known.checksum, checksum, "the same place has the same batch"),
            None => batches.push(Shipped { checksum, due }),
        }
    }

    /// The end of what is acknowledged.
    pub(super) fn committed(&self, partition: usize) -> Offset {
        Offset(self.partitions[partition].committed.load(Ordering::Acquire))
    }

    /// Takes an owner's word for it.
    pub(super) fn commit(&self, partition: usize, end: Offset) {
        self.partitions[partition].committed.fetch_max(end.0, Ordering::AcqRel);
    }

    /// Compares an answer with what was shipped. What differs is a problem of the product, and kept.
    ///
    /// # Errors
    /// The same, for the reader to stop at.
    pub(super) fn compare(&self, partition: usize, asked: Offset, fetched: &Fetched) -> anyhow::Result<Seen> {
        self.try_compare(partition, asked, fetched).inspect_err(|problem| {
            self.problem(format!("{}: {problem:#}", self.partitions[partition].key));
        })
    }

    fn try_compare(&self, partition: usize, asked: Offset, fetched: &Fetched) -> anyhow::Result<Seen> {
        ensure!(fetched.start == asked, "asked for {asked}, the answer begins at {}", fetched.start);
        ensure!(fetched.holes.is_empty(), "a hole where messages were shipped: {:?}", fetched.holes);
        let (seen, next) = self.follow_chain(partition, asked, fetched.batch_bytes())?;
        ensure!(fetched.is_empty() || fetched.next == next, "the answer ends at {next} and says {}", fetched.next);
        Ok(seen)
    }

    /// Compares verified batches with those that were shipped at their places; what they amount to, and where they end.
    fn follow_chain(&self, partition: usize, asked: Offset, run: &Bytes) -> anyhow::Result<(Seen, Offset)> {
        let shipped = lock(&self.partitions[partition].batches);
        let mut seen = Seen { bytes: run.len() as u64, ..Seen::default() };
        let mut next = Offset(asked.0 - asked.0 % self.messages_per_batch);
        for batch in batches(run) {
            let header = *batch?.header();
            let base = header.base_offset;
            ensure!(base == next, "batch {base} where {next} comes");
            let at = usize::try_from(base.0 / self.messages_per_batch).context("a place in memory")?;
            let known = shipped.get(at).with_context(|| format!("batch {base} was never shipped"))?;
            ensure!(known.checksum == header.batch_checksum, "batch {base} is another than was shipped");
            seen.due = seen.due.or(Some(known.due));
            seen.messages += self.messages_per_batch;
            next = next.plus(self.messages_per_batch);
        }
        Ok((seen, next))
    }

    /// Keeps what is not as it must be.
    pub(super) fn problem(&self, what: String) {
        let mut problems = lock(&self.problems);
        if problems.len() < PROBLEMS_MAX {
            problems.push(what);
        }
    }

    /// All of it.
    pub(super) fn problems(&self) -> Vec<String> {
        lock(&self.problems).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever panicked left numbers behind, not a state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use kennel_protocol::batch::BatchBuilder;

    use super::*;

    /// A ledger of three batches of two messages, and their bytes.
    fn ledger() -> (Ledger, Vec<Bytes>) {
        let key: PartitionKey = "1/1/0".parse().expect("a partition");
        let ledger = Ledger::new([key], 2);
        let bodies: Vec<Bytes> = (0..3).map(|batch| body(batch, b"x")).collect();
        for (batch, body) in (0..).zip(&bodies) {
            let checksum = batches(body).next().expect("one").expect("whole").header().batch_checksum;
            ledger.shipping(0, Offset(batch * 2), checksum, Instant::now());
        }
        (ledger, bodies)
    }

    fn body(batch: u64, payload: &[u8]) -> Bytes {
        let key: PartitionKey = "1/1/0".parse().expect("a partition");
        BatchBuilder::new(key.partition, Offset(batch * 2), 7).payload(payload).payload(payload).build()
    }

    fn told(asked: u64, bodies: &[&Bytes]) -> Result<u64, String> {
        let run: Bytes = bodies.iter().flat_map(|body| body.iter().copied()).collect();
        let (ledger, _) = ledger();
        ledger.follow_chain(0, Offset(asked), &run).map(|(seen, _)| seen.messages).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_not_shipped_like_this_is_seen() {
        let (_, bodies) = ledger();
        let [first, second, third] = &bodies[..] else { panic!("three batches") };
        assert_eq!(told(0, &[first, second, third]), Ok(6));
        assert_eq!(told(3, &[second, third]), Ok(4), "an answer begins with the whole batch");
        assert_eq!(told(0, &[]), Ok(0));
        assert_eq!(told(0, &[first, third]), Err("batch 4 where 2 comes".to_owned()));
        assert_eq!(told(0, &[first, first]), Err("batch 0 where 2 comes".to_owned()));
        assert_eq!(told(2, &[&body(1, b"y")]), Err("batch 2 is another than was shipped".to_owned()));
        assert_eq!(told(6, &[&body(3, b"x")]), Err("batch 6 was never shipped".to_owned()));
    }
}
