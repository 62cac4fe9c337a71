//! What machines ask of the bucket: who may write what under which name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kennel_core::shard::{BucketRequest, CreateOutcome, SlotBody};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, ProcessId, PutId, Slot};
use kennel_protocol::object::{Claim, LogPosition};

use super::Violation;
use crate::bucket::Bucket;

/// What a process last tried in a slot.
#[derive(Debug)]
struct Try {
    body: Arc<SlotBody>,
    /// Nothing was written: the slot is free again.
    failed: bool,
}

/// What was ever asked.
#[derive(Debug, Default)]
pub struct Objects {
    tries: BTreeMap<(ProcessId, Epoch, Slot), Try>,
    puts: BTreeMap<PutId, Arc<SlotBody>>,
    stored: BTreeMap<Epoch, Slot>,
    stored_ends: BTreeMap<PartitionKey, Offset>,
}

impl Objects {
    /// PROTOCOL R20: a put id names exact bytes, and a slot whose outcome is unknown gets no other body.
    pub fn put_id_names_exact_bytes(
        &mut self,
        process: ProcessId,
        (epoch, slot): (Epoch, Slot),
        body: &Arc<SlotBody>,
    ) -> Result<(), Violation> {
        let rule = "put_id_names_exact_bytes";
        let known = self.puts.entry(put_of(body)).or_insert_with(|| Arc::clone(body));
        Violation::unless(same(known, body), rule, || format!("{body:?} has the put id of {known:?}"))?;
        if matches!(body.as_ref(), SlotBody::Seal(_)) {
            // A claimant may seal where it once wrote itself: whichever lands first stands, and it reads back which.
            return Ok(());
        }
        let again = Try { body: Arc::clone(body), failed: false };
        match self.tries.insert((process, epoch, slot), again) {
            Some(before) if !before.failed => Violation::unless(same(&before.body, body), rule, || {
                format!("slot {slot} of epoch {epoch} gets {body:?} while the outcome of {:?} is open", before.body)
            }),
            _ => Ok(()),
        }
    }

    /// A create of a slot came back.
    pub fn created(&mut self, process: ProcessId, place: (Epoch, Slot), outcome: CreateOutcome) {
        if let Some(attempt) = self.tries.get_mut(&(process, place.0, place.1)) {
            attempt.failed |= outcome == CreateOutcome::Failed;
        }
    }

    /// PROTOCOL R21: a slot that its owner calls stored is its own, with all slots below, and below any seal.
    pub fn stored_is_in_the_log(
        &mut self,
        bucket: &Bucket,
        process: ProcessId,
        epoch: Epoch,
        slot: Slot,
    ) -> Result<(), Violation> {
        let from = self.stored.get(&epoch).map_or(Slot(0), |stored| stored.next());
        for below in (from.0..=slot.0).map(Slot) {
            let body = bucket.first_in(epoch, below).map(AsRef::as_ref);
            let owns = match body {
                Some(SlotBody::Open(record)) => record.process == process,
                Some(SlotBody::Log { header, .. }) => header.process == process,
                Some(SlotBody::Seal(_)) | None => false,
            };
            Violation::unless(owns, "stored_is_in_the_log", || {
                format!("epoch {epoch} calls slot {slot} stored and slot {below} holds {body:?}")
            })?;
        }
        let stored = self.stored.entry(epoch).or_default();
        *stored = (*stored).max(slot);
        Ok(())
    }

    /// The newest slot that an epoch's owner called stored.
    pub fn stored_slot(&self, epoch: Epoch) -> Option<Slot> {
        self.stored.get(&epoch).copied()
    }

    /// An offset is in the bucket, in a slot that counts for ever.
    pub fn stored_end(&mut self, partition: PartitionKey, end: Offset) {
        let stored = self.stored_ends.entry(partition).or_default();
        *stored = (*stored).max(end);
    }

    /// The ends of all partitions together.
    pub fn stored_messages(&self) -> u64 {
        self.stored_ends.values().map(|end| end.0).sum()
    }

    /// End of what is known to be in the bucket.
    pub fn stored_end_of(&self, partition: PartitionKey) -> Offset {
        self.stored_ends.get(&partition).copied().unwrap_or_default()
    }
}

