//! Tests of the module above.

use kennel_protocol::entry::Entry;
use kennel_protocol::ids::{Epoch, Slot};
use kennel_protocol::object::PartitionState;
use proptest::prelude::*;

use super::*;
use crate::read::cache::{BlockCache, CacheSettings};
use crate::read::cold::ColdSettings;
use crate::read::spans::spans;
use crate::read::store::LogStore;
use crate::read::tail::TailBudget;
use crate::read::testing::{MemoryLog, MemoryStow, chunk, hole, identity, key, trim};

struct World {
    log: Arc<MemoryLog>,
    tail: Arc<Tail>,
    stow: Arc<MemoryStow>,
    /// Whether the journal keeps bodies.
    stows: bool,
    reader: Reader,
}

/// A node that owns shard 0 in epoch 1 and has room for `tail_bytes` in memory.
async fn world(tail_bytes: u64) -> World {
    let log = MemoryLog::opened();
    let store: Arc<dyn LogStore> = log.clone();
    let cache = BlockCache::open(&CacheSettings { memory_bytes: 16 << 20, disk: None }).await.expect("it opens");
    let cold = ColdReader::new(store.clone(), Arc::new(cache), ColdSettings::default());
    let tail = Tail::new(ShardId(0), &TailBudget::new(tail_bytes));
    tail.begin(Epoch(1), Authority::Owner, &[]);
    tail.settle();
    let stow = Arc::new(MemoryStow::default());
    let index = Arc::new(ColdIndex::new(ShardId(0), store));
    let reads = ShardReads { tail: Arc::clone(&tail), stow: stow.clone(), index };
    World { log, tail, stow, stows: false, reader: Reader::new(vec![reads], cold) }
}

impl World {
    /// Commits entries, and stores them in one object if asked.
    fn commit(&self, entries: &[Entry], stored: bool) {
        for entry in entries {
            self.tail.append(entry, self.stows.then(|| self.stow.put(&entry.body)));
        }
        if stored {
            self.log.store(1, entries);
            self.tail.stored(entries.iter().map(|entry| (entry.head.partition, entry.head.end)));
        }
    }

    async fn fetch(&self, fetch: Fetch) -> Result<FetchedPieces, WireError> {
        match self.reader.fetch(&fetch).await? {
            ReadOutcome::Answer(answer) => Ok(answer),
            ReadOutcome::AskOwner => panic!("the owner itself was asked"),
        }
    }

    async fn code(&self, fetch: Fetch) -> (ErrorCode, Option<Offset>) {
        let error = self.reader.fetch(&fetch).await.expect_err("refused");
        (error.code, error.offset)
    }
}

fn from(offset: u64) -> Fetch {
    Fetch {
        partition: key(0),
        from: FetchFrom::Offset(Offset(offset)),
        bytes_max: 1 << 20,
        messages_max: u32::MAX,
        wait_millis: 0,
        epoch: Epoch(0),
        last: None,
        forwarded: false,
    }
}

fn state(end: u64) -> PartitionState {
    PartitionState { partition: key(0), trim: Offset(0), end: Offset(end), last: None, cut: 0 }
}

#[tokio::test]
async fn memory_then_bucket_then_cache() {
    let world = world(0).await;
    world.commit(&[chunk(0, 0, &[3, 3])], true);
    world.commit(&[chunk(0, 6, &[2])], false);
    let hot = world.fetch(from(6)).await.expect("in memory");
    assert_eq!((hot.served, hot.next, hot.committed, hot.stored), (Served::Tail, Offset(8), Offset(8), Offset(0)));
    let cold = world.fetch(from(1)).await.expect("in the bucket");
    assert_eq!((cold.served, cold.start, cold.next), (Served::Bucket, Offset(1), Offset(6)));
    assert_eq!(cold.sources[0].object.slot, Slot(1));
    assert_eq!(cold.into_fetched().batches, chunk(0, 0, &[3, 3]).body);
    assert_eq!(world.fetch(from(1)).await.expect("cached").served, Served::CacheMemory);
}

