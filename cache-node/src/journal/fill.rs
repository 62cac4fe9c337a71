//! The thread that makes groups of what waits: copies, checksums, and hands them to the disk.
//!
//! While the disk is busy the open group grows; as soon as it is idle the group goes, however small. So a lone append
//! waits for nobody, and under load one sync carries as much as came during the one before. A small group for an idle disk
//! is written by this thread: to wake the other one would take longer than what could be filled meanwhile.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::group::{FilledGroup, OpenGroup, group_bytes, parse, record_bytes};
use super::layout::{BLOCK, GroupHeader, Place};
use super::record::{Record, RecordId};
use super::ring::Ring;
use super::shared::{Queued, Shared, State};
use super::write::Disk;
use super::{aligned::AlignedBuffer, settings::GROUP_RECORDS_MAX};

/// Groups that may be with the disk: one being written and one full one behind it.
pub(super) const GROUPS_IN_DISK_MAX: usize = 2;
/// A group up to this size is written by the thread that filled it, where the disk is idle, bytes.
const AT_ONCE_BYTES_MAX: u64 = 128 << 10;
/// Pinned groups that are read for one group of copies. Each read costs a few milliseconds at most.
const PINNED_GROUPS_PER_FILL: usize = 16;

/// What the filling thread owns.
pub(super) struct Filler {
    pub(super) shared: Arc<Shared>,
    pub(super) ring: Ring,
    pub(super) lineage: u128,
    pub(super) opening: u64,
    pub(super) linger: Duration,
    /// The id after the newest record that was placed in a group.
    pub(super) next_record: u64,
    pub(super) groups: SyncSender<FilledGroup>,
    pub(super) disk: Disk,
}

enum Step {
    /// Copy these appends into the open group.
    Fill(Vec<Queued>),
    /// Copy what is live in these groups forward; they were chosen after this many changes.
    Relocate(Vec<Place>, u64),
    /// Hand the open group to the disk.
    Close,
    /// There is nothing left to do, ever.
    Finish,
}

impl Filler {
    /// Runs until the journal is closed and the queue drained, or until it is poisoned.
    pub(super) fn run(mut self) {
        let mut open: Option<OpenGroup> = None;
        let mut opened = Instant::now();
        // The state in which copying forward was last tried for this group.
        let mut relocated = None;
        loop {
            match self.next_step(open.as_ref(), opened, relocated) {
                Step::Fill(appends) => {
                    if open.is_none() {
                        opened = Instant::now();
                    }
                    let mut group = open.take().unwrap_or_else(|| self.open_group(appends[0].reserved));
                    self.fill(&mut group, appends);
                    open = Some(group);
                }
                Step::Relocate(places, changes) => {
                    relocated = Some(changes);
                    opened = Instant::now();
                    match self.relocate(&places) {
                        Ok(group) => open = group,
                        Err(error) => self.shared.set_poison(error),
                    }
                }
                Step::Close => {
                    relocated = None;
                    let group = open.take().expect("only an open group is closed");
                    if self.close(group).is_err() {
                        break;
                    }
                }
                Step::Finish => break,
            }
        }
        self.abandon(open);
    }

