//! What the watch knows: streams, their topics, their partitions, and which life each partition is in.

use std::collections::{BTreeMap, BTreeSet};

use kennel_protocol::catalog::{PartitionEntry, StreamEntry, TopicEntry, born, life_after_purge, life_of};
use kennel_protocol::ids::{Incarnation, PartitionId, PartitionKey, StreamId, TopicId};

use super::{Ask, News, Watch, differs};
use crate::live::source::{PartitionPlace, PartitionSeen, StreamSeen, TopicPlace, TopicSeen, Totals};

/// One stream. Totals are `None` while they are in doubt.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) created_at: u64,
    pub(super) totals: Option<Totals>,
    pub(super) topics_count: u32,
    pub(super) topics: BTreeMap<TopicId, Topic>,
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    name: String,
    created_at: u64,
    message_expiry_micros: Option<u64>,
    totals: Option<Totals>,
    partitions_count: u32,
    partitions: BTreeMap<PartitionId, Known>,
}

/// One partition in one life.
#[derive(Debug)]
struct Known {
    key: PartitionKey,
    chosen: bool,
    seen: PartitionSeen,
    session: u64,
    /// The ring knows a newer life than the server was last seen in. If a purge began it, the next answer shows that fall,
    /// because the server was asked after it; a later fall is another purge.
    told_of_purge: bool,
}

/// What is left of a topic's answer to look at.
struct Passed {
    /// New, or elsewhere than before.
    changed: Vec<PartitionSeen>,
    /// A count moved and its offset did not yet: an answer in between. Look again.
    torn: bool,
}

impl Stream {
    pub(super) fn new(seen: &StreamSeen) -> Self {
        let (name, created_at) = (seen.name.clone(), seen.created_at);
        Self { name, created_at, totals: None, topics_count: 0, topics: BTreeMap::new() }
    }

    /// Makes the next round look at everything.
    pub(super) fn doubt(&mut self) {
        self.totals = None;
        // A stream that is asked through its only topic would miss a new one.
        self.topics_count = u32::MAX;
        for topic in self.topics.values_mut() {
            topic.totals = None;
        }
    }

    /// As the catalogue lists it.
    pub(super) fn entry(&self, id: StreamId) -> StreamEntry {
        let topics = self.topics.iter().map(|(id, topic)| topic.entry(*id)).collect();
        StreamEntry { id, name: self.name.clone(), topics }
    }
}

impl Topic {
    fn new(seen: &TopicSeen) -> Self {
        Self {
            name: seen.name.clone(),
            created_at: seen.created_at,
            message_expiry_micros: seen.message_expiry_micros,
            totals: None,
            partitions_count: 0,
            partitions: BTreeMap::new(),
        }
    }

    /// Takes out what is not listed any more: rarely anything.
    fn take_missing(&mut self, listed: &[PartitionSeen]) -> Vec<Known> {
        let found = listed.iter().filter(|seen| self.partitions.contains_key(&seen.id)).count();
        if found == self.partitions.len() {
            return Vec::new();
        }
        let is_listed = |id: &PartitionId| listed.iter().any(|seen| seen.id == *id);
        let missing: Vec<PartitionId> = self.partitions.keys().filter(|id| !is_listed(id)).copied().collect();
        missing.iter().filter_map(|id| self.partitions.remove(id)).collect()
    }

    /// Notes what ends where it did, which is nearly all of it, and passes on the rest.
    fn pass_quiet(&mut self, listed: &[PartitionSeen], session: u64) -> Passed {
        let mut passed = Passed { changed: Vec::new(), torn: false };
        for seen in listed {
            match self.partitions.get_mut(&seen.id) {
                Some(known) if known.seen.end == seen.end && known.seen.created_at == seen.created_at => {
                    passed.torn |= known.seen.totals.messages < seen.totals.messages;
                    (known.seen, known.session, known.told_of_purge) = (*seen, session, false);
                }
                Some(_) | None => passed.changed.push(*seen),
            }
        }
        passed
    }

