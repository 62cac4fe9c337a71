//! The bucket: objects that are created if absent at one instant, and what ever stood under a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kennel_core::shard::{BucketRequest, BucketResult, CreateOutcome, SlotBody};
use kennel_protocol::entry::{Entry, EntryKind, IntegritySum, NumberedEntry};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, Slot};
use kennel_protocol::object::{Claim, IndexEntry, LogHeader, LogIndex, Manifest, OpenRecord, SlotObject};

use crate::mutants::{Broken, DriverFlaw};

/// One shard's objects.
#[derive(Debug, Default)]
pub struct Bucket {
    broken: Broken,
    claims: BTreeMap<Epoch, Claim>,
    slots: BTreeMap<(Epoch, Slot), Arc<SlotObject>>,
    manifests: BTreeMap<(Epoch, u64), Arc<Manifest>>,
    /// The first object that ever stood in a slot, deleted or not: what the log is made of.
    history: BTreeMap<(Epoch, Slot), Arc<SlotBody>>,
}

impl Bucket {
    /// An empty bucket that may break a rule on purpose.
    pub fn broken(broken: Broken) -> Self {
        Self { broken, ..Self::default() }
    }

    /// Does what is asked, at once. Answers whether something was written.
    pub fn apply(&mut self, request: &BucketRequest) -> (BucketResult, bool) {
        let result = match request {
            BucketRequest::FindClaim { above } => {
                BucketResult::Claim(self.newest_claim().filter(|claim| claim.epoch > *above).cloned())
            }
            BucketRequest::ReadClaim { epoch } => BucketResult::Claim(self.claims.get(epoch).cloned()),
            BucketRequest::ReadSlot { epoch, slot } => BucketResult::Slot(self.slots.get(&(*epoch, *slot)).cloned()),
            BucketRequest::NewestManifest => BucketResult::Manifest(self.newest_manifest()),
            BucketRequest::CreateClaim(claim) => return self.create_claim(claim),
            BucketRequest::CreateSlot { epoch, slot, body } => return self.create_slot(*epoch, *slot, body),
            BucketRequest::CreateManifest(manifest) => return self.create_manifest(manifest),
            BucketRequest::DeleteSlots { epoch, from, end } => return self.delete_slots(*epoch, *from, *end),
        };
        (result, false)
    }

    /// The newest claim.
    pub fn newest_claim(&self) -> Option<&Claim> {
        self.claims.values().next_back()
    }

    /// One claim.
    pub fn claim(&self, epoch: Epoch) -> Option<&Claim> {
        self.claims.get(&epoch)
    }

    /// The newest manifest of the newest epoch that has one.
    pub fn newest_manifest(&self) -> Option<Arc<Manifest>> {
        self.manifests.values().next_back().cloned()
    }

    /// What stands in a slot.
    pub fn slot(&self, epoch: Epoch, slot: Slot) -> Option<&SlotObject> {
        self.slots.get(&(epoch, slot)).map(AsRef::as_ref)
    }

    /// What first stood in each slot, deleted or not.
    pub fn history(&self) -> impl Iterator<Item = ((Epoch, Slot), &SlotBody)> {
        self.history.iter().map(|(place, body)| (*place, body.as_ref()))
    }

    /// What first stood in a slot, deleted or not.
    pub fn first_in(&self, epoch: Epoch, slot: Slot) -> Option<&Arc<SlotBody>> {
        self.history.get(&(epoch, slot))
    }

    /// An epoch's open record, collected or not.
    pub fn opening(&self, epoch: Epoch) -> Option<&OpenRecord> {
        match self.first_in(epoch, Slot(0))?.as_ref() {
            SlotBody::Open(record) => Some(record),
            SlotBody::Log { .. } | SlotBody::Seal(_) => None,
        }
    }

    /// Whether an object that ever stood in a log covers a partition up to there. An owner's word may reach a follower
    /// before its own disk lets it say the same to others, so this asks the objects.
    pub fn has_stored(&self, partition: PartitionKey, end: Offset) -> bool {
        self.history().any(|(_, body)| match body {
            SlotBody::Log { entries, .. } => entries.iter().any(|numbered| {
                let head = &numbered.entry.head;
                head.partition == partition && head.end >= end
            }),
            SlotBody::Open(_) | SlotBody::Seal(_) => false,
        })
    }

    /// Whether an epoch has its open record, collected or not.
    pub fn is_open(&self, epoch: Epoch) -> bool {
        self.opening(epoch).is_some()
    }

    /// The newest epoch with an open record.
    pub fn newest_open(&self) -> Option<Epoch> {
        self.claims.keys().rev().copied().find(|epoch| self.is_open(*epoch))
    }

