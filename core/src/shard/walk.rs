//! Ends the logs of the past: reads one epoch's log upward to its first true gap and puts a seal there (PROTOCOL R8, R18).
//!
//! What the walk reads on its way is where the partitions stand. A seal above the first gap would let the gap fill
//! later, so the seal goes exactly there, or what is found there is read on.

use std::collections::BTreeMap;
use std::sync::Arc;

use kennel_protocol::ids::{Epoch, Lsn, Slot};
use kennel_protocol::object::{LogPosition, Manifest, SealObject, SlotObject};

use super::flaw::Flaw;
use super::ground::Ground;
use super::io::{BucketId, BucketRequest, BucketResult, Effects, SlotBody};
use super::publish::{Settled, SlotCreate, UNREADABLE_MAX};
use super::table::Table;
use crate::time::Instant;

/// One epoch's log, being read and ended.
#[derive(Debug)]
pub(crate) struct Walk {
    epoch: Epoch,
    by: Epoch,
    next: Slot,
    reads: BTreeMap<BucketId, Slot>,
    results: BTreeMap<Slot, Option<Arc<SlotObject>>>,
    /// How often slots could not be read for what they are.
    unreadable: BTreeMap<Slot, u32>,
    seal: Option<SlotCreate>,
    retry_at: Option<Instant>,
    /// The partitions at `next`, once the open record was read.
    table: Table,
    opened: bool,
    stored: Lsn,
}

/// How a walk ended, or what it met.
#[derive(Debug)]
pub(crate) enum Walked {
    /// Goes on.
    Continues,
    /// The log ends at this slot.
    Ended(Slot),
    /// A newer claimant ended it.
    Overtaken(Epoch),
    /// The log is not what the rules allow.
    Broken(String),
}

