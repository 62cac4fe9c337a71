//! What a running server has, and what has changed: a machine that says what to ask next and tells news of the answers.
//!
//! One question lists all streams with what they hold. Only streams that hold something else than before are asked for
//! their topics, and only such topics for their partitions, so a round costs by what moves and not by what there is.
//! Since two numbers can change and be the same again, and partitions can be added without a message, everything is also
//! asked in turn, a little at a time. It refuses to know clocks, sessions and what becomes of its news.
//!
//! **Driving it.** Ask what [`Watch::ask`] says and give the answer to [`Watch::answer`], until it says that the round is
//! over, and between rounds say how long they took with [`Watch::pass`]. After a lost session call [`Watch::new_session`] and begin again.

mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::{Incarnation, PartitionKey, StreamId};

use super::source::{PartitionPlace, PartitionSeen, StreamSeen, TopicPlace, TopicSeen, Totals};
use crate::source::Filter;
use tree::Stream;

/// In so long everything is asked once although it does not seem to have changed: 500 topics are a hundred questions a
/// second, of some 40 us each.
const SWEEP: Duration = Duration::from_secs(5);

/// The most of them in one round, so that what moves is not kept waiting.
const SWEEP_PER_ROUND: u32 = 4;

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// All streams: the first question of a round.
    Streams,
    /// A stream's topics.
    Topics(StreamId),
    /// A topic's partitions.
    Partitions(TopicPlace),
    /// Nothing: the round is over.
    Rest,
}

/// An answer to what was asked last; `None` where it is not there.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Ask::Streams`].
    Streams(Vec<StreamSeen>),
    /// To [`Ask::Topics`].
    Topics(Option<Vec<TopicSeen>>),
    /// To [`Ask::Partitions`].
    Partitions(Option<(TopicSeen, Vec<PartitionSeen>)>),
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A chosen partition is there, or ends elsewhere than before.
    Partition {
        /// Its ids and its life.
        key: PartitionKey,
        /// What it has now.
        seen: PartitionSeen,
    },
    /// It is there no more: deleted, purged, or no longer chosen.
    Gone(PartitionKey),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Watch {
    filter: Filter,
    streams: BTreeMap<StreamId, Stream>,
    /// Lives that the ring knows.
    standing: BTreeMap<PartitionPlace, Incarnation>,
    session: u64,
    todo: VecDeque<Ask>,
    asked: Option<Ask>,
    /// The streams were not asked yet in this round.
    fresh: bool,
    swept: Option<TopicPlace>,
    /// Time that was not swept for yet, once for every topic.
    unswept: Duration,
    /// Something moved in this round.
    moved: bool,
    /// Names, ids or lives are others than when somebody last asked.
    named: bool,
    news: Vec<News>,
}

impl Watch {
    /// A watch that knows what the ring has of earlier lives, and nothing else.
    pub fn new(filter: Filter, standing: Option<&Catalog>) -> Self {
        let mut watch = Self {
            filter,
            streams: BTreeMap::new(),
            standing: BTreeMap::new(),
            session: 0,
            todo: VecDeque::new(),
            asked: None,
            fresh: true,
            swept: None,
            unswept: Duration::ZERO,
            moved: false,
            named: false,
            news: Vec::new(),
        };
        if let Some(standing) = standing {
            watch.take_standing(standing);
        }
        watch
    }

    /// What the ring's catalogue says now. A partition that another shipper saw purged begins its new life here too.
    pub fn take_standing(&mut self, standing: &Catalog) {
        for key in standing.partitions() {
            let place = place_of(key);
            // What was agreed on may be older than what was seen since.
            let known = self.standing.entry(place).or_default();
            *known = key.incarnation.max(*known);
            self.outlive(place, key.incarnation);
        }
    }

    /// So much time has passed since the last call: more is to be asked in turn.
    pub fn pass(&mut self, time: Duration) {
        let topics = self.streams.values().map(|stream| stream.topics.len()).sum::<usize>();
        let most = SWEEP * SWEEP_PER_ROUND;
        self.unswept += time * u32::try_from(topics).unwrap_or(u32::MAX);
        self.unswept = self.unswept.min(most);
    }

    /// What to ask now.
    pub fn ask(&mut self) -> Ask {
        if core::mem::take(&mut self.fresh) {
            self.todo.push_front(Ask::Streams);
        }
        let ask = self.todo.pop_front().unwrap_or(Ask::Rest);
        self.asked = Some(ask);
        if ask == Ask::Rest {
            self.fresh = true;
        }
        ask
    }

