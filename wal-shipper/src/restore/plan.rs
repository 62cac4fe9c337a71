//! What is to be restored: the topics of the catalogue whose partitions were chosen, by name.
//!
//! Ids are the target's to give. A topic gets as many partitions as the catalogue's highest id asks for, so that each keeps
//! its number.

use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::PartitionKey;

use crate::source::Filter;

/// A topic with partitions to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlan {
    /// The stream's name.
    pub stream: String,
    /// The topic's name.
    pub topic: String,
    /// How many partitions the topic must have.
    pub partitions_count: u32,
    /// How long its messages were kept, microseconds, if that is known.
    pub message_expiry_micros: Option<u64>,
    /// The chosen partitions, in id order, in their present lives.
    pub partitions: Vec<PartitionKey>,
}

/// The topics that have chosen partitions, in the catalogue's order.
pub fn plan(catalog: &Catalog, filter: &Filter) -> Vec<TopicPlan> {
    let topics = catalog.streams.iter().flat_map(|stream| stream.topics.iter().map(move |topic| (stream, topic)));
    let planned = topics.map(|(stream, topic)| {
        let keys = topic.partitions.iter().map(|partition| partition.key(stream.id, topic.id));
        TopicPlan {
            stream: stream.name.clone(),
            topic: topic.name.clone(),
            partitions_count: topic.partitions.last().map_or(0, |last| last.id.0.saturating_add(1)),
            message_expiry_micros: topic.message_expiry_micros,
            partitions: keys.filter(|key| filter.matches_names(*key, &stream.name, &topic.name)).collect(),
        }
    });
    planned.filter(|topic| !topic.partitions.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use kennel_protocol::catalog::{PartitionEntry, StreamEntry, TopicEntry};
    use kennel_protocol::ids::{Incarnation, PartitionId, StreamId, TopicId};

    use super::*;

    #[test]
    fn chosen_partitions_keep_their_numbers() {
        let entry = |id| PartitionEntry { id: PartitionId(id), incarnation: Incarnation(9) };
        let topic = |id, name: &str, partitions: &[u32]| TopicEntry {
            id: TopicId(id),
            name: name.to_owned(),
            partitions: partitions.iter().map(|id| entry(*id)).collect(),
            message_expiry_micros: None,
        };
        let topics = vec![topic(0, "events", &[0, 4]), topic(3, "empty", &[]), topic(5, "other", &[0])];
        let stream = StreamEntry { id: StreamId(2), name: "shop".to_owned(), topics };
        let catalog = Catalog { revision: 1, streams: vec![stream] };
        let chosen = |include: &[&str]| {
            let include: Vec<String> = include.iter().map(|&pattern| pattern.to_owned()).collect();
            plan(&catalog, &Filter::new(&include, &[]).expect("patterns"))
        };
        let all = chosen(&[]);
        assert_eq!(all.iter().map(|topic| topic.topic.as_str()).collect::<Vec<_>>(), ["events", "other"]);
        assert_eq!(all[0].partitions_count, 5);
        let one = chosen(&["shop/events/4"]);
        assert_eq!(one[0].partitions, ["2/0/4@9".parse().expect("a partition")]);
        assert_eq!(one[0].partitions_count, 5, "the others stay empty");
    }
}
