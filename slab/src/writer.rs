//! The node's side: records go in, the oldest are overwritten, and nobody is waited for.
//!
//! It reads nothing that anybody else could have written, and knows of no reader.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, SlabId};

use crate::host::monotonic_nanos;
use crate::layout::{
    Geometry, HEAD_WORDS, LINE_BYTES, LINE_WORDS, RecordHead, Slot, header_at, header_words, key_hash, record_lines,
};
use crate::map::{OwnWords, WORD_BYTES};

/// A slab that this process writes. One writer at a time.
#[derive(Debug)]
pub struct Slab {
    memory: OwnWords,
    geometry: Geometry,
    id: SlabId,
    bytes: u64,
    /// Where the next record begins.
    next: u64,
    /// Below this no record may be used.
    valid_from: u64,
}

impl Slab {
    /// Makes a slab of so many bytes. Memory is taken as it is written.
    ///
    /// # Errors
    /// If the system has no sealed memory: Linux before 5.1. Go on without.
    ///
    /// # Panics
    /// If there is no slab of this length ([`Geometry::of`]).
    pub fn create(bytes: u64, id: SlabId) -> io::Result<Self> {
        let geometry = Geometry::of(bytes).expect("a length that was checked");
        let length = usize::try_from(bytes).map_err(|_| io::Error::other("longer than this machine's addresses"))?;
        let memory = OwnWords::create(length)?;
        for (word, value) in (header_at::MAGIC..).zip(header_words(id.0)) {
            memory.store(word, value);
        }
        // Positions begin a whole length up: an empty slot names position zero, and no record lies there.
        let next = geometry.lines;
        memory.store(header_at::RESERVED, next);
        memory.publish(header_at::VALID_FROM, next);
        Ok(Self { memory, geometry, id, bytes, next, valid_from: next })
    }

    /// Appends a record. Returns whether it was short enough.
    ///
    /// # Panics
    /// If head and body do not agree on the length.
    pub fn put(&mut self, head: &RecordHead, body: &[u8]) -> bool {
        assert_eq!(head.body_bytes as usize, body.len(), "a head says how long its body is");
        let lines = record_lines(body.len());
        if lines > self.geometry.record_lines_max() {
            return false;
        }
        let left = self.geometry.lines_left(self.next);
        // A record lies in one piece: what is too short for it at the end is passed over.
        let position = if lines > left { self.next + left } else { self.next };
        self.next = position + lines;
        self.memory.store(header_at::RESERVED, self.next);
        // Whoever sees a word of this record, or of the next, sees the head raised: that is how a reader knows that what
        // lay here before is gone.
        fence(Ordering::Release);
        let at = self.geometry.record(position);
        for (word, value) in (at..).zip(head.encode()) {
            self.memory.store(word, value);
        }
        self.memory.copy_in(at + HEAD_WORDS, body);
        self.name(head, position);
        self.memory.store(header_at::WRITTEN_AT, monotonic_nanos());
        true
    }

    /// Names a record in the index: in the slot of the same key, else in the one whose record is the oldest.
    fn name(&self, head: &RecordHead, position: u64) {
        let hash = key_hash(&head.partition, head.base);
        let bucket = self.geometry.bucket(hash);
        let slots = (bucket..bucket + LINE_WORDS).map(|word| (word, Slot(self.memory.words().load(word))));
        let same = |slot: Slot| slot.is_of(hash) && self.is_named(slot.position(), &head.partition, head.base);
        let chosen = slots.min_by_key(|(_, slot)| if same(*slot) { (0, 0) } else { (1, slot.position()) });
        let (word, _) = chosen.expect("a bucket has slots");
        self.memory.publish(word, Slot::new(hash, position).0);
    }

    /// Makes everything that was written so far invisible.
    pub fn clear(&mut self) {
        self.valid_from = self.next;
        self.memory.publish(header_at::VALID_FROM, self.valid_from);
    }

    /// Whether a reader of this epoch that has read `previous` would find a record at `base`.
    pub fn holds(
        &self,
        partition: &PartitionKey,
        base: Offset,
        epoch: Epoch,
        previous: Option<MessageIdentity>,
    ) -> bool {
        let hash = key_hash(partition, base);
        let bucket = self.geometry.bucket(hash);
        let slots = (bucket..bucket + LINE_WORDS).map(|word| Slot(self.memory.words().load(word)));
        slots.filter(|slot| slot.is_of(hash)).filter_map(|slot| self.head(slot.position())).any(|head| {
            let continues = previous.is_none() || head.previous == previous;
            head.partition == *partition && head.base == base && head.epoch >= epoch && continues
        })
    }

    fn is_named(&self, position: u64, partition: &PartitionKey, base: Offset) -> bool {
        self.head(position).is_some_and(|head| head.partition == *partition && head.base == base)
    }

    /// The head of the record at a position, if it is still there.
    fn head(&self, position: u64) -> Option<RecordHead> {
        if position < self.valid_from || position + self.geometry.lines < self.next {
            return None;
        }
        let at = self.geometry.record(position);
        RecordHead::decode(&std::array::from_fn(|word| self.memory.words().load(at + word)))
    }

    /// What readers map. They can map it read-only and no other way.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.descriptor()
    }

    /// Its id.
    pub fn id(&self) -> SlabId {
        self.id
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

const _: () = assert!(WORD_BYTES * LINE_WORDS == LINE_BYTES);