    /// Waits until there is something to do and says what.
    fn next_step(&self, open: Option<&OpenGroup>, opened: Instant, relocated: Option<u64>) -> Step {
        let mut state = self.shared.state();
        loop {
            if state.poison.is_some() {
                return Step::Finish;
            }
            let linger = self.linger.saturating_sub(opened.elapsed());
            let idle = state.in_disk == 0;
            if open.is_some() && idle && (linger.is_zero() || state.closing) {
                return Step::Close;
            }
            if open.is_none() && relocated != Some(state.changes) {
                let pinned = state.space.pinned_groups(PINNED_GROUPS_PER_FILL);
                if !pinned.is_empty() && !state.closing {
                    return Step::Relocate(pinned, state.changes);
                }
            }
            let appends = self.take_fitting(&mut state, open);
            if !appends.is_empty() {
                return Step::Fill(appends);
            }
            let full = open.is_some() && !state.queue.is_empty();
            if full && state.in_disk < GROUPS_IN_DISK_MAX {
                return Step::Close;
            }
            if state.closing && open.is_none() && state.queue.is_empty() {
                return Step::Finish;
            }
            let wake = &self.shared.wake;
            state.filler_sleeps = true;
            state = if open.is_some() && idle {
                wake.wait_timeout(state, linger).map_or_else(|poison| poison.into_inner().0, |(state, _)| state)
            } else {
                wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner)
            };
            state.filler_sleeps = false;
        }
    }

    /// Whole appends from the front of the queue, as many as the open group (or a new one) has room for.
    fn take_fitting(&self, state: &mut State, open: Option<&OpenGroup>) -> Vec<Queued> {
        let (mut bytes, mut count) = (0, 0);
        let mut appends = Vec::new();
        while let Some(next) = state.queue.front() {
            let (with_next, count_with_next) = (bytes + next.bytes, count + next.records.len());
            let fits = if let Some(group) = open {
                group.fits(count_with_next, with_next)
            } else {
                // A group of its own is right for an append that is larger than a group should be.
                let room = group_bytes(with_next) <= self.shared.bounds.group_bytes_max as u64;
                appends.is_empty() || (room && count_with_next <= GROUP_RECORDS_MAX as usize)
            };
            if !fits {
                break;
            }
            (bytes, count) = (with_next, count_with_next);
            appends.extend(state.queue.pop_front());
        }
        appends
    }

    fn open_group(&self, bytes: u64) -> OpenGroup {
        let mut state = self.shared.state();
        let buffer = state.buffer(&self.shared.bounds, bytes);
        OpenGroup::new(buffer, self.lineage, self.opening, state.space.tail().sequence)
    }

    fn fill(&mut self, group: &mut OpenGroup, appends: Vec<Queued>) {
        for append in appends {
            for (id, record) in (append.first.0..).map(RecordId).zip(&append.records) {
                let at = group.push(id, record);
                group.added.push((id, at));
                self.next_record = id.0 + 1;
            }
            group.reserved += append.reserved;
            group.queued_bytes += append.bytes;
            group.waiters.push(append.waiter);
        }
    }

    /// Places the group at the tail, and writes it or hands it over. `Err` if the disk thread is gone.
    fn close(&self, mut group: OpenGroup) -> Result<(), ()> {
        let added = mem::take(&mut group.added);
        let mut state = self.shared.state();
        let place = state.space.place((group.bytes(), group.reserved), group.seed(), &added);
        let head = state.space.head();
        let idle = state.in_disk == 0;
        state.in_disk += 1;
        drop(state);
        let group = group.close(place, head, self.next_record);
        // Copies forward leave this thread to what is new: they would follow one another for as long as the ring is full.
        if idle && group.moved.is_empty() && group.header.bytes <= AT_ONCE_BYTES_MAX {
            self.disk.take(group);
            return Ok(());
        }
        self.groups.send(group).map_err(drop)
    }

    /// Copies live records of pinned groups into a new group: half of it at most, so that new work has room beside.
    fn relocate(&self, places: &[Place]) -> Result<Option<OpenGroup>, JournalError> {
        let budget = self.shared.bounds.group_bytes_max as u64 / 2;
        let mut copies: Vec<(RecordId, Record)> = Vec::new();
        let (mut bytes, mut reserved) = (0, 0);
        for place in places {
            for (id, record) in self.read_live(*place).map_err(JournalError::poisoned("read a group"))? {
                let with_this = bytes + record_bytes(&record).expect("it was read from a bounded group");
                let full = group_bytes(with_this) > budget || copies.len() == GROUP_RECORDS_MAX as usize;
                if full && !copies.is_empty() {
                    return Ok(Some(self.copy(&copies, reserved)));
                }
                let reserve = group_bytes(with_this) - reserved;
                if self.shared.state().space.move_forward(id, place.sequence, reserve) {
                    (bytes, reserved) = (with_this, reserved + reserve);
                    copies.push((id, record));
                }
            }
        }
        Ok((!copies.is_empty()).then(|| self.copy(&copies, reserved)))
    }

    /// Reads back the live records of a durable group.
    ///
    /// All of them verified when the group was written or recovered. One that does not any more is damage: an error, so
    /// that the journal stops, and the next start finds the place and says so.
    fn read_live(&self, place: Place) -> io::Result<Vec<(RecordId, Record)>> {
        let mut first = AlignedBuffer::new(BLOCK);
        self.ring.read(place.position, first.bytes_mut())?;
        let header = GroupHeader::decode(first.bytes(), self.lineage).filter(|header| header.place == place);
        let rotten = || io::Error::other(format!("group {} does not verify any more", place.sequence));
        let header = header.ok_or_else(rotten)?;
        let mut buffer = AlignedBuffer::new(usize::try_from(header.bytes).expect("a group fits memory"));
        self.ring.read(place.position, buffer.bytes_mut())?;
        let mut records = parse(&header, buffer.bytes()).records;
        let state = self.shared.state();
        records.retain(|view| state.space.lives_in(view.id, place.sequence));
        let live = state.space.live_records_of(place.sequence);
        drop(state);
        if (records.len() as u64) < live {
            Err(rotten())
        } else {
            Ok(records.iter().map(|view| (view.id, view.to_record())).collect())
        }
    }

    fn copy(&self, copies: &[(RecordId, Record)], reserved: u64) -> OpenGroup {
        let mut group = self.open_group(reserved);
        for (id, record) in copies {
            let at = group.push(*id, record);
            group.moved.push((*id, at));
        }
        group.reserved = reserved;
        group
    }

    /// Tells everybody who still waits that it will not happen.
    fn abandon(&self, open: Option<OpenGroup>) {
        let mut state = self.shared.state();
        let error = state.poison.clone().unwrap_or(JournalError::Closed);
        let queue = mem::take(&mut state.queue);
        drop(state);
        let open = open.into_iter().flat_map(|group| group.waiters);
        for waiter in open.chain(queue.into_iter().map(|append| append.waiter)) {
            // A caller that went away does not need to know.
            let _ = waiter.send(Err(error.clone()));
        }
    }
}