    /// Takes an answer to what was asked last.
    ///
    /// # Panics
    /// If it is the answer to another question.
    pub fn answer(&mut self, answer: Answer) {
        match (self.asked.take(), answer) {
            (Some(Ask::Streams), Answer::Streams(streams)) => self.take_streams(streams),
            (Some(Ask::Topics(stream)), Answer::Topics(topics)) => self.take_topics(stream, topics),
            (Some(Ask::Partitions(place)), Answer::Partitions(seen)) => self.take_partitions(place, seen),
            (asked, answer) => panic!("{answer:?} is no answer to {asked:?}"),
        }
    }

    /// Forgets the round under way. What a partition lost until the next answer, it lost in a crash and not by a purge.
    pub fn new_session(&mut self) {
        self.session += 1;
        self.todo.clear();
        self.asked = None;
        self.fresh = true;
        // Whatever happened meanwhile: look at all of it.
        for stream in self.streams.values_mut() {
            stream.doubt();
        }
    }

    /// The news since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        core::mem::take(&mut self.news)
    }

    /// Whether something moved since the last call.
    pub fn take_moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    /// Whether names, ids or lives are others than at the last call.
    pub fn take_named(&mut self) -> bool {
        core::mem::take(&mut self.named)
    }

    /// Everything that is there, chosen or not: a whole picture once a round is over.
    pub fn catalog(&self) -> Catalog {
        Catalog { revision: 0, streams: self.streams.iter().map(|(id, stream)| stream.entry(*id)).collect() }
    }

    fn take_streams(&mut self, streams: Vec<StreamSeen>) {
        let listed: BTreeSet<StreamId> = streams.iter().map(|stream| stream.id).collect();
        let gone: Vec<StreamId> = self.streams.keys().filter(|id| !listed.contains(id)).copied().collect();
        for id in gone {
            self.lose_stream(id);
        }
        for seen in streams {
            let id = seen.id;
            if self.streams.get(&id).is_some_and(|stream| stream.created_at != seen.created_at) {
                self.lose_stream(id);
            }
            let stream = self.streams.entry(id).or_insert_with(|| Stream::new(&seen));
            let renamed = stream.name != seen.name;
            let changed = renamed || stream.totals != Some(seen.totals) || stream.topics_count != seen.topics;
            if renamed {
                stream.name.clone_from(&seen.name);
                self.choose_again(id);
            }
            if changed {
                self.moved = true;
                self.ask_changed(&seen);
            }
        }
        self.sweep();
    }

    /// Asks for what changed in a stream: with one topic, that is known.
    fn ask_changed(&mut self, seen: &StreamSeen) {
        let stream = self.streams.get_mut(&seen.id).expect("it was just listed");
        let only = (stream.topics.len() == 1 && stream.topics_count == 1 && seen.topics == 1)
            .then(|| stream.topics.keys().next().copied())
            .flatten();
        stream.totals = Some(seen.totals);
        stream.topics_count = seen.topics;
        self.todo.push_back(match only {
            Some(topic) => Ask::Partitions(TopicPlace { stream: seen.id, topic }),
            None => Ask::Topics(seen.id),
        });
    }

    /// A few more questions, so that everything is asked in turn.
    fn sweep(&mut self) {
        while self.unswept >= SWEEP {
            self.unswept -= SWEEP;
            let Some(next) = self.after_swept() else { return };
            if self.swept.is_none_or(|before| before.stream != next.stream) {
                self.ask_once(Ask::Topics(next.stream));
            }
            self.ask_once(Ask::Partitions(next));
            self.swept = Some(next);
        }
    }

    fn ask_once(&mut self, ask: Ask) {
        if !self.todo.contains(&ask) {
            self.todo.push_back(ask);
        }
    }

    /// The topic after the one swept last; `None` at the end, from where the next round begins anew.
    fn after_swept(&mut self) -> Option<TopicPlace> {
        let first = |(id, stream): (&StreamId, &Stream)| {
            stream.topics.keys().next().map(|topic| TopicPlace { stream: *id, topic: *topic })
        };
        let next = match self.swept {
            None => self.streams.iter().find_map(first),
            Some(TopicPlace { stream, topic }) => {
                let rest = self.streams.get(&stream).and_then(|known| {
                    let behind = known.topics.range((Bound::Excluded(topic), Bound::Unbounded)).next();
                    behind.map(|(topic, _)| TopicPlace { stream, topic: *topic })
                });
                let later = || self.streams.range((Bound::Excluded(stream), Bound::Unbounded)).find_map(first);
                rest.or_else(later)
            }
        };
        if next.is_none() {
            self.swept = None;
        }
        next
    }
}

/// The ids without the life.
pub fn place_of(key: PartitionKey) -> PartitionPlace {
    let topic = TopicPlace { stream: key.stream, topic: key.topic };
    PartitionPlace { topic, partition: key.partition }
}

/// Whether something holds other things than it did.
fn differs(before: Option<Totals>, now: Totals) -> bool {
    before != Some(now)
}

#[cfg(test)]
mod tests;
