//! What this node's journal holds of a shard: one dense run of entries per epoch, and a promise.
//!
//! The same structure serves an owner, a follower and a sealed former copy. It knows nothing of who asks.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kennel_protocol::entry::{Entry, NumberedEntry};
use kennel_protocol::ids::{Epoch, Lsn};

use super::io::{Effects, Persist, PersistId, RecoveredShard, Then};
use super::resident::Reads;

/// An entry and the bytes of all bodies before it in its run, so that any range is measured in constant time.
#[derive(Debug)]
struct Held {
    entry: Entry,
    bytes_before: u64,
}

/// The entries of one epoch that are still needed: dense from `from`.
#[derive(Debug, Default)]
pub(crate) struct Run {
    from: Lsn,
    entries: VecDeque<Held>,
    /// End of what is durable here.
    pub(crate) durable: Lsn,
    /// End of what is committed, as far as this node was told.
    pub(crate) committed: Lsn,
    /// End of what is stored, as far as this node was told.
    pub(crate) stored: Lsn,
    /// Bytes of all bodies that were ever appended.
    bytes_appended: u64,
    /// Bytes of the bodies in memory.
    resident: u64,
    /// Every body below is away, but for those that were read back.
    away_below: Lsn,
}

impl Run {
    /// First entry held.
    pub(crate) fn from(&self) -> Lsn {
        self.from
    }

    /// End of the entries held, exclusive: the next one to append.
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.from.0 + self.entries.len() as u64)
    }

    /// Bytes of the bodies held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_between(self.from, self.end())
    }

    /// Bytes of the bodies of `[from, end)`, as far as held.
    pub(crate) fn bytes_between(&self, from: Lsn, end: Lsn) -> u64 {
        self.bytes_before(end).saturating_sub(self.bytes_before(from))
    }

    fn bytes_before(&self, lsn: Lsn) -> u64 {
        match self.held(lsn.max(self.from)) {
            Some(held) => held.bytes_before,
            None => self.bytes_appended,
        }
    }

    fn held(&self, lsn: Lsn) -> Option<&Held> {
        self.entries.get(self.index(lsn)?)
    }

    fn index(&self, lsn: Lsn) -> Option<usize> {
        usize::try_from(lsn.0.checked_sub(self.from.0)?).ok()
    }

    /// Bytes of the bodies in memory.
    pub(crate) fn resident(&self) -> u64 {
        self.resident
    }

    /// The entries from `from` on whose bodies are away, without a gap, until they hold `bytes_max`: at least one, unless
    /// the first is here.
    pub(crate) fn away(&self, from: Lsn, end: Lsn, bytes_max: u64) -> core::ops::Range<Lsn> {
        let mut bytes = 0;
        let away = self.range(from, end).take_while(|(lsn, entry)| {
            bytes += entry.body_len();
            // A hole between two chunks has no body to read; the driver passes over it.
            (entry.is_away() || entry.body_len() == 0) && (*lsn == from || bytes <= bytes_max)
        });
        from..away.last().map_or(from, |(lsn, _)| lsn.next())
    }

    /// Puts a body back that was away. Whoever read it verified it.
    pub(super) fn put_back(&mut self, lsn: Lsn, body: Bytes) -> bool {
        let Some(held) = self.index(lsn).and_then(|index| self.entries.get_mut(index)) else { return false };
        if !held.entry.is_away() || body.len() as u64 != held.entry.body_len() {
            return false;
        }
        self.resident += body.len() as u64;
        held.entry.body = body;
        true
    }

    /// Lets go of a body that the journal has.
    pub(super) fn let_go(&mut self, lsn: Lsn) {
        let Some(held) = self.index(lsn).and_then(|index| self.entries.get_mut(index)) else { return };
        self.resident -= held.entry.body.len() as u64;
        held.entry.body = Bytes::new();
    }

    /// Lets go of durable bodies, oldest first, until `excess` bytes are gone or none is left to go. Answers how many
    /// were.
    pub(super) fn let_go_oldest(&mut self, excess: u64) -> u64 {
        let before = self.resident;
        self.away_below = self.away_below.max(self.from);
        while before - self.resident < excess && self.away_below < self.durable {
            self.let_go(self.away_below);
            self.away_below = self.away_below.next();
        }
        before - self.resident
    }

    pub(crate) fn entry(&self, lsn: Lsn) -> Option<&Entry> {
        self.held(lsn).map(|held| &held.entry)
    }

    /// The entries `[from, end)`, as far as held.
    pub(crate) fn range(&self, from: Lsn, end: Lsn) -> impl Iterator<Item = (Lsn, &Entry)> {
        let first = from.max(self.from);
        let end = end.min(self.end());
        (first.0..end.0).map(Lsn).map(|lsn| (lsn, self.entry(lsn).expect("the range lies within the run")))
    }

    pub(crate) fn numbered(&self, from: Lsn, end: Lsn) -> Vec<NumberedEntry> {
        self.range(from, end).map(|(lsn, entry)| NumberedEntry { lsn, entry: entry.clone() }).collect()
    }

    fn push(&mut self, entry: Entry) -> Lsn {
        let lsn = self.end();
        let bytes_before = self.bytes_appended;
        self.bytes_appended += entry.body_len();
        self.resident += entry.body.len() as u64;
        self.entries.push_back(Held { entry, bytes_before });
        lsn
    }

    fn drop_below(&mut self, lsn: Lsn) {
        while self.from < lsn
            && let Some(held) = self.entries.pop_front()
        {
            self.resident -= held.entry.body.len() as u64;
            self.from = self.from.next();
        }
        self.from = self.from.max(lsn);
        self.durable = self.durable.max(self.from);
        self.give_room_back();
    }

    /// Gives back half of the room for entries where three quarters of it are free. So a burst is forgotten after a few more
    /// objects, and a steady load moves its entries once for each of them at most.
    fn give_room_back(&mut self) {
        let room = self.entries.capacity();
        if room > ROOM_ENTRIES_MIN && self.entries.len() < room / 4 {
            self.entries.shrink_to(room / 2);
        }
    }
}

