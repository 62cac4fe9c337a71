//! Tests of the module above.

use kennel_protocol::entry::{HoleReason, IntegritySum};
use kennel_protocol::ids::{ClusterId, Lsn, ProcessId, PutId};
use kennel_protocol::object::slot::{LogHeader, PartitionState};
use proptest::prelude::*;

use super::super::partition::ColdStep;
use super::*;

fn key(partition: u32) -> PartitionKey {
    format!("1/1/{partition}").parse().expect("a partition")
}

fn entry(partition: u32, kind: EntryKind, base: u64, end: u64) -> IndexEntry {
    let last = MessageIdentity { offset: Offset(end.saturating_sub(1)), base_timestamp: end * 10, checksum: end };
    IndexEntry {
        partition: key(partition),
        kind,
        base: Offset(base),
        end: Offset(end),
        position: 128 + base * 100,
        bytes: u32::try_from((end - base) * 100).expect("small"),
        checksum: base,
        first_timestamp: base * 10,
        last_timestamp: end * 10,
        last: (kind == EntryKind::Chunk).then_some(last),
        sum: IntegritySum::default(),
        cut: 0,
    }
}

fn log(epoch: u64, slot: u64, entries: Vec<IndexEntry>) -> SlotObject {
    let header = LogHeader {
        cluster: ClusterId(1),
        shard: ShardId(0),
        epoch: Epoch(epoch),
        slot: Slot(slot),
        process: ProcessId(1),
        put: PutId(u128::from(epoch * 1000 + slot)),
        lsn_from: Lsn(0),
        lsn_end: Lsn(0),
    };
    SlotObject::Log(LogIndex { header, entries })
}

fn open(epoch: u64, partitions: Vec<PartitionState>) -> SlotObject {
    SlotObject::Open(OpenRecord {
        shard: ShardId(0),
        epoch: Epoch(epoch),
        process: ProcessId(1),
        put: PutId(u128::from(epoch)),
        gathered: Epoch(0),
        adopted: Lsn(0),
        answered: (1, 1),
        partitions,
    })
}

fn seal(epoch: u64, slot: u64) -> SlotObject {
    SlotObject::Seal(SealObject {
        shard: ShardId(0),
        epoch: Epoch(epoch),
        slot: Slot(slot),
        by: Epoch(epoch + 1),
        process: ProcessId(2),
        put: PutId(9),
    })
}

fn state(partition: u32, trim: u64, end: u64) -> PartitionState {
    PartitionState { partition: key(partition), trim: Offset(trim), end: Offset(end), last: None, cut: 0 }
}

fn index_of(objects: &[SlotObject]) -> ShardIndex {
    let mut index = ShardIndex::new(ShardId(0));
    for object in objects {
        index.feed(object).expect("a good log");
    }
    index
}

#[test]
fn a_log_of_two_epochs_is_one_log() {
    let chunk = EntryKind::Chunk;
    let index = index_of(&[
        open(1, vec![]),
        log(1, 1, vec![entry(0, chunk, 0, 5), entry(1, EntryKind::Hole(HoleReason::ImportStart), 0, 7)]),
        seal(1, 2),
        seal(2, 0),
        open(3, vec![state(0, 0, 5), state(1, 0, 7)]),
        log(3, 1, vec![entry(0, chunk, 5, 9), entry(1, chunk, 7, 8)]),
    ]);
    assert_eq!(index.next(), LogPosition { epoch: Epoch(3), slot: Slot(2) });
    let plan = index.plan_cold(&key(0), Offset(3), u64::MAX, 16);
    assert_eq!((plan.steps.len(), plan.next), (2, Offset(9)));
    let plan = index.plan_cold(&key(1), Offset(2), u64::MAX, 16);
    assert!(matches!(plan.steps[0], ColdStep::Hole(hole) if hole.to == Offset(7)));
    assert_eq!(index.block_at_timestamp(&key(0), 60).map(|block| block.base), Some(Offset(5)));
    assert_eq!(index.last_block(&key(0)).map(|block| block.object.epoch), Some(Epoch(3)));
    let identity = index.partition(&key(0)).expect("known").identity(Offset(4)).expect("the end of a block");
    assert_eq!((identity.base_timestamp, identity.checksum), (50, 5));
}

