//! The journal's fixed structures as bytes: superblock, group header, record header. All numbers little-endian.
//!
//! Magic, version, length, checksum, in that order. Nothing here reads a file or knows where a structure lies.

use bytes::{Buf, BufMut};
use kennel_protocol::checksum::{checksum, checksum_seeded};
use kennel_protocol::ids::JournalId;

use super::settings::{GROUP_BYTES_WALL, GROUP_RECORDS_MAX};

/// The unit of alignment, of groups and of tearing.
pub(super) const BLOCK: usize = 4096;
/// Where the circular part begins: after the two superblocks.
pub(super) const RING_START: u64 = 2 * BLOCK as u64;
/// The smallest ring: a file of 1 MiB, room for a few groups.
pub(super) const RING_BYTES_MIN: u64 = (1 << 20) - RING_START;
/// A group starts with this much header.
pub(super) const GROUP_HEADER_BYTES: usize = 128;
/// A record starts with this much header.
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Most damaged places that a superblock remembers. Further ones are reported again at the next start, which is the
/// safe direction.
pub(super) const HOLES_MAX: usize = 64;
/// Positions, group numbers and record ids end here: centuries away, and far enough from overflow.
const NUMBER_WALL: u64 = 1 << 62;

const SUPERBLOCK_MAGIC: [u8; 8] = *b"KENNELJS";
const GROUP_MAGIC: [u8; 8] = *b"KENNELJG";
/// The version of the format that this build writes and reads.
pub(super) const VERSION: u32 = 1;
/// Magic, version, length and checksum: what the checksum does not cover.
const PREFIX_BYTES: usize = 24;
const SUPERBLOCK_FIXED_BYTES: usize = PREFIX_BYTES + 16 + 16 + 8 + 8 + 16 + 16 + 8 + 4 + 4;
const HOLE_BYTES: usize = 40;

const _: () = assert!(SUPERBLOCK_FIXED_BYTES + HOLES_MAX * HOLE_BYTES <= BLOCK);
const _: () = assert!(PREFIX_BYTES + 16 + 8 * 8 + 4 <= GROUP_HEADER_BYTES);
const _: () = assert!(GROUP_HEADER_BYTES + RECORD_HEADER_BYTES <= BLOCK);

/// A place in the log: bytes written since format, and the number of the group that starts there. The place in the
/// file is the position modulo the ring's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) sequence: u64,
}

impl Place {
    /// Where the group after one of `bytes` bytes starts.
    pub(super) fn after(self, bytes: u64) -> Self {
        Self { position: self.position + bytes, sequence: self.sequence + 1 }
    }

    /// Whether a group can start here at all.
    fn is_sound(self) -> bool {
        self.position.is_multiple_of(BLOCK as u64) && self.position < NUMBER_WALL && self.sequence < NUMBER_WALL
    }

    fn put(self, mut out: impl BufMut) {
        out.put_u64_le(self.position);
        out.put_u64_le(self.sequence);
    }

    fn take(input: &mut impl Buf) -> Self {
        Self { position: input.get_u64_le(), sequence: input.get_u64_le() }
    }
}

/// A damaged stretch that was already answered with a new journal id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    /// The group that does not verify.
    pub(super) from: Place,
    /// Where the log goes on.
    pub(super) resume: Place,
    /// Records of that group that did verify. Fewer at a later start is new damage.
    pub(super) salvaged: u32,
}

/// The journal's identity and a recent state of its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Changes when damage is found (PROTOCOL R5).
    pub(super) journal: JournalId,
    /// Given at format and never changed; every group carries it.
    pub(super) lineage: u128,
    /// Size of the circular part.
    pub(super) ring_bytes: u64,
    /// Rises with every write of the superblock.
    pub(super) generation: u64,
    /// Reading starts here: all groups from here on are intact, because nothing overwrites them before a superblock
    /// with a later start is durable.
    pub(super) start: Place,
    /// All groups below are durable. A log that ends earlier is damaged.
    pub(super) end: Place,
    /// No record below was or will be given another content.
    pub(super) next_record: u64,
    /// Whether `end` is the log's true end, because it was closed properly.
    pub(super) clean: bool,
    /// Known damage between `start` and `end`.
    pub(super) holes: Vec<Hole>,
}

