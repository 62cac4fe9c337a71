//! Who uses which part of the ring: pure accounting of groups and live records.
//!
//! Used space runs from the head (the oldest group with a live record) to the tail, plus what was admitted and is not
//! yet placed. It never reads or writes anything.

use std::collections::{BTreeMap, VecDeque};

use super::error::AppendError;
use super::layout::Place;
use super::record::{RecordClass, RecordId};
use super::settings::Bounds;

/// How full a journal is, in bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalUsage {
    /// From the oldest live record to the end, dead space between included.
    pub used_bytes: u64,
    /// What `Normal` records may use.
    pub capacity_bytes: u64,
    /// What `Recovery` records may use.
    pub recovery_capacity_bytes: u64,
    /// Records that were appended and not freed.
    pub live_records: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Dead bytes that cannot be used again, because an older record is live.
    pub pinned_bytes: u64,
    /// Accepted bytes that wait for the disk.
    pub queued_bytes: u64,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Located {
    /// Nowhere: nobody needs it.
    Freed,
    /// Not on the disk yet.
    Waiting,
    /// On the disk.
    At(Spot),
}

/// A record's place on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Position in the ring; not aligned.
    pub(super) position: u64,
    /// Length with its header.
    pub(super) bytes: u64,
    /// Seeds its checksum.
    pub(super) seed: u64,
}

/// The accounts of one ring.
#[derive(Debug)]
pub(super) struct Space {
    bounds: Bounds,
    /// Oldest first; the front one is the head.
    groups: VecDeque<Group>,
    records: BTreeMap<RecordId, Held>,
    /// Where the next group starts.
    tail: Place,
    /// Admitted and not yet placed.
    reserved: u64,
    live_bytes: u64,
}

#[derive(Debug)]
struct Group {
    place: Place,
    /// Seeds the checksums of its records.
    seed: u64,
    live: u32,
    /// How many of the live ones are on their way to a newer group.
    moving: u32,
    durable: bool,
}

#[derive(Debug)]
struct Held {
    /// The group that holds it; none while it is queued.
    group: Option<u64>,
    /// Where in its group it begins.
    at: u32,
    bytes: u64,
    moving: bool,
}

impl Space {
    pub(super) fn new(bounds: Bounds, tail: Place) -> Self {
        Self { bounds, groups: VecDeque::new(), records: BTreeMap::new(), tail, reserved: 0, live_bytes: 0 }
    }

    /// Enters a durable group that recovery found, oldest first.
    pub(super) fn restore_group(&mut self, place: Place, seed: u64) {
        assert!(place < self.tail, "recovered groups lie below the tail");
        self.groups.push_back(Group { place, seed, live: 0, moving: 0, durable: true });
    }

    /// Enters a live record of a restored group.
    pub(super) fn restore_record(&mut self, id: RecordId, bytes: u64, (group, at): (u64, u32)) {
        self.records.insert(id, Held { group: Some(group), at, bytes, moving: false });
        self.live_bytes += bytes;
        self.group(group).live += 1;
    }

    /// Drops the oldest groups that hold nothing. Called once after restoring; later it happens by itself.
    pub(super) fn release(&mut self) {
        while self.groups.front().is_some_and(|group| group.durable && group.live == 0) {
            self.groups.pop_front();
        }
    }

    /// Sets `bytes` aside for an append of `class`.
    pub(super) fn admit(&mut self, class: RecordClass, bytes: u64) -> Result<(), AppendError> {
        let capacity = match class {
            RecordClass::Normal => self.bounds.normal_bytes,
            RecordClass::Recovery => self.bounds.recovery_bytes,
        };
        let used = self.used();
        if used + bytes > capacity {
            return Err(AppendError::Full { used, capacity });
        }
        self.reserved += bytes;
        Ok(())
    }

    /// Enters a new record that was admitted.
    pub(super) fn hold(&mut self, id: RecordId, bytes: u64) {
        self.records.insert(id, Held { group: None, at: 0, bytes, moving: false });
        self.live_bytes += bytes;
    }

    /// Places a closed group of `bytes` bytes at the tail; gives back what was `reserved` for it. Its records follow
    /// with where in it they begin.
    pub(super) fn place(&mut self, (bytes, reserved): (u64, u64), seed: u64, added: &[(RecordId, u32)]) -> Place {
        assert!(bytes <= reserved && reserved <= self.reserved, "a group is never larger than what was admitted");
        let place = self.tail;
        self.tail = place.after(bytes);
        self.reserved -= reserved;
        let mut live = 0;
        for (id, at) in added {
            // A record can be freed before it was ever written.
            if let Some(held) = self.records.get_mut(id) {
                (held.group, held.at) = (Some(place.sequence), *at);
                live += 1;
            }
        }
        self.groups.push_back(Group { place, seed, live, moving: 0, durable: false });
        assert!(self.tail.position - self.head().position <= self.bounds.ring_bytes, "the tail never meets the head");
        place
    }