/// Room for entries that a run keeps, used or not: 16 KiB.
const ROOM_ENTRIES_MIN: usize = 64;

/// What one list of persists will have made durable.
#[derive(Debug)]
struct Submitted {
    id: PersistId,
    ends: BTreeMap<Epoch, Lsn>,
    sealed: Option<Epoch>,
}

/// Everything that the journal holds of the shard.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    runs: BTreeMap<Epoch, Run>,
    sealed: Epoch,
    sealed_durable: Epoch,
    covered: Epoch,
    submitted: VecDeque<Submitted>,
    persists: u64,
    reads: Reads,
}

impl Holdings {
    /// What a journal gave back. Nothing of it is assumed committed (PROTOCOL R12).
    pub(crate) fn recovered(recovered: RecoveredShard) -> Self {
        let mut holdings = Self { sealed: recovered.sealed, sealed_durable: recovered.sealed, ..Self::default() };
        for (epoch, entries) in recovered.runs {
            let mut run = Run { from: entries.first().map_or(Lsn(0), |first| first.lsn), ..Run::default() };
            for numbered in entries {
                assert_eq!(numbered.lsn, run.end(), "R12: a recovered run is dense");
                run.push(numbered.entry);
            }
            run.durable = run.end();
            holdings.runs.insert(epoch, run);
        }
        holdings
    }

    /// The newest epoch that this journal promised to, durable or not.
    pub(crate) fn sealed(&self) -> Epoch {
        self.sealed
    }

    /// The newest epoch whose promise is durable (PROTOCOL R9).
    pub(crate) fn sealed_durable(&self) -> Epoch {
        self.sealed_durable
    }

    /// The newest epoch whose open record is known to cover what was held before it.
    pub(crate) fn covered_by(&self) -> Epoch {
        self.covered
    }

    pub(crate) fn run(&self, epoch: Epoch) -> Option<&Run> {
        self.runs.get(&epoch)
    }

    pub(super) fn runs_mut(&mut self) -> impl Iterator<Item = (Epoch, &mut Run)> {
        self.runs.iter_mut().map(|(epoch, run)| (*epoch, run))
    }