#[tokio::test]
async fn starts_by_first_last_and_time() {
    let world = world(0).await;
    for base in [0, 10, 20] {
        world.commit(&[chunk(0, base, &[5, 5])], base < 20);
    }
    let at = |from: FetchFrom| Fetch { from, ..self::from(0) };
    let start = async |from| world.fetch(at(from)).await.expect("an answer").start.0;
    assert_eq!(start(FetchFrom::First).await, 0);
    assert_eq!(start(FetchFrom::Last).await, 25);
    for (time, offset) in [(0, 0), (1, 5), (5000, 5), (5001, 10), (15_000, 15), (15_001, 20), (25_000, 25)] {
        assert_eq!(start(FetchFrom::Timestamp(time)).await, offset, "at {time} µs");
    }
    assert_eq!(start(FetchFrom::Timestamp(25_001)).await, 30, "nothing is that late yet");
    world.commit(&[trim(0, 12)], true);
    assert_eq!(start(FetchFrom::First).await, 12);
    assert_eq!(world.code(from(3)).await, (ErrorCode::OffsetTrimmed, Some(Offset(12))));
}

#[tokio::test]
async fn a_wait_ends_with_the_commit_or_with_the_time() {
    let world = world(1 << 20).await;
    world.commit(&[chunk(0, 0, &[1])], false);
    let empty = world.fetch(Fetch { wait_millis: 20, ..from(1) }).await.expect("an empty answer");
    assert_eq!((empty.served, empty.next, empty.batches.len()), (Served::Nothing, Offset(1), 0));
    let waiting = world.fetch(Fetch { wait_millis: 10_000, ..from(1) });
    let commit = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.commit(&[chunk(0, 1, &[1])], false);
    };
    let (answer, ()) = tokio::join!(waiting, commit);
    assert_eq!(answer.expect("committed").next, Offset(2));
}

#[tokio::test]
async fn nobody_is_moved_to_other_bytes() {
    let world = world(0).await;
    world.commit(&[chunk(0, 0, &[3]), chunk(0, 3, &[3])], true);
    world.commit(&[chunk(0, 6, &[3])], false);
    assert_eq!(world.code(Fetch { epoch: Epoch(9), ..from(6) }).await, (ErrorCode::Stale, None));
    let unknown = Fetch { partition: key(7), ..from(0) };
    assert_eq!(world.code(unknown).await, (ErrorCode::UnknownPartition, None));

    // The same bytes before it: served. Another message there: refused, wherever the message lies.
    for (base, at) in [(0, 1), (3, 4), (6, 7), (3, 6)] {
        let mine = identity(base, at - 1);
        assert!(world.fetch(Fetch { last: Some(mine), ..from(at) }).await.is_ok(), "at {at}");
        let other = Some(MessageIdentity { checksum: mine.checksum ^ 1, ..mine });
        let refused = world.code(Fetch { last: other, ..from(at) }).await;
        assert_eq!(refused, (ErrorCode::Diverged, Some(Offset(at - 1))), "at {at}");
    }

    // A take-over: unsettled, a lower end is no loss; settled, it is one.
    world.log.seal(1);
    world.log.open(2, &[state(6)]);
    world.tail.begin(Epoch(2), Authority::Owner, &[state(6)]);
    let reader = Fetch { epoch: Epoch(1), last: Some(identity(6, 8)), ..from(9) };
    assert_eq!(world.fetch(reader).await.expect("not yet").next, Offset(9));
    world.tail.settle();
    assert_eq!(world.code(reader).await, (ErrorCode::Rewound, Some(Offset(6))));
}

#[tokio::test]
async fn a_stranger_asks_the_owner_unless_it_cannot() {
    let world = world(0).await;
    world.commit(&[chunk(0, 0, &[3])], true);
    world.tail.retire(Epoch(1));
    assert_eq!(world.reader.fetch(&from(0)).await, Ok(ReadOutcome::AskOwner));
    let forwarded = Fetch { forwarded: true, ..from(0) };
    assert_eq!(world.fetch(forwarded).await.expect("from the bucket").next, Offset(3));
    assert_eq!(world.fetch(from(1)).await.expect("the index is known now").next, Offset(3));
    assert_eq!(world.code(Fetch { forwarded: true, ..from(3) }).await.0, ErrorCode::Moved);
    let partitions = world.reader.partitions(ShardId(0));
    assert_eq!((partitions.partitions.len(), partitions.partitions[0].stored), (1, Offset(3)));
}

