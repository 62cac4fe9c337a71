//! The block cache: cold blocks in memory and, if there is a directory for it, on disk.
//!
//! Keyed by put id and position, never by a slot's name (PROTOCOL R26), so a block of another history can never answer.
//! What comes from disk is verified before it is served; what is wrong is a miss, counted and removed. A whole block
//! is one entry: log objects close their blocks at 4 MiB. The cache never reads the bucket.

mod entry;
mod overflow;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy, LfuConfig,
    PsyncIoEngineConfig, RecoverMode, Source,
};
use kennel_protocol::checksum::checksum;
use kennel_protocol::ids::PutId;
use kennel_protocol::wire::Served;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

pub use entry::BlockKey;
use entry::CachedBlock;
use overflow::DroppedWrites;

/// Blocks of the disk half; an entry is never longer. Four of the longest ordinary blocks fit.
const DISK_BLOCK_BYTES: u64 = 16 * MIB;
/// The least that the disk half may have: below, its blocks get too small for ours.
pub const DISK_BYTES_MIN: u64 = 64 * MIB;
/// Disk blocks written at once.
const FLUSHERS: usize = 2;
/// Memory for entries on their way to disk. One cold reader fills some 100 MB/s and a flush takes milliseconds; the
/// default of 16 MiB lost writes in bursts.
const WRITE_BUFFER_BYTES: u64 = 32 * MIB;
/// Entries that wait for a buffer; what comes beyond is dropped and counted.
const WRITE_QUEUE_BYTES: u64 = 64 * MIB;
/// Memory per lock of the memory half. It must hold several of the longest ordinary blocks.
const SHARD_BYTES: u64 = 64 * MIB;
/// The folder of the disk half carries its format: another format is another folder.
const FORMAT_FOLDER: &str = "blocks-v1";
const MIB: u64 = 1024 * 1024;

/// How large the cache is and where its disk half lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes of the memory half.
    pub memory_bytes: u64,
    /// The disk half; `None` for memory only.
    pub disk: Option<DiskSettings>,
}

/// The disk half of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// A directory for this cache alone.
    pub directory: PathBuf,
    /// Bytes that it may use, at least [`DISK_BYTES_MIN`].
    pub bytes: u64,
}

/// Why the cache did not open. Fix the settings, or run without a disk half.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process uses the directory. Give each daemon its own.
    #[error("another process uses the cache directory {}; give each node its own", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be used.
    #[error("cannot use the cache directory {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk half is too small to be of use.
    #[error("a disk cache needs at least {DISK_BYTES_MIN} bytes, not {bytes}")]
    TooSmall {
        /// What was asked for.
        bytes: u64,
    },
    /// The cache engine refused.
    #[error("the cache engine did not start")]
    Engine(#[source] foyer::Error),
}

/// What the cache did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Blocks found in memory.
    pub memory_hits: u64,
    /// Blocks found on disk, and right.
    pub disk_hits: u64,
    /// Blocks not found.
    pub misses: u64,
    /// Blocks found but wrong: removed, and counted as misses too.
    pub corrupt: u64,
    /// Reads of the disk half that failed.
    pub disk_errors: u64,
    /// Writes to disk that were dropped because buffers were full.
    pub writes_dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
    corrupt: AtomicU64,
    disk_errors: AtomicU64,
}

/// Cold blocks, nearer than the bucket.
#[derive(Debug)]
pub struct BlockCache {
    hybrid: HybridCache<BlockKey, CachedBlock>,
    counts: Counts,
    dropped: DroppedWrites,
    /// Held for as long as the cache lives: the lock on the directory.
    _lock: Option<File>,
}

impl BlockCache {
    /// Opens the cache and takes over what an earlier process left on disk.
    ///
    /// # Cancel safety
    /// Safe: an unfinished cache is dropped with its lock.
    pub async fn open(settings: &CacheSettings) -> Result<Self, CacheError> {
        let lock = settings.disk.as_ref().map(lock_directory).transpose()?;
        let dropped = DroppedWrites::default();
        let mut hybrid = build(settings.memory_bytes, settings.disk.as_ref(), &dropped).await?;
        if let Some(disk) = &settings.disk
            && let Err(error) = reserve(disk)
        {
            tracing::warn!(%error, "the disk has no room for the block cache; until a restart it is memory alone");
            hybrid = build(settings.memory_bytes, None, &dropped).await?;
        }
        Ok(Self { hybrid, counts: Counts::default(), dropped, _lock: lock })
    }