    pub(super) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(super) fn reads_mut(&mut self) -> &mut Reads {
        &mut self.reads
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = (Epoch, &Run)> {
        self.runs.iter().map(|(epoch, run)| (*epoch, run))
    }

    pub(crate) fn run_mut(&mut self, epoch: Epoch) -> &mut Run {
        self.runs.entry(epoch).or_default()
    }

    /// Promises to refuse everything below `epoch`. The answer may leave only after it is durable.
    pub(crate) fn seal(&mut self, epoch: Epoch, effects: &mut Effects) {
        assert!(epoch >= self.sealed, "R9: a promise is never taken back");
        self.sealed = epoch;
        effects.persist.push(Persist::Sealed(epoch));
    }

    /// Appends an entry under the next number of an epoch.
    pub(crate) fn append(&mut self, epoch: Epoch, entry: Entry, recovery: bool, effects: &mut Effects) -> Lsn {
        assert!(!entry.is_away(), "R10: an entry whose bytes lie in this journal is adopted, never appended");
        let lsn = self.run_mut(epoch).push(entry.clone());
        effects.persist.push(Persist::Entry { epoch, lsn, entry, recovery });
        lsn
    }

    /// Appends an entry that lies in this journal under another epoch. `None` if it does not.
    pub(crate) fn adopt(&mut self, epoch: Epoch, source: (Epoch, Lsn), effects: &mut Effects) -> Option<Lsn> {
        let (source_epoch, source_lsn) = source;
        let entry = self.runs.get(&source_epoch)?.entry(source_lsn)?.clone();
        let lsn = self.run_mut(epoch).push(entry);
        effects.persist.push(Persist::Adopted { epoch, lsn, source_epoch, source_lsn });
        Some(lsn)
    }

    /// Forgets the entries of an epoch below a number that the bucket covers.
    pub(crate) fn stored(&mut self, epoch: Epoch, below: Lsn, effects: &mut Effects) {
        let run = self.run_mut(epoch);
        run.stored = run.stored.max(below);
        if below > run.from {
            run.drop_below(below);
            effects.then(Then::Free { epoch, below });
        }
    }

    /// Forgets every run of an epoch below `open`: its open record covers them (PROTOCOL R11).
    pub(crate) fn covered(&mut self, open: Epoch, effects: &mut Effects) {
        self.covered = self.covered.max(open);
        while let Some(first) = self.runs.first_entry() {
            if *first.key() >= open {
                break;
            }
            let (epoch, run) = first.remove_entry();
            if run.end() > Lsn(0) {
                effects.then(Then::Free { epoch, below: run.end() });
            }
        }
    }

    /// Numbers the persists of one call, so that their durability can be told.
    pub(crate) fn submit(&mut self, effects: &mut Effects) {
        self.reads.admit(&mut effects.then);
        if effects.persist.is_empty() {
            return;
        }
        self.persists += 1;
        let id = PersistId(self.persists);
        let mut submitted = Submitted { id, ends: BTreeMap::new(), sealed: None };
        for persist in &effects.persist {
            match persist {
                Persist::Entry { epoch, lsn, .. } | Persist::Adopted { epoch, lsn, .. } => {
                    submitted.ends.insert(*epoch, lsn.next());
                }
                Persist::Sealed(epoch) => submitted.sealed = submitted.sealed.max(Some(*epoch)),
            }
        }
        self.submitted.push_back(submitted);
        effects.persist_id = Some(id);
    }

    /// Everything submitted up to `id` is durable.
    pub(crate) fn persisted(&mut self, id: PersistId) {
        while self.submitted.front().is_some_and(|front| front.id <= id) {
            let submitted = self.submitted.pop_front().expect("looked at above");
            for (epoch, end) in submitted.ends {
                if let Some(run) = self.runs.get_mut(&epoch) {
                    run.durable = run.durable.max(end.min(run.end()));
                }
            }
            self.sealed_durable = self.sealed_durable.max(submitted.sealed.unwrap_or_default());
        }
    }

    /// How many lists of records are not durable yet.
    pub(crate) fn unsynced(&self) -> usize {
        self.submitted.len()
    }

    /// Bytes of bodies held over all epochs; adopted bodies are shared and count in each.
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.values().map(Run::bytes).sum()
    }
}
