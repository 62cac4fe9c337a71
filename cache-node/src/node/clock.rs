//! The machines' time: microseconds since this process started.

use std::time::{Duration, Instant as StdInstant};

use kennel_core::time::Instant;

/// One origin for all machines of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: StdInstant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: StdInstant::now() }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The same point for tokio's timers.
    pub(super) fn wall(&self, at: Instant) -> tokio::time::Instant {
        (self.origin + Duration::from_micros(at.micros())).into()
    }
}
