//! What callers and the threads share: the queue, the accounts, and whether the journal still lives.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::aligned::AlignedBuffer;
use super::error::{AppendError, JournalError};
use super::group::{FilledGroup, Waiter, group_bytes, record_bytes};
use super::layout::Place;
use super::record::{Appended, Record, RecordClass, RecordId};
use super::settings::{Bounds, GROUP_RECORDS_MAX};
use super::space::{JournalUsage, Space};
use super::spare::SpareBuffers;

/// The shared state behind its lock. The lock is held for bookkeeping only, never for a copy, a checksum or I/O.
pub(super) struct Shared {
    pub(super) bounds: Bounds,
    state: Mutex<State>,
    /// Wakes the filling thread: work came, the disk became idle, or the end is near.
    pub(super) wake: Condvar,
}

pub(super) struct State {
    pub(super) space: Space,
    pub(super) queue: VecDeque<Queued>,
    /// Bytes accepted and not yet durable.
    queued_bytes: u64,
    next_record: u64,
    /// Groups handed to the disk and not yet durable.
    pub(super) in_disk: usize,
    /// Rises when a group lands or records are freed: a copy forward that had no room may have some now.
    pub(super) changes: u64,
    spare: SpareBuffers,
    pub(super) poison: Option<JournalError>,
    pub(super) closing: bool,
    /// The filling thread sleeps, and nobody has woken it yet.
    pub(super) filler_sleeps: bool,
}

/// An append on its way into a group.
pub(super) struct Queued {
    pub(super) first: RecordId,
    pub(super) records: Vec<Record>,
    /// Length of the records on disk.
    pub(super) bytes: u64,
    /// Space that was admitted for it.
    pub(super) reserved: u64,
    pub(super) waiter: Waiter,
}

impl Shared {
    pub(super) fn new(bounds: Bounds, space: Space, next_record: u64) -> Self {
        let state = State {
            space,
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_record,
            in_disk: 0,
            changes: 0,
            spare: SpareBuffers::default(),
            poison: None,
            closing: false,
            filler_sleeps: false,
        };
        Self { bounds, state: Mutex::new(state), wake: Condvar::new() }
    }

    pub(super) fn append(&self, records: Vec<Record>) -> Result<Appended, AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        let bytes =
            records.iter().fold(0, |sum: u64, record| sum.saturating_add(record_bytes(record).unwrap_or(u64::MAX)));
        let reserved = group_bytes(bytes);
        let limit = self.bounds.append_bytes_max;
        if reserved > limit || records.len() > GROUP_RECORDS_MAX as usize {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        let normal = records.iter().any(|record| record.class == RecordClass::Normal);
        let class = if normal { RecordClass::Normal } else { RecordClass::Recovery };

        let mut state = self.state();
        if let Some(poison) = &state.poison {
            return Err(AppendError::Poisoned(poison.clone()));
        }
        if state.closing {
            return Err(AppendError::Closed);
        }
        if state.queued_bytes + bytes > self.bounds.queue_bytes_max {
            return Err(AppendError::Busy { queued: state.queued_bytes, limit: self.bounds.queue_bytes_max });
        }
        state.space.admit(class, reserved)?;
        let (waiter, done) = oneshot::channel();
        let ids = state.enqueue(records, bytes, reserved, waiter);
        self.nudge(state);
        Ok(Appended { ids, done })
    }

    pub(super) fn free(&self, ids: impl IntoIterator<Item = RecordId>) {
        let mut state = self.state();
        for id in ids {
            state.space.free(id);
        }
        state.changes += 1;
        // What became dead may make it worth while to copy the rest forward. Mostly it does not, and to wake the thread for
        // nothing would delay what its caller does next: an acknowledgement, as a rule.
        if !state.space.pinned_groups(1).is_empty() {
            self.nudge(state);
        }
    }

    /// Wakes the filling thread if it sleeps: each time costs a system call, and on a busy machine a switch to it.
    fn nudge(&self, mut state: MutexGuard<'_, State>) {
        let sleeps = mem::take(&mut state.filler_sleeps);
        drop(state);
        if sleeps {
            self.wake.notify_all();
        }
    }

    pub(super) fn usage(&self) -> JournalUsage {
        let state = self.state();
        state.space.usage(state.queued_bytes)
    }

    pub(super) fn head(&self) -> Place {
        self.state().space.head()
    }

    /// Where the log ends.
    pub(super) fn tail(&self) -> Place {
        self.state().space.tail()
    }

    pub(super) fn poison(&self) -> Option<JournalError> {
        self.state().poison.clone()
    }

    /// Whether it closes or has stopped.
    pub(super) fn is_ending(&self) -> bool {
        let state = self.state();
        state.closing || state.poison.is_some()
    }

    /// Stops the journal for good; the first reason stays.
    pub(super) fn set_poison(&self, error: JournalError) {
        tracing::error!(%error, source = ?std::error::Error::source(&error), "the journal stopped");
        self.state().poison.get_or_insert(error);
        self.wake.notify_all();
    }

    /// The group is durable: completes its appends.
    pub(super) fn complete(&self, group: FilledGroup) {
        let FilledGroup { buffer, header, queued_bytes, moved, waiters } = group;
        let mut state = self.state();
        state.space.durable(header.place.sequence, &moved);
        state.in_disk -= 1;
        state.changes += 1;
        state.queued_bytes -= queued_bytes;
        let ordinary = buffer.capacity() == self.bounds.buffer_bytes();
        let unneeded = if ordinary { state.spare.give_back(buffer, header.bytes) } else { vec![buffer] };
        self.nudge(state);
        for waiter in waiters {
            // A caller that went away does not need to know.
            let _ = waiter.send(Ok(()));
        }
        // Not under the lock: to give memory back takes longer than bookkeeping.
        drop(unneeded);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug that the thread's end already turned into poison.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl State {
    /// A buffer for a group with room for `bytes` bytes.
    pub(super) fn buffer(&mut self, bounds: &Bounds, bytes: u64) -> AlignedBuffer {
        let bytes = usize::try_from(bytes).expect("a group fits memory");
        if bytes > bounds.buffer_bytes() {
            return AlignedBuffer::new(bytes);
        }
        self.spare.take().unwrap_or_else(|| AlignedBuffer::new(bounds.buffer_bytes()))
    }

    fn enqueue(
        &mut self,
        records: Vec<Record>,
        bytes: u64,
        reserved: u64,
        waiter: Waiter,
    ) -> std::ops::Range<RecordId> {
        let first = RecordId(self.next_record);
        for record in &records {
            let size = record_bytes(record).expect("the sum was within the limit");
            self.space.hold(RecordId(self.next_record), size);
            self.next_record += 1;
        }
        self.queued_bytes += bytes;
        self.queue.push_back(Queued { first, records, bytes, reserved, waiter });
        first..RecordId(self.next_record)
    }
}

/// The threads, until somebody joins them.
#[derive(Debug)]
pub(super) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    pub(super) fn new(threads: Vec<JoinHandle<()>>) -> Self {
        Self(Mutex::new(threads))
    }

    /// Refuses new appends, lets the queue drain, joins. Says why it could not.
    pub(super) fn stop(&self, shared: &Arc<Shared>) -> Result<(), JournalError> {
        shared.state().closing = true;
        shared.wake.notify_all();
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                shared.set_poison(JournalError::poisoned("run a thread of its own")(std::io::Error::other(
                    "it panicked",
                )));
            }
        }
        shared.poison().map_or(Ok(()), Err)
    }
}
