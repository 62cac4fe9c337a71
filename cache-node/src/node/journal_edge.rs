//! Carries a machine's persists to the journal, in order, and frees what it no longer needs.
//!
//! Where the journal is full the persists wait in order; the machine meanwhile refuses chunks, so little waits.

use std::collections::VecDeque;

use kennel_core::shard::{Persist, PersistId, Then};
use kennel_protocol::ids::{Epoch, Lsn, ShardId};
use kennel_protocol::journal_record::JournalRecord;
use tokio::sync::oneshot;

use super::ledger::Ledger;
use crate::journal::{AppendError, Appended, Journal, JournalError, Record, RecordClass, RecordId};

/// A list of persists on its way, and what waits for it.
#[derive(Debug)]
pub(super) struct Journaling {
    pub(super) id: PersistId,
    pub(super) then: Vec<Then>,
    pub(super) done: oneshot::Receiver<Result<(), JournalError>>,
    /// Records that a promise in the list replaces once it is durable.
    pub(super) replaced: Vec<RecordId>,
}

/// Bytes of bodies in one append to the journal. A take-over may persist more in one list than an append may hold.
const APPEND_BYTES_MAX: usize = 8 << 20;

/// A list of persists that found no room yet.
#[derive(Debug)]
struct Stalled {
    id: PersistId,
    persists: VecDeque<Persist>,
    then: Vec<Then>,
    replaced: Vec<RecordId>,
}

/// One shard's part of the journal.
#[derive(Debug)]
pub(super) struct JournalEdge {
    shard: ShardId,
    journal: Journal,
    ledger: Ledger,
    stalled: VecDeque<Stalled>,
    /// Frees that were asked for while appends that they may concern still wait for room.
    frees: Vec<(Epoch, Lsn)>,
}

impl JournalEdge {
    pub(super) fn new(shard: ShardId, journal: Journal, ledger: Ledger) -> Self {
        Self { shard, journal, ledger, stalled: VecDeque::new(), frees: Vec::new() }
    }

    /// Whether something waits for room.
    pub(super) fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Appends a list, after those that wait. Returns what was accepted.
    pub(super) fn submit(
        &mut self,
        id: PersistId,
        persists: Vec<Persist>,
        then: Vec<Then>,
    ) -> Result<Vec<Journaling>, AppendError> {
        self.stalled.push_back(Stalled { id, persists: persists.into(), then, replaced: Vec::new() });
        self.retry()
    }

    /// Appends what waits, as far as there is room.
    pub(super) fn retry(&mut self) -> Result<Vec<Journaling>, AppendError> {
        let mut accepted = Vec::new();
        while let Some(front) = self.stalled.front() {
            let count = one_append(&front.persists);
            let records = front.persists.iter().take(count).map(|persist| record(self.shard, persist)).collect();
            let appended = match self.journal.append(records) {
                Ok(appended) => appended,
                Err(AppendError::Full { .. } | AppendError::Busy { .. }) => return Ok(accepted),
                Err(error) => return Err(error),
            };
            accepted.extend(self.accepted(count, appended));
        }
        for (epoch, below) in core::mem::take(&mut self.frees) {
            self.free(epoch, below);
        }
        Ok(accepted)
    }

    /// Enters what was accepted; completions come in order, so the last append of a list stands for all of it.
    fn accepted(&mut self, count: usize, appended: Appended) -> Option<Journaling> {
        let mut front = self.stalled.pop_front().expect("its records were just appended");
        for (id, persist) in appended.each_id().zip(front.persists.drain(..count)) {
            front.replaced.extend(self.enter(id, &persist));
        }
        if !front.persists.is_empty() {
            self.stalled.push_front(front);
            return None;
        }
        let Stalled { id, then, replaced, .. } = front;
        Some(Journaling { id, then, done: appended.done, replaced })
    }

    fn enter(&mut self, id: RecordId, persist: &Persist) -> Option<RecordId> {
        match persist {
            Persist::Entry { epoch, lsn, .. } => self.ledger.entry(*epoch, *lsn, id),
            Persist::Adopted { epoch, lsn, source_epoch, source_lsn } => {
                self.ledger.adopted(*epoch, *lsn, id, (*source_epoch, *source_lsn));
            }
            Persist::Sealed(_) => return self.ledger.sealed(id),
        }
        None
    }

    /// Frees an epoch's entries below a number.
    pub(super) fn free(&mut self, epoch: Epoch, below: Lsn) {
        if self.is_stalled() {
            // What waits may adopt from what this frees.
            self.frees.push((epoch, below));
            return;
        }
        let freed = self.ledger.free(epoch, below);
        self.journal.free(freed);
    }

    /// Frees records that a durable promise replaced.
    pub(super) fn free_records(&self, records: Vec<RecordId>) {
        self.journal.free(records);
    }
}

/// How many of the persists go into the next append.
fn one_append(persists: &VecDeque<Persist>) -> usize {
    let mut bytes = 0;
    let fits = persists.iter().take_while(|persist| {
        let first = bytes == 0;
        bytes += match persist {
            Persist::Entry { entry, .. } => entry.body.len(),
            Persist::Adopted { .. } | Persist::Sealed(_) => 0,
        } + 1;
        first || bytes <= APPEND_BYTES_MAX
    });
    fits.count()
}

fn record(shard: ShardId, persist: &Persist) -> Record {
    match persist {
        Persist::Entry { epoch, lsn, entry, recovery } => Record {
            head: JournalRecord::Entry { shard, epoch: *epoch, lsn: *lsn, head: entry.head.clone() }.encode(),
            body: entry.body.clone(),
            class: if *recovery { RecordClass::Recovery } else { RecordClass::Normal },
        },
        Persist::Adopted { epoch, lsn, source_epoch, source_lsn } => bodiless(&JournalRecord::Adopted {
            shard,
            epoch: *epoch,
            lsn: *lsn,
            source_epoch: *source_epoch,
            source_lsn: *source_lsn,
        }),
        Persist::Sealed(epoch) => bodiless(&JournalRecord::Sealed { shard, epoch: *epoch }),
    }
}

fn bodiless(record: &JournalRecord) -> Record {
    Record { head: record.encode(), body: bytes::Bytes::new(), class: RecordClass::Recovery }
}
