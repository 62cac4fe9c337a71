//! From journal records to what each shard's machine starts with.
//!
//! Bodies stay in the journal until somebody needs them. Freed records can come back after a crash; they do no harm,
//! because every run is cut to its dense end and the bucket decides what is stored. Where a journal is damaged a hole
//! means loss instead: its runs are cut to their dense start, from which a gathering goes up, and the holes are told.
//! Such a journal has a new id, so its entries have no vote.

use std::collections::BTreeMap;
use std::ops::Range;

use kennel_core::shard::RecoveredShard;
use kennel_protocol::entry::{Entry, NumberedEntry};
use kennel_protocol::ids::{Epoch, Lsn, ShardId};
use kennel_protocol::journal_record::{JournalRecord, JournalRecordError};

use super::ledger::Ledger;
use crate::journal::{RecordId, RecoveredRecord};

/// One shard's part of a recovered journal.
#[derive(Debug, Default)]
pub(super) struct ShardPart {
    /// For the machine.
    pub(super) recovered: RecoveredShard,
    /// Which records hold what.
    pub(super) ledger: Ledger,
    /// Records that nobody needs any more.
    pub(super) unneeded: Vec<RecordId>,
    /// Entries that are missing between others; told of a damaged journal only.
    pub(super) missing: Vec<(Epoch, Range<Lsn>)>,
}

/// Whether a journal is what it was when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// What lies below a hole of a run was stored.
    Authentic,
    /// What lies in a hole of a run may be lost.
    Damaged,
}

/// Sorts a journal's records by shard.
///
/// # Errors
/// If a record cannot be read: another build wrote it. The journal is left as it is.
pub(super) fn sort_records(
    records: Vec<RecoveredRecord>,
    condition: Condition,
) -> Result<BTreeMap<ShardId, ShardPart>, JournalRecordError> {
    let mut held: BTreeMap<ShardId, Held> = BTreeMap::new();
    for record in records {
        let decoded = JournalRecord::decode(&record.head)?;
        held.entry(decoded.shard()).or_default().take(record.id, decoded);
    }
    Ok(held.into_iter().map(|(shard, held)| (shard, held.finish(condition))).collect())
}

/// The records of one shard, before runs are cut.
#[derive(Debug, Default)]
struct Held {
    sealed: Option<(Epoch, RecordId)>,
    entries: BTreeMap<(Epoch, Lsn), (RecordId, Entry)>,
    adopted: BTreeMap<(Epoch, Lsn), (RecordId, (Epoch, Lsn))>,
    unneeded: Vec<RecordId>,
}

impl Held {
    fn take(&mut self, id: RecordId, decoded: JournalRecord) {
        match decoded {
            JournalRecord::Entry { epoch, lsn, head, .. } => {
                let entry = Entry::away(head);
                if let Some((older, _)) = self.entries.insert((epoch, lsn), (id, entry)) {
                    self.unneeded.push(older);
                }
            }
            JournalRecord::Adopted { epoch, lsn, source_epoch, source_lsn, .. } => {
                self.adopted.insert((epoch, lsn), (id, (source_epoch, source_lsn)));
            }
            JournalRecord::Sealed { epoch, .. } => {
                let older = match self.sealed {
                    Some((sealed, _)) if sealed > epoch => Some(id),
                    Some((_, older)) => {
                        self.sealed = Some((epoch, id));
                        Some(older)
                    }
                    None => {
                        self.sealed = Some((epoch, id));
                        None
                    }
                };
                self.unneeded.extend(older);
            }
        }
    }

    fn finish(self, condition: Condition) -> ShardPart {
        let mut part = ShardPart { unneeded: self.unneeded, ..ShardPart::default() };
        if let Some((epoch, id)) = self.sealed {
            part.recovered.sealed = epoch;
            part.ledger.sealed(id);
        }
        let mut runs: BTreeMap<Epoch, BTreeMap<Lsn, (Vec<RecordId>, Entry)>> = BTreeMap::new();
        for ((epoch, lsn), (id, entry)) in self.entries {
            runs.entry(epoch).or_default().insert(lsn, (vec![id], entry));
        }
        // Epochs in order: an entry may be adopted from an epoch that adopted it itself.
        for ((epoch, lsn), (id, (source_epoch, source_lsn))) in self.adopted {
            let source = runs.get(&source_epoch).and_then(|run| run.get(&source_lsn)).cloned();
            match source {
                Some((mut ids, entry)) => {
                    ids.push(id);
                    runs.entry(epoch).or_default().insert(lsn, (ids, entry));
                }
                None => part.unneeded.push(id),
            }
        }
        let mut cuts = Vec::new();
        for (epoch, run) in runs {
            match condition {
                Condition::Authentic => part.take_run(epoch, run),
                Condition::Damaged => cuts.push((epoch, part.take_damaged_run(epoch, run))),
            }
        }
        // Last: what is cut off here may lend its bytes to an entry that adopted it.
        for (epoch, end) in cuts {
            part.unneeded.extend(part.ledger.free_from(epoch, end));
        }
        part
    }
}

impl ShardPart {
    /// Keeps the dense run that ends at the highest number: what lies below a hole was stored.
    fn take_run(&mut self, epoch: Epoch, run: BTreeMap<Lsn, (Vec<RecordId>, Entry)>) {
        let mut next = run.last_key_value().map_or(Lsn(0), |(lsn, _)| lsn.next());
        let dense_from = run.keys().rev().take_while(|lsn| {
            let dense = lsn.next() == next;
            next = **lsn;
            dense
        });
        let from = dense_from.last().copied().unwrap_or_default();
        let mut entries = Vec::new();
        for (lsn, (ids, entry)) in run {
            self.ledger.hold(epoch, lsn, &ids);
            if lsn >= from {
                entries.push(NumberedEntry { lsn, entry });
            }
        }
        self.unneeded.extend(self.ledger.free(epoch, from));
        self.recovered.runs.push((epoch, entries));
    }

