//! Carries a machine's bucket requests out. Says what happened and decides nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kennel_core::shard::{BucketRequest, BucketResult, CreateOutcome, SlotBody};
use kennel_protocol::ids::{Epoch, ShardId, Slot};
use kennel_protocol::keys::{ClaimKey, LogKey, ManifestKey};
use kennel_protocol::object::{
    Claim, LogIndex, Manifest, SlotObject, SlotSuffix, decode_slot, decode_slot_suffix, encode_log_object,
};
use tokio::time::Instant;

use crate::bucket::{self, Bucket, BucketError};
use crate::metrics;

/// How much of an object's end is read first: footer and index of all but the largest.
const SUFFIX_BYTES: u64 = 256 * 1024;

/// Most keys of one listing. Claims and manifests of one shard stay far below.
const LIST_MAX: usize = 100_000;

/// The indexes of objects by their place in the log.
type Written = HashMap<(Epoch, Slot), Arc<LogIndex>>;

/// One shard's requests to the bucket.
#[derive(Debug, Clone)]
pub(super) struct BucketEdge {
    shard: ShardId,
    bucket: Bucket,
    /// Indexes of objects on their way, until the machine says that they are stored.
    written: Arc<Mutex<Written>>,
    /// Whether the last request was answered: shared by all shards, for people.
    reachable: Arc<AtomicBool>,
}

impl BucketEdge {
    pub(super) fn new(shard: ShardId, bucket: Bucket, reachable: Arc<AtomicBool>) -> Self {
        Self { shard, bucket, written: Arc::default(), reachable }
    }

