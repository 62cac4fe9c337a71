//! The index of a shard's log in the bucket: what every slot below a position holds, partition by partition.
//!
//! Fed slot by slot in log order, it checks that the log is one (PROTOCOL R16, R18). It fetches nothing.

use std::collections::BTreeMap;

use kennel_protocol::entry::{EntryKind, MessageIdentity};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, ShardId, Slot};
use kennel_protocol::object::manifest::{LogPosition, Manifest};
use kennel_protocol::object::slot::{IndexEntry, LogIndex, OpenRecord, SealObject, SlotObject};

use super::objects::{BlockPlace, FetchUnit, ObjectName, ObjectNumber, Objects};
use super::partition::{self, BlockRead, ColdPlan, PartitionIndex, Run, RunKind};
use crate::partitions::PartitionMap;

/// The log is not what the rules allow. Stop reading this shard cold and tell an operator; nothing was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A slot of another place than the one that follows. Feed the slots in log order.
    #[error("slot {found_slot} of epoch {found_epoch} came where slot {slot} of epoch {epoch} follows", slot = expected.slot, epoch = expected.epoch)]
    WrongSlot {
        /// What follows.
        expected: LogPosition,
        /// The epoch of what came.
        found_epoch: Epoch,
        /// The slot of what came.
        found_slot: Slot,
    },
    /// An object of another shard.
    #[error("an object of shard {found} came where shard {expected} is read")]
    WrongShard {
        /// The shard of this index.
        expected: ShardId,
        /// The shard of the object.
        found: ShardId,
    },
    /// An entry does not begin where its partition ends (PROTOCOL R16).
    #[error("partition {partition} ends at {end}, yet epoch {epoch} slot {slot} continues it at {base}")]
    NotContiguous {
        /// Which partition.
        partition: PartitionKey,
        /// Where it ends in the log so far.
        end: Offset,
        /// Where the entry begins.
        base: Offset,
        /// The epoch that holds the entry.
        epoch: Epoch,
        /// The slot that holds the entry.
        slot: Slot,
    },
    /// An entry contradicts itself: an end below its base, a block without a last message or beyond 4 GiB.
    #[error("epoch {epoch} slot {slot} holds an impossible entry of partition {partition} at {base}")]
    Impossible {
        /// Which partition.
        partition: PartitionKey,
        /// Where the entry begins.
        base: Offset,
        /// The epoch that holds the entry.
        epoch: Epoch,
        /// The slot that holds the entry.
        slot: Slot,
    },
}

/// Where everything of one shard lies in the bucket, below a position of its log.
#[derive(Debug)]
pub struct ShardIndex {
    shard: ShardId,
    next: LogPosition,
    objects: Objects,
    partitions: PartitionMap<PartitionIndex>,
}

impl ShardIndex {
    /// An index that has read nothing of a log that begins at its first slot.
    pub fn new(shard: ShardId) -> Self {
        Self { shard, next: LogPosition::START, objects: Objects::default(), partitions: PartitionMap::new() }
    }