    /// Keeps the dense run that begins at the lowest number, says what is missing above it, and returns where it ends.
    fn take_damaged_run(&mut self, epoch: Epoch, run: BTreeMap<Lsn, (Vec<RecordId>, Entry)>) -> Lsn {
        let mut next = run.first_key_value().map_or(Lsn(0), |(lsn, _)| *lsn);
        let mut dense_end = next;
        let mut entries = Vec::new();
        for (lsn, (ids, entry)) in run {
            self.ledger.hold(epoch, lsn, &ids);
            if lsn > next {
                self.missing.push((epoch, next..lsn));
            }
            next = lsn.next();
            if lsn == dense_end {
                dense_end = next;
                entries.push(NumberedEntry { lsn, entry });
            }
        }
        self.recovered.runs.push((epoch, entries));
        dense_end
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::entry::{EntryHead, EntryKind, HoleReason, IntegritySum};
    use kennel_protocol::ids::Offset;

    use super::*;
    use crate::journal::RecordClass;

    const SHARD: ShardId = ShardId(3);

    fn head(base: u64) -> EntryHead {
        EntryHead {
            partition: "0/0/0".parse().expect("a partition"),
            kind: EntryKind::Hole(HoleReason::ImportStart),
            base: Offset(base),
            end: Offset(base + 1),
            previous: None,
            first: None,
            last: None,
            sum: IntegritySum::default(),
            cut: 0,
            body_bytes: 0,
            body_checksum: 0,
        }
    }

    fn record(record: &JournalRecord) -> RecoveredRecord {
        RecoveredRecord { id: RecordId(0), head: record.encode(), body_bytes: 0, class: RecordClass::Normal }
    }

    fn entry(epoch: u64, lsn: u64) -> RecoveredRecord {
        record(&JournalRecord::Entry { shard: SHARD, epoch: Epoch(epoch), lsn: Lsn(lsn), head: head(lsn) })
    }

    fn numbered(records: impl IntoIterator<Item = RecoveredRecord>) -> Vec<RecoveredRecord> {
        (0..).map(RecordId).zip(records).map(|(id, record)| RecoveredRecord { id, ..record }).collect()
    }

    fn sort(records: Vec<RecoveredRecord>) -> ShardPart {
        let sorted = sort_records(numbered(records), Condition::Authentic);
        sorted.expect("readable records").remove(&SHARD).expect("the shard's part")
    }

    #[test]
    fn a_damaged_run_is_cut_to_its_dense_start_and_tells_its_holes() {
        let adopted = JournalRecord::Adopted {
            shard: SHARD,
            epoch: Epoch(2),
            lsn: Lsn(0),
            source_epoch: Epoch(1),
            source_lsn: Lsn(9),
        };
        let records = [entry(1, 3), entry(1, 4), entry(1, 7), entry(1, 9), record(&adopted)];
        let mut sorted = sort_records(numbered(records), Condition::Damaged).expect("readable records");
        let mut part = sorted.remove(&SHARD).expect("the shard's part");
        let lsns = |run: &[NumberedEntry]| run.iter().map(|numbered| numbered.lsn.0).collect::<Vec<_>>();
        let runs: Vec<_> = part.recovered.runs.iter().map(|(epoch, run)| (epoch.0, lsns(run))).collect();
        assert_eq!(runs, [(1, vec![3, 4]), (2, vec![0])]);
        assert_eq!(part.missing, [(Epoch(1), Lsn(5)..Lsn(7)), (Epoch(1), Lsn(8)..Lsn(9))]);
        assert_eq!(part.unneeded, [RecordId(2)], "what is adopted lends its bytes");
        assert_eq!(part.ledger.free(Epoch(1), Lsn(5)), [RecordId(0), RecordId(1)], "the rest is held");
    }

    #[test]
    fn a_run_is_cut_to_its_dense_end() {
        let part = sort(vec![entry(1, 0), entry(1, 1), entry(1, 5), entry(1, 6)]);
        let (epoch, run) = &part.recovered.runs[0];
        assert_eq!(*epoch, Epoch(1));
        assert_eq!(run.iter().map(|numbered| numbered.lsn.0).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(part.unneeded, [RecordId(0), RecordId(1)]);
    }

    #[test]
    fn adopted_entries_keep_the_bytes_they_point_at() {
        let adopted = JournalRecord::Adopted {
            shard: SHARD,
            epoch: Epoch(2),
            lsn: Lsn(0),
            source_epoch: Epoch(1),
            source_lsn: Lsn(7),
        };
        let mut part = sort(vec![entry(1, 7), record(&adopted)]);
        assert_eq!(part.recovered.runs.len(), 2);
        assert_eq!(part.recovered.runs[1].1[0].entry.head, head(7));
        assert!(part.ledger.free(Epoch(1), Lsn(8)).is_empty(), "the adopted entry still needs the bytes");
        assert_eq!(part.ledger.free(Epoch(2), Lsn(1)).len(), 2);
    }

    #[test]
    fn the_newest_promise_counts() {
        let sealed = |epoch| record(&JournalRecord::Sealed { shard: SHARD, epoch: Epoch(epoch) });
        let part = sort(vec![sealed(2), sealed(5), sealed(4)]);
        assert_eq!(part.recovered.sealed, Epoch(5));
        assert_eq!(part.unneeded, [RecordId(0), RecordId(2)]);
    }
}
