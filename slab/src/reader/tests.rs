//! What a reader takes and what it does not, with the other side in the same process.

use std::os::fd::AsFd;

use proptest::prelude::*;

use super::*;
use crate::layout::SLAB_BYTES_MIN;
use crate::map::OwnWords;
use crate::writer::Slab;

const ID: SlabId = SlabId(7 << 64 | 9);

fn key(number: u32) -> PartitionKey {
    format!("1/1/{number}").parse().expect("a partition")
}

fn identity(offset: u64) -> MessageIdentity {
    MessageIdentity { offset: Offset(offset), base_timestamp: offset + 1, checksum: offset * 3 }
}

fn body(base: u64, bytes: usize) -> Vec<u8> {
    (base..).map(|byte| byte.to_le_bytes()[0]).take(bytes).collect()
}

/// A record of `count` messages whose body follows from its base.
fn record(partition: u32, base: u64, count: u64, bytes: usize) -> (RecordHead, Vec<u8>) {
    let body = body(base, bytes);
    let head = RecordHead {
        partition: key(partition),
        base: Offset(base),
        end: Offset(base + count),
        epoch: Epoch(3),
        trim: Offset(0),
        stored: Offset(1),
        committed: Offset(base + count),
        previous: base.checked_sub(1).map(identity),
        last: identity(base + count - 1),
        body_bytes: u32::try_from(bytes).expect("short"),
        body_checksum: checksum(&body),
    };
    (head, body)
}

fn put(slab: &mut Slab, partition: u32, base: u64, count: u64, bytes: usize) {
    let (head, body) = record(partition, base, count, bytes);
    assert!(slab.put(&head, &body));
}

fn pair() -> (Slab, SlabReader) {
    let slab = Slab::create(SLAB_BYTES_MIN, ID).expect("memory");
    let reader = SlabReader::map(slab.descriptor(), SLAB_BYTES_MIN, ID).expect("the same memory");
    (slab, reader)
}

fn wanted(partition: u32, from: u64) -> Wanted {
    Wanted {
        partition: key(partition),
        from: Offset(from),
        bytes_max: 1 << 20,
        messages_max: u64::MAX,
        epoch: Epoch(0),
        last: None,
    }
}

#[test]
fn records_that_follow_each_other_come_together_and_others_do_not() {
    let (mut slab, reader) = pair();
    assert_eq!(reader.read(&wanted(1, 10)), Err(Miss::Absent));
    put(&mut slab, 1, 10, 5, 100);
    put(&mut slab, 2, 15, 5, 100);
    put(&mut slab, 1, 15, 1, 77);
    put(&mut slab, 1, 17, 1, 50);
    let read = reader.read(&wanted(1, 10)).expect("it is there");
    assert_eq!(read.batches, [body(10, 100), body(15, 77)].concat());
    assert_eq!((read.next, read.last, read.epoch), (Offset(16), identity(15), Epoch(3)));
    assert_eq!((read.stored, read.committed), (Offset(1), Offset(16)));
    assert_eq!(reader.read(&wanted(1, 11)), Err(Miss::Absent), "only at its beginning");
    let few = Wanted { bytes_max: 150, ..wanted(1, 10) };
    assert_eq!(reader.read(&few).expect("the first fits").next, Offset(15));
    let few = Wanted { messages_max: 5, ..wanted(1, 10) };
    assert_eq!(reader.read(&few).expect("the first fits").next, Offset(15));
    let fewer = Wanted { bytes_max: 99, ..wanted(1, 10) };
    assert_eq!(reader.read(&fewer), Err(Miss::TooLong));
}