impl Walk {
    /// Starts at the first slot that still counts.
    pub(crate) fn start(ground: &mut Ground, epoch: Epoch, manifest: Option<&Manifest>, effects: &mut Effects) -> Self {
        let by = ground.newest.as_ref().map_or(Epoch(0), |claim| claim.epoch);
        let log_start = manifest.map_or(LogPosition::START, |manifest| manifest.log_start);
        let collected = manifest.filter(|_| log_start.epoch == epoch && log_start.slot > Slot(0));
        let mut walk = Self {
            epoch,
            by,
            next: collected.map_or(Slot(0), |manifest| manifest.log_start.slot),
            reads: BTreeMap::new(),
            results: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            seal: None,
            retry_at: None,
            table: collected.map_or_else(Table::default, |manifest| Table::stored_at(&manifest.partitions)),
            opened: collected.is_some(),
            stored: collected.map_or(Lsn(0), |manifest| manifest.log_start_lsn),
        };
        walk.read_ahead(ground, effects);
        walk
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the epoch ever opened.
    pub(crate) fn is_open(&self) -> bool {
        self.opened
    }

    /// Where the partitions stand at the end of the log, and the end of the entries it covers.
    pub(crate) fn into_result(self) -> (Table, Lsn) {
        (self.table, self.stored)
    }

    fn read_ahead(&mut self, ground: &mut Ground, effects: &mut Effects) {
        let window = ground.config.sizes.walk_window;
        // Before the first answer nobody knows whether there is a log at all.
        let window = if self.opened { window } else { 1 };
        for slot in (self.next.0..self.next.0 + window).map(Slot) {
            let known = self.results.contains_key(&slot) || self.reads.values().any(|read| *read == slot);
            if !known {
                let id = ground.request(BucketRequest::ReadSlot { epoch: self.epoch, slot }, effects);
                self.reads.insert(id, slot);
            }
        }
    }

    pub(crate) fn on_bucket(
        &mut self,
        ground: &mut Ground,
        id: BucketId,
        result: BucketResult,
        effects: &mut Effects,
    ) -> Walked {
        if let Some(slot) = self.reads.remove(&id) {
            match result {
                BucketResult::Slot(found) => {
                    self.unreadable.remove(&slot);
                    self.results.insert(slot, found);
                }
                BucketResult::Unreadable(what) if self.is_damaged(slot) => return Walked::Broken(what),
                _ => {
                    let delay = ground.backoff(0);
                    self.retry_at = Some(ground.now + delay);
                }
            }
            return self.advance(ground, effects);
        }
        let Some(seal) = self.seal.as_mut().filter(|seal| seal.awaits(id)) else { return Walked::Continues };
        match seal.on_bucket(ground, result, effects) {
            Settled::Open => Walked::Continues,
            Settled::Mine => Walked::Ended(self.next),
            Settled::Other(found) => {
                self.seal = None;
                self.results.insert(self.next, Some(found));
                self.advance(ground, effects)
            }
            Settled::Unreadable(what) => Walked::Broken(what),
        }
    }

    /// Whether a slot was unreadable so often that it is the object that is damaged, and not what came over the wire.
    fn is_damaged(&mut self, slot: Slot) -> bool {
        let times = self.unreadable.entry(slot).or_default();
        *times += 1;
        *times >= UNREADABLE_MAX
    }

    fn advance(&mut self, ground: &mut Ground, effects: &mut Effects) -> Walked {
        while self.seal.is_none() {
            match self.results.remove(&self.next) {
                None => break,
                Some(None) if ground.breaks(Flaw::ForgetsSealObject) => return Walked::Ended(self.next),
                Some(None) => {
                    self.put_seal(ground, effects);
                    return Walked::Continues;
                }
                Some(Some(found)) => {
                    if let Some(end) = self.take(&found) {
                        return end;
                    }
                }
            }
        }
        if self.seal.is_none() && self.retry_at.is_none() {
            self.read_ahead(ground, effects);
        }
        Walked::Continues
    }

    /// The first gap: nothing above it counts, whatever the reads ahead said.
    fn put_seal(&mut self, ground: &mut Ground, effects: &mut Effects) {
        if ground.breaks(Flaw::SealsAboveTheHighest) {
            let seen = self.results.iter().rev().find(|(_, found)| found.is_some());
            self.next = seen.map_or(self.next, |(slot, _)| slot.next());
        }
        self.results.clear();
        self.reads.clear();
        let put = ground.put_id();
        let process = ground.config.process;
        let seal =
            SealObject { shard: ground.config.shard, epoch: self.epoch, slot: self.next, by: self.by, process, put };
        let body = Arc::new(SlotBody::Seal(seal));
        self.seal = Some(SlotCreate::start(ground, (self.epoch, self.next), put, body, effects));
    }

    /// Takes what stands in the next slot; says so if the log ends or breaks there.
    fn take(&mut self, found: &SlotObject) -> Option<Walked> {
        match found {
            SlotObject::Seal(seal) if seal.by > self.by => return Some(Walked::Overtaken(seal.by)),
            SlotObject::Seal(_) => return Some(Walked::Ended(self.next)),
            SlotObject::Open(record) if self.next == Slot(0) => {
                self.table = Table::stored_at(&record.partitions);
                self.opened = true;
            }
            SlotObject::Log(index) if self.opened => {
                if index.header.lsn_from != self.stored {
                    return Some(
                        self.broken(&format!("starts at entry {}, not {}", index.header.lsn_from, self.stored)),
                    );
                }
                for entry in &index.entries {
                    if let Err(gap) = self.table.apply_stored(entry) {
                        return Some(self.broken(&format!("{gap:?}")));
                    }
                }
                self.stored = index.header.lsn_end;
            }
            SlotObject::Open(_) | SlotObject::Log(_) => return Some(self.broken("is not an open record")),
        }
        self.next = self.next.next();
        None
    }

    fn broken(&self, what: &str) -> Walked {
        Walked::Broken(format!("R16: log slot {} of epoch {}: {what}", self.next, self.epoch))
    }

    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) {
        if let Some(seal) = &mut self.seal {
            seal.on_timeout(ground, effects);
        }
        if self.retry_at.is_some_and(|due| due <= ground.now) {
            self.retry_at = None;
            if self.seal.is_none() {
                self.read_ahead(ground, effects);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.seal.as_ref().and_then(SlotCreate::poll_timeout).into_iter().chain(self.retry_at).min()
    }
}
