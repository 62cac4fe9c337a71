//! Uploads: log objects fly in parallel and are taken in slot order (PROTOCOL R18-R21).
//!
//! A slot whose outcome is unknown is resolved by reading it back, never by assuming: my put id, it is mine; a seal,
//! the epoch is over; nothing, the same bytes again. No other body ever goes into it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use kennel_protocol::entry::Entry;
use kennel_protocol::ids::{Epoch, Lsn, PutId, Slot};
use kennel_protocol::object::{LogHeader, SlotObject};

use super::flaw::{Flaw, renamed, shortened};
use super::ground::Ground;
use super::holdings::Run;
use super::io::{BucketId, BucketRequest, BucketResult, CreateOutcome, Effects, SlotBody};
use crate::time::Instant;

/// Bytes a second that a create gets beyond its patience: a fifth of what S3 takes over one connection, so that a large
/// object on a slow link is not sent twice.
const CREATE_BYTES_A_SECOND: u64 = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Creating { first: BucketId, second: Second },
    Reading(BucketId),
    Waiting(Instant),
    Stored,
}

/// The second try of a create whose first may be stuck for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    Due(Instant),
    Flies(BucketId),
}

/// An object that could not be read for what it is so many times in a row is damaged, and not what came over the wire.
pub(crate) const UNREADABLE_MAX: u32 = 3;

/// One create-if-absent of a slot, carried through until its outcome is certain.
#[derive(Debug)]
pub(crate) struct SlotCreate {
    epoch: Epoch,
    slot: Slot,
    put: PutId,
    body: Arc<SlotBody>,
    state: State,
    failures: u32,
    unreadable: u32,
}

/// What is certain about a slot now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Not certain yet.
    Open,
    /// It holds the own bytes.
    Mine,
    /// It holds something else.
    Other(Arc<SlotObject>),
    /// It cannot be read for what it is.
    Unreadable(String),
}

impl SlotCreate {
    pub(crate) fn start(
        ground: &mut Ground,
        (epoch, slot): (Epoch, Slot),
        put: PutId,
        body: Arc<SlotBody>,
        effects: &mut Effects,
    ) -> Self {
        let state = State::Waiting(ground.now);
        let mut create = Self { epoch, slot, put, body, state, failures: 0, unreadable: 0 };
        create.state = create.creating(ground, effects);
        create
    }

    fn creating(&self, ground: &mut Ground, effects: &mut Effects) -> State {
        let first = self.send(ground, effects);
        let transfer = Duration::from_micros(body_bytes(&self.body) * 1_000_000 / CREATE_BYTES_A_SECOND);
        State::Creating { first, second: Second::Due(ground.now + ground.config.timing.create_patience + transfer) }
    }

    fn send(&self, ground: &mut Ground, effects: &mut Effects) -> BucketId {
        let request = BucketRequest::CreateSlot { epoch: self.epoch, slot: self.slot, body: Arc::clone(&self.body) };
        ground.request(request, effects)
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) fn awaits(&self, id: BucketId) -> bool {
        match self.state {
            State::Creating { first, second } => first == id || second == Second::Flies(id),
            State::Reading(awaited) => awaited == id,
            State::Waiting(_) | State::Stored => false,
        }
    }

    /// Takes the result of the request it awaits.
    pub(crate) fn on_bucket(&mut self, ground: &mut Ground, result: BucketResult, effects: &mut Effects) -> Settled {
        match (self.state, result) {
            (State::Creating { .. }, BucketResult::Created(CreateOutcome::Done)) => return self.settled(),
            (State::Creating { .. }, BucketResult::Created(CreateOutcome::Unknown))
                if ground.breaks(Flaw::UnknownIsFailed) =>
            {
                self.put = ground.put_id();
                self.body = renamed(&self.body, self.put);
                self.wait(ground);
            }
            (State::Creating { .. }, BucketResult::Created(CreateOutcome::Exists | CreateOutcome::Unknown)) => {
                let request = BucketRequest::ReadSlot { epoch: self.epoch, slot: self.slot };
                self.state = State::Reading(ground.request(request, effects));
            }
            (State::Reading(_), BucketResult::Slot(Some(found))) => {
                return if found.put() == self.put { self.settled() } else { Settled::Other(found) };
            }
            (State::Reading(_), BucketResult::Unreadable(what)) => {
                self.unreadable += 1;
                if self.unreadable >= UNREADABLE_MAX {
                    return Settled::Unreadable(what);
                }
                self.wait(ground);
            }
            (State::Creating { .. } | State::Reading(_), _) => self.wait(ground),
            (State::Waiting(_) | State::Stored, _) => {}
        }
        Settled::Open
    }

    fn settled(&mut self) -> Settled {
        self.state = State::Stored;
        Settled::Mine
    }

