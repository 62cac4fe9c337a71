//! What happened, as numbers that only rise; the node exports them under its own names.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of one endpoint.
#[derive(Debug, Default)]
pub struct Counters {
    /// Placements that the peer's side has confirmed.
    pub placed: AtomicU64,
    /// Their bytes.
    pub placed_bytes: AtomicU64,
    /// Placements that ended otherwise: refused, broken, or late.
    pub failed: AtomicU64,
    /// Landings and transfers that were put aside because something could still touch their memory.
    pub quarantined: AtomicU64,
    /// Landings that are lost until the endpoint is reopened.
    pub landings_lost: AtomicU64,
    /// How often a breaker opened. Counted by its holder.
    pub breaker_opens: AtomicU64,
}

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is what `Counters` says")]
pub struct CounterValues {
    pub placed: u64,
    pub placed_bytes: u64,
    pub failed: u64,
    pub quarantined: u64,
    pub landings_lost: u64,
    pub breaker_opens: u64,
}

impl CounterValues {
    /// Both together: of an endpoint and the one that came after it. Lost landings are those of the latter.
    #[must_use]
    pub fn and_then(self, later: Self) -> Self {
        Self {
            placed: self.placed + later.placed,
            placed_bytes: self.placed_bytes + later.placed_bytes,
            failed: self.failed + later.failed,
            quarantined: self.quarantined + later.quarantined,
            landings_lost: later.landings_lost,
            breaker_opens: self.breaker_opens + later.breaker_opens,
        }
    }
}

impl Counters {
    /// All of them. They are read one by one.
    pub fn values(&self) -> CounterValues {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CounterValues {
            placed: load(&self.placed),
            placed_bytes: load(&self.placed_bytes),
            failed: load(&self.failed),
            quarantined: load(&self.quarantined),
            landings_lost: load(&self.landings_lost),
            breaker_opens: load(&self.breaker_opens),
        }
    }

    /// One more opening of a breaker, which its holder has seen.
    pub fn breaker_opened(&self) {
        Self::add(&self.breaker_opens, 1);
    }

    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}
