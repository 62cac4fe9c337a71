//! What a transport has answered by itself, and what not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a [`super::CacheTransport`] has done with polls since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Polls that were answered from the ring.
    pub served: u64,
    /// Messages in those answers.
    pub served_messages: u64,
    /// Bytes of those messages, with their headers.
    pub served_bytes: u64,
    /// Polls that the server answered, by the reason.
    pub forwarded: BTreeMap<&'static str, u64>,
    /// Times that server and ring held different messages at an offset.
    pub mismatches: u64,
}

/// Counts that many polls add to.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<CacheCounts>);

impl Counters {
    pub(super) fn served(&self, messages: u32, bytes: usize) {
        let mut counts = self.lock();
        counts.served += 1;
        counts.served_messages += u64::from(messages);
        counts.served_bytes += bytes as u64;
    }

    pub(super) fn forwarded(&self, reason: &'static str) {
        *self.lock().forwarded.entry(reason).or_default() += 1;
    }

    pub(super) fn mismatch(&self) {
        self.lock().mismatches += 1;
    }

    pub(super) fn counts(&self) -> CacheCounts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, CacheCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
