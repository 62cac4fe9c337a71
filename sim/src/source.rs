//! The truth: what Iggy committed, per partition. Everything that is read anywhere must equal it.

use bytes::Bytes;
use kennel_protocol::entry::{EntryHead, EntryKind, HoleReason, IntegritySum, MessageIdentity};
use kennel_protocol::ids::{Incarnation, Offset, PartitionId, PartitionKey, StreamId, TopicId};
use kennel_protocol::wire::ShipChunk;

use crate::stream::mix;

/// Bodies are not looked at by decisions: all of them are a piece of this.
static BODY: [u8; 16 << 10] = [0; 16 << 10];

/// One partition at its source.
#[derive(Debug)]
pub struct Partition {
    /// Which.
    pub key: PartitionKey,
    /// Offset of the first message that ever was.
    pub origin: Offset,
    /// Below it retention has removed the messages.
    pub start: Offset,
    message_bytes: u64,
    /// When each message's batch was appended.
    stamps: Vec<u64>,
    /// The integrity sum below each message.
    sums: Vec<IntegritySum>,
    batches: u64,
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
        Self {
            key,
            origin,
            start: origin,
            message_bytes,
            stamps: Vec::new(),
            sums: vec![IntegritySum::default()],
            batches: 0,
        }
    }

    /// Commits one batch of `count` messages.
    pub fn append(&mut self, count: u64) {
        self.batches += 1;
        for _ in 0..count {
            self.stamps.push(self.batches * 1000);
            let offset = Offset(self.end().0 - 1);
            let mut sum = self.sums.last().copied().unwrap_or_default();
            sum.add(IntegritySum::of(&self.identity(offset).expect("just appended")));
            self.sums.push(sum);
        }
    }

    /// End of what is committed.
    pub fn end(&self) -> Offset {
        self.origin.plus(self.stamps.len() as u64)
    }

    /// The message at an offset, retained or not.
    pub fn identity(&self, offset: Offset) -> Option<MessageIdentity> {
        let base_timestamp = *self.stamps.get(self.index(offset)?)?;
        let checksum = mix(offset.0 ^ (u64::from(self.key.partition.0) << 48));
        Some(MessageIdentity { offset, base_timestamp, checksum })
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
        let from = self.sums.get(self.index(base)?)?;
        let to = self.sums.get(self.index(end)?)?;
        Some(IntegritySum { messages: to.messages - from.messages, hash: to.hash.wrapping_sub(from.hash) })
    }

    /// Where the batch that holds an offset ends.
    pub fn batch_end(&self, offset: Offset) -> Offset {
        let Some(index) = self.index(offset).filter(|index| *index < self.stamps.len()) else { return offset };
        let stamp = self.stamps[index];
        let more = self.stamps[index..].iter().take_while(|other| **other == stamp).count();
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
