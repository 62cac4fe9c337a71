//! One partition's log as its server would write it: every byte follows from partition and offset.

use bytes::Bytes;
use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::ShipChunk;

/// How large what is shipped at once is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Messages in a batch; a chunk is one batch.
    pub(crate) messages: u32,
    /// Bytes of each message's payload.
    pub(crate) payload_bytes: usize,
}

/// Where it is read next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) key: PartitionKey,
    pub(crate) next: Offset,
    shape: Shape,
    last: Option<MessageIdentity>,
}

impl Stream {
    pub(crate) fn new(key: PartitionKey, shape: Shape) -> Self {
        Self { key, next: Offset(0), shape, last: None }
    }

    /// Goes on from where the ring stands; `false` if that is inside a batch, which the ring must never do.
    pub(crate) fn seek(&mut self, next: Offset) -> bool {
        let batch = u64::from(self.shape.messages);
        if !next.0.is_multiple_of(batch) {
            return false;
        }
        self.last = next.0.checked_sub(batch).and_then(|base| {
            let (head, _) = self.batch(Offset(base));
            head.last
        });
        self.next = next;
        true
    }

    /// Chunks are of another size from here on.
    pub(crate) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// The next chunk.
    pub(crate) fn chunk(&mut self) -> ShipChunk {
        let (mut head, body) = self.batch(self.next);
        head.previous = self.last;
        (self.next, self.last) = (head.end, head.last);
        ShipChunk { head, body }
    }

    fn batch(&self, base: Offset) -> (kennel_protocol::entry::EntryHead, Bytes) {
        let mut batch = BatchBuilder::new(self.key.partition, base, timestamp(base));
        for step in 0..self.shape.messages {
            batch = batch.payload(&payload(self.key, base.plus(step.into()), self.shape));
        }
        let body = batch.build();
        (inspect_chunk(self.key, &body).expect("a batch that was just built is whole"), body)
    }

    /// Whether a message is the one that was shipped.
    pub(crate) fn is_own(&self, offset: Offset, at: u64, body: &[u8]) -> bool {
        let base = Offset(offset.0 - offset.0 % u64::from(self.shape.messages));
        at == timestamp(base) && body == payload(self.key, offset, self.shape)
    }
}

fn timestamp(base: Offset) -> u64 {
    1_700_000_000_000_000 + base.0
}

fn payload(key: PartitionKey, offset: Offset, shape: Shape) -> Vec<u8> {
    let seed = (u64::from(key.partition.0) << 40 | offset.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (0_u64..).flat_map(|word| seed.rotate_left(u32::try_from(word % 61).expect("small")).to_le_bytes());
    words.take(shape.payload_bytes).collect()
}
