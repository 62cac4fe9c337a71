//! What `cache-node journal inspect` says: a journal's header, its room, and what it holds of each shard and epoch.
//!
//! It reads and never writes; what is stored, committed or still needed is not on disk and not told.

mod show;

use std::collections::BTreeMap;
use std::path::Path;

use kennel_protocol::ids::{Epoch, Lsn, ShardId};
use kennel_protocol::journal_record::JournalRecord;
use serde::Serialize;

use crate::journal::{InspectedRecord, Inspection, JournalError, inspect};

/// A journal, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalSummary {
    /// Where it is.
    pub path: String,
    /// The node that is configured to use it, where a configuration named the journal.
    pub node: Option<u64>,
    /// `file` or `device`.
    pub storage: &'static str,
    /// Another process has it open: what is below is of a moment.
    pub is_in_use: bool,
    /// Version of the format.
    pub version: u32,
    /// Which journal.
    pub journal: String,
    /// Unit of alignment.
    pub block_bytes: u64,
    /// Size of the file or device.
    pub size_bytes: u64,
    /// Size of the circular part.
    pub ring_bytes: u64,
    /// Whether it was closed properly; if not, it crashed or is open.
    pub is_closed: bool,
    /// From the oldest group that is needed to the end.
    pub used_bytes: u64,
    /// The rest of the ring.
    pub free_bytes: u64,
    /// Bytes in use that hold no record any more, and padding.
    pub pinned_bytes: u64,
    /// Groups in use.
    pub groups: u64,
    /// Records in them; freed ones may be among them.
    pub records: u64,
    /// Bytes of an incomplete last group.
    pub torn_bytes: u64,
    /// Damaged places that a start already answered with a new id.
    pub known_damage: u64,
    /// New damage, in order of age.
    pub damage: Vec<DamageSummary>,
    /// Damaged places, listed or not.
    pub damaged_places: u64,
    /// Records that are gone, at least.
    pub damaged_records: u64,
    /// Records that another build wrote.
    pub unknown_records: u64,
    /// What it holds of each shard.
    pub shards: Vec<ShardSummary>,
    /// Every record, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listing: Option<Vec<RecordSummary>>,
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageSummary {
    /// Bytes from the start of the file or device.
    pub offset: u64,
    /// Bytes to the next intact group.
    pub bytes: u64,
    /// Number of the first damaged group.
    pub group: u64,
    /// Damaged groups.
    pub groups: u64,
    /// Their records that verify.
    pub records_kept: u32,
    /// Their records that do not, at least.
    pub records_lost: u64,
}

/// One shard in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardSummary {
    /// Which shard.
    pub shard: u16,
    /// The promise to refuse every epoch below, if there is one.
    pub sealed: Option<u64>,
    /// Records of such promises; all but the newest wait to be freed.
    pub seals: u64,
    /// What is held of each epoch.
    pub epochs: Vec<EpochSummary>,
}

/// One epoch of a shard in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EpochSummary {
    /// Which epoch.
    pub epoch: u64,
    /// The lowest LSN.
    pub from: u64,
    /// The end of the highest one.
    pub end: u64,
    /// Entries with bytes of their own.
    pub entries: u64,
    /// Entries that point at those of an older epoch.
    pub adopted: u64,
    /// Numbers between the ends that no record has.
    pub missing: u64,
    /// Bytes of the bodies.
    pub body_bytes: u64,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordSummary {
    /// Its name.
    pub id: u64,
    /// Bytes from the start of the file or device.
    pub offset: u64,
    /// Number of its group.
    pub group: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// What it says.
    pub says: String,
}

impl JournalSummary {
    /// Reads the journal at `path`; `with_records` lists every record as well.
    ///
    /// # Errors
    /// As [`inspect`].
    pub fn read(path: &Path, node: Option<u64>, with_records: bool) -> Result<Self, JournalError> {
        let found = inspect(path)?;
        let mut shards: BTreeMap<ShardId, HeldShard> = BTreeMap::new();
        let mut unknown_records = 0;
        let mut listing = Vec::new();
        for record in &found.records {
            let decoded = JournalRecord::decode(&record.head);
            if with_records {
                listing.push(summarize(record, decoded.as_ref().ok()));
            }
            match decoded {
                Ok(decoded) => shards.entry(decoded.shard()).or_default().take(&decoded, record.body_bytes),
                Err(_) => unknown_records += 1,
            }
        }
        let shards = shards.into_iter().map(|(shard, held)| held.summarize(shard)).collect();
        let listing = with_records.then_some(listing);
        Ok(Self { node, unknown_records, shards, listing, ..Self::of_header(&found) })
    }