    /// An index that begins where a manifest says that the log does (PROTOCOL R22).
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let state = |state: &kennel_protocol::object::slot::PartitionState| {
            (state.partition, PartitionIndex::starting_at(state.trim, state.end, state.cut))
        };
        Self {
            shard: manifest.shard,
            next: manifest.log_start,
            objects: Objects::default(),
            partitions: manifest.partitions.iter().map(state).collect(),
        }
    }

    /// Takes in the slot at [`Self::next`]. On an error nothing has changed.
    pub fn feed(&mut self, object: &SlotObject) -> Result<(), IndexError> {
        match object {
            SlotObject::Open(record) => self.open(record),
            SlotObject::Log(index) => self.append(index),
            SlotObject::Seal(seal) => self.seal(seal),
        }
    }

    /// The slot that comes next.
    pub fn next(&self) -> LogPosition {
        self.next
    }

    /// The newest epoch of which a slot was read; 0 before the first.
    pub fn epoch(&self) -> Epoch {
        if self.next.slot == Slot(0) { Epoch(self.next.epoch.0.saturating_sub(1)) } else { self.next.epoch }
    }

    /// One partition, if the log speaks of it.
    pub fn partition(&self, key: &PartitionKey) -> Option<&PartitionIndex> {
        self.partitions.get(key)
    }

    /// Every partition, in key order.
    pub fn partitions(&self) -> impl Iterator<Item = (&PartitionKey, &PartitionIndex)> {
        self.partitions.iter()
    }

    /// What to read of a partition from `start` on, until the blocks hold `bytes_max` or number `blocks_max`. There is
    /// always one step where `start` lies in what the index knows, and none elsewhere.
    pub fn plan_cold(&self, key: &PartitionKey, start: Offset, bytes_max: u64, blocks_max: usize) -> ColdPlan {
        let empty = ColdPlan { steps: Vec::new(), next: start };
        self.partitions.get(key).map_or(empty, |index| index.plan_cold(start, bytes_max, blocks_max, &self.objects))
    }

    /// The block that holds an offset; `None` for a hole and for what the index does not know.
    pub fn block_at(&self, key: &PartitionKey, offset: Offset) -> Option<BlockRead> {
        match self.partitions.get(key)?.at(offset, &self.objects)? {
            partition::ColdStep::Block(block) => Some(block),
            partition::ColdStep::Hole(_) => None,
        }
    }

    /// The first block with a batch appended at or after `timestamp`, microseconds since 1970.
    pub fn block_at_timestamp(&self, key: &PartitionKey, timestamp: u64) -> Option<BlockRead> {
        self.partitions.get(key)?.at_timestamp(timestamp, &self.objects)
    }

    /// The newest block of a partition.
    pub fn last_block(&self, key: &PartitionKey) -> Option<BlockRead> {
        self.partitions.get(key)?.last_block(&self.objects)
    }

    /// The request that brings a block, and the neighbours that come with it.
    pub fn unit(&self, block: &BlockRead) -> FetchUnit {
        partition::unit(block, &self.objects)
    }

    /// What the index holds on the heap, bytes.
    pub fn heap_bytes(&self) -> usize {
        let runs: usize = self.partitions.values().map(PartitionIndex::heap_bytes).sum();
        self.objects.heap_bytes() + runs + self.partitions.heap_bytes()
    }

    fn open(&mut self, record: &OpenRecord) -> Result<(), IndexError> {
        let at = LogPosition { epoch: record.epoch, slot: Slot(0) };
        self.expect(record.shard, at)?;
        // An open record states where the older logs end: it must agree with what was read of them.
        let known = |state: &kennel_protocol::object::slot::PartitionState| self.end_of(&state.partition);
        if let Some(state) = record.partitions.iter().find(|state| known(state) != state.end) {
            let (partition, end) = (state.partition, known(state));
            return Err(IndexError::NotContiguous { partition, end, base: state.end, epoch: at.epoch, slot: at.slot });
        }
        for state in &record.partitions {
            self.partition_mut(state.partition).set_cut(state.cut);
            self.trim(&state.partition, state.trim);
        }
        self.next.slot = Slot(1);
        Ok(())
    }

    fn append(&mut self, index: &LogIndex) -> Result<(), IndexError> {
        let at = LogPosition { epoch: index.header.epoch, slot: index.header.slot };
        self.expect(index.header.shard, at)?;
        self.check(&index.entries, at)?;
        let name = ObjectName { epoch: at.epoch, slot: at.slot, put: index.header.put };
        let places = sorted_places(&index.entries);
        let object = self.objects.next();
        for entry in &index.entries {
            self.take(entry, object, &places);
        }
        self.objects.push(name, places);
        // Trims come last: they may drop blocks of this very object.
        for entry in index.entries.iter().filter(|entry| entry.kind == EntryKind::Trim) {
            self.trim(&entry.partition, entry.end);
        }
        self.next.slot = at.slot.next();
        Ok(())
    }

    fn seal(&mut self, seal: &SealObject) -> Result<(), IndexError> {
        self.expect(seal.shard, LogPosition { epoch: seal.epoch, slot: seal.slot })?;
        // Claims are dense (R3), so the next epoch's log is the next one, even if it was never opened.
        self.next = LogPosition { epoch: seal.epoch.next(), slot: Slot(0) };
        Ok(())
    }

    fn take(&mut self, entry: &IndexEntry, object: ObjectNumber, places: &[BlockPlace]) {
        let index = self.partition_mut(entry.partition);
        index.set_cut(entry.cut);
        let kind = match entry.kind {
            EntryKind::Chunk => RunKind::Block { object, place: place_of(places, entry) },
            EntryKind::Hole(reason) if entry.base < entry.end => RunKind::Hole(reason),
            EntryKind::Hole(_) | EntryKind::Trim | EntryKind::Cut => return,
        };
        let last_checksum = entry.last.map_or(0, |last: MessageIdentity| last.checksum);
        let last_timestamp = entry.last.map_or(0, |last| last.base_timestamp);
        index.push(entry.base, Run { end: entry.end, last_timestamp, last_checksum, kind });
    }

    fn trim(&mut self, key: &PartitionKey, trim: Offset) {
        for object in self.partition_mut(*key).trim_to(trim) {
            self.objects.release(object);
        }
    }

    fn partition_mut(&mut self, key: PartitionKey) -> &mut PartitionIndex {
        self.partitions.get_or_insert_with(key, PartitionIndex::default)
    }

    fn expect(&self, shard: ShardId, found: LogPosition) -> Result<(), IndexError> {
        if shard != self.shard {
            return Err(IndexError::WrongShard { expected: self.shard, found: shard });
        }
        if found != self.next {
            let (found_epoch, found_slot) = (found.epoch, found.slot);
            return Err(IndexError::WrongSlot { expected: self.next, found_epoch, found_slot });
        }
        Ok(())
    }

    /// Checks a whole object before any of it is taken in.
    fn check(&self, entries: &[IndexEntry], at: LogPosition) -> Result<(), IndexError> {
        let mut ends: BTreeMap<PartitionKey, Offset> = BTreeMap::new();
        for entry in entries {
            let LogPosition { epoch, slot } = at;
            let (partition, base) = (entry.partition, entry.base);
            if !possible(entry) {
                return Err(IndexError::Impossible { partition, base, epoch, slot });
            }
            if entry.kind == EntryKind::Trim {
                continue;
            }
            let end = ends.entry(partition).or_insert_with(|| self.end_of(&partition));
            if entry.base != *end {
                return Err(IndexError::NotContiguous { partition, end: *end, base, epoch, slot });
            }
            *end = entry.end;
        }
        Ok(())
    }

    fn end_of(&self, key: &PartitionKey) -> Offset {
        self.partitions.get(key).map_or(Offset(0), PartitionIndex::end)
    }
}

