//! A reader's side: look up, copy out, and only then ask whether it was whole.
//!
//! Any word may change at any moment, so nothing is believed before it was copied and its checksum holds, and nothing is
//! used before it is known that the writer had not come round to it. Whatever does not hold is a miss: the reader asks the
//! node instead.

use std::cmp::Reverse;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use kennel_protocol::checksum::checksum;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, SlabId};

use crate::host::monotonic_nanos;
use crate::layout::{
    Geometry, HEAD_LINES, HEAD_WORDS, LINE_WORDS, RecordHead, Slot, header_at, header_words, key_hash, record_lines,
};
use crate::map::Words;

/// Records of one read at most: an answer of tiny records ends early rather than late.
const RECORDS_MAX: usize = 256;

/// A slab of another process.
#[derive(Debug)]
pub struct SlabReader {
    words: Words,
    geometry: Geometry,
}

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whose log.
    pub partition: PartitionKey,
    /// Where to start, exactly.
    pub from: Offset,
    /// At most this many bytes.
    pub bytes_max: usize,
    /// At most this many messages.
    pub messages_max: u64,
    /// The newest epoch that the reader has seen.
    pub epoch: Epoch,
    /// The last message that the reader has.
    pub last: Option<MessageIdentity>,
}

/// What was found: whole, and of one history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeRead {
    /// The newest epoch of its records.
    pub epoch: Epoch,
    /// Where to continue.
    pub next: Offset,
    /// First offset that is not trimmed, as the node knew it.
    pub trim: Offset,
    /// End of what is in the bucket, as the node knew it.
    pub stored: Offset,
    /// End of what may be read, as the node knew it; at least `next`.
    pub committed: Offset,
    /// The last message.
    pub last: MessageIdentity,
    /// Whole batches, back to back.
    pub batches: Vec<u8>,
}

/// Why nothing was found. The node knows more: ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// No record begins there.
    Absent,
    /// It was overwritten while it was read.
    Overwritten,
    /// It does not continue what the reader has read, or is of an older epoch. The node says what that means.
    Unrelated,
    /// It is longer than the reader wants.
    TooLong,
}

/// Memory that cannot be used as a slab.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The system refuses it, or it is not sealed.
    #[error("the shared memory cannot be mapped")]
    Memory(#[source] io::Error),
    /// It is no slab of a version that this build knows, or not the one that was offered.
    #[error("the shared memory is not the slab that was offered")]
    NotTheSlab,
}

/// A record that was looked up and not copied yet.
#[derive(Debug, Clone, Copy)]
struct Place {
    position: u64,
    head: RecordHead,
}

impl SlabReader {
    /// Maps a slab that was offered under this id and length.
    pub fn map(descriptor: BorrowedFd<'_>, bytes: u64, id: SlabId) -> Result<Self, MapError> {
        let geometry = Geometry::of(bytes).ok_or(MapError::NotTheSlab)?;
        let length = usize::try_from(bytes).map_err(|_| MapError::NotTheSlab)?;
        let words = Words::map_shared(descriptor, length).map_err(MapError::Memory)?;
        let expected = header_words(id.0);
        if std::array::from_fn(|word| words.load(header_at::MAGIC + word)) != expected {
            return Err(MapError::NotTheSlab);
        }
        Ok(Self { words, geometry })
    }

    /// Copies out the records that follow each other from where the reader is, as many as it wants.
    ///
    /// # Errors
    /// With the reason if not even the first is there.
    pub fn read(&self, wanted: &Wanted) -> Result<WholeRead, Miss> {
        let first = self.find(wanted)?;
        let places = self.follow(wanted, first);
        let bytes = places.iter().map(|place| place.head.body_bytes as usize).sum();
        let mut batches = Vec::with_capacity(bytes);
        let mut whole = None;
        for place in places {
            if !self.copy(&place, &mut batches) {
                break;
            }
            whole = Some(place.head);
        }
        // The last record knew most: the node wrote it about an end at or beyond those before.
        let last = whole.ok_or(Miss::Overwritten)?;
        Ok(WholeRead {
            epoch: last.epoch,
            next: last.end,
            trim: last.trim,
            stored: last.stored,
            committed: last.committed.max(last.end),
            last: last.last,
            batches,
        })
    }