    fn entry(&self, id: TopicId) -> TopicEntry {
        let entry =
            |(id, known): (&PartitionId, &Known)| PartitionEntry { id: *id, incarnation: known.key.incarnation };
        let partitions = self.partitions.iter().map(entry).collect();
        let (name, message_expiry_micros) = (self.name.clone(), self.message_expiry_micros);
        TopicEntry { id, name, partitions, message_expiry_micros }
    }
}

impl Watch {
    pub(super) fn take_topics(&mut self, id: StreamId, topics: Option<Vec<TopicSeen>>) {
        let Some(topics) = topics else { return self.lose_stream(id) };
        let Some(stream) = self.streams.get(&id) else { return };
        let listed: BTreeSet<TopicId> = topics.iter().map(|seen| seen.id).collect();
        for topic in stream.topics.keys().filter(|id| !listed.contains(id)).copied().collect::<Vec<_>>() {
            self.lose_topic(TopicPlace { stream: id, topic });
        }
        for seen in topics {
            let place = TopicPlace { stream: id, topic: seen.id };
            self.meet_topic(place, &seen);
            let topic = &self.streams[&id].topics[&seen.id];
            if differs(topic.totals, seen.totals) || topic.partitions_count != seen.partitions {
                self.ask_once(Ask::Partitions(place));
            }
        }
    }

    pub(super) fn take_partitions(&mut self, place: TopicPlace, seen: Option<(TopicSeen, Vec<PartitionSeen>)>) {
        if !self.streams.contains_key(&place.stream) {
            return;
        }
        let Some((topic_seen, partitions)) = seen else { return self.lose_topic(place) };
        self.meet_topic(place, &topic_seen);
        let session = self.session;
        let topic = self.topic(place).expect("it was just met");
        topic.totals = Some(topic_seen.totals);
        topic.partitions_count = topic_seen.partitions;
        let gone = topic.take_missing(&partitions);
        let Passed { changed, torn } = topic.pass_quiet(&partitions, session);
        if torn {
            topic.totals = None;
            self.streams.get_mut(&place.stream).expect("it was just seen").totals = None;
        }
        for known in &gone {
            self.tell_gone(known);
        }
        for seen in changed {
            self.take_partition(PartitionPlace { topic: place, partition: seen.id }, seen);
        }
    }

    /// Another shipper, or the ring, knows of a newer life of ids.
    pub(super) fn outlive(&mut self, place: PartitionPlace, incarnation: Incarnation) {
        let known = self.topic(place.topic).and_then(|topic| topic.partitions.get_mut(&place.partition));
        let Some(known) = known.filter(|known| known.key.incarnation < incarnation) else { return };
        let (before, chosen, seen) = (known.key, known.chosen, known.seen);
        known.key.incarnation = incarnation;
        known.told_of_purge = true;
        let key = known.key;
        if chosen {
            self.news.extend([News::Gone(before), News::Partition { key, seen }]);
        }
    }