    /// The group is on disk: what was copied forward into it lives there from now on.
    pub(super) fn durable(&mut self, sequence: u64, moved: &[(RecordId, u32)]) {
        let mut arrived = 0;
        for (id, at) in moved {
            let Some(held) = self.records.get_mut(id) else { continue };
            (held.moving, held.at) = (false, *at);
            let old = held.group.replace(sequence).expect("only placed records are copied forward");
            let old = self.group(old);
            old.live -= 1;
            old.moving -= 1;
            arrived += 1;
        }
        let group = self.group(sequence);
        group.live += arrived;
        group.durable = true;
        self.release();
    }

    pub(super) fn free(&mut self, id: RecordId) {
        let Some(held) = self.records.remove(&id) else { return };
        self.live_bytes -= held.bytes;
        if let Some(sequence) = held.group {
            let group = self.group(sequence);
            group.live -= 1;
            group.moving -= u32::from(held.moving);
            self.release();
        }
    }

    /// The oldest groups (at most `most`) that should be copied forward, because the ring is short of space while much
    /// of it is dead. At worst three bytes are copied for each byte won, because at least a quarter is dead.
    pub(super) fn pinned_groups(&self, most: usize) -> Vec<Place> {
        let used = self.used();
        let short = used > self.bounds.normal_bytes / 4 * 3;
        let worth_it = self.live_bytes <= used / 4 * 3;
        if !short || !worth_it {
            return Vec::new();
        }
        let stuck = |group: &&Group| group.live > group.moving;
        self.groups.iter().take_while(|group| group.durable).filter(stuck).take(most).map(|group| group.place).collect()
    }

    /// Starts to copy a live record forward; `false` if it was freed, is on its way already or there is no room.
    pub(super) fn move_forward(&mut self, id: RecordId, from: u64, reserve: u64) -> bool {
        if self.used() + reserve > self.bounds.ring_bytes {
            return false;
        }
        let Some(held) = self.records.get_mut(&id) else { return false };
        if held.moving || held.group != Some(from) {
            return false;
        }
        held.moving = true;
        self.group(from).moving += 1;
        self.reserved += reserve;
        true
    }

    /// Whether a record is live, and that group holds it.
    pub(super) fn lives_in(&self, id: RecordId, group: u64) -> bool {
        self.records.get(&id).is_some_and(|held| held.group == Some(group))
    }

    /// How many live records a group holds; none if it is gone.
    pub(super) fn live_records_of(&self, group: u64) -> u64 {
        let index = self.groups.partition_point(|one| one.place.sequence < group);
        let found = self.groups.get(index).filter(|one| one.place.sequence == group);
        found.map_or(0, |one| u64::from(one.live))
    }

    /// Where a live record lies.
    pub(super) fn locate(&mut self, id: RecordId) -> Located {
        let Some(held) = self.records.get(&id) else { return Located::Freed };
        let (at, bytes) = (u64::from(held.at), held.bytes);
        let Some(sequence) = held.group else { return Located::Waiting };
        let group = self.group(sequence);
        if !group.durable {
            return Located::Waiting;
        }
        Located::At(Spot { position: group.place.position + at, bytes, seed: group.seed })
    }

    /// The oldest group that is still needed, or the tail.
    pub(super) fn head(&self) -> Place {
        self.groups.front().map_or(self.tail, |group| group.place)
    }

    pub(super) fn tail(&self) -> Place {
        self.tail
    }

    pub(super) fn usage(&self, queued_bytes: u64) -> JournalUsage {
        JournalUsage {
            used_bytes: self.used(),
            capacity_bytes: self.bounds.normal_bytes,
            recovery_capacity_bytes: self.bounds.recovery_bytes,
            live_records: self.records.len() as u64,
            live_bytes: self.live_bytes,
            pinned_bytes: self.used().saturating_sub(self.live_bytes),
            queued_bytes,
        }
    }

    fn used(&self) -> u64 {
        self.tail.position - self.head().position + self.reserved
    }

    fn group(&mut self, sequence: u64) -> &mut Group {
        let index = self.groups.partition_point(|group| group.place.sequence < sequence);
        let group = self.groups.get_mut(index).expect("a live record's group is in the ring");
        assert_eq!(group.place.sequence, sequence, "a live record's group is in the ring");
        group
    }
}