    /// Whether something does not verify that should.
    pub fn is_damaged(&self) -> bool {
        self.damaged_places > 0
    }

    fn of_header(found: &Inspection) -> Self {
        let damage = found.damage.clone().unwrap_or_default();
        let summarize = |place: &crate::journal::DamagedPlace| DamageSummary {
            offset: place.offset,
            bytes: place.bytes,
            group: place.group,
            groups: place.groups,
            records_kept: place.records_kept,
            records_lost: place.records_lost,
        };
        Self {
            path: found.path.display().to_string(),
            node: None,
            storage: if found.is_device { "device" } else { "file" },
            is_in_use: found.is_in_use,
            version: found.version,
            journal: found.journal.to_string(),
            block_bytes: found.block_bytes,
            size_bytes: found.size_bytes,
            ring_bytes: found.ring_bytes,
            is_closed: found.is_closed,
            used_bytes: found.used_bytes,
            free_bytes: found.free_bytes(),
            pinned_bytes: found.pinned_bytes(),
            groups: found.groups,
            records: found.records.len() as u64,
            torn_bytes: found.torn_bytes,
            known_damage: found.known_damage,
            damage: damage.places.iter().map(summarize).collect(),
            damaged_places: damage.places_count,
            damaged_records: damage.records_lost,
            unknown_records: 0,
            shards: Vec::new(),
            listing: None,
        }
    }
}

fn summarize(record: &InspectedRecord, decoded: Option<&JournalRecord>) -> RecordSummary {
    let says = match decoded {
        Some(JournalRecord::Entry { shard, epoch, lsn, head }) => {
            format!("entry {shard}/{epoch}/{lsn} {} [{}, {})", head.partition, head.base, head.end)
        }
        Some(JournalRecord::Adopted { shard, epoch, lsn, source_epoch, source_lsn }) => {
            format!("entry {shard}/{epoch}/{lsn} is {shard}/{source_epoch}/{source_lsn}")
        }
        Some(JournalRecord::Sealed { shard, epoch }) => format!("seal {shard} below {epoch}"),
        None => "unknown: another build wrote it".to_owned(),
    };
    let InspectedRecord { id, offset, group, body_bytes, .. } = *record;
    RecordSummary { id: id.0, offset, group, body_bytes, says }
}

/// One shard while its records are counted.
#[derive(Default)]
struct HeldShard {
    sealed: Option<Epoch>,
    seals: u64,
    epochs: BTreeMap<Epoch, HeldEpoch>,
}

#[derive(Default)]
struct HeldEpoch {
    lsns: std::collections::BTreeSet<Lsn>,
    entries: u64,
    adopted: u64,
    body_bytes: u64,
}

impl HeldShard {
    fn take(&mut self, record: &JournalRecord, body_bytes: u64) {
        match record {
            JournalRecord::Entry { epoch, lsn, .. } => {
                let held = self.epochs.entry(*epoch).or_default();
                held.lsns.insert(*lsn);
                held.entries += 1;
                held.body_bytes += body_bytes;
            }
            JournalRecord::Adopted { epoch, lsn, .. } => {
                let held = self.epochs.entry(*epoch).or_default();
                held.lsns.insert(*lsn);
                held.adopted += 1;
            }
            JournalRecord::Sealed { epoch, .. } => {
                self.seals += 1;
                self.sealed = self.sealed.max(Some(*epoch));
            }
        }
    }