#[test]
fn a_jump_is_refused_whole() {
    let mut index = index_of(&[open(1, vec![])]);
    let bad = log(1, 1, vec![entry(0, EntryKind::Chunk, 0, 5), entry(0, EntryKind::Chunk, 6, 7)]);
    assert!(matches!(index.feed(&bad), Err(IndexError::NotContiguous { end: Offset(5), base: Offset(6), .. })));
    assert!(index.partition(&key(0)).is_none(), "nothing of a refused object is taken in");
    assert!(matches!(index.feed(&log(1, 2, vec![])), Err(IndexError::WrongSlot { .. })));
    let early = open(1, vec![state(0, 0, 3)]);
    assert!(matches!(index.feed(&early), Err(IndexError::WrongSlot { .. })));
    let mut fresh = ShardIndex::new(ShardId(0));
    assert!(matches!(fresh.feed(&early), Err(IndexError::NotContiguous { .. })), "the open record knows of a lost log");
}

#[test]
fn trimmed_blocks_are_forgotten() {
    let mut index = index_of(&[
        open(1, vec![]),
        log(1, 1, vec![entry(0, EntryKind::Chunk, 0, 5)]),
        log(1, 2, vec![entry(0, EntryKind::Chunk, 5, 9)]),
    ]);
    let mut trim = entry(0, EntryKind::Trim, 0, 6);
    trim.bytes = 0;
    index.feed(&log(1, 3, vec![trim])).expect("a trim");
    let partition = index.partition(&key(0)).expect("known");
    assert_eq!((partition.trim(), partition.start(), partition.end()), (Offset(6), Offset(5), Offset(9)));
    assert!(index.plan_cold(&key(0), Offset(0), 1, 1).steps.is_empty());
}

#[test]
fn the_index_stays_small() {
    let partitions = 1000;
    let mut objects = vec![open(1, vec![])];
    for slot in 0..16 {
        let chunk = |partition| entry(partition, EntryKind::Chunk, slot, slot + 1);
        let mut entries: Vec<_> = (0..partitions).map(chunk).collect();
        for (number, entry) in entries.iter_mut().enumerate() {
            entry.position = number as u64 * 100;
        }
        objects.push(log(1, slot + 1, entries));
    }
    let index = index_of(&objects);
    let per_block = (index.heap_bytes() - partitions as usize * 92) / (16 * partitions as usize);
    assert!(per_block <= 50, "{per_block} bytes a block, the objects' names included");
}

proptest! {
    /// Walking a log with plans visits every offset exactly once, in blocks or in declared holes.
    #[test]
    fn plans_cover_every_offset_once(
        runs in prop::collection::vec((any::<bool>(), 1u64..20, any::<bool>()), 1..40),
        bytes_max in 1u64..5000,
        blocks_max in 1usize..5,
        start in 0u64..100,
    ) {
        let (mut end, mut slot, mut entries) = (0, 1, Vec::new());
        let mut index = index_of(&[open(1, vec![])]);
        for (hole, length, close) in runs {
            let kind = if hole { EntryKind::Hole(HoleReason::SourceRetention) } else { EntryKind::Chunk };
            entries.push(entry(0, kind, end, end + length));
            end += length;
            if close {
                index.feed(&log(1, slot, std::mem::take(&mut entries))).expect("a good log");
                slot += 1;
            }
        }
        index.feed(&log(1, slot, entries)).expect("a good log");
        let mut at = Offset(start.min(end));
        while at < Offset(end) {
            let plan = index.plan_cold(&key(0), at, bytes_max, blocks_max);
            prop_assert!(!plan.steps.is_empty());
            for (number, step) in plan.steps.iter().enumerate() {
                let (from, to) = match step {
                    ColdStep::Block(block) => {
                        let unit = index.unit(block);
                        prop_assert!(unit.blocks.contains(&block.place) && unit.to >= block.place.end());
                        (block.base, block.end)
                    }
                    ColdStep::Hole(hole) => (hole.from, hole.to),
                };
                let joins = if number == 0 { from <= at && at < to } else { from == at };
                prop_assert!(joins);
                at = to;
            }
            prop_assert_eq!(plan.next, at);
        }
    }
}
