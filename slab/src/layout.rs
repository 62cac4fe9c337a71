//! Where everything lies in a slab, word by word. Docs: `docs/formats/slab.md`. It reads and writes no memory.
//!
//! A *line* is 64 bytes. Positions are lines that ever were written, counted up and never reused, so a position names one
//! record for all time; where it lies is its remainder. 48 bits of lines are 16 EiB.

use kennel_protocol::checksum::checksum;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey};
use kennel_protocol::limits::FRAME_PAYLOAD_BYTES_MAX;

/// Bytes of a line: what a processor's cache moves at once.
pub const LINE_BYTES: usize = 64;
/// Words of a line.
pub const LINE_WORDS: usize = 8;
/// Lines of the header: a page.
pub const HEADER_LINES: u64 = 64;
/// Words of a record's head: two lines.
pub const HEAD_WORDS: usize = 16;
/// Bytes of a record's head.
pub const HEAD_BYTES: usize = HEAD_WORDS * 8;
/// Lines of a record's head.
pub const HEAD_LINES: u64 = 2;

/// The smallest slab: records of a sixteenth of it are still useful.
pub const SLAB_BYTES_MIN: u64 = 1 << 20;
/// The largest: as many lines as a slot can name, many times over.
pub const SLAB_BYTES_MAX: u64 = 1 << 40;

/// The largest record is this part of the slab: one body must not throw out all others.
const RECORD_SHARE: u64 = 8;

/// One bucket of the index for so many bytes: eight slots of records of some 1 KiB. With larger records slots outlive
/// what they name, which costs nothing.
const BYTES_PER_BUCKET: u64 = 8 << 10;

const MAGIC: u64 = u64::from_le_bytes(*b"KNLSLAB1");
const LINE_BITS: u32 = 48;
/// A reader has no message before the record.
const NO_OFFSET: u64 = u64::MAX;

/// Words of the header.
pub(crate) mod header_at {
    /// Magic and version, and the slab's id behind it, lower half first.
    pub(crate) const MAGIC: usize = 0;
    /// No position below this one less the length of the log is whole any more. Raised before anything is written.
    pub(crate) const RESERVED: usize = 8;
    /// No position below this one may be used: an epoch ended.
    pub(crate) const VALID_FROM: usize = 9;
    /// When the newest record was written, nanoseconds of the host's monotonic clock. For people who measure.
    pub(crate) const WRITTEN_AT: usize = 10;
}

const _: () = {
    assert!(LINE_WORDS * 8 == LINE_BYTES && HEAD_BYTES as u64 == HEAD_LINES * LINE_BYTES as u64);
    assert!(HEADER_LINES * LINE_BYTES as u64 == 4096);
    assert!(SLAB_BYTES_MAX / LINE_BYTES as u64 <= 1 << LINE_BITS);
};

/// How a slab of some length is divided. A function of the length alone, so nobody has to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Buckets of the index, a power of two, one line each.
    pub buckets: u64,
    /// Lines for records.
    pub lines: u64,
}

impl Geometry {
    /// Of a slab of so many bytes; `None` if there is no such slab.
    pub fn of(bytes: u64) -> Option<Self> {
        if !(SLAB_BYTES_MIN..=SLAB_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(4096) {
            return None;
        }
        let buckets = (bytes / BYTES_PER_BUCKET).next_power_of_two();
        Some(Self { buckets, lines: bytes / LINE_BYTES as u64 - HEADER_LINES - buckets })
    }

    /// First word of a bucket.
    pub(crate) fn bucket(&self, hash: u64) -> usize {
        word_of_line(HEADER_LINES + hash % self.buckets)
    }

    /// First word of the record at a position.
    pub(crate) fn record(&self, position: u64) -> usize {
        word_of_line(HEADER_LINES + self.buckets + position % self.lines)
    }

    /// Lines from a position to the end of the area: a record never goes beyond it.
    pub(crate) fn lines_left(&self, position: u64) -> u64 {
        self.lines - position % self.lines
    }

    /// The longest record that is taken, lines.
    pub(crate) fn record_lines_max(&self) -> u64 {
        self.lines / RECORD_SHARE
    }
}

fn word_of_line(line: u64) -> usize {
    usize::try_from(line).expect("a slab that is mapped has fewer words than a usize counts") * LINE_WORDS
}

/// Magic and id of a slab.
pub(crate) fn header_words(id: u128) -> [u64; 3] {
    let half = |shift: u32| u64::try_from((id >> shift) & u128::from(u64::MAX)).expect("64 bits");
    [MAGIC, half(0), half(64)]
}

/// Lines of a record with a body of so many bytes.
pub(crate) fn record_lines(body_bytes: usize) -> u64 {
    HEAD_LINES + body_bytes.div_ceil(LINE_BYTES) as u64
}

/// What a record is looked up by. The upper bits tell slots of a bucket apart, the lower ones choose it.
pub(crate) fn key_hash(partition: &PartitionKey, base: Offset) -> u64 {
    let mut bytes = [0; 28];
    bytes[..20].copy_from_slice(&partition.canonical_bytes());
    bytes[20..].copy_from_slice(&base.0.to_le_bytes());
    checksum(&bytes)
}

/// One word of the index: a tag of the key, and a position. Zero is empty: no record ever lies at position zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u64);

impl Slot {
    pub(crate) fn new(hash: u64, position: u64) -> Self {
        Self(hash >> LINE_BITS << LINE_BITS | position & ((1 << LINE_BITS) - 1))
    }