fn possible(entry: &IndexEntry) -> bool {
    let in_reach = entry.position.checked_add(u64::from(entry.bytes)).is_some_and(|end| u32::try_from(end).is_ok());
    match entry.kind {
        EntryKind::Chunk => entry.base < entry.end && entry.bytes > 0 && entry.last.is_some() && in_reach,
        EntryKind::Hole(_) | EntryKind::Trim => entry.base <= entry.end,
        EntryKind::Cut => entry.base == entry.end,
    }
}

fn place(entry: &IndexEntry) -> BlockPlace {
    let position = u32::try_from(entry.position).expect("checked before the object was taken in");
    BlockPlace { position, bytes: entry.bytes, checksum: entry.checksum }
}

fn sorted_places(entries: &[IndexEntry]) -> Vec<BlockPlace> {
    let mut places: Vec<_> = entries.iter().filter(|entry| entry.kind == EntryKind::Chunk).map(place).collect();
    places.sort_unstable_by_key(|place| place.position);
    places
}

fn place_of(places: &[BlockPlace], entry: &IndexEntry) -> u32 {
    let position = place(entry).position;
    let found = places.binary_search_by_key(&position, |place| place.position);
    u32::try_from(found.expect("every block of the object is among its places")).expect("an index is bounded")
}

#[cfg(test)]
mod tests;