    /// A block and the half that had it, if it is there and right: of this length, with this checksum.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn get(&self, key: BlockKey, bytes: u32, expected: u64) -> Option<(Bytes, Served)> {
        let found = match self.hybrid.get(&key).await {
            Ok(found) => found,
            Err(error) => {
                self.counts.disk_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%key, error = %error, "the disk cache cannot read a block; it is a miss");
                None
            }
        };
        let Some(entry) = found else {
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let block = entry.value();
        // Memory is checked for being the right block; what came from disk is checked byte by byte.
        let same = block.checksum == expected && block.bytes.len() == bytes as usize;
        let from_disk = entry.source() == Source::Disk;
        if !same || (from_disk && checksum(&block.bytes) != expected) {
            self.counts.corrupt.fetch_add(1, Ordering::Relaxed);
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%key, "a cached block is wrong; it is removed and read from the bucket");
            self.remove(key);
            return None;
        }
        let (counter, served) = if from_disk {
            (&self.counts.disk_hits, Served::CacheDisk)
        } else {
            (&self.counts.memory_hits, Served::CacheMemory)
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Some((block.bytes.clone(), served))
    }

    /// Takes in a verified block.
    pub fn insert(&self, key: BlockKey, bytes: Bytes, checksum: u64) {
        self.hybrid.insert(key, CachedBlock { bytes, checksum });
    }

    /// Forgets a block.
    pub fn remove(&self, key: BlockKey) {
        self.hybrid.remove(&key);
    }

    /// Bytes in the memory half.
    pub fn memory_bytes(&self) -> u64 {
        self.hybrid.memory().usage() as u64
    }

    /// What the cache did so far.
    pub fn counters(&self) -> CacheCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            memory_hits: read(&self.counts.memory_hits),
            disk_hits: read(&self.counts.disk_hits),
            misses: read(&self.counts.misses),
            corrupt: read(&self.counts.corrupt),
            disk_errors: read(&self.counts.disk_errors),
            writes_dropped: self.dropped.count(),
        }
    }

    /// Finishes the writes under way. A killed process loses those and nothing else.
    ///
    /// # Cancel safety
    /// Safe: what was not written is not there after a restart.
    pub async fn close(&self) {
        if let Err(error) = self.hybrid.close().await {
            tracing::warn!(error = %error, "the disk cache did not close cleanly; unwritten blocks are lost");
        }
    }
}

impl BlockKey {
    /// The key of the block at `position` of the object with these exact bytes.
    pub fn new(put: PutId, position: u32) -> Self {
        Self { put: put.0, position: u64::from(position) }
    }
}

async fn build(
    memory_bytes: u64,
    disk: Option<&DiskSettings>,
    dropped: &DroppedWrites,
) -> Result<HybridCache<BlockKey, CachedBlock>, CacheError> {
    let shards = usize::try_from((memory_bytes / SHARD_BYTES).clamp(1, 16)).unwrap_or(16);
    let builder = HybridCacheBuilder::new()
        .with_name("kennel_blocks")
        // Written as it comes in, not as it is evicted: a killed node finds its blocks again.
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .with_metrics_registry(Box::new(dropped.clone()))
        .memory(usize::try_from(memory_bytes).unwrap_or(usize::MAX))
        .with_shards(shards)
        // W-TinyLFU resists scans: one pass over the history does not push out what is read often.
        .with_eviction_config(LfuConfig::default())
        .with_weighter(|_: &BlockKey, block: &CachedBlock| block.weight())
        .storage();
    let builder = match disk {
        None => builder,
        Some(disk) => builder
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine(disk)?)
            .with_recover_mode(RecoverMode::Quiet),
    };
    builder.build().await.map_err(CacheError::Engine)
}

/// Takes the room of all files now. They are sparse at first, and a disk that runs full under them ends the engine's
/// writers for good.
fn reserve(disk: &DiskSettings) -> io::Result<()> {
    for entry in fs::read_dir(disk.directory.join(FORMAT_FOLDER))? {
        let file = File::options().write(true).open(entry?.path())?;
        let bytes = file.metadata()?.len();
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Some file systems cannot; writing the files would cost more than it guards against.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn engine(
    disk: &DiskSettings,
) -> Result<BlockEngineConfig<BlockKey, CachedBlock, foyer::HybridCacheProperties>, CacheError> {
    let usize_of = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let device = FsDeviceBuilder::new(disk.directory.join(FORMAT_FOLDER))
        .with_capacity(usize_of(disk.bytes))
        .build()
        .map_err(CacheError::Engine)?;
    // Space is reclaimed by disk blocks, so a small cache has smaller ones.
    let block = DISK_BLOCK_BYTES.min(disk.bytes / 16);
    Ok(BlockEngineConfig::new(device)
        .with_block_size(usize_of(block))
        .with_flushers(FLUSHERS)
        .with_buffer_pool_size(usize_of(WRITE_BUFFER_BYTES))
        .with_submit_queue_size_threshold(usize_of(WRITE_QUEUE_BYTES)))
}

/// Makes the directory ours, or says whose it is.
fn lock_directory(disk: &DiskSettings) -> Result<File, CacheError> {
    if disk.bytes < DISK_BYTES_MIN {
        return Err(CacheError::TooSmall { bytes: disk.bytes });
    }
    let failed = |source| CacheError::Directory { directory: disk.directory.clone(), source };
    fs::create_dir_all(&disk.directory).map_err(failed)?;
    let lock = open_lock(&disk.directory).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(CacheError::InUse { directory: disk.directory.clone() }),
        Err(error) => Err(failed(error.into())),
    }
}

fn open_lock(directory: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(directory.join("lock"))
}

#[cfg(test)]
mod tests;
