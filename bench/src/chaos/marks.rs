//! How far each partition was acknowledged, and seen, by anybody: it may never be less again.

use std::sync::atomic::{AtomicU64, Ordering};

/// One mark per partition, in the order of the source; they only rise.
#[derive(Debug)]
pub(super) struct Marks {
    acknowledged: Vec<AtomicU64>,
}

impl Marks {
    pub(super) fn new(partitions: usize) -> Self {
        Self { acknowledged: (0..partitions).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Somebody was told that everything below `end` is committed.
    pub(super) fn raise(&self, partition: usize, end: u64) {
        self.acknowledged[partition].fetch_max(end, Ordering::Relaxed);
    }

    /// How far a partition was acknowledged.
    pub(super) fn acknowledged(&self, partition: usize) -> u64 {
        self.acknowledged[partition].load(Ordering::Relaxed)
    }

    /// Messages acknowledged.
    pub(super) fn messages(&self) -> u64 {
        (0..self.acknowledged.len()).map(|at| self.acknowledged(at)).sum()
    }
}