#[test]
fn another_history_or_an_older_epoch_is_a_question_for_the_node() {
    let (mut slab, reader) = pair();
    put(&mut slab, 1, 10, 5, 100);
    let read = |last, epoch| reader.read(&Wanted { last, epoch: Epoch(epoch), ..wanted(1, 10) });
    assert!(read(None, 3).is_ok() && read(Some(identity(9)), 3).is_ok());
    assert_eq!(read(Some(identity(8)), 3), Err(Miss::Unrelated));
    assert_eq!(read(Some(MessageIdentity { checksum: 1, ..identity(9) }), 3), Err(Miss::Unrelated));
    assert_eq!(read(None, 4), Err(Miss::Unrelated));
    // What follows must name what came before, too.
    let (head, body) = record(1, 15, 2, 60);
    assert!(slab.put(&RecordHead { previous: Some(identity(13)), ..head }, &body));
    assert_eq!(read(None, 0).expect("the first").next, Offset(15));
    assert!(slab.put(&RecordHead { epoch: Epoch(2), ..head }, &body));
    assert_eq!(read(None, 0).expect("the first").next, Offset(15));
    assert!(slab.put(&head, &body));
    assert_eq!(read(None, 0).expect("both").next, Offset(17), "the newest of a key counts");
}

#[test]
fn a_cleared_slab_is_empty_and_goes_on() {
    let (mut slab, reader) = pair();
    put(&mut slab, 1, 0, 5, 100);
    assert!(slab.holds(&key(1), Offset(0), Epoch(3), None));
    slab.clear();
    assert!(!slab.holds(&key(1), Offset(0), Epoch(3), None));
    assert_eq!(reader.read(&wanted(1, 0)), Err(Miss::Absent));
    put(&mut slab, 1, 0, 5, 100);
    assert!(reader.read(&wanted(1, 0)).is_ok());
}

#[test]
fn the_oldest_go_first_and_the_newest_are_whole() {
    let (mut slab, reader) = pair();
    // Some ten times round, in lengths that never come out even at the end of the area.
    let last = 2_000_u64;
    for base in 0..last {
        put(&mut slab, 1, base, 1, 1 + usize::try_from(base * 37 % 9_000).expect("small"));
    }
    let found: Vec<u64> = (0..last).filter(|base| reader.read(&wanted(1, *base)).is_ok()).collect();
    assert_eq!(found.last(), Some(&(last - 1)));
    assert!(found.len() > 100 && found.len() < 400, "{} of them are there", found.len());
    assert!(found[0] > last - 400, "{} is there", found[0]);
    let read = reader.read(&wanted(1, last - 1)).expect("the newest");
    assert_eq!(read.batches, body(last - 1, 1 + usize::try_from((last - 1) * 37 % 9_000).expect("small")));
}

#[test]
fn a_body_that_would_throw_out_all_others_is_not_taken() {
    let (mut slab, reader) = pair();
    let (head, body) = record(1, 0, 1, 200_000);
    assert!(!slab.put(&head, &body));
    assert_eq!(reader.read(&wanted(1, 0)), Err(Miss::Absent));
}

#[test]
fn what_is_overwritten_between_the_look_and_the_copy_is_a_miss() {
    let (mut slab, reader) = pair();
    put(&mut slab, 1, 0, 1, 5_000);
    let place = reader.find(&wanted(1, 0)).expect("it is there");
    let mut out = b"kept".to_vec();
    assert!(reader.copy(&place, &mut out));
    out.truncate(4);
    // Records with the very same bytes: only the position tells that it is not the same one.
    let mut rounds = 0;
    while reader.copy(&place, &mut out) {
        out.truncate(4);
        put(&mut slab, 2, rounds, 1, 5_000);
        rounds += 1;
        assert!(rounds < 1_000, "the area is shorter than that");
    }
    assert_eq!(out, b"kept", "nothing is left of it");
    assert!(rounds > 100, "{rounds} records fit");
}

