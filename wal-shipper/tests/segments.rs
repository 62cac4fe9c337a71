//! The segments source on real files: rotation, holes, torn ends, damage, vanishing files, windows of every size.

use std::fs;
use std::path::{Path, PathBuf};

use kennel_core::shipper::SourceRest;
use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::{EntryKind, HoleReason};
use kennel_protocol::ids::{Offset, PartitionId};
use kennel_protocol::wire::ShipChunk;
use wal_shipper::source::{PartitionReader, scan};

/// A data directory with one partition.
struct Directory {
    root: tempfile::TempDir,
}

impl Directory {
    fn new() -> Self {
        let directory = Self { root: tempfile::tempdir().expect("a directory") };
        fs::create_dir_all(directory.partition()).expect("a partition");
        directory
    }

    fn partition(&self) -> PathBuf {
        self.root.path().join("streams/0/topics/0/partitions/0")
    }

    fn segment(&self, start: u64) -> PathBuf {
        self.partition().join(format!("{start:020}.log"))
    }

    /// Writes a segment of batches with so many messages each; answers the offset after it.
    fn write(&self, start: u64, batches: &[u64]) -> u64 {
        let (bytes, end) = segment(start, batches);
        fs::write(self.segment(start), bytes).expect("a segment");
        end
    }

    fn reader(&self) -> PartitionReader {
        let mut found = scan(self.root.path()).expect("a listing");
        PartitionReader::new(found.pop().expect("one partition"))
    }
}

fn segment(start: u64, batches: &[u64]) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut base = start;
    for count in batches {
        let mut batch = BatchBuilder::new(PartitionId(0), Offset(base), 1_000 + base);
        for number in 0..*count {
            let length = 10 + usize::try_from((base + number) % 90).expect("small");
            batch = batch.payload(&vec![u8::try_from((base + number) % 251).expect("small"); length]);
        }
        bytes.extend_from_slice(&batch.build());
        base += count;
    }
    (bytes, base)
}

/// Reads from an offset to the end, checking that everything joins.
fn read_all(reader: &mut PartitionReader, from: u64, window: usize) -> (Vec<ShipChunk>, SourceRest, u64) {
    let mut next = Offset(from);
    let mut all: Vec<ShipChunk> = Vec::new();
    loop {
        let read = reader.read(next, window);
        for chunk in read.chunks {
            assert_eq!(chunk.head.base, next, "chunks join");
            if chunk.head.kind == EntryKind::Chunk {
                let inspected = inspect_chunk(chunk.head.partition, &chunk.body).expect("verified bytes");
                assert_eq!((inspected.base, inspected.end), (chunk.head.base, chunk.head.end));
                let previous = all.last().and_then(|before| before.head.last);
                assert!(all.is_empty() || chunk.head.previous == previous, "each chunk names the message before it");
            }
            next = chunk.head.end;
            all.push(chunk);
        }
        match read.rest {
            SourceRest::More => {}
            rest => return (all, rest, read.torn_bytes),
        }
    }
}

fn messages(chunks: &[ShipChunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.head.sum.messages).sum()
}

