//! The catalogue of what a data directory holds, with the names of the mapping.

use kennel_protocol::catalog::{Catalog, PartitionEntry, StreamEntry, TopicEntry};
use kennel_protocol::object::ObjectError;

use super::mapping::Mapping;
use super::scan::FoundPartition;

/// Makes the catalogue of partitions in id order. Refused if two streams, or two topics of a stream, would have one name:
/// fix the mapping.
pub fn catalog(found: &[FoundPartition], mapping: &Mapping, revision: u64) -> Result<Catalog, ObjectError> {
    let mut catalog = Catalog { revision, streams: Vec::new() };
    for partition in found {
        let key = partition.key;
        if catalog.streams.last().is_none_or(|stream| stream.id != key.stream) {
            let name = mapping.stream_name(key.stream);
            catalog.streams.push(StreamEntry { id: key.stream, name, topics: Vec::new() });
        }
        let topics = &mut catalog.streams.last_mut().expect("one was just pushed").topics;
        if topics.last().is_none_or(|topic| topic.id != key.topic) {
            let name = mapping.topic_name(key.stream, key.topic);
            // How long Iggy keeps messages stands only in its metadata.
            topics.push(TopicEntry { id: key.topic, name, partitions: Vec::new(), message_expiry_micros: None });
        }
        let partitions = &mut topics.last_mut().expect("one was just pushed").partitions;
        partitions.push(PartitionEntry { id: key.partition, incarnation: key.incarnation });
    }
    // What a node would refuse is refused here, where the mapping can still be named.
    Catalog::decode(&catalog.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &str) -> FoundPartition {
        FoundPartition {
            key: key.parse().expect("a partition"),
            recreated: 0,
            directory: "/".into(),
            segments: Vec::new(),
        }
    }

    #[test]
    fn ids_become_names_once() {
        let found = ["0/0/0", "0/0/1@3", "0/2/0", "4/0/0"].map(found);
        let mapping = Mapping::parse("[[stream]]\nid = 4\nname = \"orders\"").expect("a mapping");
        let made = catalog(&found, &mapping, 7).expect("a catalogue");
        assert_eq!(made.partitions().collect::<Vec<_>>(), found.iter().map(|found| found.key).collect::<Vec<_>>());
        assert_eq!((made.streams[0].name.as_str(), made.streams[1].name.as_str()), ("0", "orders"));
        let clash = Mapping::parse("[[stream]]\nid = 4\nname = \"0\"").expect("a mapping");
        assert!(catalog(&found, &clash, 7).is_err());
    }
}
