//! Which journal records hold a shard's entries, so that they are freed when nobody needs them and not before.
//!
//! An adopted entry has no bytes of its own: it holds on to the record it points at (PROTOCOL R10).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use kennel_protocol::ids::{Epoch, Lsn};

use crate::journal::RecordId;

/// Room for records that a ledger keeps, used or not.
const ROOM_RECORDS_MIN: usize = 128;

/// The records of one shard.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: BTreeMap<(Epoch, Lsn), Vec<RecordId>>,
    holders: HashMap<RecordId, u32>,
    sealed: Option<RecordId>,
}

impl Ledger {
    /// An entry of its own.
    pub(super) fn entry(&mut self, epoch: Epoch, lsn: Lsn, id: RecordId) {
        self.hold(epoch, lsn, &[id]);
    }

    /// An entry whose bytes lie under another number.
    pub(super) fn adopted(&mut self, epoch: Epoch, lsn: Lsn, id: RecordId, source: (Epoch, Lsn)) {
        let mut ids = self.slots.get(&source).cloned().unwrap_or_default();
        ids.push(id);
        self.hold(epoch, lsn, &ids);
    }

    pub(super) fn hold(&mut self, epoch: Epoch, lsn: Lsn, ids: &[RecordId]) {
        for id in ids {
            *self.holders.entry(*id).or_default() += 1;
        }
        if let Some(replaced) = self.slots.insert((epoch, lsn), ids.to_vec()) {
            let freed = self.let_go(replaced);
            debug_assert!(freed.is_empty() || ids.is_empty(), "an entry is journaled once");
        }
    }

    /// The record that holds an entry's body.
    pub(super) fn body(&self, epoch: Epoch, lsn: Lsn) -> Option<RecordId> {
        self.slots.get(&(epoch, lsn))?.first().copied()
    }

    /// The records that hold the bodies of an epoch's entries `[from, end)`, as far as they are held.
    pub(super) fn bodies(&self, epoch: Epoch, from: Lsn, end: Lsn) -> Vec<(Lsn, RecordId)> {
        let slots = self.slots.range((epoch, from)..(epoch, end));
        // An entry's own record comes last where it adopted: the bytes lie in the first.
        slots.filter_map(|((_, lsn), ids)| Some((*lsn, *ids.first()?))).collect()
    }

    /// A promise; returns the record of the one before it, which it replaces.
    pub(super) fn sealed(&mut self, id: RecordId) -> Option<RecordId> {
        self.sealed.replace(id)
    }

    /// Lets go of an epoch's entries below a number; returns the records that nobody holds any more.
    pub(super) fn free(&mut self, epoch: Epoch, below: Lsn) -> Vec<RecordId> {
        self.free_range((epoch, Lsn(0))..(epoch, below))
    }

    /// Lets go of an epoch's entries from a number on; returns the records that nobody holds any more.
    pub(super) fn free_from(&mut self, epoch: Epoch, from: Lsn) -> Vec<RecordId> {
        self.free_range((epoch, from)..(epoch, Lsn(u64::MAX)))
    }

    fn free_range(&mut self, range: Range<(Epoch, Lsn)>) -> Vec<RecordId> {
        let mut freed = Vec::new();
        while let Some((slot, _)) = self.slots.range(range.clone()).next() {
            let slot = *slot;
            let ids = self.slots.remove(&slot).expect("found above");
            freed.extend(self.let_go(ids));
        }
        // A table does not give its room back by itself: after a burst, half of it with every object that is stored.
        let room = self.holders.capacity();
        if room > ROOM_RECORDS_MIN && self.holders.len() < room / 4 {
            self.holders.shrink_to(room / 2);
        }
        freed
    }

    fn let_go(&mut self, ids: Vec<RecordId>) -> Vec<RecordId> {
        let mut freed = Vec::new();
        for id in ids {
            let holders = self.holders.get_mut(&id).expect("a held record has holders");
            *holders -= 1;
            if *holders == 0 {
                self.holders.remove(&id);
                freed.push(id);
            }
        }
        freed
    }
}
