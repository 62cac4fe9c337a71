//! Partitions that moved a moment ago, while they are few, are polled for messages instead of being asked about: what a
//! question would have announced comes with the answer, one round trip earlier. The read that follows finds it here.
//!
//! Where many move, the questions cost less, and nothing is polled ahead. It knows no sessions: times come as arguments.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kennel_protocol::ids::{Offset, PartitionKey};

use super::source::Polled;

/// A partition counts as moving for so long after it moved.
const MOVING: Duration = Duration::from_millis(50);

/// As many are polled ahead: each costs a poll in every round.
const MOVING_MAX: usize = 2;

/// The longest answer that is polled ahead, in bytes: a partition that has more is not waited for.
pub(super) const AHEAD_BYTES: u32 = 64 << 10;

/// An answer that no read came for is forgotten: a source that lost its tail would answer otherwise by then.
const AGE_MAX: Duration = Duration::from_millis(100);

/// The partitions that move, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Moving(BTreeMap<PartitionKey, (Instant, Offset)>);

impl Moving {
    /// A partition was seen to end elsewhere than before.
    pub(super) fn moved(&mut self, now: Instant, partition: PartitionKey, end: Offset) {
        // Before the first message there is none whose identity a poll could bring along.
        if end > Offset(0) {
            self.0.insert(partition, (now, end));
        }
    }

    /// It is there no more.
    pub(super) fn forget(&mut self, partition: &PartitionKey) {
        self.0.remove(partition);
    }

    /// What to poll in this round, and from where.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(PartitionKey, Offset)> {
        self.0.retain(|_, (moved, _)| now.duration_since(*moved) < MOVING);
        if self.0.len() > MOVING_MAX {
            return Vec::new();
        }
        self.0.iter().map(|(partition, (_, end))| (*partition, *end)).collect()
    }
}

/// An answer that was polled ahead.
#[derive(Debug)]
pub(super) struct Early {
    /// The first offset wanted.
    pub(super) from: Offset,
    /// How many messages were polled for.
    pub(super) count: u32,
    /// What came.
    pub(super) polled: Polled,
}

/// Answers that wait for their reads: one of each partition that moves.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<BTreeMap<PartitionKey, (Instant, Early)>>);

impl Ahead {
    /// Keeps an answer. The one before of the same partition is dropped, and whatever is old.
    pub(super) fn put(&self, now: Instant, partition: PartitionKey, early: Early) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (since, _)| now.duration_since(*since) < AGE_MAX);
        answers.insert(partition, (now, early));
    }

    /// Whether an answer waits: then the reads have enough to do, and another would only replace it.
    pub(super) fn waits(&self, now: Instant, partition: &PartitionKey) -> bool {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(partition).is_some_and(|(since, _)| now.duration_since(*since) < AGE_MAX)
    }

    /// Takes out the answer for a read from an offset. One from elsewhere is dropped.
    pub(super) fn take(&self, now: Instant, partition: &PartitionKey, from: Offset) -> Option<Early> {
        let (since, early) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(partition)?;
        (early.from == from && now.duration_since(since) < AGE_MAX).then_some(early)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(partition: u32) -> PartitionKey {
        format!("0/0/{partition}").parse().expect("a partition")
    }

    #[test]
    fn few_that_move_are_polled_and_many_are_not() {
        let (mut moving, start) = (Moving::default(), Instant::now());
        moving.moved(start, key(0), Offset(0));
        assert!(moving.due(start).is_empty(), "it is empty");
        moving.moved(start, key(1), Offset(5));
        moving.moved(start + MOVING / 2, key(2), Offset(7));
        moving.moved(start + MOVING / 2, key(1), Offset(6));
        assert_eq!(moving.due(start + MOVING / 2), [(key(1), Offset(6)), (key(2), Offset(7))]);
        moving.moved(start + MOVING, key(3), Offset(1));
        assert!(moving.due(start + MOVING).is_empty(), "three are many");
        assert_eq!(moving.due(start + MOVING * 3 / 2), [(key(3), Offset(1))], "two have come to rest");
        moving.forget(&key(3));
        assert!(moving.due(start + MOVING * 3 / 2).is_empty());
    }

    #[test]
    fn an_early_answer_serves_one_read_from_where_it_begins_while_it_is_young() {
        let (ahead, start) = (Ahead::default(), Instant::now());
        let early =
            |from| Early { from: Offset(from), count: 9, polled: Polled { current: Offset(9), batches: Bytes::new() } };
        ahead.put(start, key(1), early(4));
        ahead.put(start, key(1), early(5));
        assert!(ahead.take(start, &key(2), Offset(5)).is_none());
        assert_eq!(ahead.take(start, &key(1), Offset(5)).map(|early| early.count), Some(9));
        assert!(ahead.take(start, &key(1), Offset(5)).is_none(), "once");
        ahead.put(start, key(1), early(5));
        assert!(ahead.take(start, &key(1), Offset(6)).is_none(), "another place");
        ahead.put(start, key(1), early(5));
        assert!(ahead.waits(start, &key(1)) && !ahead.waits(start, &key(2)));
        assert!(!ahead.waits(start + AGE_MAX, &key(1)));
        assert!(ahead.take(start + AGE_MAX, &key(1), Offset(5)).is_none(), "too old");
    }
}
