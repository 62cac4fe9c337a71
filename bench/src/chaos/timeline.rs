//! What happened in a run, when, in words; and what must never have happened.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::violation::Violation;

/// Entries that are kept. A run of minutes has some hundreds.
const ENTRIES_MAX: usize = 20_000;
/// Violations that are kept; one cause often shows many times.
const VIOLATIONS_MAX: usize = 100;

/// A run's log. Clones are handles of the same.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    started: Instant,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    violations: Vec<Violation>,
    violations_seen: u64,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Since the run began to build its world.
    pub at_seconds: f64,
    /// What happened.
    pub what: String,
}

impl Timeline {
    /// Begins now.
    pub(super) fn begin() -> Self {
        Self { started: Instant::now(), log: Arc::default() }
    }

    /// Since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Writes a line.
    pub(super) fn note(&self, what: impl Into<String>) {
        let entry = Entry { at_seconds: self.elapsed().as_secs_f64(), what: what.into() };
        let mut log = self.lock();
        if log.entries.len() < ENTRIES_MAX {
            log.entries.push(entry);
        }
    }

    /// Writes down what must not be.
    pub(super) fn violated(&self, violation: Violation) {
        self.note(format!("!! {violation}"));
        let mut log = self.lock();
        log.violations_seen += 1;
        if log.violations.len() < VIOLATIONS_MAX && !log.violations.contains(&violation) {
            log.violations.push(violation);
        }
    }

    /// The last line.
    pub(super) fn last(&self) -> Option<String> {
        self.lock().entries.last().map(|entry| entry.what.clone())
    }

    /// All lines so far.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// What must not have been, and how often anything of it was seen.
    pub(super) fn violations(&self) -> (Vec<Violation>, u64) {
        let log = self.lock();
        (log.violations.clone(), log.violations_seen)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As people read it.
pub(super) fn render(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { at_seconds, what } in entries {
        writeln!(text, "{at_seconds:+9.2}s {what}").expect("writing to a string does not fail");
    }
    text
}
