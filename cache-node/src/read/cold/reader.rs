//! Brings blocks: from the cache, or from the bucket once for everybody who wants them at the time.
//!
//! Every block is verified against the index before anybody sees it. A cached one that is wrong is read from the
//! bucket; one that is wrong there is read once more, past the cache, and then given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kennel_core::read::{BlockPlace, BlockRead, FetchUnit};
use kennel_protocol::checksum::checksum;
use kennel_protocol::ids::{PutId, ShardId};
use kennel_protocol::object::LogPosition;
use kennel_protocol::wire::Served;
use tokio::sync::Semaphore;

use super::{ColdError, ColdIndex};
use crate::read::cache::{BlockCache, BlockKey};
use crate::read::flight::Flights;
use crate::read::store::LogStore;

/// How often a reader joins somebody else's read before it gives up: each join that missed its block was a read of
/// neighbours that found theirs in the cache.
const JOINS_MAX: u32 = 4;

/// Bounds of cold reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdSettings {
    /// Reads of the bucket in flight on behalf of all readers of this node.
    pub reads_max: usize,
}

impl Default for ColdSettings {
    /// Thirty-two reads of 256 KiB at 30 ms each bring 270 MB/s.
    fn default() -> Self {
        Self { reads_max: 32 }
    }
}

/// What cold reads did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColdCounters {
    /// Requests sent to the bucket.
    pub bucket_reads: u64,
    /// Bytes that they brought.
    pub bucket_bytes: u64,
    /// Blocks that came from the bucket wrong.
    pub bucket_corrupt: u64,
}

/// Brings blocks of any shard.
#[derive(Debug)]
pub struct ColdReader {
    inner: Arc<Inner>,
    flights: Flights<(PutId, u64), Result<Arc<Blocks>, ColdError>>,
}

/// Verified blocks by position.
type Blocks = HashMap<u32, (Bytes, Served)>;

#[derive(Debug)]
struct Inner {
    store: Arc<dyn LogStore>,
    cache: Arc<BlockCache>,
    permits: Semaphore,
    bucket_reads: AtomicU64,
    bucket_bytes: AtomicU64,
    bucket_corrupt: AtomicU64,
}

impl ColdReader {
    /// A reader of everything in `store`.
    pub fn new(store: Arc<dyn LogStore>, cache: Arc<BlockCache>, settings: ColdSettings) -> Self {
        let inner = Inner {
            store,
            cache,
            permits: Semaphore::new(settings.reads_max),
            bucket_reads: AtomicU64::new(0),
            bucket_bytes: AtomicU64::new(0),
            bucket_corrupt: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), flights: Flights::default() }
    }

    /// A verified block, and the tier that had it.
    ///
    /// # Cancel safety
    /// Safe: a read of the bucket goes on for the others and for the cache.
    pub async fn block(
        &self,
        shard: ShardId,
        index: &ColdIndex,
        block: &BlockRead,
    ) -> Result<(Bytes, Served), ColdError> {
        let (put, place) = (block.object.put, block.place);
        let key = BlockKey::new(put, place.position);
        if let Some(found) = self.inner.cache.get(key, place.bytes, place.checksum).await {
            return Ok(found);
        }
        let unit = index.with(|index| index.unit(block));
        for _ in 0..JOINS_MAX {
            let work = || read_unit(Arc::clone(&self.inner), shard, unit.clone(), place);
            let blocks = self.flights.join((put, unit.from), work).await??;
            if let Some((bytes, served)) = blocks.get(&place.position) {
                return Ok((bytes.clone(), *served));
            }
        }
        let (epoch, slot) = (block.object.epoch, block.object.slot);
        Err(ColdError::Corrupt { epoch, slot, position: place.position })
    }

    /// What cold reads did so far.
    pub fn counters(&self) -> ColdCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ColdCounters {
            bucket_reads: read(&self.inner.bucket_reads),
            bucket_bytes: read(&self.inner.bucket_bytes),
            bucket_corrupt: read(&self.inner.bucket_corrupt),
        }
    }
}

/// Reads a unit for the sake of one block, and keeps its neighbours as well.
async fn read_unit(
    inner: Arc<Inner>,
    shard: ShardId,
    unit: FetchUnit,
    wanted: BlockPlace,
) -> Result<Arc<Blocks>, ColdError> {
    let put = unit.object.put;
    let _permit = inner.permits.acquire().await.expect("the semaphore is never closed");
    // Whoever read this unit before us has put the block into the cache by now.
    if let Some(found) = inner.cache.get(BlockKey::new(put, wanted.position), wanted.bytes, wanted.checksum).await {
        return Ok(Arc::new(HashMap::from([(wanted.position, found)])));
    }
    let mut blocks = Blocks::new();
    for _ in 0..2 {
        let bytes = inner.fetch(shard, &unit).await?;
        blocks = inner.verified(&unit, &bytes);
        if blocks.contains_key(&wanted.position) {
            break;
        }
        tracing::warn!(%put, position = wanted.position, "a block came damaged from the bucket; reading it once more");
    }
    for place in &unit.blocks {
        if let Some((bytes, _)) = blocks.get(&place.position) {
            inner.cache.insert(BlockKey::new(put, place.position), bytes.clone(), place.checksum);
        }
    }
    let (epoch, slot) = (unit.object.epoch, unit.object.slot);
    if blocks.contains_key(&wanted.position) {
        Ok(Arc::new(blocks))
    } else {
        Err(ColdError::Corrupt { epoch, slot, position: wanted.position })
    }
}

impl Inner {
    async fn fetch(&self, shard: ShardId, unit: &FetchUnit) -> Result<Bytes, ColdError> {
        let (epoch, slot) = (unit.object.epoch, unit.object.slot);
        self.bucket_reads.fetch_add(1, Ordering::Relaxed);
        let found = self.store.range(shard, LogPosition { epoch, slot }, unit.from..unit.to).await?;
        let bytes = found.ok_or(ColdError::Gone { epoch, slot })?;
        self.bucket_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// The blocks of a unit that are right.
    fn verified(&self, unit: &FetchUnit, bytes: &Bytes) -> Blocks {
        let mut blocks = Blocks::new();
        for place in &unit.blocks {
            let from = usize::try_from(u64::from(place.position) - unit.from).unwrap_or(usize::MAX);
            let to = from.saturating_add(place.bytes as usize);
            match bytes.get(from..to).filter(|block| checksum(block) == place.checksum) {
                Some(block) => {
                    // A copy where there are several: a small block in the cache must not hold the whole unit.
                    let own =
                        if unit.blocks.len() == 1 { bytes.slice(from..to) } else { Bytes::copy_from_slice(block) };
                    blocks.insert(place.position, (own, Served::Bucket));
                }
                None => {
                    self.bucket_corrupt.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests;