    fn wait(&mut self, ground: &mut Ground) {
        let delay = ground.backoff(self.failures);
        self.failures += 1;
        self.state = State::Waiting(ground.now + delay);
    }

    /// Tries again with the same bytes once the wait is over, and a second time beside a first that is silent for too
    /// long (PROTOCOL R20).
    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) {
        if self.poll_timeout().is_none_or(|due| due > ground.now) {
            return;
        }
        if ground.breaks(Flaw::RetryDiffers) {
            self.body = shortened(&self.body);
        }
        self.state = match self.state {
            State::Creating { first, .. } => {
                State::Creating { first, second: Second::Flies(self.send(ground, effects)) }
            }
            State::Reading(_) | State::Waiting(_) | State::Stored => self.creating(ground, effects),
        };
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(due) | State::Creating { second: Second::Due(due), .. } => Some(due),
            State::Creating { second: Second::Flies(_), .. } | State::Reading(_) | State::Stored => None,
        }
    }
}

fn body_bytes(body: &SlotBody) -> u64 {
    match body {
        SlotBody::Log { entries, .. } => entries.iter().map(|numbered| numbered.entry.body_len()).sum(),
        SlotBody::Open(_) | SlotBody::Seal(_) => 0,
    }
}

#[derive(Debug)]
struct Upload {
    create: SlotCreate,
    end: Lsn,
    /// Bytes of its bodies.
    bytes: u64,
}

/// What an owner learns from an upload's result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Nothing to act on.
    Nothing,
    /// The slots up to here are stored, in order.
    Stored(Vec<(Slot, Lsn)>),
    /// A seal stands in one of the slots: the epoch is over.
    Sealed(Epoch),
    /// Something that no rule allows stands in one of the slots.
    Foreign(String),
}

/// The uploads of one epoch.
#[derive(Debug)]
pub(crate) struct Publisher {
    epoch: Epoch,
    next_slot: Slot,
    captured: Lsn,
    uploads: VecDeque<Upload>,
    /// When the oldest entry that is in no object became committed.
    waiting_since: Option<Instant>,
    waiting_bytes: u64,
    waiting_until: Lsn,
    closed_at: Option<Instant>,
    /// The entry whose body the next object waits for.
    blocked_on: Option<Lsn>,
}

