//! How the source is: written by the watch, read by whoever tells people.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Shared between the watch and the report.
#[derive(Debug, Default)]
pub struct SourceHealth {
    rounds: AtomicU64,
    cpu_micros: AtomicU64,
    sessions: AtomicU64,
    /// Why there is no session; `None` while there is one.
    trouble: Mutex<Option<String>>,
}

impl SourceHealth {
    /// Before the first session.
    pub fn new() -> Self {
        let health = Self::default();
        health.lost("not connected yet".to_owned());
        health
    }

    /// A round is over, and the watch has used so much of a processor since it began.
    pub fn round(&self, cpu: Duration) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.cpu_micros.store(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A session stands.
    pub fn connected(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It broke, or could not be opened.
    pub fn lost(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Rounds since the start.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Sessions since the start.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Processor time of the watch.
    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_micros.load(Ordering::Relaxed))
    }

    /// Why there is no session.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
