//! Tests of the module above.

use std::time::Duration;

use super::*;

fn key(position: u32) -> BlockKey {
    BlockKey::new(PutId(1), position)
}

fn settings(directory: Option<&Path>) -> CacheSettings {
    let disk = |path: &Path| DiskSettings { directory: path.to_owned(), bytes: DISK_BYTES_MIN };
    CacheSettings { memory_bytes: MIB, disk: directory.map(disk) }
}

fn block(number: u32) -> (Bytes, u64) {
    let bytes = Bytes::from(vec![u8::try_from(number % 251).expect("small"); 40_000]);
    let sum = checksum(&bytes);
    (bytes, sum)
}

async fn filled(directory: &Path, blocks: u32) -> BlockCache {
    let cache = BlockCache::open(&settings(Some(directory))).await.expect("it opens");
    for number in 0..blocks {
        let (bytes, sum) = block(number);
        cache.insert(key(number), bytes, sum);
        // Room for the flusher: the test is about what was written, not about overflow.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cache
}

async fn served(cache: &BlockCache, number: u32) -> Option<Served> {
    let (bytes, sum) = block(number);
    let (found, served) = cache.get(key(number), 40_000, sum).await?;
    assert_eq!(found, bytes);
    Some(served)
}

#[tokio::test]
async fn memory_alone_works_and_another_block_under_the_key_is_a_miss() {
    let cache = BlockCache::open(&settings(None)).await.expect("it opens");
    let (bytes, sum) = block(3);
    cache.insert(key(3), bytes, sum);
    assert_eq!(served(&cache, 3).await, Some(Served::CacheMemory));
    assert_eq!(served(&cache, 4).await, None);
    assert!(cache.get(key(3), 40_000, sum + 1).await.is_none());
    assert_eq!(cache.counters().corrupt, 1);
    assert_eq!(served(&cache, 3).await, None, "what was wrong once is gone");
}

#[tokio::test]
async fn the_disk_half_survives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = filled(directory.path(), 100).await;
    cache.close().await;
    assert_eq!(cache.counters().writes_dropped, 0);
    drop(cache);
    let cache = BlockCache::open(&settings(Some(directory.path()))).await.expect("it opens again");
    for number in 0..100 {
        assert_eq!(served(&cache, number).await, Some(Served::CacheDisk), "block {number}");
    }
}

/// F28: a disk that runs full later has nothing to refuse the cache.
#[tokio::test]
async fn the_room_on_disk_is_taken_at_the_start() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().expect("a directory");
    let cache = filled(directory.path(), 0).await;
    let files = fs::read_dir(directory.path().join(FORMAT_FOLDER)).expect("files");
    let taken: u64 = files.map(|file| file.and_then(|file| file.metadata()).expect("a file").blocks() * 512).sum();
    assert!(taken >= DISK_BYTES_MIN / 2, "{taken} bytes");
    cache.close().await;
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = filled(directory.path(), 0).await;
    let second = BlockCache::open(&settings(Some(directory.path()))).await;
    assert!(matches!(second, Err(CacheError::InUse { .. })));
    cache.close().await;
    drop(cache);
    assert!(BlockCache::open(&settings(Some(directory.path()))).await.is_ok());
}

#[tokio::test]
async fn flipped_bits_on_disk_are_never_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = filled(directory.path(), 100).await;
    cache.close().await;
    drop(cache);
    for file in fs::read_dir(directory.path().join(FORMAT_FOLDER)).expect("the folder") {
        let path = file.expect("a file").path();
        let mut bytes = fs::read(&path).expect("readable");
        for at in (9000..bytes.len()).step_by(30_000) {
            bytes[at] ^= 0x10;
        }
        fs::write(&path, bytes).expect("writable");
    }
    let cache = BlockCache::open(&settings(Some(directory.path()))).await.expect("it opens all the same");
    for number in 0..100 {
        // `served` compares the bytes: a hit is a right hit.
        served(&cache, number).await;
    }
    let counters = cache.counters();
    assert!(counters.misses > 0, "{counters:?}");
}

#[tokio::test]
async fn a_disk_half_that_is_too_small_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Some(DiskSettings { directory: directory.path().to_owned(), bytes: 1000 });
    let refused = BlockCache::open(&CacheSettings { memory_bytes: MIB, disk }).await;
    assert!(matches!(refused, Err(CacheError::TooSmall { bytes: 1000 })));
}
