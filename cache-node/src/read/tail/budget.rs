//! The memory that all tails of a node share.
//!
//! Past the limit the oldest pieces go first, whichever shard they belong to: stored ones altogether, others to the
//! journal. What is neither stored nor in a journal that keeps bodies never goes: then the budget is exceeded and the
//! node must push back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Tail;

/// A node-wide byte budget and the tails under it.
#[derive(Debug)]
pub struct TailBudget {
    limit: u64,
    used: AtomicU64,
    numbers: AtomicU64,
    tails: Mutex<Vec<Weak<Tail>>>,
}

impl TailBudget {
    /// A budget of `limit` bytes, bodies and bookkeeping together.
    pub fn new(limit: u64) -> Arc<Self> {
        let (used, numbers) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { limit, used, numbers, tails: Mutex::new(Vec::new()) })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether nothing more can be let go and the limit is passed: time to push back.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    pub(super) fn join(&self, tail: &Arc<Tail>) {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(tail));
    }

    /// The next piece's number: pieces of all shards are in one order.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn free(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.evict();
    }

    pub(super) fn evict(&self) {
        if !self.is_exceeded() {
            return;
        }
        // One evictor at a time; whoever finds it busy leaves the work to it.
        let Ok(mut tails) = self.tails.try_lock() else { return };
        tails.retain(|tail| tail.strong_count() > 0);
        let tails: Vec<_> = tails.iter().filter_map(Weak::upgrade).collect();
        while self.is_exceeded() {
            let oldest = tails.iter().filter_map(|tail| tail.oldest().map(|number| (number, tail)));
            let mut oldest: Vec<_> = oldest.collect();
            oldest.sort_unstable_by_key(|(number, _)| *number);
            let Some((_, tail)) = oldest.first() else { return };
            let younger_than = oldest.get(1).map_or(u64::MAX, |(number, _)| *number);
            let freed = tail.evict(self.used().saturating_sub(self.limit), younger_than);
            self.free(freed);
            if freed == 0 {
                return;
            }
        }
    }
}
