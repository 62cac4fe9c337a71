//! Log objects: what becomes a block, that the bytes never vary, and reading from the end.

use bytes::Bytes;
use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::{Entry, EntryHead, EntryKind, HoleReason, IntegritySum, NumberedEntry};
use kennel_protocol::ids::{Lsn, Offset, PartitionKey};
use kennel_protocol::limits::LOG_BLOCK_BYTES_TARGET;
use kennel_protocol::object::{
    EncodeLogError, EncodedObject, LOG_FOOTER_BYTES, LOG_HEADER_BYTES, LogHeader, LogIndex, ObjectError, SlotObject,
    SlotSuffix, decode_slot, decode_slot_suffix, encode_log_object, verify_block,
};
use proptest::prelude::*;

use crate::samples::{self, Draw};

fn key(text: &str) -> PartitionKey {
    text.parse().expect("a partition")
}

fn chunk(partition: PartitionKey, base: u64, payload: &[u8]) -> Entry {
    let body = BatchBuilder::new(partition.partition, Offset(base), 1_000 + base).payload(payload).build();
    Entry { head: inspect_chunk(partition, &body).expect("a valid batch"), body }
}

fn encode(entries: Vec<Entry>) -> EncodedObject {
    let numbered: Vec<NumberedEntry> =
        (7..).zip(entries).map(|(lsn, entry)| NumberedEntry { lsn: Lsn(lsn), entry }).collect();
    let end = Lsn(7 + numbered.len() as u64);
    let (header, _) = samples::log_entries(&mut Draw::new(1));
    encode_log_object(LogHeader { lsn_from: Lsn(7), lsn_end: end, ..header }, &numbered).expect("an object")
}

/// The lines of an index as kind, base, end: what a reader of the partition sees.
fn lines(index: &LogIndex, partition: PartitionKey) -> Vec<(EntryKind, u64, u64)> {
    index.lines_of(partition).iter().map(|line| (line.kind, line.base.0, line.end.0)).collect()
}

#[test]
fn chunks_of_a_partition_join_into_one_block() {
    let (one, other) = (key("1/1/1"), key("0/9/9"));
    let encoded = encode(vec![chunk(one, 5, b"a"), chunk(other, 0, b"b"), chunk(one, 6, b"c"), chunk(one, 7, b"d")]);
    assert_eq!(encoded.index.entries.len(), 2);
    assert_eq!(lines(&encoded.index, one), [(EntryKind::Chunk, 5, 8)]);
    assert_eq!(lines(&encoded.index, other), [(EntryKind::Chunk, 0, 1)]);
    let block = encoded.index.block_of(one, Offset(6)).expect("a block");
    assert_eq!((block.first_timestamp, block.last_timestamp), (1_005, 1_007));
    assert_eq!((block.sum.messages, block.last.expect("a last message").offset), (3, Offset(7)));
    assert_eq!(encoded.index.block_of(one, Offset(8)), None);
    assert_eq!(encoded.index.block_of(key("1/1/2"), Offset(6)), None);
}

#[test]
fn holes_trims_and_cuts_begin_a_new_block() {
    let partition = key("1/1/1");
    let hole = EntryHead::hole(partition, Offset(1), Offset(9), HoleReason::SourceRetention);
    let mut forked = chunk(partition, 10, b"d");
    forked.head.cut = 1;
    let encoded = encode(vec![
        chunk(partition, 0, b"a"),
        Entry::bodiless(hole),
        chunk(partition, 9, b"b"),
        Entry::bodiless(EntryHead::cut(partition, Offset(10), 1)),
        forked,
        Entry::bodiless(EntryHead::trim(partition, Offset(0), Offset(5))),
    ]);
    let expected = [
        (EntryKind::Chunk, 0, 1),
        (EntryKind::Hole(HoleReason::SourceRetention), 1, 9),
        (EntryKind::Chunk, 9, 10),
        (EntryKind::Cut, 10, 10),
        (EntryKind::Chunk, 10, 11),
        (EntryKind::Trim, 0, 5),
    ];
    assert_eq!(lines(&encoded.index, partition), expected);
    assert_eq!(decode_slot(&encoded.to_contiguous()), Ok(SlotObject::Log(encoded.index)));
}

