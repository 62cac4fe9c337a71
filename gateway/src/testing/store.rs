//! What the server in the process keeps: batches, and where consumers stopped.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use iggy_binary_protocol::{WireConsumer, WireEncode, WireIdentifier};
use kennel_protocol::batch::{BatchBuilder, BatchView, MessageParts, batches, slice};
use kennel_protocol::ids::{Offset, PartitionId};

/// Streams, topics, partitions and stored offsets.
#[derive(Debug, Default)]
pub struct Store {
    pub(super) streams: BTreeMap<u32, StreamLog>,
    pub(super) offsets: HashMap<(Bytes, u32, u32, u32), u64>,
    /// The time of the next append, microseconds: a server's clock that tests can follow.
    clock: u64,
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct StreamLog {
    pub(super) name: String,
    pub(super) created_at: u64,
    pub(super) topics: BTreeMap<u32, TopicLog>,
}

/// One topic.
#[derive(Debug, Default)]
pub(super) struct TopicLog {
    pub(super) name: String,
    pub(super) created_at: u64,
    pub(super) partitions: BTreeMap<u32, Log>,
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    batches: Vec<Bytes>,
    pub(super) end: u64,
    pub(super) oldest: u64,
}

/// Where a poll begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Offset(u64),
    Timestamp(u64),
    Last,
}

impl Store {
    /// Adds a topic, and its stream if need be. One that has the id already is deleted first.
    pub fn topic(&mut self, stream: (u32, &str), topic: (u32, &str), partitions: u32) {
        self.clock += 1_000_000;
        let created_at = self.clock;
        let streams = self.streams.entry(stream.0).or_insert_with(|| StreamLog { created_at, ..StreamLog::default() });
        stream.1.clone_into(&mut streams.name);
        let partitions = (0..partitions).map(|partition| (partition, Log::default())).collect();
        streams.topics.insert(topic.0, TopicLog { name: topic.1.to_owned(), created_at, partitions });
    }

    /// Deletes a stream with all its topics, if it is there.
    pub fn delete_stream(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    /// Loses the newest messages of a partition from an offset on, as a crash does that comes before they are on disk.
    ///
    /// # Panics
    /// If there is no such partition, or the offset lies inside a batch.
    pub fn lose_from(&mut self, (stream, topic, partition): (u32, u32, u32), end: u64) {
        let log = self.log(stream, topic, partition);
        log.batches.retain(|batch| view(batch).first_offset().0 < end);
        log.end = log.batches.last().map_or(0, |batch| view(batch).end_if_dense().0);
        assert_eq!(log.end, end, "a crash loses whole batches");
    }

    /// All batches of a partition, one after the other.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn batches(&mut self, (stream, topic, partition): (u32, u32, u32)) -> Bytes {
        self.log(stream, topic, partition).batches.concat().into()
    }

    /// What a named consumer stored.
    pub fn stored(&self, consumer: &str, (stream, topic, partition): (u32, u32, u32)) -> Option<u64> {
        let name = WireIdentifier::named(consumer).expect("tests give short names");
        self.offsets.get(&(WireConsumer::consumer(name).to_bytes(), stream, topic, partition)).copied()
    }

    /// Adds whole batches as they are.
    ///
    /// # Panics
    /// If there is no such partition, or the bytes are no batches.
    pub fn append(&mut self, (stream, topic, partition): (u32, u32, u32), run: &Bytes) {
        let log = self.log(stream, topic, partition);
        for view in batches(run) {
            let view = view.expect("a test writes batches");
            log.end = view.end_if_dense().0;
            log.batches.push(run.slice(view.position()..view.position() + view.bytes().len()));
        }
    }

