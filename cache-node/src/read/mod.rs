//! Reads: from the tail, from cached blocks, from the bucket.

mod cache;
mod flight;
mod gather;
mod spans;
mod store;
mod tail;
#[cfg(test)]
mod testing;

pub use cache::{BlockCache, BlockKey, CacheCounters, CacheError, CacheSettings, DISK_BYTES_MIN, DiskSettings};
pub use flight::FlightBroken;
pub use store::{LogStore, StoreError};
pub use tail::{Tail, TailBudget, TailStanding};