#[test]
fn a_block_ends_at_its_target() {
    let partition = key("1/1/1");
    let half = vec![0; LOG_BLOCK_BYTES_TARGET / 2];
    let encoded = encode((0..4).map(|base| chunk(partition, base, &half)).collect());
    assert_eq!(encoded.index.entries.len(), 4, "two halves and their headers are above the target");
    let third = vec![0; LOG_BLOCK_BYTES_TARGET / 3 - 400];
    let encoded = encode((0..4).map(|base| chunk(partition, base, &third)).collect());
    assert_eq!(lines(&encoded.index, partition), [(EntryKind::Chunk, 0, 3), (EntryKind::Chunk, 3, 4)]);
}

#[test]
fn runs_that_are_not_the_headers_are_refused() {
    let (header, _) = samples::log_entries(&mut Draw::new(1));
    let header = LogHeader { lsn_from: Lsn(7), lsn_end: Lsn(9), ..header };
    let entry = |lsn| NumberedEntry { lsn: Lsn(lsn), entry: chunk(key("1/1/1"), 0, b"a") };
    let check = |entries: &[NumberedEntry]| encode_log_object(header, entries).expect_err("refused");
    assert!(matches!(check(&[entry(7)]), EncodeLogError::NotDense { .. }));
    assert!(matches!(check(&[entry(7), entry(9)]), EncodeLogError::NotDense { .. }));
    assert!(matches!(check(&[entry(7), entry(8), entry(9)]), EncodeLogError::NotDense { .. }));
    let mut torn = entry(8);
    torn.entry.body = torn.entry.body.slice(1..);
    assert!(matches!(check(&[entry(7), torn]), EncodeLogError::Body { lsn: Lsn(8), .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn objects_read_back_and_never_vary(seed: u64) {
        let (header, entries) = samples::log_entries(&mut Draw::new(seed));
        let encoded = encode_log_object(header, &entries).expect("an object");
        let again = encode_log_object(header, &entries).expect("an object");
        prop_assert_eq!(encoded.to_contiguous(), again.to_contiguous());
        let bytes = encoded.to_contiguous();
        prop_assert_eq!(bytes.len(), encoded.len());
        prop_assert_eq!(decode_slot(&bytes), Ok(SlotObject::Log(encoded.index.clone())));
        prop_assert_eq!(LogHeader::decode(bytes[..LOG_HEADER_BYTES].try_into().expect("128 bytes")), Ok(header));

        // Blocks are the bodies, and the sums are theirs.
        let mut sum = IntegritySum::default();
        for line in &encoded.index.entries {
            let range = usize::try_from(line.range().start).expect("small")..usize::try_from(line.range().end).expect("small");
            prop_assert_eq!(verify_block(line, &bytes[range]), Ok(()));
            sum.add(line.sum);
        }
        let mut expected = IntegritySum::default();
        for numbered in &entries {
            expected.add(numbered.entry.head.sum);
        }
        prop_assert_eq!(sum, expected);
        let bodies: usize = entries.iter().map(|numbered| numbered.entry.body.len()).sum();
        prop_assert_eq!(encoded.index.blocks_end(), (LOG_HEADER_BYTES + bodies) as u64);
    }

    #[test]
    fn an_object_is_read_from_its_end(seed: u64) {
        let (header, entries) = samples::log_entries(&mut Draw::new(seed));
        let encoded = encode_log_object(header, &entries).expect("an object");
        let bytes = encoded.to_contiguous();
        let total = bytes.len() as u64;
        for length in [LOG_FOOTER_BYTES, LOG_FOOTER_BYTES + 1, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
            let suffix = bytes.slice(bytes.len() - length.max(LOG_FOOTER_BYTES)..);
            let index = match decode_slot_suffix(total, &suffix).expect("a log object") {
                SlotSuffix::Complete(SlotObject::Log(index)) => index,
                SlotSuffix::NeedsIndex { footer, range } => {
                    let range = usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
                    LogIndex::decode(&footer, &bytes[range]).expect("an index")
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(&index, &encoded.index);
        }
    }
}

#[test]
fn the_end_of_another_object_asks_for_the_whole() {
    let record = samples::open_record(&mut Draw::new(6));
    let bytes = record.encode();
    let suffix = bytes.slice(bytes.len() - LOG_FOOTER_BYTES..);
    assert_eq!(decode_slot_suffix(bytes.len() as u64, &suffix), Ok(SlotSuffix::NeedsWhole));
    let whole = decode_slot_suffix(bytes.len() as u64, &bytes);
    assert_eq!(whole, Ok(SlotSuffix::Complete(SlotObject::Open(record))));
    let other = Bytes::from_static(b"<?xml version='1.0'?>");
    assert!(matches!(decode_slot(&other), Err(ObjectError::NotASlot { .. })));
}
