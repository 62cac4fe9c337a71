//! Reads: from the tail, from cached blocks, from the bucket.

mod answer;
mod bucket_log;
mod cache;
mod cold;
mod flight;
mod gather;
mod reader;
mod resolve;
mod spans;
mod store;
mod stow;
mod tail;
#[cfg(test)]
pub(crate) mod testing;

pub use answer::{BlockSource, FetchedPieces, ReadOutcome};
pub use bucket_log::BucketLog;
pub use cache::{BlockCache, BlockKey, CacheCounters, CacheError, CacheSettings, DISK_BYTES_MIN, DiskSettings};
pub use cold::{ColdCounters, ColdError, ColdIndex, ColdReader, ColdSettings};
pub use flight::FlightBroken;
pub use reader::{Reader, ShardReads};
pub(crate) use spans::identity_at;
pub use store::{LogStore, StoreError};
pub use stow::{Stow, StowPlace};
pub use tail::{Tail, TailBudget, TailStanding};