impl Superblock {
    pub(super) fn encode(&self, block: &mut [u8]) {
        assert!(self.holes.len() <= HOLES_MAX, "the superblock has room for {HOLES_MAX} holes");
        block.fill(0);
        let mut out = &mut block[PREFIX_BYTES..];
        out.put_u128_le(self.journal.0);
        out.put_u128_le(self.lineage);
        out.put_u64_le(self.ring_bytes);
        out.put_u64_le(self.generation);
        self.start.put(&mut out);
        self.end.put(&mut out);
        out.put_u64_le(self.next_record);
        out.put_u32_le(u32::from(self.clean));
        out.put_u32_le(u32::try_from(self.holes.len()).expect("at most 64 holes"));
        for hole in &self.holes {
            hole.from.put(&mut out);
            hole.resume.put(&mut out);
            out.put_u64_le(u64::from(hole.salvaged));
        }
        put_prefix(block, SUPERBLOCK_MAGIC);
    }

    /// Why a block is no superblock, in words.
    pub(super) fn decode(block: &[u8]) -> Result<Self, String> {
        let mut input = checked_prefix(block, SUPERBLOCK_MAGIC)?;
        let superblock = Self {
            journal: JournalId(input.get_u128_le()),
            lineage: input.get_u128_le(),
            ring_bytes: input.get_u64_le(),
            generation: input.get_u64_le(),
            start: Place::take(&mut input),
            end: Place::take(&mut input),
            next_record: input.get_u64_le(),
            clean: input.get_u32_le() == 1,
            holes: {
                let count = input.get_u32_le() as usize;
                if count > HOLES_MAX {
                    return Err(format!("it names {count} holes"));
                }
                (0..count).map(|_| take_hole(&mut input)).collect()
            },
        };
        superblock.check()?;
        Ok(superblock)
    }

    /// What a checksum cannot vouch for: another build, or a hand, wrote numbers that this one could not live with.
    fn check(&self) -> Result<(), String> {
        let ring = self.ring_bytes;
        if !(RING_BYTES_MIN..NUMBER_WALL).contains(&ring) || !ring.is_multiple_of(BLOCK as u64) {
            return Err(format!("its ring has {ring} bytes"));
        }
        let ends_are_sound = self.start.is_sound() && self.end.is_sound() && self.next_record < NUMBER_WALL;
        let is_empty = self.start.position == self.end.position;
        let ends_are_sound = ends_are_sound && is_empty == (self.start.sequence == self.end.sequence);
        if !ends_are_sound || self.start > self.end || self.end.position - self.start.position > ring {
            return Err("its ends make no sense".to_owned());
        }
        let holes_are_sound = self.holes.iter().all(|hole| {
            let sound = hole.from.is_sound() && hole.resume.is_sound();
            let forward = hole.from.position < hole.resume.position && hole.from.sequence < hole.resume.sequence;
            sound && forward && self.start <= hole.from && hole.resume <= self.end
        });
        if !holes_are_sound {
            return Err("its holes make no sense".to_owned());
        }
        Ok(())
    }
}

fn take_hole(input: &mut impl Buf) -> Hole {
    let (from, resume) = (Place::take(input), Place::take(input));
    // A larger number than was written cannot pass the checksum.
    let salvaged = u32::try_from(input.get_u64_le()).unwrap_or(u32::MAX);
    Hole { from, resume, salvaged }
}

/// Whether this was a superblock once, readable or not.
pub(super) fn has_superblock_magic(block: &[u8]) -> bool {
    block.starts_with(&SUPERBLOCK_MAGIC)
}

/// What a group says about itself and about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// The journal file that it belongs to.
    pub(super) lineage: u128,
    /// Which opening of the file wrote it: records of a group that was cut must not verify under a later group.
    pub(super) opening: u64,
    pub(super) place: Place,
    /// Length on disk, whole blocks.
    pub(super) bytes: u64,
    /// Length without the padding.
    pub(super) used: u64,
    /// The oldest group that was still needed.
    pub(super) head: Place,
    /// The id of the next new record.
    pub(super) next_record: u64,
    pub(super) records: u32,
}