    fn summarize(self, shard: ShardId) -> ShardSummary {
        let epochs = self.epochs.into_iter().map(|(epoch, held)| {
            let from = held.lsns.first().map_or(0, |lsn| lsn.0);
            let end = held.lsns.last().map_or(0, |lsn| lsn.0 + 1);
            EpochSummary {
                epoch: epoch.0,
                from,
                end,
                entries: held.entries,
                adopted: held.adopted,
                missing: (end - from).saturating_sub(held.lsns.len() as u64),
                body_bytes: held.body_bytes,
            }
        });
        let epochs = epochs.collect();
        ShardSummary { shard: shard.0, sealed: self.sealed.map(|epoch| epoch.0), seals: self.seals, epochs }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    use bytes::Bytes;
    use kennel_protocol::entry::{EntryHead, HoleReason};
    use kennel_protocol::ids::Offset;

    use super::*;
    use crate::journal::{Journal, JournalSettings, Record, RecordClass};

    const SHARD: ShardId = ShardId(3);

    /// Two entries, one that adopts the second, a promise; each in a group of its own. Entry 5 was never there.
    fn write_journal(path: &Path) {
        let settings = JournalSettings {
            path: path.to_owned(),
            bytes: 1 << 20,
            group_bytes_max: 64 << 10,
            group_linger: Duration::ZERO,
            memory_only: false,
        };
        let (journal, _) = Journal::open(&settings).expect("a new journal");
        let entry = |lsn: u64| {
            let partition = "1/2/3".parse().expect("a partition");
            let head = EntryHead::hole(partition, Offset(lsn), Offset(lsn + 1), HoleReason::ImportStart);
            JournalRecord::Entry { shard: SHARD, epoch: Epoch(7), lsn: Lsn(lsn), head }
        };
        let (epoch, lsn, source_epoch, source_lsn) = (Epoch(8), Lsn(0), Epoch(7), Lsn(6));
        let adopted = JournalRecord::Adopted { shard: SHARD, epoch, lsn, source_epoch, source_lsn };
        let sealed = JournalRecord::Sealed { shard: SHARD, epoch };
        for (record, bytes) in [(entry(4), 9000), (entry(6), 100), (adopted, 0), (sealed, 0)] {
            let body = Bytes::from(vec![1; bytes]);
            let record = Record { head: record.encode(), body, class: RecordClass::Normal };
            let appended = journal.append(vec![record]).expect("there is room");
            appended.done.blocking_recv().expect("an answer").expect("the disk works");
        }
        journal.close().expect("the disk works");
    }

    /// The text, with what differs between runs taken out.
    fn shown(path: &Path, with_records: bool) -> (JournalSummary, String) {
        let summary = JournalSummary::read(path, Some(9), with_records).expect("it can be read");
        let text = summary.to_string().replace(&summary.journal, "JOURNAL").replace(&summary.path, "PATH");
        (summary, text)
    }

    #[test]
    fn a_small_journal_is_shown_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        write_journal(&path);
        let (summary, text) = shown(&path, true);
        assert!(!summary.is_damaged() && !summary.is_in_use);
        insta::assert_snapshot!(text, @r"
        journal  JOURNAL
        path     PATH (file)
        node     9
        format   version 1, blocks of 4096 bytes
        size     1048576 bytes, 1040384 of them the ring
        state    closed properly
        used     24576 bytes in 4 group(s) of 4 record(s)
        pinned   14676 bytes of it: padding, and what was replaced
        free     1015808 bytes
        damage   none that is new

        shard  epoch       from        end    entries    adopted    missing          bytes
            3      7          4          7          2          0          1           9100
            3      8          0          1          0          1          0              0
            3 sealed below epoch 8 (1 promise(s))
        record 0 at byte 8320 in group 0, 9000 bytes: entry 3/7/4 1/2/3@0 [4, 5)
        record 1 at byte 20608 in group 1, 100 bytes: entry 3/7/6 1/2/3@0 [6, 7)
        record 2 at byte 24704 in group 2, 0 bytes: entry 3/8/0 is 3/7/6
        record 3 at byte 28800 in group 3, 0 bytes: seal 3 below 8
        ");
        let json = serde_json::to_value(&summary).expect("JSON");
        assert_eq!(json["shards"][0]["epochs"][0]["missing"], 1);
        assert_eq!(json["listing"].as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn damage_is_shown_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        write_journal(&path);
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("it is there");
        file.write_all_at(&[2], 8192 + 5000).expect("it works");
        let (summary, text) = shown(&path, false);
        assert!(summary.is_damaged());
        insta::assert_snapshot!(text, @r"
        journal  JOURNAL
        path     PATH (file)
        node     9
        format   version 1, blocks of 4096 bytes
        size     1048576 bytes, 1040384 of them the ring
        state    closed properly
        used     24576 bytes in 4 group(s) of 3 record(s)
        pinned   23876 bytes of it: padding, and what was replaced
        free     1015808 bytes
        DAMAGE   at least 1 record(s) in 1 place(s) do not verify
                 byte 8192, 12288 bytes, group 0, 1 group(s): 0 record(s) intact, at least 1 lost

        shard  epoch       from        end    entries    adopted    missing          bytes
            3      7          6          7          1          0          0            100
            3      8          0          1          0          1          0              0
            3 sealed below epoch 8 (1 promise(s))
        ");
    }

    #[test]
    fn a_journal_in_use_is_shown_and_stays_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        write_journal(&path);
        let settings = JournalSettings {
            path: path.clone(),
            bytes: 1 << 20,
            group_bytes_max: 64 << 10,
            group_linger: Duration::ZERO,
            memory_only: false,
        };
        let (journal, _) = Journal::open(&settings).expect("it is there");
        assert!(shown(&path, false).0.is_in_use);
        assert!(matches!(Journal::open(&settings), Err(JournalError::InUse { .. })), "looking took nobody's lock away");
        journal.close().expect("the disk works");
        assert!(!shown(&path, false).0.is_in_use);
    }
}
