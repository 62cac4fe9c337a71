//! One node's journal: records in order, durable a little later, lost behind the durable end by a crash.
//!
//! What it forgets is forgotten lazily, as on a disk: after a crash freed records may be back.

use std::collections::BTreeMap;

use bytes::Bytes;
use kennel_core::shard::{Persist, RecoveredShard};
use kennel_protocol::entry::{Entry, EntryHead, NumberedEntry};
use kennel_protocol::ids::{Epoch, JournalId, Lsn};

use crate::stream::Stream;

/// Records of one shard on one node.
#[derive(Debug)]
pub struct Journal {
    /// Which journal (PROTOCOL R5).
    pub id: JournalId,
    /// Up to this epoch it lost everything and does not say so: only where R5 is broken on purpose.
    pub amnesia: Option<Epoch>,
    appended: u64,
    durable: u64,
    records: BTreeMap<(Epoch, Lsn), Record>,
    promises: Vec<(u64, Epoch)>,
    /// What the running process forgot.
    freed: BTreeMap<Epoch, Lsn>,
    /// What a process that starts would know to be forgotten.
    freed_durably: BTreeMap<Epoch, Lsn>,
    bytes: usize,
}

#[derive(Debug)]
struct Record {
    sequence: u64,
    entry: Entry,
}

/// An adoption of bytes that are not there.
#[derive(Debug)]
pub struct AdoptedNothing {
    /// Under which epoch.
    pub epoch: Epoch,
    /// At which place.
    pub lsn: Lsn,
}