    pub(super) fn lose_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        for topic in stream.topics.keys().copied().collect::<Vec<_>>() {
            self.lose_topic(TopicPlace { stream: id, topic });
        }
        self.streams.remove(&id);
        self.named = true;
    }

    /// A stream was renamed: other patterns may match.
    pub(super) fn choose_again(&mut self, id: StreamId) {
        let topics: Vec<TopicId> = self.streams[&id].topics.keys().copied().collect();
        for topic in topics {
            self.choose_topic_again(TopicPlace { stream: id, topic });
        }
        self.named = true;
    }

    fn choose_topic_again(&mut self, place: TopicPlace) {
        let Some(topic) = self.topic(place) else { return };
        let keys: Vec<PartitionKey> = topic.partitions.values().map(|known| known.key).collect();
        for key in keys {
            let chosen = self.chooses(key);
            let known = self.topic(place).and_then(|topic| topic.partitions.get_mut(&key.partition));
            let known = known.expect("it was just listed");
            if core::mem::replace(&mut known.chosen, chosen) != chosen {
                let seen = known.seen;
                self.news.push(if chosen { News::Partition { key, seen } } else { News::Gone(key) });
            }
        }
    }

    fn topic(&mut self, place: TopicPlace) -> Option<&mut Topic> {
        self.streams.get_mut(&place.stream)?.topics.get_mut(&place.topic)
    }

    /// A topic is listed: it may be new, another one under the same id, or renamed.
    fn meet_topic(&mut self, place: TopicPlace, seen: &TopicSeen) {
        if self.topic(place).is_some_and(|topic| topic.created_at != seen.created_at) {
            self.lose_topic(place);
        }
        let stream = self.streams.get_mut(&place.stream).expect("the caller found it");
        let topic = stream.topics.entry(place.topic).or_insert_with(|| Topic::new(seen));
        let renamed = topic.name != seen.name;
        if renamed || topic.message_expiry_micros != seen.message_expiry_micros {
            topic.name.clone_from(&seen.name);
            topic.message_expiry_micros = seen.message_expiry_micros;
            self.named = true;
        }
        if renamed {
            self.choose_topic_again(place);
        }
    }

    fn lose_topic(&mut self, place: TopicPlace) {
        let Some(stream) = self.streams.get_mut(&place.stream) else { return };
        let Some(topic) = stream.topics.remove(&place.topic) else { return };
        for known in topic.partitions.values() {
            self.tell_gone(known);
        }
        self.named = true;
        self.moved = true;
    }

    fn tell_gone(&mut self, known: &Known) {
        self.named = true;
        if known.chosen {
            self.news.push(News::Gone(known.key));
        }
    }

    fn chooses(&self, key: PartitionKey) -> bool {
        let stream = &self.streams[&key.stream];
        self.filter.matches_names(key, &stream.name, &stream.topics[&key.topic].name)
    }

    fn take_partition(&mut self, place: PartitionPlace, seen: PartitionSeen) {
        let session = self.session;
        let known = self.topic(place.topic).expect("the caller met it").partitions.get(&place.partition);
        let before = match known {
            Some(known) if known.seen.created_at != seen.created_at => {
                let known = self.topic(place.topic).and_then(|topic| topic.partitions.remove(&place.partition));
                self.tell_gone(&known.expect("it was just seen"));
                return self.meet_partition(place, seen);
            }
            Some(known) => known.seen,
            None => return self.meet_partition(place, seen),
        };
        let known = self.topic(place.topic).and_then(|topic| topic.partitions.get_mut(&place.partition));
        let known = known.expect("it was just seen");
        let same_session = core::mem::replace(&mut known.session, session) == session;
        known.seen = seen;
        let (key, chosen) = (known.key, known.chosen);
        let fell = seen.end < before.end;
        let told = known.told_of_purge && same_session;
        known.told_of_purge = false;
        self.moved = true;
        // A server that runs on takes nothing back but by a purge, and then it begins at 0 again.
        if fell && same_session && !told && seen.totals.messages == seen.end.0 {
            return self.purge(place, key, chosen, seen);
        }
        if chosen {
            self.news.push(News::Partition { key, seen });
        }
    }

    fn purge(&mut self, place: PartitionPlace, before: PartitionKey, chosen: bool, seen: PartitionSeen) {
        let standing = self.standing.get(&place).copied();
        let key = PartitionKey { incarnation: life_after_purge(before.incarnation, standing), ..before };
        self.standing.insert(place, key.incarnation);
        let known = self.topic(place.topic).and_then(|topic| topic.partitions.get_mut(&place.partition));
        known.expect("the caller found it").key = key;
        self.named = true;
        if chosen {
            self.news.extend([News::Gone(before), News::Partition { key, seen }]);
        }
    }

    /// A partition that was not known, or another one under the same ids.
    fn meet_partition(&mut self, place: PartitionPlace, seen: PartitionSeen) {
        let PartitionPlace { topic: TopicPlace { stream, topic }, partition } = place;
        let parents = &self.streams[&stream];
        let born = born(parents.created_at, parents.topics[&topic].created_at, seen.created_at);
        let incarnation = life_of(self.standing.get(&place).copied(), born);
        self.standing.insert(place, incarnation);
        let key = PartitionKey { stream, topic, partition, incarnation };
        let chosen = self.chooses(key);
        let session = self.session;
        let known = Known { key, chosen, seen, session, told_of_purge: false };
        self.topic(place.topic).expect("the caller met it").partitions.insert(partition, known);
        self.moved = true;
        self.named = true;
        if chosen {
            self.news.push(News::Partition { key, seen });
        }
    }
}