    /// The claims from an epoch on.
    pub fn claims_from(&self, epoch: Epoch) -> impl Iterator<Item = &Claim> {
        self.claims.range(epoch..).map(|(_, claim)| claim)
    }

    fn create_claim(&mut self, claim: &Claim) -> (BucketResult, bool) {
        let absent = !self.claims.contains_key(&claim.epoch) || self.broken.breaks(DriverFlaw::BucketOverwrites);
        if absent {
            self.claims.insert(claim.epoch, claim.clone());
        }
        (BucketResult::Created(created(absent)), absent)
    }

    fn create_slot(&mut self, epoch: Epoch, slot: Slot, body: &Arc<SlotBody>) -> (BucketResult, bool) {
        let absent = !self.slots.contains_key(&(epoch, slot)) || self.broken.breaks(DriverFlaw::BucketOverwrites);
        if absent {
            self.slots.insert((epoch, slot), Arc::new(object_of(body)));
            self.history.entry((epoch, slot)).or_insert_with(|| Arc::clone(body));
        }
        (BucketResult::Created(created(absent)), absent)
    }

    fn create_manifest(&mut self, manifest: &Arc<Manifest>) -> (BucketResult, bool) {
        let key = (manifest.epoch, manifest.number);
        let absent = !self.manifests.contains_key(&key);
        if absent {
            self.manifests.insert(key, Arc::clone(manifest));
        }
        (BucketResult::Created(created(absent)), absent)
    }

    fn delete_slots(&mut self, epoch: Epoch, from: Slot, end: Slot) -> (BucketResult, bool) {
        let before = self.slots.len();
        let spares_seals = !self.broken.breaks(DriverFlaw::DeletesSeals);
        self.slots.retain(|(of, slot), object| {
            let named = *of == epoch && (from..end).contains(slot);
            !named || (spares_seals && matches!(object.as_ref(), SlotObject::Seal(_)))
        });
        (BucketResult::Created(CreateOutcome::Done), self.slots.len() != before)
    }
}

fn created(absent: bool) -> CreateOutcome {
    if absent { CreateOutcome::Done } else { CreateOutcome::Exists }
}

/// What a reader of a slot sees: the bodies aside.
fn object_of(body: &SlotBody) -> SlotObject {
    match body {
        SlotBody::Open(record) => SlotObject::Open(record.clone()),
        SlotBody::Seal(seal) => SlotObject::Seal(*seal),
        SlotBody::Log { header, entries } => SlotObject::Log(index_of(header, entries)),
    }
}

/// The index of a log object: adjoining chunks of one partition and one history become one block.
fn index_of(header: &LogHeader, entries: &[NumberedEntry]) -> LogIndex {
    let mut ordered: Vec<&Entry> = entries.iter().map(|numbered| &numbered.entry).collect();
    ordered.sort_by_key(|entry| entry.head.partition);
    let mut index: Vec<IndexEntry> = Vec::with_capacity(ordered.len());
    let mut position = 0;
    for entry in ordered {
        match index.last_mut() {
            Some(block) if continues(block, entry) => extend(block, entry),
            _ => index.push(index_entry(entry, position)),
        }
        position += entry.body.len() as u64;
    }
    index.sort_by_key(|block| (block.partition, block.base));
    LogIndex { header: *header, entries: index }
}

fn continues(block: &IndexEntry, entry: &Entry) -> bool {
    let head = &entry.head;
    let chunks = block.kind == EntryKind::Chunk && head.kind == EntryKind::Chunk;
    chunks && block.partition == head.partition && block.cut == head.cut && block.end == head.base
}

fn extend(block: &mut IndexEntry, entry: &Entry) {
    let head = &entry.head;
    block.end = head.end;
    block.bytes += head.body_bytes;
    block.last_timestamp = head.last.map_or(block.last_timestamp, |last| last.base_timestamp);
    block.last = head.last;
    block.sum.add(head.sum);
}

fn index_entry(entry: &Entry, position: u64) -> IndexEntry {
    let head = &entry.head;
    IndexEntry {
        partition: head.partition,
        kind: head.kind,
        base: head.base,
        end: head.end,
        position,
        bytes: head.body_bytes,
        checksum: head.body_checksum,
        first_timestamp: head.first.map_or(0, |first| first.base_timestamp),
        last_timestamp: head.last.map_or(0, |last| last.base_timestamp),
        last: head.last,
        sum: if head.kind == EntryKind::Chunk { head.sum } else { IntegritySum::default() },
        cut: head.cut,
    }
}