/// PROTOCOL R3: claims are dense.
pub fn claims_are_dense(bucket: &Bucket, claim: &Claim) -> Result<(), Violation> {
    let newest = bucket.newest_claim().map_or(Epoch(0), |claim| claim.epoch);
    Violation::unless(claim.epoch <= newest.next(), "claims_are_dense", || format!("{} after {newest}", claim.epoch))
}

/// PROTOCOL R18: a seal goes into the first gap, nowhere else. One that lands where something was collected ends
/// nothing (R22).
pub fn seal_goes_into_the_first_gap(bucket: &Bucket, epoch: Epoch, slot: Slot) -> Result<(), Violation> {
    let gap = (0..slot.0).map(Slot).find(|below| bucket.first_in(epoch, *below).is_none());
    Violation::unless(gap.is_none(), "seal_goes_into_the_first_gap", || {
        format!("a seal in slot {slot} of epoch {epoch}, and slot {gap:?} never held anything")
    })
}

/// PROTOCOL R4, R18: only the claim's own process writes open records and log objects, under its own names.
pub fn owner_writes_its_own_log(
    bucket: &Bucket,
    process: ProcessId,
    (epoch, slot): (Epoch, Slot),
    body: &SlotBody,
) -> Result<(), Violation> {
    let claimed = |epoch| bucket.claim(epoch).is_some_and(|claim| claim.process == process);
    let rightful = match body {
        SlotBody::Open(record) => {
            slot == Slot(0) && record.epoch == epoch && record.process == process && claimed(epoch)
        }
        SlotBody::Log { header, entries } => {
            let dense = entries.iter().zip(header.lsn_from.0..).all(|(numbered, lsn)| numbered.lsn.0 == lsn);
            let whole = header.lsn_end.0 - header.lsn_from.0 == entries.len() as u64;
            let named = header.epoch == epoch && header.slot == slot && header.process == process;
            slot > Slot(0) && named && dense && whole && claimed(epoch)
        }
        SlotBody::Seal(seal) => {
            seal.epoch == epoch && seal.slot == slot && seal.by > epoch && seal.process == process && claimed(seal.by)
        }
    };
    Violation::unless(rightful, "owner_writes_its_own_log", || {
        format!("process {process} puts {body:?} into slot {slot} of epoch {epoch}")
    })
}

/// PROTOCOL R24: nothing below the newest manifest's start is read any more, nothing else is deleted.
pub fn deletes_what_a_manifest_dropped(bucket: &Bucket, request: &BucketRequest) -> Result<(), Violation> {
    let BucketRequest::DeleteSlots { epoch, end, .. } = request else { return Ok(()) };
    let start = bucket.newest_manifest().map(|manifest| manifest.log_start);
    let dropped = start.is_some_and(|start| *epoch < start.epoch || (*epoch == start.epoch && *end <= start.slot));
    Violation::unless(dropped, "deletes_what_a_manifest_dropped", || {
        format!("{request:?} and the log starts {start:?}")
    })
}

/// PROTOCOL R24: whoever reads from where the newest manifest starts the log finds everything that ever stood there.
/// Seals stand wherever they are.
pub fn the_log_is_whole(bucket: &Bucket) -> Result<(), Violation> {
    let start = bucket.newest_manifest().map_or(LogPosition::START, |manifest| manifest.log_start);
    let counts = |(epoch, slot): (Epoch, Slot), body: &SlotBody| {
        LogPosition { epoch, slot } >= start || matches!(body, SlotBody::Seal(_))
    };
    let gone = bucket
        .history()
        .find(|((epoch, slot), body)| counts((*epoch, *slot), body) && bucket.slot(*epoch, *slot).is_none());
    Violation::unless(gone.is_none(), "the_log_is_whole", || {
        format!("{gone:?} is gone and the log starts at {start:?}")
    })
}

fn put_of(body: &SlotBody) -> PutId {
    match body {
        SlotBody::Open(record) => record.put,
        SlotBody::Log { header, .. } => header.put,
        SlotBody::Seal(seal) => seal.put,
    }
}

fn same(one: &Arc<SlotBody>, other: &Arc<SlotBody>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