/// A slab whose memory the test can damage.
fn damaged(damage: impl Fn(&OwnWords, Geometry)) -> Result<WholeRead, Miss> {
    let memory = OwnWords::create(1 << 20).expect("memory");
    let geometry = Geometry::of(1 << 20).expect("a slab");
    for (word, value) in header_words(ID.0).into_iter().enumerate() {
        memory.store(word, value);
    }
    let (position, (head, body)) = (geometry.lines, record(1, 0, 5, 1_000));
    memory.store(header_at::RESERVED, position + record_lines(body.len()));
    for (word, value) in head.encode().into_iter().enumerate() {
        memory.store(geometry.record(position) + word, value);
    }
    memory.copy_in(geometry.record(position) + HEAD_WORDS, &body);
    let hash = key_hash(&head.partition, head.base);
    memory.store(geometry.bucket(hash) + 5, Slot::new(hash, position).0);
    damage(&memory, geometry);
    SlabReader::map(memory.descriptor(), 1 << 20, ID).expect("a slab").read(&wanted(1, 0))
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_a_miss() {
    assert!(damaged(|_, _| {}).is_ok());
    for word in 0..HEAD_WORDS + 125 {
        let flip = |memory: &OwnWords, geometry: Geometry| {
            let at = geometry.record(geometry.lines) + word;
            memory.store(at, memory.words().load(at) ^ 1 << (word % 64));
        };
        let miss = if word < HEAD_WORDS { Miss::Absent } else { Miss::Overwritten };
        assert_eq!(damaged(flip), Err(miss), "word {word}");
    }
    let lapped = |memory: &OwnWords, geometry: Geometry| memory.store(header_at::RESERVED, geometry.lines * 2 + 1);
    assert_eq!(damaged(lapped), Err(Miss::Absent));
}

#[test]
fn memory_that_is_not_the_slab_that_was_offered_is_refused() {
    let (slab, _) = pair();
    let map = |bytes, id| SlabReader::map(slab.descriptor(), bytes, id);
    assert!(matches!(map(SLAB_BYTES_MIN, SlabId(8)), Err(MapError::NotTheSlab)));
    assert!(matches!(map(SLAB_BYTES_MIN * 2, ID), Err(MapError::Memory(_))));
    assert!(matches!(map(4096, ID), Err(MapError::NotTheSlab)));
    let pipe = std::os::unix::net::UnixStream::pair().expect("sockets").0;
    assert!(matches!(SlabReader::map(pipe.as_fd(), SLAB_BYTES_MIN, ID), Err(MapError::Memory(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The writer may be out of its mind: a reader finds nothing then, and goes on.
    #[test]
    fn any_memory_is_read_without_harm(seed: u64, reserved: u64, valid_from: u64) {
        let memory = OwnWords::create(1 << 20).expect("memory");
        let geometry = Geometry::of(1 << 20).expect("a slab");
        let mut state = seed;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ state >> 29
        };
        for word in 0..(1 << 20) / 8 {
            memory.store(word, noise());
        }
        for (word, value) in header_words(ID.0).into_iter().enumerate() {
            memory.store(word, value);
        }
        memory.store(header_at::RESERVED, reserved);
        memory.store(header_at::VALID_FROM, valid_from);
        // The index names places, some of them with sound heads about bodies that are none.
        for base in 0..64_u64 {
            let hash = key_hash(&key(1), Offset(base));
            let position = noise() & ((1 << 48) - 1);
            memory.store(geometry.bucket(hash) + usize::try_from(base % 8).expect("small"), Slot::new(hash, position).0);
            let (head, _) = record(1, base, 1, 1 + usize::try_from(noise() % 90_000).expect("small"));
            if geometry.lines_left(position) >= HEAD_LINES {
                for (word, value) in head.encode().into_iter().enumerate() {
                    memory.store(geometry.record(position) + word, value);
                }
            }
        }
        let reader = SlabReader::map(memory.descriptor(), 1 << 20, ID).expect("a slab");
        for base in 0..64_u64 {
            prop_assert!(reader.read(&wanted(1, base)).is_err());
        }
    }
}
