//! The log as it lies in the bucket: keys, ends of objects, decoded and checked.

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use kennel_protocol::ids::{Epoch, ShardId};
use kennel_protocol::keys::{LogKey, ManifestKey};
use kennel_protocol::limits::LOG_SUFFIX_BYTES;
use kennel_protocol::object::{
    LogIndex, LogPosition, Manifest, ObjectError, SlotObject, SlotSuffix, decode_slot, decode_slot_suffix,
};

use super::store::{LogStore, StoreError};
use crate::bucket::{Advice, Bucket, BucketError};

/// Manifests listed at once; a shard keeps few.
const MANIFESTS_LISTED: usize = 1000;

/// [`LogStore`] over the bucket.
#[derive(Debug, Clone)]
pub struct BucketLog {
    bucket: Bucket,
}

impl BucketLog {
    /// Reads the logs under the prefix of `bucket`.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }

    async fn whole_slot(&self, key: &str) -> Result<Option<SlotObject>, StoreError> {
        let found = self.bucket.get(key).await.map_err(|error| store_error(key, &error))?;
        found.map(|bytes| decode_slot(&bytes)).transpose().map_err(|error| damaged(key, &error))
    }
}

#[async_trait]
impl LogStore for BucketLog {
    async fn slot(&self, shard: ShardId, at: LogPosition) -> Result<Option<SlotObject>, StoreError> {
        let key = LogKey { shard, epoch: at.epoch, slot: at.slot }.to_string();
        let end = self.bucket.get_suffix(&key, LOG_SUFFIX_BYTES as u64).await;
        let Some(end) = end.map_err(|error| store_error(&key, &error))? else { return Ok(None) };
        let object = match decode_slot_suffix(end.object_size, &end.bytes).map_err(|error| damaged(&key, &error))? {
            SlotSuffix::Complete(object) => Some(object),
            SlotSuffix::NeedsWhole => self.whole_slot(&key).await?,
            SlotSuffix::NeedsIndex { footer, range } => {
                let bytes = self.bucket.get_range(&key, range).await.map_err(|error| store_error(&key, &error))?;
                let decode = |bytes: Bytes| LogIndex::decode(&footer, &bytes).map(SlotObject::Log);
                bytes.map(decode).transpose().map_err(|error| damaged(&key, &error))?
            }
        };
        if object.as_ref().is_some_and(|object| place_of(object) != (shard, at)) {
            return Err(StoreError::Damaged { object: key, reason: "it names another place than its own".to_owned() });
        }
        Ok(object)
    }

    async fn range(&self, shard: ShardId, at: LogPosition, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let key = LogKey { shard, epoch: at.epoch, slot: at.slot }.to_string();
        self.bucket.get_range(&key, range).await.map_err(|error| store_error(&key, &error))
    }

    async fn manifest(&self, shard: ShardId) -> Result<Option<Manifest>, StoreError> {
        let mut newest: Option<ManifestKey> = None;
        let mut after = String::new();
        loop {
            // The newest of the newest epoch counts (PROTOCOL R23); keys sort by epoch, then by number.
            let prefix = ManifestKey::shard_prefix(shard);
            let folder = prefix.trim_end_matches('/');
            let listing = if after.is_empty() {
                self.bucket.list(folder, MANIFESTS_LISTED).await
            } else {
                self.bucket.list_after(folder, &after, MANIFESTS_LISTED).await
            };
            let listing = listing.map_err(|error| store_error(folder, &error))?;
            if let Some(last) = listing.entries.last() {
                after.clone_from(&last.key);
                newest = Some(ManifestKey::from_str(&last.key).map_err(|error| damaged(&last.key, &error))?);
            }
            if listing.complete || listing.entries.is_empty() {
                break;
            }
        }
        let Some(key) = newest.map(|key| key.to_string()) else { return Ok(None) };
        let found = self.bucket.get(&key).await.map_err(|error| store_error(&key, &error))?;
        found.map(|bytes| Manifest::decode(&bytes)).transpose().map_err(|error: ObjectError| damaged(&key, &error))
    }
}

/// The place that an object says it stands in.
fn place_of(object: &SlotObject) -> (ShardId, LogPosition) {
    let at = |epoch: Epoch, slot| LogPosition { epoch, slot };
    match object {
        SlotObject::Open(record) => (record.shard, LogPosition { slot: LogPosition::START.slot, epoch: record.epoch }),
        SlotObject::Log(index) => (index.header.shard, at(index.header.epoch, index.header.slot)),
        SlotObject::Seal(seal) => (seal.shard, at(seal.epoch, seal.slot)),
    }
}

