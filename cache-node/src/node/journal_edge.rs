//! Carries a machine's persists to the journal, in order, and frees what it no longer needs.
//!
//! Where the journal is full the persists wait in order; the machine meanwhile refuses chunks, so little waits.

use std::collections::{BTreeMap, VecDeque};

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
    /// Frees that were asked for while entries that they may concern still waited for room: per epoch, below what.
    frees: BTreeMap<Epoch, Lsn>,
}

impl JournalEdge {
    pub(super) fn new(shard: ShardId, journal: Journal, ledger: Ledger) -> Self {
        Self { shard, journal, ledger, stalled: VecDeque::new(), frees: BTreeMap::new() }
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

    /// The records that hold the bodies of an epoch's entries `[from, end)`.
    pub(super) fn bodies(&self, epoch: Epoch, from: Lsn, end: Lsn) -> Vec<(Lsn, RecordId)> {
        self.ledger.bodies(epoch, from, end)
    }

    /// The record that holds an entry's body, if the journal can give it back.
    pub(super) fn body(&self, epoch: Epoch, lsn: Lsn) -> Option<RecordId> {
        self.journal.keeps_bodies().then(|| self.ledger.body(epoch, lsn)).flatten()
    }

    /// Frees an epoch's entries below a number. At once, as far as that can be: what waits for room may wait for this.
    pub(super) fn free(&mut self, epoch: Epoch, below: Lsn) {
        if self.is_stalled() {
            // Entries that wait have no record yet: again when they have.
            let later = self.frees.entry(epoch).or_insert(below);
            *later = below.max(*later);
        }
        let now = self.lowest_source(epoch).map_or(below, |source| source.min(below));
        let freed = self.ledger.free(epoch, now);
        self.journal.free(freed);
    }

    /// The first entry of an epoch that something which waits adopts: its record must stay until then.
    fn lowest_source(&self, epoch: Epoch) -> Option<Lsn> {
        let waiting = self.stalled.iter().flat_map(|list| &list.persists);
        let sources = waiting.filter_map(|persist| match persist {
            Persist::Adopted { source_epoch, source_lsn, .. } if *source_epoch == epoch => Some(*source_lsn),
            _ => None,
        });
        sources.min()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use kennel_protocol::entry::{Entry, EntryHead, HoleReason};
    use kennel_protocol::ids::Offset;

    use super::*;
    use crate::journal::JournalSettings;

    const EPOCH: Epoch = Epoch(1);

    /// An edge whose journal is full, and the number of the one entry that waits.
    fn full() -> (JournalEdge, Lsn) {
        let settings = JournalSettings {
            path: "unused".into(),
            bytes: 64 << 20,
            group_bytes_max: 8 << 20,
            group_linger: Duration::ZERO,
            memory_only: true,
        };
        let (journal, _) = Journal::open(&settings).expect("a journal in memory");
        let mut edge = JournalEdge::new(ShardId(0), journal, Ledger::default());
        let body = Bytes::from(vec![0; 4 << 20]);
        let head = EntryHead::hole("0/0/0".parse().expect("a key"), Offset(0), Offset(1), HoleReason::SourceRetention);
        for number in 0.. {
            let entry = Entry { head: head.clone(), body: body.clone() };
            let persist = Persist::Entry { epoch: EPOCH, lsn: Lsn(number), entry, recovery: false };
            edge.submit(PersistId(number), vec![persist], Vec::new()).expect("an open journal");
            if edge.is_stalled() {
                return (edge, Lsn(number));
            }
        }
        unreachable!("a journal has an end")
    }

    #[test]
    fn what_waits_for_room_gets_it_from_what_is_freed_meanwhile() {
        let (mut edge, waiting) = full();
        edge.free(EPOCH, waiting);
        assert_eq!(edge.retry().expect("an open journal").len(), 1);
        assert!(!edge.is_stalled());
        assert_eq!(edge.journal.usage().live_records, 1);
    }

    #[test]
    fn an_entry_that_was_freed_while_it_waited_is_freed_once_it_has_a_record() {
        let (mut edge, waiting) = full();
        edge.free(EPOCH, Lsn(waiting.0 + 1));
        assert_eq!(edge.retry().expect("an open journal").len(), 1);
        assert_eq!(edge.journal.usage().live_records, 0);
    }

    #[test]
    fn what_somebody_waits_to_adopt_is_kept() {
        let (mut edge, waiting) = full();
        let source = Lsn(waiting.0 - 1);
        let adopt = Persist::Adopted { epoch: Epoch(2), lsn: Lsn(0), source_epoch: EPOCH, source_lsn: source };
        edge.submit(PersistId(100), vec![adopt], Vec::new()).expect("an open journal");
        edge.free(EPOCH, Lsn(waiting.0 + 1));
        assert_eq!(edge.retry().expect("an open journal").len(), 2);
        // The adopter's own record, and that with the bytes.
        assert_eq!(edge.journal.usage().live_records, 2);
        edge.free(Epoch(2), Lsn(1));
        assert_eq!(edge.journal.usage().live_records, 0);
    }
}
