//! The shard's log as a reader of the bucket sees it: epochs in order, each below its seal (PROTOCOL R18).

use std::collections::BTreeMap;

use kennel_core::shard::SlotBody;
use kennel_protocol::entry::{EntryHead, EntryKind, MessageIdentity, NumberedEntry};
use kennel_protocol::ids::{Epoch, Lsn, Offset, PartitionKey, Slot};
use kennel_protocol::object::{LogPosition, OpenRecord, PartitionState};

use super::Violation;
use crate::bucket::Bucket;

/// Reads the log from its very beginning and remembers how far it came.
#[derive(Debug, Clone, Default)]
pub struct LogReader {
    epoch: Epoch,
    slot: Slot,
    lsn: Lsn,
    partitions: BTreeMap<PartitionKey, PartitionState>,
    unread: Vec<EntryHead>,
    holes: u64,
}

impl LogReader {
    /// Reads on up to and including the logs of epochs below `end`. All of them have ended (PROTOCOL R8).
    pub fn read_below(&mut self, bucket: &Bucket, end: Epoch) -> Result<(), Violation> {
        while self.epoch < end {
            self.read_epoch(bucket)?;
            let ended = matches!(bucket.first_in(self.epoch, self.slot).map(AsRef::as_ref), Some(SlotBody::Seal(_)));
            Violation::unless(ended || self.epoch == Epoch(0), "older_logs_are_sealed", || {
                format!("epoch {end} opens and the log of epoch {} has no seal in slot {}", self.epoch, self.slot)
            })?;
            (self.epoch, self.slot, self.lsn) = (self.epoch.next(), Slot(0), Lsn(0));
        }
        Ok(())
    }

    /// Reads up to a position, from the beginning.
    pub fn read_to(&mut self, bucket: &Bucket, end: LogPosition) -> Result<(), Violation> {
        self.read_below(bucket, end.epoch)?;
        while self.slot < end.slot && self.read_slot(bucket)? {}
        Ok(())
    }

    /// Reads what the current epoch's log holds beyond what was read.
    pub fn read_epoch(&mut self, bucket: &Bucket) -> Result<(), Violation> {
        while self.read_slot(bucket)? {}
        Ok(())
    }

    /// Where a partition ends in what stands in the bucket now, up to and including an epoch's log.
    pub fn stored_end(mut self, bucket: &Bucket, epoch: Epoch, partition: PartitionKey) -> Offset {
        // What breaks a rule of the log is found where the log is read for its own sake.
        let read = self.read_below(bucket, epoch).and_then(|()| self.read_epoch(bucket));
        if read.is_ok() { self.end(partition) } else { Offset(0) }
    }

    /// Reads one slot; answers whether the log went on there.
    fn read_slot(&mut self, bucket: &Bucket) -> Result<bool, Violation> {
        let Some(body) = bucket.first_in(self.epoch, self.slot) else { return Ok(false) };
        match body.as_ref() {
            SlotBody::Seal(_) => return Ok(false),
            SlotBody::Open(record) => self.open(record)?,
            SlotBody::Log { header, entries } => {
                Violation::unless(self.slot > Slot(0) && header.lsn_from == self.lsn, "slots_join", || {
                    format!("{header:?} where entry {} is next", self.lsn)
                })?;
                self.lsn = header.lsn_end;
                self.take(entries)?;
            }
        }
        self.slot = self.slot.next();
        Ok(true)
    }

    /// Where the log was read to.
    pub fn position(&self) -> LogPosition {
        LogPosition { epoch: self.epoch, slot: self.slot }
    }

    /// The entry of the epoch that comes next there.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Every partition there.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionState> {
        self.partitions.values()
    }

    /// How many holes were declared up to there.
    pub fn holes(&self) -> u64 {
        self.holes
    }

    /// One partition there.
    pub fn end(&self, partition: PartitionKey) -> Offset {
        self.partitions.get(&partition).map(|state| state.end).unwrap_or_default()
    }

    /// Takes the entries read since the last call.
    pub fn drain(&mut self) -> impl Iterator<Item = EntryHead> + '_ {
        self.unread.drain(..)
    }

    /// PROTOCOL R11, R16: an open record states every partition exactly where the older logs end.
    fn open(&mut self, record: &OpenRecord) -> Result<(), Violation> {
        let wrong =
            |what: String| Violation::new("open_record_states_the_end", format!("epoch {}: {what}", record.epoch));
        if self.slot > Slot(0) {
            return Err(wrong("an open record beyond slot 0".to_owned()));
        }
        let stated: BTreeMap<PartitionKey, &PartitionState> =
            record.partitions.iter().map(|state| (state.partition, state)).collect();
        for (key, state) in &self.partitions {
            match stated.get(key) {
                Some(other) if (other.end, other.last, other.trim) == (state.end, state.last, state.trim) => {}
                other => return Err(wrong(format!("states {other:?} where the log says {state:?}"))),
            }
        }
        if let Some(extra) = stated.keys().find(|key| !self.partitions.contains_key(key)) {
            return Err(wrong(format!("states {extra}, which is in no log")));
        }
        self.partitions = record.partitions.iter().map(|state| (state.partition, *state)).collect();
        Ok(())
    }

    fn take(&mut self, entries: &[NumberedEntry]) -> Result<(), Violation> {
        let position = self.position();
        for numbered in entries {
            gapless(&mut self.partitions, &numbered.entry.head, position)?;
            self.holes += u64::from(matches!(numbered.entry.head.kind, EntryKind::Hole(_)));
            self.unread.push(numbered.entry.head.clone());
        }
        Ok(())
    }
}

/// DESIGN 2.2, PROTOCOL R16: per partition one entry begins where the one before it ends, holes included.
fn gapless(
    partitions: &mut BTreeMap<PartitionKey, PartitionState>,
    head: &EntryHead,
    position: LogPosition,
) -> Result<(), Violation> {
    let fresh = PartitionState { partition: head.partition, trim: Offset(0), end: Offset(0), last: None, cut: 0 };
    let state = partitions.entry(head.partition).or_insert(fresh);
    let wrong = |what: &str, state: &PartitionState| {
        Err(Violation::new("gapless", format!("{what} at {position:?}: {head:?} after {state:?}")))
    };
    if head.kind == EntryKind::Trim {
        state.trim = state.trim.max(head.end);
        return Ok(());
    }
    if head.base != state.end {
        return wrong("a gap or a duplicate", state);
    }
    if head.kind == EntryKind::Chunk && !continues(state.last, head.previous) && head.cut == state.cut {
        return wrong("two histories spliced", state);
    }
    state.end = head.end;
    state.last = head.last;
    state.cut = state.cut.max(head.cut);
    Ok(())
}

/// PROTOCOL R15: the message before a chunk is the one that the log ends with, where both are known.
fn continues(last: Option<MessageIdentity>, previous: Option<MessageIdentity>) -> bool {
    match (last, previous) {
        (Some(last), Some(previous)) => last == previous,
        _ => true,
    }
}
