//! The truth: what Iggy committed, per partition. Everything that is read anywhere must equal it.

use bytes::Bytes;
use kennel_protocol::entry::{EntryHead, EntryKind, HoleReason, IntegritySum, MessageIdentity};
use kennel_protocol::ids::{Incarnation, Offset, PartitionId, PartitionKey, StreamId, TopicId};
use kennel_protocol::wire::ShipChunk;

use crate::stream::mix;

/// Bodies are not looked at by decisions: all of them are a piece of this.
static BODY: [u8; 16 << 10] = [0; 16 << 10];
/// A source loses messages no more often than this.
const HISTORIES_MAX: usize = 60;

/// One partition at its source.
#[derive(Debug)]
pub struct Partition {
    /// Which.
    pub key: PartitionKey,
    /// Offset of the first message that ever was.
    pub origin: Offset,
    /// Below it retention has removed the messages.
    pub start: Offset,
    /// The source does not have it any more.
    pub deleted: bool,
    message_bytes: u64,
    /// What it holds, or held.
    history: History,
    /// What it held before it lost its newest messages, oldest first.
    past: Vec<History>,
    batches: u64,
}

/// One order of messages. Histories of one partition share a beginning.
#[derive(Debug, Clone)]
struct History {
    /// When each message's batch was appended.
    stamps: Vec<u64>,
    /// The integrity sum below each message.
    sums: Vec<IntegritySum>,
}

impl Partition {
    /// An empty partition whose first message will be `origin`.
    pub fn new(number: u32, origin: Offset, message_bytes: u64) -> Self {
        let key = PartitionKey {
            stream: StreamId(1),
            topic: TopicId(1),
            partition: PartitionId(number),
            incarnation: Incarnation(1),
        };
        let history = History { stamps: Vec::new(), sums: vec![IntegritySum::default()] };
        Self { key, origin, start: origin, deleted: false, message_bytes, history, past: Vec::new(), batches: 0 }
    }

    /// Deletes the partition; answers the one that is created under its name.
    #[must_use]
    pub fn recreate(&mut self) -> Self {
        self.deleted = true;
        let mut successor = Self::new(self.key.partition.0, Offset(0), self.message_bytes);
        successor.key.incarnation = Incarnation(self.key.incarnation.0 + 1);
        successor
    }

    /// Loses the newest messages, at most `count`: their offsets will name others.
    pub fn lose_tail(&mut self, count: u64) {
        let end = Offset(self.end().0.saturating_sub(count)).max(self.start);
        if end == self.end() || self.past.len() + 1 >= HISTORIES_MAX {
            return;
        }
        self.past.push(self.history.clone());
        let kept = self.index(end).expect("the new end lies above the origin");
        self.history.stamps.truncate(kept);
        self.history.sums.truncate(kept + 1);
    }

    /// Whether it ever lost messages.
    pub fn lost_any(&self) -> bool {
        !self.past.is_empty()
    }

    /// Commits one batch of `count` messages.
    pub fn append(&mut self, count: u64) {
        self.batches += 1;
        for _ in 0..count {
            self.history.stamps.push(self.batches * 1000);
            let offset = Offset(self.end().0 - 1);
            let mut sum = self.history.sums.last().copied().unwrap_or_default();
            sum.add(IntegritySum::of(&self.identity(offset).expect("just appended")));
            self.history.sums.push(sum);
        }
    }

    /// End of what is committed.
    pub fn end(&self) -> Offset {
        self.origin.plus(self.history.stamps.len() as u64)
    }

    /// The message at an offset, retained or not.
    pub fn identity(&self, offset: Offset) -> Option<MessageIdentity> {
        self.identity_in(&self.history, offset)
    }

    fn identity_in(&self, history: &History, offset: Offset) -> Option<MessageIdentity> {
        let base_timestamp = *history.stamps.get(self.index(offset)?)?;
        let place = offset.0 ^ (u64::from(self.key.partition.0) << 48) ^ (self.key.incarnation.0 << 40);
        Some(MessageIdentity { offset, base_timestamp, checksum: mix(mix(place) ^ base_timestamp) })
    }

