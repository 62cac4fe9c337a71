//! The catalogue: which streams, topics and partitions exist, what people call them, and how long Iggy keeps them.
//!
//! One catalogue is a whole picture, ordered against others by its revision (PROTOCOL R29). Whoever sees something new
//! merges it into the picture that stands (`merge`), and says which life of its ids a partition is in (`life`).

mod life;
mod merge;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::{Incarnation, PartitionId, PartitionKey, PutId, StreamId, TopicId};
use crate::limits::{CATALOG_PARTITIONS_MAX, NAME_BYTES_MAX, STREAMS_MAX, TOPICS_MAX};
use crate::object::{ObjectError, ObjectKind, envelope};

pub use life::{born, life_after_purge, life_of};
pub use merge::{CatalogDiff, MergeError, Scope, diff, merge};

const KIND: ObjectKind = ObjectKind::Catalog;

/// Everything that Iggy knew by name at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Catalog {
    /// One more than that of the catalogue which this one followed. (Shippers of wire version 1 put the time here.)
    pub revision: u64,
    /// The streams, in id order.
    pub streams: Vec<StreamEntry>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct StreamEntry {
    /// Its numeric id.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Its topics, in id order.
    pub topics: Vec<TopicEntry>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct TopicEntry {
    /// Its numeric id in its stream.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions, in id order.
    pub partitions: Vec<PartitionEntry>,
    /// How long Iggy keeps a message, microseconds; `None` if for ever.
    pub message_expiry_micros: Option<u64>,
}

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct PartitionEntry {
    /// Its numeric id in its topic.
    pub id: PartitionId,
    /// Which life of these ids.
    pub incarnation: Incarnation,
}

impl Catalog {
    /// The catalogue's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(KIND, PutId(0), self)
    }

    /// The catalogue in these bytes, after checking its limits and that ids rise and names are distinct.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let (_, catalog) = envelope::open::<Self>(KIND, bytes)?;
        catalog.check().map_err(|what| ObjectError::Contradiction { kind: KIND, what })?;
        Ok(catalog)
    }

    /// The stream of a name.
    pub fn stream(&self, name: &str) -> Option<&StreamEntry> {
        self.streams.iter().find(|stream| stream.name == name)
    }

    /// The stream of an id.
    pub fn stream_by_id(&self, id: StreamId) -> Option<&StreamEntry> {
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok().map(|index| &self.streams[index])
    }

    /// The full key of a partition by its stream and topic, each by its name or, where nothing is called so, its id.
    pub fn locate(&self, stream: &str, topic: &str, partition: PartitionId) -> Option<PartitionKey> {
        let by_id = || self.stream_by_id(stream.parse().ok()?);
        let stream = self.stream(stream).or_else(by_id)?;
        let by_id = || stream.topic_by_id(topic.parse().ok()?);
        let topic = stream.topic(topic).or_else(by_id)?;
        Some(topic.partition(partition)?.key(stream.id, topic.id))
    }

    /// The incarnation of a partition by its ids.
    pub fn incarnation(&self, stream: StreamId, topic: TopicId, partition: PartitionId) -> Option<Incarnation> {
        Some(self.stream_by_id(stream)?.topic_by_id(topic)?.partition(partition)?.incarnation)
    }

    /// Whether both list the same, whatever their revisions.
    pub fn lists_the_same(&self, other: &Self) -> bool {
        self.streams == other.streams
    }

    /// The full key of a partition by the names of its stream and topic.
    pub fn partition(&self, stream: &str, topic: &str, partition: PartitionId) -> Option<PartitionKey> {
        let stream = self.stream(stream)?;
        let topic = stream.topic(topic)?;
        Some(topic.partition(partition)?.key(stream.id, topic.id))
    }

    /// The keys of all partitions, in key order as far as incarnations go.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionKey> {
        let topics = self.streams.iter().flat_map(|stream| stream.topics.iter().map(move |topic| (stream.id, topic)));
        topics.flat_map(|(stream, topic)| topic.partitions.iter().map(move |entry| entry.key(stream, topic.id)))
    }

    /// The revision of whatever follows this catalogue.
    pub fn next_revision(&self) -> u64 {
        self.revision.saturating_add(1)
    }

    /// Whether the limits are kept, ids rise and names are distinct.
    fn check(&self) -> Result<(), &'static str> {
        let topics: usize = self.streams.iter().map(|stream| stream.topics.len()).sum();
        if self.streams.len() > STREAMS_MAX || topics > TOPICS_MAX || self.partitions().count() > CATALOG_PARTITIONS_MAX
        {
            return Err("more streams, topics or partitions than allowed");
        }
        check_names(self.streams.iter().map(|stream| stream.name.as_str()))?;
        check_rising(self.streams.iter().map(|stream| stream.id))?;
        for stream in &self.streams {
            check_names(stream.topics.iter().map(|topic| topic.name.as_str()))?;
            check_rising(stream.topics.iter().map(|topic| topic.id))?;
            for topic in &stream.topics {
                check_rising(topic.partitions.iter().map(|partition| partition.id))?;
            }
        }
        Ok(())
    }
}