    /// How long ago the newest record was written, whoever it is of; `None` if none was. For people who measure: clocks of
    /// containers may differ.
    pub fn newest_age(&self) -> Option<Duration> {
        let written = self.words.load(header_at::WRITTEN_AT);
        (written > 0).then(|| Duration::from_nanos(monotonic_nanos().saturating_sub(written)))
    }

    /// The newest record at the reader's place that continues what it has read.
    fn find(&self, wanted: &Wanted) -> Result<Place, Miss> {
        let mut miss = Miss::Absent;
        for place in self.look_up(&wanted.partition, wanted.from) {
            let head = &place.head;
            let continues = wanted.last.is_none() || head.previous == wanted.last;
            if head.epoch < wanted.epoch || !continues {
                miss = Miss::Unrelated;
            } else if !fits(head, wanted.bytes_max, wanted.messages_max) {
                miss = Miss::TooLong;
            } else {
                return Ok(place);
            }
        }
        Err(miss)
    }

    /// The records behind the first one that follow each other and fit.
    fn follow(&self, wanted: &Wanted, first: Place) -> Vec<Place> {
        let mut places = vec![first];
        let (mut bytes_left, mut messages_left) = (wanted.bytes_max, wanted.messages_max);
        let mut before = first.head;
        while places.len() < RECORDS_MAX {
            bytes_left -= before.body_bytes as usize;
            messages_left -= before.end.0 - before.base.0;
            let next = self.look_up(&before.partition, before.end).find(|place| {
                let head = &place.head;
                head.epoch >= before.epoch
                    && head.previous == Some(before.last)
                    && fits(head, bytes_left, messages_left)
            });
            let Some(place) = next else { break };
            before = place.head;
            places.push(place);
        }
        places
    }

    /// Every record of a key that the index names and that is still there, newest first.
    fn look_up(&self, partition: &PartitionKey, base: Offset) -> impl Iterator<Item = Place> {
        let hash = key_hash(partition, base);
        let bucket = self.geometry.bucket(hash);
        let mut slots: [Slot; LINE_WORDS] = std::array::from_fn(|word| Slot(self.words.load(bucket + word)));
        // With this, what the slots name was written before it is read here.
        fence(Ordering::Acquire);
        slots.sort_unstable_by_key(|slot| Reverse(slot.position()));
        let partition = *partition;
        slots.into_iter().filter(move |slot| slot.is_of(hash)).filter_map(move |slot| {
            let place = self.head(slot.position())?;
            (place.head.partition == partition && place.head.base == base).then_some(place)
        })
    }

    /// The head of the record at a position, if it is still whole and lies inside the area.
    fn head(&self, position: u64) -> Option<Place> {
        if self.geometry.lines_left(position) < HEAD_LINES {
            return None;
        }
        let at = self.geometry.record(position);
        let head = RecordHead::decode(&std::array::from_fn(|word| self.words.load(at + word)))?;
        let inside = record_lines(head.body_bytes as usize) <= self.geometry.lines_left(position);
        (inside && self.is_still_there(position)).then_some(Place { position, head })
    }

    /// Copies a body out and asks whether it was whole. Leaves `out` as it was if not.
    fn copy(&self, place: &Place, out: &mut Vec<u8>) -> bool {
        let length = out.len();
        let at = self.geometry.record(place.position) + HEAD_WORDS;
        self.words.copy_out(at, place.head.body_bytes as usize, out);
        // A record is some 64 KiB and still in the cache when its checksum is taken.
        let whole = self.is_still_there(place.position) && checksum(&out[length..]) == place.head.body_checksum;
        if !whole {
            out.truncate(length);
        }
        whole
    }

    /// Whether nothing of what was read from a position before was overwritten, and it may still be used.
    fn is_still_there(&self, position: u64) -> bool {
        // With this, a reader that saw a newer word sees that the head was raised for it.
        fence(Ordering::Acquire);
        let reserved = self.words.load(header_at::RESERVED);
        // Wrapping, because these words are the other side's: nonsense is a miss, not a panic.
        position.wrapping_add(self.geometry.lines) >= reserved && position >= self.words.load(header_at::VALID_FROM)
    }
}

fn fits(head: &RecordHead, bytes_left: usize, messages_left: u64) -> bool {
    head.body_bytes as usize <= bytes_left && head.end.0 - head.base.0 <= messages_left
}

#[cfg(test)]
mod tests;