    /// In which of its histories a run of messages stands so: a bit for each, the oldest first.
    pub fn histories_of(&self, head: &EntryHead) -> u64 {
        let histories = self.past.iter().chain([&self.history]);
        let stands = |history: &History| {
            let last = Offset(head.end.0 - 1);
            head.first == self.identity_in(history, head.base)
                && head.last == self.identity_in(history, last)
                && Some(head.sum) == self.sum_in(history, head.base, head.end)
        };
        histories.enumerate().filter(|(_, history)| stands(history)).fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// The bit of what it holds now.
    pub fn newest_history(&self) -> u64 {
        1 << self.past.len()
    }

    /// The message right before an offset, if the source still has it.
    pub fn before(&self, offset: Offset) -> Option<MessageIdentity> {
        if offset <= self.start {
            return None;
        }
        self.identity(Offset(offset.0 - 1))
    }

    /// The sum over `[base, end)`, which was committed.
    pub fn sum(&self, base: Offset, end: Offset) -> Option<IntegritySum> {
        self.sum_in(&self.history, base, end)
    }

    fn sum_in(&self, history: &History, base: Offset, end: Offset) -> Option<IntegritySum> {
        let from = history.sums.get(self.index(base)?)?;
        let to = history.sums.get(self.index(end)?)?;
        Some(IntegritySum { messages: to.messages - from.messages, hash: to.hash.wrapping_sub(from.hash) })
    }

    /// Where the batch that holds an offset ends.
    pub fn batch_end(&self, offset: Offset) -> Offset {
        let Some(index) = self.index(offset).filter(|index| *index < self.history.stamps.len()) else { return offset };
        let stamp = self.history.stamps[index];
        let more = self.history.stamps[index..].iter().take_while(|other| **other == stamp).count();
        offset.plus(more as u64)
    }

    /// What a shipper reads in `[base, end)`: a chunk with the identity of the message before it.
    pub fn chunk(&self, base: Offset, end: Offset) -> ShipChunk {
        let bytes = usize::try_from((end.0 - base.0) * self.message_bytes).expect("chunks are small").min(BODY.len());
        let head = EntryHead {
            partition: self.key,
            kind: EntryKind::Chunk,
            base,
            end,
            previous: self.before(base),
            first: self.identity(base),
            last: self.identity(Offset(end.0 - 1)),
            sum: self.sum(base, end).expect("a chunk is cut from what was committed"),
            cut: 0,
            body_bytes: u32::try_from(bytes).expect("chunks are small"),
            body_checksum: body_checksum(self.key, base, end),
        };
        ShipChunk { head, body: Bytes::from_static(&BODY[..bytes]) }
    }

    /// What a shipper declares where the source has nothing any more.
    pub fn missing(&self, from: Offset) -> ShipChunk {
        let mut head = hole(self.key, from, self.start);
        if self.start == self.origin {
            head.kind = EntryKind::Hole(HoleReason::ImportStart);
        }
        ShipChunk { head, body: Bytes::new() }
    }

    fn index(&self, offset: Offset) -> Option<usize> {
        usize::try_from(offset.0.checked_sub(self.origin.0)?).ok()
    }
}

/// The checksum that a chunk's body must have.
pub fn body_checksum(key: PartitionKey, base: Offset, end: Offset) -> u64 {
    mix(mix(base.0) ^ end.0 ^ (u64::from(key.partition.0) << 40))
}

/// The head of a hole that retention made.
pub fn hole(partition: PartitionKey, base: Offset, end: Offset) -> EntryHead {
    EntryHead {
        partition,
        kind: EntryKind::Hole(HoleReason::SourceRetention),
        base,
        end,
        previous: None,
        first: None,
        last: None,
        sum: IntegritySum::default(),
        cut: 0,
        body_bytes: 0,
        body_checksum: 0,
    }
}