fn store_error(key: &str, error: &BucketError) -> StoreError {
    match error.advice() {
        Advice::Stop => damaged(key, error),
        Advice::Retry | Advice::Wait | Advice::Fix => StoreError::Unavailable { reason: error.to_string() },
    }
}

fn damaged(key: &str, error: &impl Display) -> StoreError {
    StoreError::Damaged { object: key.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::entry::IntegritySum;
    use kennel_protocol::ids::{Lsn, Offset, Slot};
    use kennel_protocol::object::PartitionState;

    use super::*;
    use crate::bucket::{BucketSettings, CreateOutcome};
    use crate::read::testing::{MemoryLog, chunk, key};

    const SHARD: ShardId = ShardId(0);

    fn at(epoch: u64, slot: u64) -> LogPosition {
        LogPosition { epoch: Epoch(epoch), slot: Slot(slot) }
    }

    async fn bucket(name: &str) -> Bucket {
        Bucket::connect(&BucketSettings::at(format!("memory://{name}/k"))).await.expect("it opens")
    }

    async fn put(bucket: &Bucket, key: String, bytes: Bytes) {
        let created = bucket.create(&key, vec![bytes]).await;
        assert!(matches!(created, CreateOutcome::Done), "{created:?}");
    }

    async fn put_slot(bucket: &Bucket, from: &MemoryLog, at: LogPosition) {
        let key = LogKey { shard: SHARD, epoch: at.epoch, slot: at.slot };
        put(bucket, key.to_string(), from.bytes(at).expect("it is there")).await;
    }

    #[tokio::test]
    async fn slots_of_every_kind_and_size_are_read_alike() {
        let states = (0..2000).map(|partition| PartitionState {
            partition: key(partition),
            trim: Offset(0),
            end: Offset(1),
            last: None,
            cut: 0,
        });
        let chunks: Vec<_> = (0..2000).map(|partition| chunk(partition, 0, &[1])).collect();
        let log = MemoryLog::opened();
        // A small object, one whose index is longer than one look at its end, a seal, and a long open record.
        let expected = [log.store(1, &chunks[..3]), log.store(1, &chunks), log.seal(1)];
        let open = log.open(2, &states.collect::<Vec<_>>());
        let bucket = bucket("slots").await;
        let store = BucketLog::new(bucket.clone());
        for slot in 1..=3 {
            assert_eq!(store.slot(SHARD, at(1, slot)).await.expect("no error"), None, "not there yet");
            put_slot(&bucket, &log, at(1, slot)).await;
            let found = store.slot(SHARD, at(1, slot)).await.expect("a good object");
            assert_eq!(found.as_ref(), expected.get(usize::try_from(slot).expect("small") - 1));
        }
        put_slot(&bucket, &log, at(2, 0)).await;
        assert_eq!(store.slot(SHARD, at(2, 0)).await.expect("a good record"), Some(open));
        let SlotObject::Log(index) = &expected[0] else { panic!("a log object") };
        let block = store.range(SHARD, at(1, 1), index.entries[0].range()).await.expect("no error");
        assert_eq!(block, Some(chunks[0].body.clone()));
        assert_eq!(store.range(SHARD, at(9, 1), 0..1).await.expect("no error"), None);
    }

    #[tokio::test]
    async fn an_object_in_anothers_place_is_damage() {
        let log = MemoryLog::opened();
        log.store(1, &[chunk(0, 0, &[1])]);
        let bucket = bucket("misplaced").await;
        let key = LogKey { shard: SHARD, epoch: Epoch(1), slot: Slot(7) };
        put(&bucket, key.to_string(), log.bytes(at(1, 1)).expect("it is there")).await;
        let found = BucketLog::new(bucket).slot(SHARD, at(1, 7)).await;
        assert!(matches!(found, Err(StoreError::Damaged { .. })), "{found:?}");
    }

    #[tokio::test]
    async fn the_newest_manifest_of_the_newest_epoch_counts() {
        let bucket = bucket("manifests").await;
        let store = BucketLog::new(bucket.clone());
        assert_eq!(store.manifest(SHARD).await.expect("no error"), None);
        for (epoch, number) in [(1, 0), (1, 11), (3, 0), (3, 2), (2, 50)] {
            let manifest = Manifest {
                shard: SHARD,
                epoch: Epoch(epoch),
                number,
                log_start: at(epoch, number),
                log_start_lsn: Lsn(0),
                partitions: vec![],
                sum: IntegritySum::default(),
            };
            let key = ManifestKey { shard: SHARD, epoch: Epoch(epoch), number };
            put(&bucket, key.to_string(), manifest.encode()).await;
        }
        let newest = store.manifest(SHARD).await.expect("no error").expect("there are some");
        assert_eq!((newest.epoch, newest.number), (Epoch(3), 2));
    }
}