fn damage(rest: &SourceRest) -> &str {
    match rest {
        SourceRest::Damaged(damage) => &damage.reason,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn whole_batches_in_windows_of_every_size_across_segments() {
    let directory = Directory::new();
    let middle = directory.write(0, &[3, 1, 40, 7]);
    let end = directory.write(middle, &[100, 1, 1]);
    for window in [1, 300, 1_000, 4_096, 1 << 20] {
        let (chunks, rest, torn) = read_all(&mut directory.reader(), 0, window);
        assert_eq!(messages(&chunks), end);
        assert!(
            matches!(rest, SourceRest::Exhausted { end: found, last: Some(_) } if found == Offset(end)),
            "{rest:?}"
        );
        assert_eq!(torn, 0);
    }
}

#[test]
fn a_read_may_begin_at_any_batch_and_knows_what_is_before() {
    let directory = Directory::new();
    let middle = directory.write(0, &[3, 1, 40, 7]);
    let end = directory.write(middle, &[100, 1, 1]);
    let (all, _, _) = read_all(&mut directory.reader(), 0, 1);
    for (before, chunk) in all.iter().zip(&all[1..]) {
        let read = directory.reader().read(chunk.head.base, 1);
        assert_eq!(read.chunks[0].head, chunk.head);
        assert_eq!(chunk.head.previous, before.head.last);
    }
    let inside = directory.reader().read(Offset(10), 1);
    assert_eq!(inside.chunks[0].head.base, Offset(4), "the batch that holds the offset, whole");
    for from in [end, end + 5] {
        let read = directory.reader().read(Offset(from), 1);
        assert!(read.chunks.is_empty());
        let SourceRest::Exhausted { end: found, last } = read.rest else { panic!("no end at {from}") };
        assert_eq!((found, last), (Offset(end), all.last().expect("chunks").head.last));
    }
}

#[test]
fn a_torn_end_is_an_end() {
    let directory = Directory::new();
    let end = directory.write(0, &[5, 5]);
    let (whole, _) = segment(0, &[5, 5]);
    let (more, _) = segment(end, &[5]);
    for kept in [1, 200, 256, 300, more.len() - 1] {
        fs::write(directory.segment(0), [&whole[..], &more[..kept]].concat()).expect("a torn segment");
        let (chunks, rest, torn) = read_all(&mut directory.reader(), 0, 1 << 20);
        assert_eq!(messages(&chunks), end, "{kept} bytes of a batch");
        assert!(matches!(rest, SourceRest::Exhausted { .. }), "{rest:?}");
        assert_eq!(torn, kept as u64);
    }
    // A reader that saw the torn end sees what the server writes over it.
    let mut reader = directory.reader();
    read_all(&mut reader, 0, 1 << 20);
    fs::write(directory.segment(0), [&whole[..], &more[..]].concat()).expect("a whole segment");
    assert_eq!(messages(&read_all(&mut reader, end, 1 << 20).0), 5);
}

#[test]
fn a_bad_batch_with_a_good_one_behind_it_is_damage() {
    let directory = Directory::new();
    let (bytes, _) = segment(0, &[5, 5, 5]);
    let (first, _) = segment(0, &[5]);
    // In a payload, in the batch's length, in its checksum, in its offset, in a reserved byte.
    for at in [first.len() + 310, first.len() + 32, first.len() + 40, first.len() + 8, first.len() + 100] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        fs::write(directory.segment(0), damaged).expect("a damaged segment");
        let (chunks, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
        assert_eq!(messages(&chunks), 5, "what is before the damage is whole (byte {at})");
        let SourceRest::Damaged(damage) = &rest else { panic!("byte {at}: {rest:?}") };
        assert!(damage.place.ends_with("00000000000000000000.log"));
        assert!(damage.position >= first.len() as u64, "{damage}");
    }
}

#[test]
fn damage_in_a_sealed_segment_is_damage_even_at_its_end() {
    let directory = Directory::new();
    let end = directory.write(0, &[5, 5]);
    directory.write(end, &[5]);
    let (whole, _) = segment(0, &[5, 5]);
    fs::write(directory.segment(0), &whole[..whole.len() - 1]).expect("a cut segment");
    let (chunks, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    assert_eq!(messages(&chunks), 5);
    damage(&rest);
    // Cut at a batch's end: the index remembers that there was more.
    let (first, _) = segment(0, &[5]);
    fs::write(directory.segment(0), &whole[..first.len()]).expect("a cut segment");
    let entry = [5, 0, first.len() as u64].map(u64::to_le_bytes).concat();
    fs::write(directory.segment(0).with_extension("index"), entry).expect("an index");
    let (_, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    assert!(damage(&rest).contains("cut short"), "{rest:?}");
}

#[test]
fn a_later_start_is_a_hole_and_an_earlier_one_is_damage() {
    let directory = Directory::new();
    let end = directory.write(0, &[5, 5]);
    directory.write(end + 90, &[5]);
    let (chunks, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    let hole = &chunks[1].head;
    assert_eq!((hole.kind, hole.end), (EntryKind::Hole(HoleReason::SourceRetention), Offset(end + 90)));
    assert_eq!(messages(&chunks), 15);
    assert!(matches!(rest, SourceRest::Exhausted { .. }));
    // A ring that already has the hole, or ends inside it, goes on.
    for from in [end, end + 1, end + 89, end + 90] {
        assert_eq!(messages(&read_all(&mut directory.reader(), from, 1 << 20).0), 5, "from {from}");
    }
    directory.write(end - 1, &[5]);
    let (_, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    assert!(damage(&rest).contains("starts at"), "{rest:?}");
}

#[test]
fn files_may_vanish_and_appear_while_they_are_read() {
    let directory = Directory::new();
    let middle = directory.write(0, &[5, 5]);
    let end = directory.write(middle, &[5, 5]);
    let mut reader = directory.reader();
    assert_eq!(reader.read(Offset(0), 1).chunks[0].head.end, Offset(5));
    fs::remove_file(directory.segment(0)).expect("retention");
    directory.write(end, &[5]);
    let (chunks, _, _) = read_all(&mut reader, 5, 1 << 20);
    assert_eq!(chunks[0].head.kind, EntryKind::Hole(HoleReason::SourceRetention));
    assert_eq!((chunks[0].head.end, messages(&chunks)), (Offset(middle), 15));
}

#[test]
fn a_purged_or_deleted_partition_ends_loudly() {
    let directory = Directory::new();
    directory.write(0, &[5, 5]);
    let mut reader = directory.reader();
    reader.read(Offset(0), 1);
    fs::write(directory.partition().join("purge.gen"), [1_u64, 1].map(u64::to_le_bytes).concat()).expect("a purge");
    let (_, rest, _) = read_all(&mut reader, 5, 1 << 20);
    assert!(damage(&rest).contains("purged"), "{rest:?}");
    let mut reader = directory.reader();
    fs::remove_dir_all(directory.partition()).expect("a deletion");
    let (_, rest, _) = read_all(&mut reader, 0, 1 << 20);
    assert!(damage(&rest).contains("purged") || damage(&rest).contains("gone"), "{rest:?}");
}

#[test]
fn an_empty_partition_is_exhausted() {
    let directory = Directory::new();
    let (chunks, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    assert!(chunks.is_empty() && rest == SourceRest::Exhausted { end: Offset(0), last: None });
    fs::write(directory.segment(0), b"").expect("an empty segment");
    let (chunks, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    assert!(chunks.is_empty() && rest == SourceRest::Exhausted { end: Offset(0), last: None });
}

#[test]
fn batches_of_another_partition_are_damage() {
    let directory = Directory::new();
    let batch = BatchBuilder::new(PartitionId(1), Offset(0), 1).payload(b"elsewhere").build();
    fs::write(directory.segment(0), batch).expect("a segment");
    let (_, rest, _) = read_all(&mut directory.reader(), 0, 1 << 20);
    assert!(damage(&rest).contains("partition 1"), "{rest:?}");
}

#[test]
fn what_a_real_server_wrote_is_read_whole() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures");
    let mut total = 0;
    for found in scan(&data).expect("the fixture") {
        for window in [1, 10_000, 1 << 20] {
            let (chunks, rest, torn) = read_all(&mut PartitionReader::new(found.clone()), 0, window);
            assert!(matches!(rest, SourceRest::Exhausted { .. }), "{}: {rest:?}", found.key);
            assert_eq!(torn, 0);
            total += messages(&chunks);
            for chunk in &chunks {
                let again = PartitionReader::new(found.clone()).read(chunk.head.base, window);
                assert_eq!(again.chunks[0].head, chunk.head, "the index leads to the same place");
            }
        }
    }
    assert_eq!(total, 3 * 1_519);
}