    /// The index of an object that this process wrote, once it is stored.
    pub(super) fn take_index(&self, epoch: Epoch, slot: Slot) -> Option<Arc<LogIndex>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&(epoch, slot))
    }

    /// Drops the indexes of uploads that nobody waits for any more.
    pub(super) fn forget_written(&self) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Carries one request out. Always answers.
    ///
    /// # Cancel safety
    /// Not safe: a create may have happened.
    pub(super) async fn perform(&self, request: BucketRequest) -> BucketResult {
        let result = self.attempt(request).await;
        let silent = matches!(
            result,
            BucketResult::Unreachable | BucketResult::Created(CreateOutcome::Failed | CreateOutcome::Unknown)
        );
        self.reachable.store(!silent, Ordering::Relaxed);
        result
    }

    async fn attempt(&self, request: BucketRequest) -> BucketResult {
        match request {
            BucketRequest::FindClaim { above } => self.find_claim(above).await,
            BucketRequest::ReadClaim { epoch } => into_claim(self.read_claim(epoch).await),
            BucketRequest::CreateClaim(claim) => {
                let key = ClaimKey { shard: self.shard, epoch: claim.epoch };
                self.create(&key.to_string(), vec![claim.encode()]).await
            }
            BucketRequest::ReadSlot { epoch, slot } => self.read_slot(epoch, slot).await,
            BucketRequest::CreateSlot { epoch, slot, body } => self.create_slot(epoch, slot, &body).await,
            BucketRequest::NewestManifest => self.newest_manifest().await,
            BucketRequest::CreateManifest(manifest) => {
                let key = ManifestKey { shard: self.shard, epoch: manifest.epoch, number: manifest.number };
                self.create(&key.to_string(), vec![manifest.encode()]).await
            }
            BucketRequest::DeleteSlots { epoch, from, end } => self.delete_slots(epoch, from, end).await,
        }
    }

    async fn create(&self, key: &str, pieces: Vec<Bytes>) -> BucketResult {
        let outcome = match self.bucket.create(key, pieces).await {
            bucket::CreateOutcome::Done => CreateOutcome::Done,
            bucket::CreateOutcome::Exists => CreateOutcome::Exists,
            bucket::CreateOutcome::Failed(error) => {
                tracing::warn!(key, error = %error, "the bucket took nothing");
                CreateOutcome::Failed
            }
            bucket::CreateOutcome::Unknown(error) => {
                tracing::warn!(key, error = %error, "the bucket may have taken the object; reading back");
                CreateOutcome::Unknown
            }
        };
        BucketResult::Created(outcome)
    }

    async fn create_slot(&self, epoch: Epoch, slot: Slot, body: &SlotBody) -> BucketResult {
        let key = LogKey { shard: self.shard, epoch, slot }.to_string();
        let pieces = match body {
            SlotBody::Open(record) => vec![record.encode()],
            SlotBody::Seal(seal) => vec![seal.encode()],
            SlotBody::Log { header, entries } => match encode_log_object(*header, entries) {
                Ok(object) => {
                    let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                    written.insert((epoch, slot), Arc::new(object.index));
                    object.pieces
                }
                Err(error) => {
                    tracing::error!(key, error = %error, "the entries cannot be encoded");
                    return BucketResult::Created(CreateOutcome::Failed);
                }
            },
        };
        let (bytes, started) = (pieces.iter().map(Bytes::len).sum::<usize>(), Instant::now());
        let created = self.create(&key, pieces).await;
        metrics::record_publish(bytes as u64, started.elapsed());
        created
    }

    async fn find_claim(&self, above: Epoch) -> BucketResult {
        let mut newest = None;
        let mut next = above.next();
        if above == Epoch(0) {
            // R3: a cold start lists once; what appeared since is found by reading upward.
            match self.bucket.list(&ClaimKey::prefix(self.shard), LIST_MAX).await {
                Ok(listing) => {
                    let epochs = listing.entries.iter().filter_map(|entry| entry.key.parse::<ClaimKey>().ok());
                    next = epochs.map(|key| key.epoch).max().unwrap_or(next);
                }
                Err(error) => return failed(&error),
            }
        }
        loop {
            match self.read_claim(next).await {
                Ok(Some(claim)) => newest = Some(claim),
                Ok(None) => return BucketResult::Claim(newest),
                Err(result) => return result,
            }
            next = next.next();
        }
    }

    async fn read_claim(&self, epoch: Epoch) -> Result<Option<Claim>, BucketResult> {
        let key = ClaimKey { shard: self.shard, epoch }.to_string();
        match self.bucket.get(&key).await {
            Ok(Some(bytes)) => {
                let claim = Claim::decode(&bytes).map_err(|error| unreadable(&key, &error))?;
                if claim.shard == self.shard && claim.epoch == epoch {
                    Ok(Some(claim))
                } else {
                    Err(BucketResult::Unreadable(format!("{key} holds the claim of another shard or epoch")))
                }
            }
            Ok(None) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn read_slot(&self, epoch: Epoch, slot: Slot) -> BucketResult {
        match read_slot(&self.bucket, self.shard, epoch, slot).await {
            Ok(found) => BucketResult::Slot(found.map(Arc::new)),
            Err(result) => result,
        }
    }

    async fn newest_manifest(&self) -> BucketResult {
        let listing = match self.bucket.list(&ManifestKey::shard_prefix(self.shard), LIST_MAX).await {
            Ok(listing) => listing,
            Err(error) => return failed(&error),
        };
        let keys = listing.entries.iter().filter_map(|entry| entry.key.parse::<ManifestKey>().ok());
        let Some(newest) = keys.max_by_key(|key| (key.epoch, key.number)) else { return BucketResult::Manifest(None) };
        let key = newest.to_string();
        match self.bucket.get(&key).await {
            Ok(Some(bytes)) => match Manifest::decode(&bytes) {
                Ok(manifest) => BucketResult::Manifest(Some(Arc::new(manifest))),
                Err(error) => unreadable(&key, &error),
            },
            // It was listed a moment ago: ask again.
            Ok(None) => BucketResult::Unreachable,
            Err(error) => failed(&error),
        }
    }

    async fn delete_slots(&self, epoch: Epoch, from: Slot, end: Slot) -> BucketResult {
        let key = |slot| LogKey { shard: self.shard, epoch, slot: Slot(slot) }.to_string();
        let keys: Vec<String> = (from.0..end.0).map(key).collect();
        let deleted = self.bucket.delete_many(&keys).await;
        match deleted.first_error {
            Some(error) => failed(&error),
            None => BucketResult::Created(CreateOutcome::Done),
        }
    }
}

/// Reads what a slot holds, bodies aside: one request for all but the largest objects.
async fn read_slot(
    bucket: &Bucket,
    shard: ShardId,
    epoch: Epoch,
    slot: Slot,
) -> Result<Option<SlotObject>, BucketResult> {
    let key = LogKey { shard, epoch, slot }.to_string();
    let Some(suffix) = bucket.get_suffix(&key, SUFFIX_BYTES).await.map_err(|error| failed(&error))? else {
        return Ok(None);
    };
    match decode_slot_suffix(suffix.object_size, &suffix.bytes).map_err(|error| unreadable(&key, &error))? {
        SlotSuffix::Complete(found) => Ok(Some(found)),
        SlotSuffix::NeedsIndex { footer, range } => {
            let bytes = bucket.get_range(&key, range).await.map_err(|error| failed(&error))?;
            let Some(bytes) = bytes else { return Err(BucketResult::Unreachable) };
            let index = LogIndex::decode(&footer, &bytes).map_err(|error| unreadable(&key, &error))?;
            Ok(Some(SlotObject::Log(index)))
        }
        SlotSuffix::NeedsWhole => {
            let bytes = bucket.get(&key).await.map_err(|error| failed(&error))?;
            bytes.map(|bytes| decode_slot(&bytes).map_err(|error| unreadable(&key, &error))).transpose()
        }
    }
}

fn into_claim(read: Result<Option<Claim>, BucketResult>) -> BucketResult {
    match read {
        Ok(claim) => BucketResult::Claim(claim),
        Err(result) => result,
    }
}

fn failed(error: &BucketError) -> BucketResult {
    tracing::warn!(error = %error, "a read of the bucket failed");
    BucketResult::Unreachable
}

fn unreadable(key: &str, error: &dyn std::error::Error) -> BucketResult {
    BucketResult::Unreadable(format!("{key}: {error}"))
}