    /// Appends the messages of a batch that a client sent, as the server stamps it. Returns the first offset and the
    /// batch as it is kept.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn send(&mut self, (stream, topic, partition): (u32, u32, u32), sent: &BatchView<'_>) -> (u64, Bytes) {
        self.clock += 1_000_000;
        let clock = self.clock;
        let log = self.log(stream, topic, partition);
        let base = log.end;
        let mut batch = BatchBuilder::new(PartitionId(partition), Offset(base), clock)
            .origin_timestamp(sent.header().origin_timestamp);
        for message in sent.messages() {
            let message = message.expect("the client sends whole batches");
            let delta = message.origin_timestamp() - sent.header().origin_timestamp;
            batch = batch.message(MessageParts {
                id: message.id(),
                timestamp_delta: u32::try_from(delta).expect("a batch is short"),
                payload: message.payload(),
                user_headers: message.user_headers(),
            });
        }
        log.end = batch.next_offset().0;
        let batch = batch.build();
        log.batches.push(batch.clone());
        (base, batch)
    }

    /// Lets go of whole batches below an offset, as retention does.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn retain_from(&mut self, (stream, topic, partition): (u32, u32, u32), oldest: u64) {
        let log = self.log(stream, topic, partition);
        log.oldest = oldest;
        log.batches.retain(|batch| view(batch).end_if_dense().0 > oldest);
    }

    /// Loses everything of a partition and begins anew, as a purge does.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn purge(&mut self, (stream, topic, partition): (u32, u32, u32)) {
        *self.log(stream, topic, partition) = Log::default();
    }

    fn log(&mut self, stream: u32, topic: u32, partition: u32) -> &mut Log {
        let topics = &mut self.streams.get_mut(&stream).expect("a stream").topics;
        topics.get_mut(&topic).expect("a topic").partitions.get_mut(&partition).expect("a partition")
    }

    /// The numbers behind names.
    pub(super) fn find(&self, stream: &WireIdentifier, topic: &WireIdentifier) -> Option<(u32, u32)> {
        let (stream, log) = self.find_stream(stream)?;
        let is = |(id, log): &(&u32, &TopicLog)| match topic {
            WireIdentifier::Numeric(wanted) => wanted == *id,
            WireIdentifier::String(wanted) => wanted.as_str() == log.name,
        };
        log.topics.iter().find(is).map(|(topic, _)| (stream, *topic))
    }

    pub(super) fn find_stream(&self, stream: &WireIdentifier) -> Option<(u32, &StreamLog)> {
        let is = |(id, log): &(&u32, &StreamLog)| match stream {
            WireIdentifier::Numeric(wanted) => wanted == *id,
            WireIdentifier::String(wanted) => wanted.as_str() == log.name,
        };
        self.streams.iter().find(is).map(|(id, log)| (*id, log))
    }
}

impl Log {
    /// How many messages it keeps, and their batches' bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.end - self.oldest, self.batches.iter().map(|batch| batch.len() as u64).sum())
    }

    /// The body of a poll's reply, and the last offset in it.
    pub(super) fn poll(&self, partition: u32, start: Start, count: u32) -> (Vec<u8>, Option<u64>) {
        let from = match start {
            Start::Offset(offset) => offset.max(self.oldest),
            Start::Last => self.end.saturating_sub(count.into()).max(self.oldest),
            Start::Timestamp(timestamp) => {
                let found = self.batches.iter().find(|batch| view(batch).header().base_timestamp >= timestamp);
                found.map_or(self.end, |batch| view(batch).first_offset().0)
            }
        };
        let mut body = [&partition.to_le_bytes()[..], &self.end.saturating_sub(1).to_le_bytes(), &[0; 4]].concat();
        let (mut messages, mut last) = (0, None);
        for batch in &self.batches {
            let cut = slice(&view(batch), Offset(from), count - messages).expect("stored batches are whole");
            if let Some(cut) = cut.filter(|_| messages < count) {
                messages += view(&cut).header().message_count;
                last = view(&cut).messages().filter_map(Result::ok).last().map(|message| message.offset().0);
                body.extend_from_slice(&cut);
            }
        }
        body[12..16].copy_from_slice(&messages.to_le_bytes());
        (body, last)
    }
}

fn view(batch: &Bytes) -> BatchView<'_> {
    BatchView::parse(batch, 0).expect("stored batches are whole")
}
