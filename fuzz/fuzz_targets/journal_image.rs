#![no_main]
//! Reads a journal that the fuzzer makes up: as it stands, and with every checksum put right where a structure begins, so
//! that what lies behind the checksums is reached.
//!
//! The journal belongs to the daemon, which is too much to link here: its module is built into this target as it stands.

#[path = "../../cache-node/src/journal/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the target only reads")]
mod journal;
#[path = "../../cache-node/src/random.rs"]
#[expect(dead_code, reason = "the target makes no journal")]
mod random;

use kennel_protocol::checksum::{checksum, checksum_seeded};

const BLOCK: usize = 4096;
/// The smallest file that can be a journal.
const IMAGE_BYTES: usize = 1 << 20;
const GROUP_HEADER_BYTES: usize = 128;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut image = bytes.to_vec();
    image.truncate(IMAGE_BYTES);
    image.resize(IMAGE_BYTES, 0);
    let _as_it_stands = journal::inspect_image(image.clone());
    for superblock in [0, BLOCK] {
        stamp(&mut image[superblock..][..BLOCK], b"KENNELJS");
    }
    for group in (2 * BLOCK..IMAGE_BYTES).step_by(BLOCK) {
        if image[group..].starts_with(b"KENNELJG") {
            stamp(&mut image[group..][..GROUP_HEADER_BYTES], b"KENNELJG");
            stamp_records(&mut image[group..]);
        }
    }
    if let Ok(inspection) = journal::inspect_image(image) {
        assert!(inspection.used_bytes <= inspection.ring_bytes);
        assert!(inspection.ring_bytes < inspection.size_bytes);
        for record in &inspection.records {
            assert!(record.offset >= 2 * BLOCK as u64 && record.offset < inspection.size_bytes);
        }
    }
});

/// Magic, version, length and checksum of a superblock or a group's header.
fn stamp(structure: &mut [u8], magic: &[u8; 8]) {
    let length = u32::try_from(structure.len()).expect("at most a block");
    structure[..8].copy_from_slice(magic);
    structure[8..12].copy_from_slice(&1u32.to_le_bytes());
    structure[12..16].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&structure[24..]);
    structure[16..24].copy_from_slice(&checksum.to_le_bytes());
}

/// The checksums of a group's records, as far as their lengths lead.
fn stamp_records(group: &mut [u8]) {
    let mut seeds = [0; 32];
    seeds[..24].copy_from_slice(&group[24..48]);
    seeds[24..].copy_from_slice(&group[56..64]);
    let seed = checksum(&seeds);
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..u32_at(group, 104).min(1000) {
        let Some(header) = group.get(at..at + 32) else { return };
        let length = 32 + u32_at(header, 16) + u32_at(header, 20);
        let Some(record) = group.get_mut(at..at + length) else { return };
        let checksum = checksum_seeded(seed, &record[8..]);
        record[..8].copy_from_slice(&checksum.to_le_bytes());
        at += length;
    }
}
