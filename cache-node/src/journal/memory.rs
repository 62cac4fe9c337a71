//! The journal of durability `memory`: no file, everything completes at once, and the same bounds on what is live.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::error::AppendError;
use super::group::record_bytes;
use super::record::{Appended, Record, RecordClass, RecordId};
use super::space::JournalUsage;

/// Counts what is live; the bodies stay with their callers.
#[derive(Debug)]
pub(super) struct MemoryJournal {
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<RecordId, u64>,
    used: u64,
    next_record: u64,
    closed: bool,
}

impl MemoryJournal {
    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes, state: Mutex::default() }
    }

    pub(super) fn append(&self, records: &[Record]) -> Result<Appended, AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        let mut state = self.state();
        if state.closed {
            return Err(AppendError::Closed);
        }
        let sizes: Vec<u64> = records.iter().map(|record| record_bytes(record).unwrap_or(u64::MAX)).collect();
        let bytes = sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
        if bytes > self.bytes {
            return Err(AppendError::TooLarge { bytes, limit: self.bytes });
        }
        let normal = records.iter().any(|record| record.class == RecordClass::Normal);
        let capacity = if normal { self.normal_bytes() } else { self.bytes };
        if state.used + bytes > capacity {
            return Err(AppendError::Full { used: state.used, capacity });
        }
        let start = RecordId(state.next_record);
        for size in sizes {
            let id = RecordId(state.next_record);
            state.records.insert(id, size);
            state.next_record += 1;
        }
        state.used += bytes;
        let (sender, done) = oneshot::channel();
        // The receiver is in this very function.
        let _ = sender.send(Ok(()));
        Ok(Appended { ids: start..RecordId(state.next_record), done })
    }

    pub(super) fn free(&self, ids: impl IntoIterator<Item = RecordId>) {
        let mut state = self.state();
        for id in ids {
            if let Some(size) = state.records.remove(&id) {
                state.used -= size;
            }
        }
    }

    pub(super) fn usage(&self) -> JournalUsage {
        let state = self.state();
        JournalUsage {
            used_bytes: state.used,
            capacity_bytes: self.normal_bytes(),
            recovery_capacity_bytes: self.bytes,
            live_records: state.records.len() as u64,
            live_bytes: state.used,
            pinned_bytes: 0,
            queued_bytes: 0,
        }
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    fn normal_bytes(&self) -> u64 {
        self.bytes - self.bytes / 10
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
