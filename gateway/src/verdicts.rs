//! What a session may read, and what the ring may be trusted with: both only because the server has just said so.
//!
//! A *verdict* belongs to one session: the server let it poll this topic. A *proof* belongs to the gateway: server and
//! ring held the same message of this partition. Both age, and both end at once when somebody changes something through
//! this gateway. A partition in which they differed is *distrusted* for a while: the server answers. Nothing here
//! compares or asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kennel_protocol::ids::PartitionKey;
use tokio::time::Instant;

/// Topics whose verdicts one session keeps: more are asked for again. Each takes some hundred bytes.
const VERDICTS_MAX: usize = 4096;

/// Partitions of which the gateway knows what they are worth; more are compared again.
const PARTITIONS_MAX: usize = 1 << 17;

/// How long a partition stays with the server after ring and server differed: long enough for the shipper to notice
/// (it looks every few milliseconds) and for a person's look at the metrics.
const DISTRUST: Duration = Duration::from_secs(30);

/// How long nobody compares again what could not be compared: a ring that is behind catches up in milliseconds, and
/// until then a poll should not cost two.
const PAUSE: Duration = Duration::from_millis(100);

/// Rises with every change that passes through the gateway: what was found before it counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

/// What one session may poll.
#[derive(Debug, Default)]
pub struct Verdicts {
    topics: HashMap<Bytes, (Instant, Generation)>,
}

impl Verdicts {
    /// The server let the session poll a topic, by its name on the wire. The question was asked under `generation`.
    pub fn allow(&mut self, topic: &Bytes, now: Instant, generation: Generation) {
        if self.topics.len() >= VERDICTS_MAX && !self.topics.contains_key(topic) {
            self.topics.clear();
        }
        // The name is a part of a request: it would keep all of it.
        self.topics.insert(Bytes::copy_from_slice(topic), (now, generation));
    }

    /// The server did not.
    pub fn deny(&mut self, topic: &[u8]) {
        self.topics.remove(topic);
    }

    /// Another user may be logged in: nothing is known any more.
    pub fn forget(&mut self) {
        self.topics.clear();
    }

    /// Whether the server let the session poll the topic in the last `life`, and nothing was changed since.
    pub fn allows(&self, topic: &[u8], now: Instant, life: Duration, current: Generation) -> bool {
        self.topics.get(topic).is_some_and(|(at, generation)| *generation == current && now < *at + life)
    }

    /// Whether anything may still be read.
    pub fn any(&self, now: Instant, life: Duration, current: Generation) -> bool {
        self.topics.values().any(|(at, generation)| *generation == current && now < *at + life)
    }
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Ring and server held the same.
    Proven,
    /// Nobody has compared, or not lately.
    Unproven,
    /// They differed.
    Distrusted,
}

#[derive(Debug, Clone, Copy)]
enum Found {
    Same(Instant, Generation),
    Differs(Instant),
}

/// What the ring may be trusted with. Shared by all sessions.
#[derive(Debug, Default)]
pub struct Proofs {
    generation: AtomicU64,
    partitions: Mutex<HashMap<PartitionKey, Found>>,
}

impl Proofs {
    /// Under which a question is asked now.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Something was changed: nothing that was found before counts.
    pub fn change(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Ring and server held the same message. The server was asked under `generation`.
    pub fn same(&self, partition: PartitionKey, now: Instant, generation: Generation) {
        self.insert(partition, Found::Same(now, generation));
    }

    /// Ring and server held different messages at an offset.
    pub fn differs(&self, partition: PartitionKey, now: Instant) {
        self.insert(partition, Found::Differs(now + DISTRUST));
    }

    /// What is known of a partition, if what was found counts for `life`.
    pub fn standing(&self, partition: PartitionKey, now: Instant, life: Duration) -> Standing {
        let found = self.partitions.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied();
        match found {
            Some(Found::Differs(until)) if now < until => Standing::Distrusted,
            Some(Found::Same(at, generation)) if generation == self.generation() && now < at + life => Standing::Proven,
            _ => Standing::Unproven,
        }
    }

    /// Ring and server could not be compared now.
    pub fn unclear(&self, partition: PartitionKey, now: Instant) {
        self.insert(partition, Found::Differs(now + PAUSE));
    }

    fn insert(&self, partition: PartitionKey, found: Found) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if partitions.len() >= PARTITIONS_MAX && !partitions.contains_key(&partition) {
            partitions.retain(|_, found| matches!(found, Found::Differs(_)));
        }
        if partitions.len() < PARTITIONS_MAX {
            partitions.insert(partition, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::{Incarnation, PartitionId, StreamId, TopicId};

    use super::*;

    const LIFE: Duration = Duration::from_secs(3);

    fn partition() -> PartitionKey {
        PartitionKey { stream: StreamId(1), topic: TopicId(2), partition: PartitionId(3), incarnation: Incarnation(0) }
    }

    #[test]
    fn verdicts_age_and_end_with_a_change() {
        let (proofs, mut verdicts, now) = (Proofs::default(), Verdicts::default(), Instant::now());
        let topic = Bytes::from_static(b"topic");
        assert!(!verdicts.allows(&topic, now, LIFE, proofs.generation()));
        verdicts.allow(&topic, now, proofs.generation());
        assert!(verdicts.allows(&topic, now + LIFE / 2, LIFE, proofs.generation()));
        assert!(!verdicts.allows(&topic, now + LIFE, LIFE, proofs.generation()));
        proofs.change();
        assert!(!verdicts.allows(&topic, now, LIFE, proofs.generation()));
        assert!(!verdicts.any(now, LIFE, proofs.generation()));
    }

    #[test]
    fn an_answer_to_a_question_from_before_a_change_counts_no_more() {
        let (proofs, mut verdicts, now) = (Proofs::default(), Verdicts::default(), Instant::now());
        let (asked, topic) = (proofs.generation(), Bytes::from_static(b"topic"));
        proofs.change();
        verdicts.allow(&topic, now, asked);
        proofs.same(partition(), now, asked);
        assert!(!verdicts.allows(&topic, now, LIFE, proofs.generation()));
        assert_eq!(proofs.standing(partition(), now, LIFE), Standing::Unproven);
    }

    #[test]
    fn a_difference_outlives_a_change() {
        let (proofs, now) = (Proofs::default(), Instant::now());
        proofs.same(partition(), now, proofs.generation());
        assert_eq!(proofs.standing(partition(), now, LIFE), Standing::Proven);
        proofs.differs(partition(), now);
        proofs.change();
        assert_eq!(proofs.standing(partition(), now, LIFE), Standing::Distrusted);
        assert_eq!(proofs.standing(partition(), now + DISTRUST, LIFE), Standing::Unproven);
    }

    #[test]
    fn a_session_keeps_only_so_many_verdicts() {
        let (proofs, mut verdicts, now) = (Proofs::default(), Verdicts::default(), Instant::now());
        for topic in 0..=VERDICTS_MAX {
            verdicts.allow(&Bytes::from(topic.to_string()), now, proofs.generation());
        }
        assert_eq!(verdicts.topics.len(), 1);
    }
}
