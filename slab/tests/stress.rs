//! A writer that overwrites as fast as it can, and readers that verify every byte of what they are given.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kennel_protocol::checksum::checksum;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, SlabId};
use kennel_slab::{Miss, RecordHead, Slab, SlabReader, Wanted};

/// Small, so that the writer comes round in a millisecond.
const SLAB_BYTES: u64 = 1 << 20;
const ID: SlabId = SlabId(1);
const LONG: Duration = Duration::from_secs(3);
const READERS: usize = 3;

fn key() -> PartitionKey {
    "1/1/0".parse().expect("a partition")
}

fn identity(offset: u64) -> MessageIdentity {
    MessageIdentity { offset: Offset(offset), base_timestamp: offset, checksum: !offset }
}

/// Between one byte and 60 KiB; every byte of it follows from the offset.
fn body(offset: u64, into: &mut Vec<u8>) {
    let words = usize::try_from(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51).expect("13 bits");
    into.clear();
    for word in 0..=words as u64 {
        into.extend_from_slice(&offset.wrapping_mul(31).wrapping_add(word).to_le_bytes());
    }
    into.truncate(words * 8 + 1);
}

fn write(slab: &mut Slab, newest: &AtomicU64, stop: &AtomicBool) {
    let mut bytes = Vec::new();
    let mut offset = 1;
    while !stop.load(Ordering::Relaxed) {
        body(offset, &mut bytes);
        let head = RecordHead {
            partition: key(),
            base: Offset(offset),
            end: Offset(offset + 1),
            epoch: Epoch(1),
            trim: Offset(0),
            stored: Offset(0),
            committed: Offset(offset + 1),
            previous: Some(identity(offset - 1)),
            last: identity(offset),
            body_bytes: u32::try_from(bytes.len()).expect("short"),
            body_checksum: checksum(&bytes),
        };
        assert!(slab.put(&head, &bytes));
        newest.store(offset, Ordering::Release);
        offset += 1;
    }
}

/// Whole records, and those that were overwritten under the reader.
fn read(reader: &SlabReader, newest: &AtomicU64, behind: u64, stop: &AtomicBool) -> (u64, u64) {
    let (mut whole, mut overwritten) = (0, 0);
    let (mut expected, mut one) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let from = newest.load(Ordering::Acquire).saturating_sub(behind).max(1);
        let wanted = Wanted {
            partition: key(),
            from: Offset(from),
            bytes_max: 1 << 20,
            messages_max: u64::MAX,
            epoch: Epoch(1),
            last: Some(identity(from - 1)),
        };
        match reader.read(&wanted) {
            Ok(read) => {
                expected.clear();
                for offset in from..read.next.0 {
                    body(offset, &mut one);
                    expected.extend_from_slice(&one);
                }
                assert!(expected == read.batches, "from {from} to {}: other bytes", read.next);
                assert_eq!(read.last, identity(read.next.0 - 1));
                whole += 1;
            }
            Err(Miss::Overwritten) => overwritten += 1,
            Err(Miss::Absent) => {}
            Err(miss) => panic!("{miss:?} of a record that is nobody else's"),
        }
    }
    (whole, overwritten)
}

#[test]
fn no_torn_record_is_ever_taken_for_whole() {
    let mut slab = Slab::create(SLAB_BYTES, ID).expect("memory");
    let (newest, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let readers: Vec<_> =
        (0..READERS).map(|_| SlabReader::map(slab.descriptor(), SLAB_BYTES, ID).expect("the same memory")).collect();
    let (mut whole, mut overwritten) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| write(&mut slab, &newest, &stop));
        // One at the head, and others so far behind that the writer is about to come round to them.
        let reading: Vec<_> = readers
            .iter()
            .zip([1, 20, 27])
            .map(|(reader, behind)| {
                let (newest, stop) = (&newest, &stop);
                scope.spawn(move || read(reader, newest, behind, stop))
            })
            .collect();
        let began = Instant::now();
        while began.elapsed() < LONG && reading.iter().all(|reader| !reader.is_finished()) {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        for reader in reading {
            let counts = reader.join().expect("no reader was given other bytes");
            (whole, overwritten) = (whole + counts.0, overwritten + counts.1);
        }
    });
    let written = newest.load(Ordering::Relaxed);
    assert!(written > 1_000, "{written} records were written: the writer did not come round often");
    assert!(whole > 100, "{whole} whole records of {written}: nothing was tried");
    assert!(overwritten > 0, "no record was overwritten under a reader: nothing was tried");
}