impl Publisher {
    /// Starts after the open record in slot 0.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            next_slot: Slot(1),
            captured: Lsn(0),
            uploads: VecDeque::new(),
            waiting_since: None,
            waiting_bytes: 0,
            waiting_until: Lsn(0),
            closed_at: None,
            blocked_on: None,
        }
    }

    pub(crate) fn next_slot(&self) -> Slot {
        self.next_slot
    }

    /// Whether every upload is resolved (PROTOCOL R6).
    pub(crate) fn is_idle(&self) -> bool {
        self.uploads.is_empty()
    }

    /// How many uploads are not resolved, or wait for one below that is not.
    pub(crate) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// End of what is in objects, flying or stored.
    pub(crate) fn captured(&self) -> Lsn {
        self.captured
    }

    /// A quorum holds everything below `quorum`: it may go into an object.
    pub(crate) fn ready(&mut self, ground: &Ground, quorum: Lsn) {
        let Some(run) = ground.holdings.run(self.epoch) else { return };
        if quorum > self.waiting_until {
            self.waiting_bytes += run.bytes_between(self.waiting_until, quorum);
            self.waiting_until = quorum;
            self.waiting_since.get_or_insert(ground.now);
        }
    }

    /// When the waiting entries are to be closed into an object, were a place for an upload free.
    fn due(&self, ground: &Ground) -> Option<Instant> {
        let since = self.waiting_since?;
        let sizes = ground.config.sizes;
        let timing = ground.config.timing;
        let entries = self.waiting_until.0 - self.captured.0;
        if self.waiting_bytes >= sizes.object_bytes_loaded_max || entries >= sizes.object_entries_max as u64 {
            return Some(since);
        }
        if self.waiting_bytes >= sizes.object_bytes_max {
            // Large enough to go at once, but no more often than the interval: under load objects grow instead.
            return Some(self.closed_at.map_or(since, |closed| since.max(closed + timing.flush_interval)));
        }
        let interval = if self.waiting_bytes < sizes.object_bytes_idle {
            timing.flush_interval_idle
        } else {
            timing.flush_interval
        };
        Some(self.closed_at.map_or(since, |closed| closed.max(since)) + interval)
    }

    /// Closes an object over what waits, if it is time or `now` is demanded (PROTOCOL R20: committed entries only).
    pub(crate) fn flush(&mut self, ground: &mut Ground, at_once: bool, effects: &mut Effects) {
        while self.has_place(ground) {
            let Some(due) = self.due(ground) else { return };
            if (due > ground.now && !at_once) || !self.close(ground, effects) {
                return;
            }
        }
    }

    /// Whether another upload may fly.
    fn has_place(&self, ground: &Ground) -> bool {
        let sizes = ground.config.sizes;
        let bytes: u64 = self.uploads.iter().map(|upload| upload.bytes).sum();
        self.uploads.len() < sizes.uploads_max && (self.uploads.is_empty() || bytes < sizes.uploads_bytes_max)
    }

    /// What the next object is to hold: entries up to where, and how many bytes of bodies.
    fn extent(&self, ground: &Ground, run: &Run) -> (Lsn, u64) {
        let sizes = ground.config.sizes;
        let (mut end, mut bytes) = (self.captured, 0);
        for (lsn, entry) in run.range(self.captured, self.waiting_until) {
            let entries = lsn.0 - self.captured.0;
            let full = bytes > 0 && bytes + entry.body_len() > sizes.object_bytes_loaded_max;
            if entries >= sizes.object_entries_max as u64 || full {
                break;
            }
            bytes += entry.body_len();
            end = lsn.next();
        }
        (end, bytes)
    }

    /// Closes the next object; `false` if there is nothing to close, or if its bodies must be read back first.
    fn close(&mut self, ground: &mut Ground, effects: &mut Effects) -> bool {
        let Some(run) = ground.holdings.run(self.epoch) else { return false };
        let waits = |lsn: Lsn| run.entry(lsn).is_some_and(Entry::is_away) && ground.holdings.reads_flying() > 0;
        if self.blocked_on.is_some_and(waits) {
            return false;
        }
        let (end, bytes) = self.extent(ground, run);
        if end == self.captured {
            return false;
        }
        self.blocked_on = run.range(self.captured, end).find(|(_, entry)| entry.is_away()).map(|(lsn, _)| lsn);
        if self.blocked_on.is_some() {
            // All of it, whatever is here now: a body that is here may go before the others come.
            effects.load(self.epoch, self.captured..end);
            return false;
        }
        let entries = run.numbered(self.captured, end);
        let put = ground.put_id();
        let header = LogHeader {
            cluster: ground.config.cluster,
            shard: ground.config.shard,
            epoch: self.epoch,
            slot: self.next_slot,
            process: ground.config.process,
            put,
            lsn_from: self.captured,
            lsn_end: end,
        };
        let body = Arc::new(SlotBody::Log { header, entries });
        let create = SlotCreate::start(ground, (self.epoch, self.next_slot), put, body, effects);
        self.uploads.push_back(Upload { create, end, bytes });
        self.next_slot = self.next_slot.next();
        self.captured = end;
        self.waiting_bytes -= bytes;
        self.closed_at = Some(ground.now);
        self.waiting_since = (end < self.waiting_until).then_some(ground.now);
        true
    }

    /// Takes a result, if it is of one of the uploads.
    pub(crate) fn on_bucket(
        &mut self,
        ground: &mut Ground,
        id: BucketId,
        result: BucketResult,
        effects: &mut Effects,
    ) -> Published {
        let Some(upload) = self.uploads.iter_mut().find(|upload| upload.create.awaits(id)) else {
            return Published::Nothing;
        };
        match upload.create.on_bucket(ground, result, effects) {
            Settled::Open => Published::Nothing,
            Settled::Mine => Published::Stored(self.take_stored(ground.breaks(Flaw::StoresOutOfOrder))),
            Settled::Other(found) => match &*found {
                SlotObject::Seal(seal) => Published::Sealed(seal.by),
                SlotObject::Open(_) | SlotObject::Log(_) => Published::Foreign(format!(
                    "slot {} of epoch {} holds put {}, which this process did not write",
                    upload.create.slot(),
                    self.epoch,
                    found.put()
                )),
            },
            Settled::Unreadable(what) => Published::Foreign(what),
        }
    }

    /// Slots count as stored only with all slots below (PROTOCOL R21).
    fn take_stored(&mut self, any_order: bool) -> Vec<(Slot, Lsn)> {
        let mut stored = Vec::new();
        let is_stored = |upload: &Upload| upload.create.state == State::Stored;
        while self.uploads.front().is_some_and(is_stored) || (any_order && self.uploads.iter().any(is_stored)) {
            let upload = self.uploads.pop_front().expect("looked at above");
            stored.push((upload.create.slot(), upload.end));
        }
        stored
    }

    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) {
        for upload in &mut self.uploads {
            upload.create.on_timeout(ground, effects);
        }
    }

    pub(crate) fn poll_timeout(&self, ground: &Ground) -> Option<Instant> {
        let retry = self.uploads.iter().filter_map(|upload| upload.create.poll_timeout()).min();
        // Bodies on their way back wake the machine themselves.
        let place = self.has_place(ground) && ground.holdings.reads_flying() == 0;
        let due = if place { self.due(ground) } else { None };
        retry.into_iter().chain(due).min()
    }
}
