//! From journal records to what each shard's machine starts with.
//!
//! Freed records can come back after a crash; they do no harm, because every run is cut to its dense end and the bucket
//! decides what is stored.

use std::collections::BTreeMap;

use kennel_core::shard::RecoveredShard;
use kennel_protocol::entry::{Entry, NumberedEntry};
use kennel_protocol::ids::{Epoch, Lsn, ShardId};
use kennel_protocol::journal_record::{JournalRecord, JournalRecordError};

use super::ledger::Ledger;
use crate::journal::{Record, RecordId};

/// One shard's part of a recovered journal.
#[derive(Debug, Default)]
pub(super) struct ShardPart {
    /// For the machine.
    pub(super) recovered: RecoveredShard,
    /// Which records hold what.
    pub(super) ledger: Ledger,
    /// Records that nobody needs any more.
    pub(super) unneeded: Vec<RecordId>,
}

/// Sorts a journal's records by shard.
///
/// # Errors
/// If a record cannot be read: another build wrote it. The journal is left as it is.
pub(super) fn sort_records(
    records: Vec<(RecordId, Record)>,
) -> Result<BTreeMap<ShardId, ShardPart>, JournalRecordError> {
    let mut held: BTreeMap<ShardId, Held> = BTreeMap::new();
    for (id, record) in records {
        let decoded = JournalRecord::decode(&record.head)?;
        held.entry(decoded.shard()).or_default().take(id, decoded, record);
    }
    Ok(held.into_iter().map(|(shard, held)| (shard, held.finish())).collect())
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
    fn take(&mut self, id: RecordId, decoded: JournalRecord, record: Record) {
        match decoded {
            JournalRecord::Entry { epoch, lsn, head, .. } => {
                let entry = Entry { head, body: record.body };
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

    fn finish(self) -> ShardPart {
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
        for (epoch, run) in runs {
            part.take_run(epoch, run);
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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

    fn record(record: &JournalRecord) -> Record {
        Record { head: record.encode(), body: Bytes::new(), class: RecordClass::Normal }
    }

    fn entry(epoch: u64, lsn: u64) -> Record {
        record(&JournalRecord::Entry { shard: SHARD, epoch: Epoch(epoch), lsn: Lsn(lsn), head: head(lsn) })
    }

    fn sort(records: Vec<Record>) -> ShardPart {
        let numbered = (0..).map(RecordId).zip(records).collect();
        sort_records(numbered).expect("readable records").remove(&SHARD).expect("the shard's part")
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