impl Journal {
    /// An empty one.
    pub fn format(id: JournalId) -> Self {
        Self {
            id,
            amnesia: None,
            appended: 0,
            durable: 0,
            records: BTreeMap::new(),
            promises: Vec::new(),
            freed: BTreeMap::new(),
            freed_durably: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Appends a record; it is not durable yet. Answers its place in the journal's own order.
    pub fn append(&mut self, persist: Persist) -> Result<u64, AdoptedNothing> {
        self.appended += 1;
        match persist {
            Persist::Entry { epoch, lsn, entry, recovery: _ } => self.insert(epoch, lsn, entry),
            Persist::Adopted { epoch, lsn, source_epoch, source_lsn } => {
                let missing = AdoptedNothing { epoch: source_epoch, lsn: source_lsn };
                if self.is_freed(source_epoch, source_lsn) {
                    return Err(missing);
                }
                let source = self.records.get(&(source_epoch, source_lsn)).ok_or(missing)?;
                let entry = source.entry.clone();
                self.insert(epoch, lsn, entry);
            }
            Persist::Sealed(epoch) => self.promises.push((self.appended, epoch)),
        }
        Ok(self.appended)
    }

    /// Everything up to `sequence` is on the disk.
    pub fn synced(&mut self, sequence: u64) {
        self.durable = self.durable.max(sequence.min(self.appended));
    }

    /// Forgets the entries of an epoch below a number.
    pub fn free(&mut self, epoch: Epoch, below: Lsn) {
        let freed = self.freed.entry(epoch).or_default();
        let from = *freed;
        *freed = below.max(from);
        for (_, record) in self.records.range((epoch, from)..(epoch, below.max(from))) {
            self.bytes -= record.entry.body.len();
        }
    }

    /// Makes what was forgotten so for good, as a circular log does when its head moves.
    pub fn move_head(&mut self) {
        self.freed_durably.clone_from(&self.freed);
        let freed = &self.freed;
        self.records.retain(|(epoch, lsn), _| freed.get(epoch).is_none_or(|below| lsn >= below));
    }

    /// The process died: a random part of what was not durable is gone, freed records may be back.
    pub fn crash(&mut self, stream: &mut Stream) {
        let survives = self.durable + stream.below(self.appended - self.durable + 1);
        let survives = if stream.chance(500) { self.durable } else { survives };
        self.records.retain(|_, record| record.sequence <= survives);
        self.promises.retain(|(sequence, _)| *sequence <= survives);
        (self.appended, self.durable) = (survives, survives);
        if stream.chance(500) {
            self.freed.clone_from(&self.freed_durably);
        }
        self.bytes = self.held().map(|(_, record)| record.entry.body.len()).sum();
    }

    /// A record does not verify any more: it is lost, and the journal takes another id (PROTOCOL R5).
    pub fn rot(&mut self, id: JournalId, stream: &mut Stream) {
        self.id = id;
        if !self.records.is_empty() {
            let damaged = stream.index(self.records.len());
            let key = self.records.keys().nth(damaged).copied();
            key.and_then(|key| self.records.remove(&key));
        }
        if stream.chance(300) {
            self.promises.pop();
        }
        self.bytes = self.held().map(|(_, record)| record.entry.body.len()).sum();
    }

    /// What a process that starts finds: per epoch the unbroken run that ends at the highest number.
    pub fn recover(&self) -> RecoveredShard {
        let mut runs: Vec<(Epoch, Vec<NumberedEntry>)> = Vec::new();
        for (&(epoch, lsn), record) in self.held() {
            let numbered = NumberedEntry { lsn, entry: record.entry.clone() };
            match runs.last_mut() {
                Some((last, run)) if *last == epoch => {
                    if run.last().is_some_and(|before| before.lsn.next() != lsn) {
                        run.clear();
                    }
                    run.push(numbered);
                }
                _ => runs.push((epoch, vec![numbered])),
            }
        }
        RecoveredShard { sealed: self.promised(), runs }
    }

    /// Whether this is the journal that a claim of that epoch names.
    pub fn speaks_for(&self, id: JournalId, epoch: Epoch) -> bool {
        self.id == id && self.amnesia.is_none_or(|until| until < epoch)
    }

    /// End of an epoch's entries, forgotten or not.
    pub fn end(&self, epoch: Epoch) -> Lsn {
        let newest = self.records.range((epoch, Lsn(0))..=(epoch, Lsn(u64::MAX))).next_back();
        newest.map_or(Lsn(0), |((_, lsn), _)| lsn.next())
    }

    /// The bodies of the entries `[from, end)` of an epoch that are on the disk.
    pub fn bodies(&self, epoch: Epoch, from: Lsn, end: Lsn) -> Vec<(Lsn, Bytes)> {
        let durable =
            self.records.range((epoch, from)..(epoch, end)).filter(|(_, record)| record.sequence <= self.durable);
        durable.map(|((_, lsn), record)| (*lsn, record.entry.body.clone())).collect()
    }

    /// An entry that is on the disk, forgotten or not.
    pub fn head(&self, epoch: Epoch, lsn: Lsn) -> Option<&EntryHead> {
        self.records.get(&(epoch, lsn)).map(|record| &record.entry.head)
    }

    /// What is not forgotten, for people.
    pub fn summary(&self) -> String {
        let places: Vec<String> = self.held().map(|((epoch, lsn), _)| format!("e{epoch}/{lsn}")).collect();
        places.join(" ")
    }

    /// Whether an entry is on the disk, or was and may be forgotten.
    pub fn has_durably(&self, epoch: Epoch, lsn: Lsn) -> bool {
        self.is_freed(epoch, lsn)
            || self.records.get(&(epoch, lsn)).is_some_and(|record| record.sequence <= self.durable)
    }

    /// The newest promise, on the disk or on its way there.
    pub fn promised(&self) -> Epoch {
        self.promises.iter().map(|(_, epoch)| *epoch).max().unwrap_or_default()
    }

    /// Whether a promise to refuse epochs below this one is on the disk.
    pub fn promised_durably(&self, epoch: Epoch) -> bool {
        self.promises.iter().any(|(sequence, promise)| *sequence <= self.durable && *promise >= epoch)
    }

    /// End of the journal's own order.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// End of what is on the disk.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes of bodies that are not forgotten.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries are not forgotten.
    pub fn entries(&self) -> usize {
        self.held().count()
    }

    fn insert(&mut self, epoch: Epoch, lsn: Lsn, entry: Entry) {
        let freed = self.is_freed(epoch, lsn);
        if !freed {
            self.bytes += entry.body.len();
        }
        let record = Record { sequence: self.appended, entry };
        if let Some(before) = self.records.insert((epoch, lsn), record)
            && !freed
        {
            self.bytes -= before.entry.body.len();
        }
    }

    fn is_freed(&self, epoch: Epoch, lsn: Lsn) -> bool {
        self.freed.get(&epoch).is_some_and(|below| lsn < *below)
    }

    fn held(&self) -> impl Iterator<Item = (&(Epoch, Lsn), &Record)> {
        self.records.iter().filter(|((epoch, lsn), _)| !self.is_freed(*epoch, *lsn))
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::Offset;

    use super::*;
    use crate::source::hole;

    fn entry(journal: &mut Journal, epoch: u64, lsn: u64) {
        let entry =
            Entry { head: hole("1/1/1".parse().expect("a key"), Offset(0), Offset(1)), body: [].as_slice().into() };
        let persist = Persist::Entry { epoch: Epoch(epoch), lsn: Lsn(lsn), entry, recovery: false };
        journal.append(persist).expect("an entry needs nothing");
    }

    #[test]
    fn a_crash_keeps_what_was_durable_and_the_newest_run() {
        let mut journal = Journal::format(JournalId(1));
        for lsn in [0, 1, 5, 6] {
            entry(&mut journal, 1, lsn);
        }
        journal.append(Persist::Sealed(Epoch(3))).expect("a promise needs nothing");
        journal.synced(journal.appended());
        entry(&mut journal, 1, 7);
        let mut stream = Stream::new(1, 1);
        journal.crash(&mut stream);
        let recovered = journal.recover();
        assert_eq!(recovered.sealed, Epoch(3));
        let lsns: Vec<u64> = recovered.runs[0].1.iter().map(|numbered| numbered.lsn.0).collect();
        assert!(lsns.starts_with(&[5, 6]), "{lsns:?}");
    }

    #[test]
    fn adopted_bytes_outlive_their_source() {
        let mut journal = Journal::format(JournalId(1));
        entry(&mut journal, 1, 0);
        let adopt = |epoch, lsn| Persist::Adopted {
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            source_epoch: Epoch(epoch - 1),
            source_lsn: Lsn(lsn),
        };
        journal.append(adopt(2, 0)).expect("the bytes are there");
        journal.free(Epoch(1), Lsn(1));
        journal.move_head();
        assert_eq!(journal.entries(), 1);
        journal.append(adopt(3, 0)).expect("adopted bytes can be adopted");
        assert!(journal.append(adopt(2, 1)).is_err());
    }
}