impl GroupHeader {
    pub(super) fn encode(&self, block: &mut [u8]) {
        let header = &mut block[..GROUP_HEADER_BYTES];
        header.fill(0);
        let mut out = &mut header[PREFIX_BYTES..];
        out.put_u128_le(self.lineage);
        out.put_u64_le(self.opening);
        self.place.put(&mut out);
        out.put_u64_le(self.bytes);
        out.put_u64_le(self.used);
        self.head.put(&mut out);
        out.put_u64_le(self.next_record);
        out.put_u32_le(self.records);
        put_prefix(header, GROUP_MAGIC);
    }

    /// The header at the start of `block`, if it is a whole one of this lineage with lengths in bounds.
    pub(super) fn decode(block: &[u8], lineage: u128) -> Option<Self> {
        let mut input = checked_prefix(&block[..GROUP_HEADER_BYTES], GROUP_MAGIC).ok()?;
        let header = Self {
            lineage: input.get_u128_le(),
            opening: input.get_u64_le(),
            place: Place::take(&mut input),
            bytes: input.get_u64_le(),
            used: input.get_u64_le(),
            head: Place::take(&mut input),
            next_record: input.get_u64_le(),
            records: input.get_u32_le(),
        };
        let sound = header.lineage == lineage
            && header.bytes.is_multiple_of(BLOCK as u64)
            && (BLOCK as u64..=GROUP_BYTES_WALL).contains(&header.bytes)
            && (GROUP_HEADER_BYTES as u64..=header.bytes).contains(&header.used)
            && header.records <= GROUP_RECORDS_MAX
            && header.place.is_sound()
            && header.head <= header.place
            && header.next_record < NUMBER_WALL;
        sound.then_some(header)
    }

    /// Seeds the checksums of its records.
    pub(super) fn seed(&self) -> u64 {
        Self::record_seed(self.lineage, self.opening, self.place.sequence)
    }

    /// Seeds the checksums of the group's records, so that a record verifies only where it was written.
    pub(super) fn record_seed(lineage: u128, opening: u64, sequence: u64) -> u64 {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&lineage.to_le_bytes());
        bytes[16..24].copy_from_slice(&opening.to_le_bytes());
        bytes[24..].copy_from_slice(&sequence.to_le_bytes());
        checksum(&bytes)
    }
}

/// What stands before each record. Its checksum covers the rest of the header, the head and the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) id: u64,
    pub(super) head_bytes: u32,
    pub(super) body_bytes: u32,
    pub(super) class: u8,
}

