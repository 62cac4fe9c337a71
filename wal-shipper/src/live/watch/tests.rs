//! The watch against a server in memory: what it asks, and what it makes of creations, deletions, purges and crashes.

use kennel_protocol::ids::{Offset, PartitionId, TopicId};

use super::*;

/// A partition: created when, end, first offset kept.
#[derive(Debug, Clone, Copy)]
struct Part {
    created_at: u64,
    end: u64,
    start: u64,
}

/// When each topic was made, and its partitions.
type Topics = BTreeMap<u32, (u64, Vec<Part>)>;

/// A server with one name per id, and how often it was asked what.
#[derive(Debug, Default)]
struct Server {
    streams: BTreeMap<u32, (u64, Topics)>,
    names: BTreeMap<u32, String>,
    asked: Vec<Ask>,
}

impl Server {
    fn totals<'a>(parts: impl Iterator<Item = &'a Part>) -> Totals {
        let messages = parts.map(|part| part.end - part.start).sum();
        Totals { bytes: messages * 100, messages }
    }

    fn add(&mut self, stream: u32, topic: u32, created_at: u64, partitions: usize) {
        let part = Part { created_at, end: 0, start: 0 };
        let (_, topics) = self.streams.entry(stream).or_insert((created_at, BTreeMap::new()));
        topics.insert(topic, (created_at, vec![part; partitions]));
    }

    fn part(&mut self, stream: u32, topic: u32, partition: usize) -> &mut Part {
        &mut self.streams.get_mut(&stream).expect("a stream").1.get_mut(&topic).expect("a topic").1[partition]
    }

    fn topic_seen(id: u32, created_at: u64, parts: &[Part]) -> TopicSeen {
        TopicSeen {
            id: TopicId(id),
            name: format!("topic-{id}"),
            created_at,
            partitions: u32::try_from(parts.len()).expect("few"),
            message_expiry_micros: None,
            totals: Self::totals(parts.iter()),
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        self.asked.push(ask);
        match ask {
            Ask::Streams => {
                Answer::Streams(self.streams.iter().map(|(id, stream)| self.stream_seen(*id, stream)).collect())
            }
            Ask::Topics(stream) => Answer::Topics(self.streams.get(&stream.0).map(|(_, topics)| {
                topics.iter().map(|(id, (created, parts))| Self::topic_seen(*id, *created, parts)).collect()
            })),
            Ask::Partitions(place) => {
                let stream = self.streams.get(&place.stream.0);
                Answer::Partitions(stream.and_then(|(_, topics)| topics.get(&place.topic.0)).map(|(created, parts)| {
                    (Self::topic_seen(place.topic.0, *created, parts), parts.iter().enumerate().map(seen).collect())
                }))
            }
            Ask::Rest => panic!("nothing is asked while it rests"),
        }
    }

    fn stream_seen(&self, id: u32, (created_at, topics): &(u64, BTreeMap<u32, (u64, Vec<Part>)>)) -> StreamSeen {
        StreamSeen {
            id: StreamId(id),
            name: self.names.get(&id).cloned().unwrap_or_else(|| format!("stream-{id}")),
            created_at: *created_at,
            topics: u32::try_from(topics.len()).expect("few"),
            totals: Self::totals(topics.values().flat_map(|(_, parts)| parts)),
        }
    }
}

fn seen((id, part): (usize, &Part)) -> PartitionSeen {
    PartitionSeen {
        id: PartitionId(u32::try_from(id).expect("few")),
        created_at: part.created_at,
        end: Offset(part.end),
        totals: Server::totals(core::iter::once(part)),
    }
}

fn watch(include: &[&str]) -> Watch {
    let include: Vec<String> = include.iter().map(|&pattern| pattern.to_owned()).collect();
    Watch::new(Filter::new(&include, &[]).expect("patterns"), None)
}

/// Much time; of all of it, only so much is swept in a round.
const LONG: Duration = Duration::from_hours(1);

/// One round; what it told, briefly.
fn round(watch: &mut Watch, server: &mut Server) -> Vec<String> {
    server.asked.clear();
    loop {
        match watch.ask() {
            Ask::Rest => break,
            ask => {
                let answer = server.answer(ask);
                watch.answer(answer);
            }
        }
    }
    let brief = |news| match news {
        News::Partition { key, seen } => format!("{key} to {}", seen.end),
        News::Gone(key) => format!("{key} gone"),
    };
    watch.take_news().into_iter().map(brief).collect()
}

#[test]
fn the_first_round_finds_everything_and_the_next_ones_only_what_moved() {
    let (mut watch, mut server) = (watch(&[]), Server::default());
    server.add(0, 0, 7, 2);
    server.add(0, 1, 8, 1);
    server.add(3, 0, 9, 1);
    server.part(0, 1, 0).end = 5;
    let found = round(&mut watch, &mut server);
    assert_eq!(found, ["0/0/0@7 to 0", "0/0/1@7 to 0", "0/1/0@8 to 5", "3/0/0@9 to 0"]);
    assert!(watch.take_moved() && watch.take_named());
    assert_eq!(watch.catalog().partitions().count(), 4);
    server.part(3, 0, 0).end = 1;
    server.part(0, 0, 1).end = 4;
    // The only topic of a stream needs no question for which topic it is.
    assert_eq!(round(&mut watch, &mut server), ["3/0/0@9 to 1", "0/0/1@7 to 4"]);
    assert!(watch.take_moved() && !watch.take_named());
    assert!(round(&mut watch, &mut server).is_empty());
    assert!(!watch.take_moved());
}