    pub(crate) fn position(self) -> u64 {
        self.0 & ((1 << LINE_BITS) - 1)
    }

    pub(crate) fn is_of(self, hash: u64) -> bool {
        self.0 != 0 && self.0 >> LINE_BITS == hash >> LINE_BITS
    }
}

/// What a record says of its body: whole batches of one partition, back to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Whose log.
    pub partition: PartitionKey,
    /// First offset.
    pub base: Offset,
    /// End, exclusive. Every offset between has a message.
    pub end: Offset,
    /// The epoch that the node spoke for.
    pub epoch: Epoch,
    /// First offset that is not trimmed, as the node knew it.
    pub trim: Offset,
    /// End of what is in the bucket, as the node knew it.
    pub stored: Offset,
    /// End of what may be read, as the node knew it.
    pub committed: Offset,
    /// The message before `base`, if the node knew it.
    pub previous: Option<MessageIdentity>,
    /// The last message.
    pub last: MessageIdentity,
    /// Length of the body.
    pub body_bytes: u32,
    /// XXH3-64 of the body.
    pub body_checksum: u64,
}

impl RecordHead {
    /// Its words, its own checksum first.
    pub fn encode(&self) -> [u64; HEAD_WORDS] {
        let key = self.partition.canonical_bytes();
        let mut named = [0; 24];
        named[..20].copy_from_slice(&key);
        named[20..].copy_from_slice(&self.body_bytes.to_le_bytes());
        let previous =
            self.previous.unwrap_or(MessageIdentity { offset: Offset(NO_OFFSET), base_timestamp: 0, checksum: 0 });
        let mut words = [0; HEAD_WORDS];
        words[1] = self.body_checksum;
        for (word, bytes) in words[2..5].iter_mut().zip(named.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words[5..11].copy_from_slice(&[
            self.base.0,
            self.end.0,
            self.epoch.0,
            self.trim.0,
            self.stored.0,
            self.committed.0,
        ]);
        words[11..14].copy_from_slice(&[previous.offset.0, previous.base_timestamp, previous.checksum]);
        words[14..16].copy_from_slice(&[self.last.base_timestamp, self.last.checksum]);
        words[0] = own_checksum(&words);
        words
    }

    /// Reads a head. `None` if the words are none, or contradict themselves: they were overwritten, or never were one.
    pub fn decode(words: &[u64; HEAD_WORDS]) -> Option<Self> {
        if own_checksum(words) != words[0] {
            return None;
        }
        let mut named = [0; 24];
        for (bytes, word) in named.as_chunks_mut::<8>().0.iter_mut().zip(&words[2..5]) {
            *bytes = word.to_le_bytes();
        }
        let (key, length) = named.split_first_chunk::<20>()?;
        let (base, end) = (Offset(words[5]), Offset(words[6]));
        let previous = MessageIdentity { offset: Offset(words[11]), base_timestamp: words[12], checksum: words[13] };
        let head = Self {
            partition: PartitionKey::from_canonical_bytes(*key),
            base,
            end,
            epoch: Epoch(words[7]),
            trim: Offset(words[8]),
            stored: Offset(words[9]),
            committed: Offset(words[10]),
            previous: (words[11] != NO_OFFSET).then_some(previous),
            last: MessageIdentity {
                offset: Offset(end.0.checked_sub(1)?),
                base_timestamp: words[14],
                checksum: words[15],
            },
            body_bytes: u32::from_le_bytes(*length.first_chunk()?),
            body_checksum: words[1],
        };
        let body_bytes = head.body_bytes as usize;
        let sound = base < end
            && head.previous.map_or(words[12..14] == [0, 0], |previous| previous.offset < base)
            && (1..=FRAME_PAYLOAD_BYTES_MAX).contains(&body_bytes);
        sound.then_some(head)
    }
}

/// XXH3-64 of the head's words but the first.
fn own_checksum(words: &[u64; HEAD_WORDS]) -> u64 {
    let mut bytes = [0; HEAD_BYTES - 8];
    for (target, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&words[1..]) {
        *target = word.to_le_bytes();
    }
    checksum(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(offset: u64, seed: u64) -> MessageIdentity {
        MessageIdentity { offset: Offset(offset), base_timestamp: seed, checksum: seed.rotate_left(7) }
    }

    fn head(base: u64, count: u64, seed: u64, has_previous: bool, body_bytes: u32) -> RecordHead {
        let partition = format!("{}/2/3@{seed}", seed % 1000).parse().expect("a partition");
        RecordHead {
            partition,
            base: Offset(base),
            end: Offset(base + count),
            epoch: Epoch(seed % 99),
            trim: Offset(base / 2),
            stored: Offset(base / 3),
            committed: Offset(base + count + seed % 5),
            previous: has_previous.then(|| identity(base - 1, seed)),
            last: identity(base + count - 1, !seed),
            body_bytes,
            body_checksum: seed.wrapping_mul(31),
        }
    }

    proptest! {
        #[test]
        fn heads_read_back(
            base in 1..u64::MAX / 2, count in 1..1_u64 << 40, seed: u64, has_previous: bool, body_bytes in 1..72_u32 << 20,
        ) {
            let head = head(base, count, seed, has_previous, body_bytes);
            prop_assert_eq!(RecordHead::decode(&head.encode()), Some(head));
        }

        #[test]
        fn a_head_with_a_wrong_bit_is_none(seed: u64, word in 0..HEAD_WORDS, bit in 0..64) {
            let mut words = head(10, 5, seed, true, 100).encode();
            words[word] ^= 1_u64 << bit;
            prop_assert_eq!(RecordHead::decode(&words), None);
        }

        #[test]
        fn any_words_are_a_head_or_none(words: [u64; HEAD_WORDS]) {
            let mut stamped = words;
            stamped[0] = own_checksum(&words);
            // With the checksum put right what lies behind it is reached.
            if let Some(head) = RecordHead::decode(&stamped) {
                prop_assert_eq!(head.encode(), stamped);
            }
        }

        #[test]
        fn slots_hold_tag_and_position(hash: u64, position in 1..1_u64 << LINE_BITS) {
            let slot = Slot::new(hash, position);
            prop_assert_eq!(slot.position(), position);
            prop_assert!(slot.is_of(hash) && !slot.is_of(hash ^ 1 << 60));
        }

        #[test]
        fn parts_of_a_slab_do_not_overlap(pages in 256..1_u64 << 20, position: u64, hash: u64) {
            let bytes = pages * 4096;
            let geometry = Geometry::of(bytes).expect("a slab");
            let index_end = word_of_line(HEADER_LINES + geometry.buckets);
            prop_assert!(geometry.bucket(hash) >= word_of_line(HEADER_LINES) && geometry.bucket(hash) < index_end);
            let record = geometry.record(position);
            prop_assert!(record >= index_end);
            let end = record as u64 + geometry.lines_left(position) * LINE_WORDS as u64;
            prop_assert_eq!(end * 8, bytes);
        }
    }

    #[test]
    fn impossible_heads_are_none() {
        for wrong in [head(10, 0, 1, true, 100), head(10, 5, 1, true, 0), head(10, 5, 1, true, u32::MAX)] {
            assert_eq!(RecordHead::decode(&wrong.encode()), None);
        }
        assert!(Geometry::of(SLAB_BYTES_MIN - 4096).is_none() && Geometry::of(SLAB_BYTES_MIN + 1).is_none());
        assert!(!Slot(0).is_of(0), "an empty slot is nobody's");
    }

    #[test]
    fn the_layout_is_pinned() {
        // Node and reader may be different builds: these numbers change only with the magic.
        let words = head(10, 5, 7, true, 100).encode();
        let named = [words[2], words[3], words[4]].map(u64::to_le_bytes).concat();
        assert_eq!(named[..4], 7_u32.to_le_bytes());
        assert_eq!(named[20..], 100_u32.to_le_bytes());
        assert_eq!(words[5..7], [10, 15]);
        assert_eq!(words[0], 0x9d7f_51ff_7463_1d6c);
    }
}