impl RecordHeader {
    /// Length of the record on disk.
    pub(super) fn record_bytes(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.head_bytes) + u64::from(self.body_bytes)
    }

    /// Writes the header of `record`, whose head and body already stand behind the header's place.
    pub(super) fn seal(&self, record: &mut [u8], seed: u64) {
        let mut out = &mut record[8..RECORD_HEADER_BYTES];
        out.put_u64_le(self.id);
        out.put_u32_le(self.head_bytes);
        out.put_u32_le(self.body_bytes);
        out.put_u8(self.class);
        out.put_bytes(0, 7);
        let checksum = checksum_seeded(seed, &record[8..]);
        record[..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header at the start of `bytes` and whether its record verifies. `None` if the lengths leave `bytes`, so
    /// that nothing behind it can be found either.
    pub(super) fn decode(bytes: &[u8], seed: u64) -> Option<(Self, bool)> {
        let mut input = bytes.get(..RECORD_HEADER_BYTES)?;
        let checksum = input.get_u64_le();
        let header = Self {
            id: input.get_u64_le(),
            head_bytes: input.get_u32_le(),
            body_bytes: input.get_u32_le(),
            class: input.get_u8(),
        };
        let record = bytes.get(..usize::try_from(header.record_bytes()).ok()?)?;
        Some((header, checksum_seeded(seed, &record[8..]) == checksum && header.id < NUMBER_WALL))
    }
}

fn put_prefix(structure: &mut [u8], magic: [u8; 8]) {
    let length = u32::try_from(structure.len()).expect("structures are at most a block");
    let checksum = checksum(&structure[PREFIX_BYTES..]);
    let mut out = structure;
    out.put_slice(&magic);
    out.put_u32_le(VERSION);
    out.put_u32_le(length);
    out.put_u64_le(checksum);
}

fn checked_prefix(structure: &[u8], magic: [u8; 8]) -> Result<&[u8], String> {
    let mut prefix = &structure[..PREFIX_BYTES];
    if prefix.copy_to_bytes(8) != magic[..] {
        return Err("the magic is missing".to_owned());
    }
    let (version, length, stated) = (prefix.get_u32_le(), prefix.get_u32_le(), prefix.get_u64_le());
    if version != VERSION {
        return Err(format!("it has format version {version}, this build reads {VERSION}"));
    }
    let body = &structure[PREFIX_BYTES..];
    if length as usize != structure.len() || checksum(body) != stated {
        return Err("its checksum is wrong".to_owned());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        (0..1u64 << 40, 0..NUMBER_WALL / 2).prop_map(|(block, sequence)| Place { position: block << 12, sequence })
    }

    proptest! {
        #[test]
        fn a_superblock_reads_back(
            journal: u128, lineage: u128, generation: u64, next_record in 0..NUMBER_WALL, clean: bool, start in place(),
            lengths in prop::collection::vec((1..1000u64, any::<u32>()), 0..=HOLES_MAX),
        ) {
            let mut end = start;
            let holes = lengths.into_iter().map(|(blocks, salvaged)| {
                let from = end;
                end = from.after(blocks * BLOCK as u64);
                Hole { from, resume: end, salvaged }
            }).collect();
            let superblock = Superblock {
                journal: JournalId(journal), lineage, ring_bytes: 1 << 30, generation, start, end, next_record, clean, holes,
            };
            let mut block = [0; BLOCK];
            superblock.encode(&mut block);
            prop_assert_eq!(Superblock::decode(&block), Ok(superblock));
        }

        #[test]
        fn a_superblock_whose_numbers_make_no_sense_is_refused(one in place(), other in place(), ring_bytes: u64) {
            let superblock = Superblock {
                journal: JournalId(1), lineage: 2, ring_bytes, generation: 3, start: one, end: other, next_record: 4,
                clean: true, holes: vec![Hole { from: other, resume: one, salvaged: 0 }],
            };
            let mut block = [0; BLOCK];
            superblock.encode(&mut block);
            prop_assert!(Superblock::decode(&block).is_err());
        }

        #[test]
        fn a_group_header_reads_back_and_no_flipped_bit_passes(
            lineage: u128, opening: u64, place in place(), blocks in 1..100u64, next_record in 0..NUMBER_WALL, records in 0..=GROUP_RECORDS_MAX,
            bit in 0..GROUP_HEADER_BYTES * 8,
        ) {
            let bytes = blocks * BLOCK as u64;
            let header = GroupHeader { lineage, opening, place, bytes, used: bytes - 1, head: place, next_record, records };
            let mut block = [0; BLOCK];
            header.encode(&mut block);
            prop_assert_eq!(GroupHeader::decode(&block, lineage), Some(header));
            prop_assert_eq!(GroupHeader::decode(&block, lineage ^ 1), None);
            block[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(GroupHeader::decode(&block, lineage), None);
        }

        #[test]
        fn noise_is_no_structure(noise in prop::collection::vec(any::<u8>(), BLOCK)) {
            prop_assert!(Superblock::decode(&noise).is_err());
            prop_assert_eq!(GroupHeader::decode(&noise, 7), None);
            let _ = RecordHeader::decode(&noise, 7);
        }
    }

    #[test]
    fn the_format_is_pinned() {
        // A change of these bytes is a new version of the format, never an edit.
        let mut block = [0; BLOCK];
        let place = Place { position: 8192, sequence: 3 };
        GroupHeader { lineage: 1, opening: 2, place, bytes: 4096, used: 200, head: place, next_record: 9, records: 1 }
            .encode(&mut block);
        assert_eq!(&block[..16], b"KENNELJG\x01\0\0\0\x80\0\0\0");
        assert_eq!(&block[24..48], b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(&block[48..64], b"\0\x20\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(block[104], 1);
    }
}