#[test]
fn a_round_costs_by_what_moves() {
    let (mut watch, mut server) = (watch(&[]), Server::default());
    for topic in 0..300 {
        server.add(0, topic, 1, 10);
    }
    server.add(1, 0, 1, 10);
    round(&mut watch, &mut server);
    for end in 1..40 {
        server.part(0, 17, 3).end = end;
        assert_eq!(round(&mut watch, &mut server), [format!("0/17/3@1 to {end}")]);
        assert_eq!(server.asked.len(), 3, "{:?}", server.asked);
    }
    // And by what is to be looked at in turn, which is bounded as well.
    watch.pass(LONG);
    round(&mut watch, &mut server);
    assert_eq!(server.asked.len(), 2 + SWEEP_PER_ROUND as usize, "{:?}", server.asked);
    // The only topic of a stream is asked at once.
    server.part(1, 0, 0).end = 9;
    round(&mut watch, &mut server);
    assert_eq!(server.asked.len(), 2);
    let place = TopicPlace { stream: StreamId(1), topic: TopicId(0) };
    assert_eq!(server.asked[..2], [Ask::Streams, Ask::Partitions(place)]);
}

/// Partitions can be added, and numbers can change back, without any total that tells.
#[test]
fn everything_is_looked_at_in_turn() {
    let (mut watch, mut server) = (watch(&[]), Server::default());
    for topic in 0..40 {
        server.add(0, topic, 1, 2);
    }
    round(&mut watch, &mut server);
    let more = Part { created_at: 5, end: 0, start: 0 };
    server.streams.get_mut(&0).expect("a stream").1.get_mut(&33).expect("a topic").1.push(more);
    // As many messages came as were deleted.
    *server.part(0, 12, 1) = Part { created_at: 1, end: 9, start: 9 };
    let mut found = Vec::new();
    for _ in 0..40 {
        // 41 topics of five seconds in 250 rounds of 20 ms.
        for _ in 0..7 {
            watch.pass(Duration::from_millis(20));
        }
        found.extend(round(&mut watch, &mut server));
    }
    found.sort();
    assert_eq!(found, ["0/12/1@1 to 9", "0/33/2@5 to 0"]);
}

#[test]
fn what_is_created_again_is_another_life() {
    let (mut watch, mut server) = (watch(&[]), Server::default());
    server.add(0, 0, 100, 1);
    server.part(0, 0, 0).end = 50;
    round(&mut watch, &mut server);
    // A topic, with a message already, so that nothing else tells.
    server.add(0, 0, 200, 1);
    server.part(0, 0, 0).end = 51;
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@100 gone", "0/0/0@200 to 51"]);
    server.streams.remove(&0);
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@200 gone"]);
    server.add(0, 0, 300, 2);
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@300 to 0", "0/0/1@300 to 0"]);
    server.streams.get_mut(&0).expect("a stream").0 = 400;
    assert_eq!(round(&mut watch, &mut server).len(), 4, "a stream of the same name and topics is another one");
    assert_eq!(watch.catalog().partitions().map(|key| key.incarnation.0).collect::<Vec<_>>(), [400, 400]);
}

#[test]
fn a_purge_is_a_new_life_and_a_crash_is_not() {
    let (mut watch, mut server) = (watch(&[]), Server::default());
    server.add(0, 0, 100, 1);
    server.part(0, 0, 0).end = 50;
    round(&mut watch, &mut server);
    server.part(0, 0, 0).end = 3;
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@100 gone", "0/0/0@101 to 3"]);
    server.part(0, 0, 0).end = 50;
    round(&mut watch, &mut server);
    // The session broke meanwhile: it lost its newest messages.
    watch.new_session();
    server.part(0, 0, 0).end = 48;
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@101 to 48"]);
    // Retention takes from the front, and no end falls.
    server.part(0, 0, 0).start = 40;
    assert!(round(&mut watch, &mut server).is_empty());
    let mut known = watch.catalog();
    let mut later = Watch::new(Filter::default(), Some(&known));
    assert_eq!(round(&mut later, &mut server), ["0/0/0@101 to 48"], "a shipper that starts later finds the same life");
    // Another shipper saw a purge first, and this one must not count it twice.
    known.streams[0].topics[0].partitions[0].incarnation.0 = 102;
    server.part(0, 0, 0).start = 0;
    watch.take_standing(&known);
    server.part(0, 0, 0).end = 2;
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@101 gone", "0/0/0@102 to 48", "0/0/0@102 to 2"]);
    server.part(0, 0, 0).end = 1;
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@102 gone", "0/0/0@103 to 1"], "the next one counts");
}

#[test]
fn patterns_choose_by_name_also_after_a_rename() {
    let (mut watch, mut server) = (watch(&["orders"]), Server::default());
    server.add(0, 0, 1, 1);
    server.names.insert(0, "orders".to_owned());
    server.add(1, 0, 1, 1);
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@1 to 0"]);
    assert_eq!(watch.catalog().partitions().count(), 2, "the catalogue is whole, whatever is shipped");
    server.part(1, 0, 0).end = 9;
    assert!(round(&mut watch, &mut server).is_empty());
    server.names.insert(0, "old".to_owned());
    server.names.insert(1, "orders".to_owned());
    watch.take_named();
    assert_eq!(round(&mut watch, &mut server), ["0/0/0@1 gone", "1/0/0@1 to 9"]);
    assert!(watch.take_named());
}
