//! What a gateway reads from: a ring, whoever speaks to it.
//!
//! A node reads through its own tail and caches, a client through its connections; both stand behind this trait, so
//! that polls are answered by the same code. It knows partitions, offsets and batches, and nothing of Iggy's frames.

#[cfg(any(test, feature = "testing"))]
mod memory;

#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryRing;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use iggy_binary_protocol::WireIdentifier;
use kennel_protocol::catalog::Catalog;
use kennel_protocol::entry::HoleReason;
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey, StreamId, TopicId};
use kennel_protocol::wire::FetchFrom;

/// Somewhere to read partitions from.
#[async_trait]
pub trait Ring: Send + Sync + fmt::Debug + 'static {
    /// Which log a poll means by its names or numbers: the newest life of them. `None` if the ring knows none.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn locate(
        &self,
        stream: &WireIdentifier,
        topic: &WireIdentifier,
        partition: u32,
    ) -> Result<Option<PartitionKey>, RingError>;

    /// What is committed from `from` on, up to the batch that reaches `messages_max` messages or until the reader has
    /// had enough bytes. It never waits for new messages: at the end of the log the answer is empty.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn read(&self, partition: PartitionKey, from: FetchFrom, messages_max: u32) -> Result<RingRead, RingError>;
}

/// What one read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingRead {
    /// Whole batches in offset order, verified; each handle holds one or several of them, back to back. The first may
    /// begin below the offset asked for.
    pub batches: Vec<Bytes>,
    /// Declared holes among what was read, in order.
    pub holes: Vec<RingHole>,
    /// First offset that is not trimmed.
    pub first: Offset,
    /// End of what may be read, as far as the ring knows.
    pub committed: Offset,
}

/// A declared range of offsets without messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingHole {
    /// First offset.
    pub from: Offset,
    /// End, exclusive.
    pub to: Offset,
    /// Why.
    pub reason: HoleReason,
}

/// Why a ring gave no batches. A poll that meets one goes to the Iggy server.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The offset is below the trim point. Go on at `first`, or ask the source.
    #[error("the ring begins at {first}; what lies below is trimmed")]
    Trimmed {
        /// First offset that is left.
        first: Offset,
    },
    /// The ring does not know the partition. Ask the source, or wait until something is shipped.
    #[error("the ring knows no partition {0}")]
    Unknown(PartitionKey),
    /// The ring's history of the partition is not, or not only, the source's. Stop; a person must look.
    #[error("the ring's partition {0} is not fit to be read")]
    Unfit(PartitionKey, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The ring cannot answer now. Wait and retry, or ask the source.
    #[error("the ring cannot be read now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The newest life of what a poll means, as a catalogue lists it. A name is never taken for a number.
pub fn find(
    catalog: &Catalog,
    stream: &WireIdentifier,
    topic: &WireIdentifier,
    partition: u32,
) -> Option<PartitionKey> {
    let stream = match stream {
        WireIdentifier::Numeric(id) => catalog.stream_by_id(StreamId(*id))?,
        WireIdentifier::String(name) => catalog.stream(name.as_str())?,
    };
    let topic = match topic {
        WireIdentifier::Numeric(id) => stream.topic_by_id(TopicId(*id))?,
        WireIdentifier::String(name) => stream.topic(name.as_str())?,
    };
    Some(topic.partition(PartitionId(partition))?.key(stream.id, topic.id))
}

#[cfg(test)]
mod tests {
    use kennel_protocol::catalog::{PartitionEntry, StreamEntry, TopicEntry};
    use kennel_protocol::ids::Incarnation;

    use super::*;

    fn catalog() -> Catalog {
        let partitions = vec![PartitionEntry { id: PartitionId(2), incarnation: Incarnation(7) }];
        let topic = TopicEntry { id: TopicId(4), name: "events".to_owned(), partitions, message_expiry_micros: None };
        let stream = StreamEntry { id: StreamId(3), name: "orders".to_owned(), topics: vec![topic] };
        Catalog { revision: 1, streams: vec![stream] }
    }

    #[test]
    fn partitions_are_found_by_numbers_and_names_alike() {
        let named = |name: &str| WireIdentifier::named(name).expect("a name");
        let expected: PartitionKey = "3/4/2@7".parse().expect("a partition");
        for stream in [WireIdentifier::numeric(3), named("orders")] {
            for topic in [WireIdentifier::numeric(4), named("events")] {
                assert_eq!(find(&catalog(), &stream, &topic, 2), Some(expected));
                assert_eq!(find(&catalog(), &stream, &topic, 0), None);
            }
            assert_eq!(find(&catalog(), &stream, &named("orders"), 2), None);
        }
        assert_eq!(find(&catalog(), &named("events"), &named("events"), 2), None);
        assert_eq!(find(&catalog(), &named("3"), &named("4"), 2), None, "a name is no number");
    }
}