impl StreamEntry {
    /// The topic of a name.
    pub fn topic(&self, name: &str) -> Option<&TopicEntry> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// The topic of an id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&TopicEntry> {
        self.topics.binary_search_by_key(&id, |topic| topic.id).ok().map(|index| &self.topics[index])
    }
}

impl TopicEntry {
    /// The partition of an id.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionEntry> {
        self.partitions.binary_search_by_key(&id, |partition| partition.id).ok().map(|index| &self.partitions[index])
    }
}

impl PartitionEntry {
    /// The full key of the partition.
    pub fn key(&self, stream: StreamId, topic: TopicId) -> PartitionKey {
        PartitionKey { stream, topic, partition: self.id, incarnation: self.incarnation }
    }
}

/// Names are as long as Iggy allows, and two of the same kind differ.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), &'static str> {
    let mut sorted: Vec<&str> = names.collect();
    if sorted.iter().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err("a name is empty or longer than allowed");
    }
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two streams, or two topics of a stream, have the same name");
    }
    Ok(())
}

/// Ids rise, so that look-ups may halve.
fn check_rising<T: PartialOrd>(ids: impl Iterator<Item = T>) -> Result<(), &'static str> {
    if ids.is_sorted_by(|earlier, later| earlier < later) { Ok(()) } else { Err("ids do not rise") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let partition = |id, incarnation| PartitionEntry { id: PartitionId(id), incarnation: Incarnation(incarnation) };
        let topic = |id, name: &str| TopicEntry {
            id: TopicId(id),
            name: name.to_owned(),
            partitions: vec![partition(0, 1), partition(1, 7)],
            message_expiry_micros: Some(5),
        };
        let stream = |id, name: &str| StreamEntry {
            id: StreamId(id),
            name: name.to_owned(),
            topics: vec![topic(0, "events"), topic(4, "orders")],
        };
        Catalog { revision: 12, streams: vec![stream(0, "shop"), stream(3, "telemetry")] }
    }

    #[test]
    fn names_lead_to_keys() {
        let catalog = Catalog::decode(&catalog().encode()).expect("a catalogue");
        let key = catalog.partition("telemetry", "orders", PartitionId(1)).expect("a partition");
        assert_eq!(key.to_string(), "3/4/1@7");
        assert_eq!(catalog.partition("telemetry", "orders", PartitionId(2)), None);
        assert_eq!(catalog.partition("telemetry", "nothing", PartitionId(0)), None);
        assert_eq!(catalog.partitions().count(), 8);
        for (stream, topic) in [("telemetry", "orders"), ("3", "orders"), ("telemetry", "4"), ("3", "4")] {
            assert_eq!(catalog.locate(stream, topic, PartitionId(1)), Some(key), "{stream}/{topic}");
        }
        assert_eq!(catalog.locate("3", "5", PartitionId(1)), None);
        assert_eq!(catalog.incarnation(StreamId(3), TopicId(4), PartitionId(1)), Some(Incarnation(7)));
        let stream = catalog.stream_by_id(StreamId(3)).expect("a stream");
        assert_eq!(stream.topic_by_id(TopicId(4)).map(|topic| topic.name.as_str()), Some("orders"));
    }

    #[test]
    fn catalogues_that_contradict_themselves_are_refused() {
        let refused = |change: fn(&mut Catalog)| {
            let mut catalog = catalog();
            change(&mut catalog);
            assert!(matches!(Catalog::decode(&catalog.encode()), Err(ObjectError::Contradiction { .. })));
        };
        refused(|catalog| catalog.streams.swap(0, 1));
        refused(|catalog| catalog.streams[1].name = "shop".to_owned());
        refused(|catalog| catalog.streams[0].topics[0].name.clear());
        refused(|catalog| catalog.streams[0].topics[0].name = "n".repeat(NAME_BYTES_MAX + 1));
        refused(|catalog| catalog.streams[0].topics[1].partitions[1].id = PartitionId(0));
    }
}
