//! Tests of the module above.

use std::time::Duration;

use kennel_protocol::entry::Entry;
use kennel_protocol::ids::{Epoch, Lsn, Offset, Slot};
use kennel_protocol::object::{Manifest, PartitionState};

use super::*;
use crate::read::cache::CacheSettings;
use crate::read::testing::{MemoryLog, chunk, key, run};

const SHARD: ShardId = ShardId(0);

async fn cold(log: &Arc<MemoryLog>, reads_max: usize) -> (Arc<ColdReader>, Arc<ColdIndex>) {
    let store: Arc<dyn LogStore> = log.clone();
    let settings = CacheSettings { memory_bytes: 64 << 20, disk: None };
    let cache = Arc::new(BlockCache::open(&settings).await.expect("it opens"));
    let index = Arc::new(ColdIndex::new(SHARD, store.clone()));
    index.refresh(Duration::ZERO).await.expect("a good log");
    (Arc::new(ColdReader::new(store, cache, ColdSettings { reads_max })), index)
}

fn block(index: &ColdIndex, partition: u32) -> BlockRead {
    index.with(|index| index.block_at(&key(partition), Offset(0))).expect("it is stored")
}

fn state(partition: u32, end: u64) -> PartitionState {
    PartitionState { partition: key(partition), trim: Offset(0), end: Offset(end), last: None, cut: 0 }
}

#[tokio::test]
async fn a_thousand_readers_are_one_read_and_the_first_may_leave() {
    let log = MemoryLog::opened();
    log.store(1, &[chunk(0, 0, &[50; 40])]);
    *log.delay.lock().expect("no panic") = Duration::from_millis(50);
    let (reader, index) = cold(&log, 8).await;
    let wanted = block(&index, 0);
    let first = tokio::spawn({
        let (reader, index) = (Arc::clone(&reader), Arc::clone(&index));
        async move { reader.block(SHARD, &index, &wanted).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    first.abort();
    let readers = (0..1000).map(|_| reader.block(SHARD, &index, &wanted));
    for found in futures::future::join_all(readers).await {
        let (bytes, served) = found.expect("the others succeed");
        assert_eq!((bytes, served), (run(0, &[50; 40]), Served::Bucket));
    }
    assert_eq!(log.ranges.load(Ordering::Relaxed), 1);
    let (_, served) = reader.block(SHARD, &index, &wanted).await.expect("cached");
    assert_eq!(served, Served::CacheMemory);
}

#[tokio::test]
async fn small_neighbours_come_with_one_read() {
    let log = MemoryLog::opened();
    let chunks: Vec<Entry> = (0..200).map(|partition| chunk(partition, 0, &[2])).collect();
    log.store(1, &chunks);
    let (reader, index) = cold(&log, 8).await;
    for partition in 0..200 {
        let (bytes, _) = reader.block(SHARD, &index, &block(&index, partition)).await.expect("stored");
        assert_eq!(bytes, chunks[partition as usize].body);
    }
    let blocks: usize = chunks.iter().map(|chunk| chunk.body.len()).sum();
    let units = blocks as u64 / u64::from(kennel_core::read::UNIT_BYTES) + 1;
    assert!(log.ranges.load(Ordering::Relaxed) <= units, "{units} windows");
}

#[tokio::test]
async fn damage_is_read_once_more_and_then_named() {
    let log = MemoryLog::opened();
    log.store(1, &[chunk(0, 0, &[3])]);
    log.store(1, &[chunk(1, 0, &[3])]);
    let (reader, index) = cold(&log, 8).await;
    log.flips.store(1, Ordering::Relaxed);
    let (bytes, _) = reader.block(SHARD, &index, &block(&index, 0)).await.expect("the second read is right");
    assert_eq!(bytes, chunk(0, 0, &[3]).body);
    assert_eq!(
        reader.counters(),
        ColdCounters { bucket_reads: 2, bucket_corrupt: 1, bucket_bytes: bytes.len() as u64 * 2 }
    );
    log.flips.store(2, Ordering::Relaxed);
    let broken = reader.block(SHARD, &index, &block(&index, 1)).await;
    assert!(matches!(broken, Err(ColdError::Corrupt { slot: Slot(2), .. })), "{broken:?}");
    assert!(reader.block(SHARD, &index, &block(&index, 0)).await.is_ok(), "others go on");
}

#[tokio::test]
async fn the_index_follows_through_seals_and_reads_many_slots_at_once() {
    let log = MemoryLog::opened();
    for base in 0..40 {
        log.store(1, &[chunk(0, base, &[1])]);
    }
    log.seal(1);
    log.seal_unopened(2);
    log.open(3, &[state(0, 40)]);
    log.store(3, &[chunk(0, 40, &[2])]);
    let (_, index) = cold(&log, 8).await;
    let end =
        |index: &ColdIndex| index.with(|index| index.partition(&key(0)).map(kennel_core::read::PartitionIndex::end));
    assert_eq!(end(&index), Some(Offset(42)));
    let before = log.slot_reads.load(Ordering::Relaxed);
    index.refresh(Duration::from_mins(1)).await.expect("nothing is read");
    assert_eq!(log.slot_reads.load(Ordering::Relaxed), before, "news are fresh enough");
    let published = log.store(3, &[chunk(0, 42, &[1])]);
    index.publish(&published).expect("it follows");
    assert_eq!(end(&index), Some(Offset(43)));
    index.publish(&published).expect("known already");
    log.store(3, &[chunk(0, 43, &[1])]);
    index.refresh(Duration::ZERO).await.expect("a good log");
    assert_eq!(end(&index), Some(Offset(44)));
}

#[tokio::test]
async fn a_collected_log_begins_where_the_manifest_says() {
    let log = MemoryLog::opened();
    for base in 0..3 {
        log.store(1, &[chunk(0, base, &[1])]);
    }
    log.set_manifest(Manifest {
        shard: SHARD,
        epoch: Epoch(1),
        number: 0,
        log_start: LogPosition { epoch: Epoch(1), slot: Slot(3) },
        log_start_lsn: Lsn(2),
        partitions: vec![state(0, 2)],
        sum: kennel_protocol::entry::IntegritySum::default(),
    });
    let (_, index) = cold(&log, 8).await;
    let range = index.with(|index| index.partition(&key(0)).map(|known| (known.start(), known.end())));
    assert_eq!(range, Some((Offset(2), Offset(3))));
}