#[tokio::test]
async fn a_damaged_block_stops_its_reader_and_nobody_else() {
    let world = world(0).await;
    world.commit(&[chunk(0, 0, &[3])], true);
    world.commit(&[chunk(1, 0, &[3])], true);
    world.log.flips.store(2, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.code(from(0)).await.0, ErrorCode::Corrupt);
    assert!(world.fetch(Fetch { partition: key(1), ..from(0) }).await.is_ok());
}

#[test]
fn pieces_become_one_payload_without_a_copy() {
    let standing = Standing { epoch: Epoch(1), authority: Authority::Owner, settled: true, tail: None, index: None };
    let mut answer = FetchedPieces::empty(key(0), Offset(0), &standing);
    answer.batches = vec![chunk(0, 0, &[2]).body, chunk(0, 2, &[3]).body];
    let places: Vec<_> = answer.batches.iter().map(|piece| piece.as_ptr()).collect();
    let frame = answer.clone().into_frame(7);
    assert_eq!(frame.payload.pieces().iter().map(|piece| piece.as_ptr()).collect::<Vec<_>>(), places);
    let whole = kennel_protocol::wire::Message::Fetched(answer.into_fetched());
    assert_eq!(kennel_protocol::wire::Message::decode(frame).expect("a good frame"), whole);
}

#[tokio::test]
async fn what_waits_for_the_bucket_and_is_too_much_for_memory_comes_from_the_journal() {
    let world = World { stows: true, ..world(0).await };
    world.commit(&[chunk(0, 0, &[3, 3]), hole(0, 6, 8), chunk(0, 8, &[2])], false);
    assert!(world.tail.holds_no_bodies(&key(0)), "memory is short");
    let answer = world.fetch(from(1)).await.expect("in the journal");
    assert_eq!((answer.served, answer.start, answer.next), (Served::Journal, Offset(1), Offset(10)));
    let by_time = Fetch { from: FetchFrom::Timestamp(3 * 1000), ..from(0) };
    assert_eq!(world.fetch(by_time).await.expect("in the journal").start, Offset(3));
    let last = Fetch { from: FetchFrom::Last, ..from(0) };
    assert_eq!(world.fetch(last).await.expect("in the journal").start, Offset(8));
    // Stored: the journal forgets, the bucket serves.
    world.log.store(1, &[chunk(0, 0, &[3, 3]), hole(0, 6, 8), chunk(0, 8, &[2])]);
    world.stow.free();
    world.tail.stored([(key(0), Offset(10))]);
    assert_eq!(world.fetch(from(1)).await.expect("in the bucket").served, Served::Bucket);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Fetching in a loop over tail, journal, bucket and holes returns exactly the messages that were committed.
    #[test]
    fn a_fetch_loop_returns_the_source(
        runs in prop::collection::vec((0u32..8, 1u32..6, any::<bool>()), 1..40),
        stored_to in 0usize..40,
        bytes_max in 1u32..3000,
        messages_max in 1u32..9,
        stows: bool,
        tail_bytes in 0u64..4000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let world = World { stows, ..world(tail_bytes).await };
            let (mut end, mut expected, mut batch) = (0, Vec::new(), Vec::new());
            for (number, (kind, length, close)) in runs.iter().enumerate() {
                let next = end + u64::from(*length);
                if *kind == 0 {
                    batch.push(hole(0, end, next));
                } else {
                    expected.extend(end..next);
                    batch.push(chunk(0, end, &vec![1; *length as usize]));
                }
                end = next;
                if *close || number + 1 == runs.len() {
                    world.commit(&batch, number < stored_to);
                    batch.clear();
                    // Nothing may be stored above what is not: later objects wait.
                    if number >= stored_to {
                        world.tail.stored([]);
                    }
                }
            }
            let (mut at, mut last, mut found, mut holes) = (0, None, Vec::new(), 0);
            while at < end {
                let fetch = Fetch { bytes_max, messages_max, last, epoch: Epoch(1), ..from(at) };
                let answer = world.fetch(fetch).await.expect("an answer");
                prop_assert!(answer.next.0 > at && answer.committed == Offset(end));
                holes += answer.holes.iter().map(|(from, to, _)| to.0 - from.0).sum::<u64>();
                at = answer.next.0;
                let batches = answer.into_fetched().batches;
                for span in spans(&batches) {
                    found.extend(span.base.0..span.end.0);
                    last = identity_at(&batches, Offset(span.end.0 - 1));
                }
            }
            prop_assert_eq!(holes + found.len() as u64, end);
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}
