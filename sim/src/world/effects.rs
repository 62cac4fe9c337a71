//! What machines want done: copies leave at once, the rest waits for the disk, in the order that drivers keep.
//!
//! A process may crash or pause between any two effects.

use core::time::Duration;

use kennel_core::shard::{BucketRequest, Effects, Input, Note, Persist, RoleChange, SlotBody, Then};
use kennel_protocol::entry::NumberedEntry;
use kennel_protocol::ids::{Epoch, Lsn};
use kennel_protocol::wire::{CopySource, PartitionMarks, ShardMessage};

use super::{World, node_index};
use crate::event::{Event, NodeSays};
use crate::mutants::DriverFlaw;
use crate::node::{Call, Output};
use crate::oracle::reads::equals_the_source;
use crate::oracle::{Violation, is_on_a_quorum, promise_is_kept, seal_answer_is_durable};
use crate::plan::FaultKind;

/// The longest that a disk stands still.
const STALL_MAX: Duration = Duration::from_secs(3);

impl World {
    /// Takes one call's effects: copies leave, records go to the journal, the rest waits for them.
    pub(super) fn take_effects(&mut self, index: usize, effects: &mut Effects) {
        let verdict = nothing_leaves_without_its_body(effects);
        self.judge(verdict);
        for (to, copy) in effects.copies.drain(..) {
            self.send(index, node_index(to), ShardMessage::Copy(copy));
        }
        if self.plan.broken.breaks(DriverFlaw::SealAnswersLeaveEarly) {
            self.hurry_seal_answers(index, effects);
        }
        let mut sequence = self.nodes[index].journal.appended();
        for persist in effects.persist.drain(..) {
            self.trace.line(self.now, || format!("n{} journals {}", index + 1, crate::describe::persist(&persist)));
            let verdict = promise_is_kept(&self.nodes[index].journal, &persist);
            self.judge(verdict);
            match self.nodes[index].journal.append(persist) {
                Ok(place) => sequence = place,
                Err(missing) => {
                    let what = format!("n{} adopts {missing:?}", index + 1);
                    self.judge(Err(Violation::new("adopts_what_it_holds", what)));
                }
            }
        }
        let then = core::mem::take(&mut effects.then);
        if let Some(id) = effects.persist_id.take() {
            self.nodes[index].order.submitted(id, &then);
            self.nodes[index].calls.push_back(Call { sequence, id, then });
        } else {
            let overtakes = self.plan.broken.breaks(DriverFlaw::ShowsOutOfOrder);
            let now = if overtakes { then } else { self.nodes[index].order.at_once(then) };
            self.release(index, now);
        }
        self.sync(index);
    }

    /// Broken on purpose: answers to seals do not wait for the promise (PROTOCOL R9).
    fn hurry_seal_answers(&mut self, index: usize, effects: &mut Effects) {
        let is_answer = |then: &mut Then| matches!(then, Then::Send { message: ShardMessage::SealAnswer(_), .. });
        let answers: Vec<Then> = effects.then.extract_if(.., is_answer).collect();
        for then in answers {
            self.do_then(index, then);
        }
    }

    /// Begins a sync of the journal if there is something to sync and none is under way.
    fn sync(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.syncing.is_some() || node.journal.durable() == node.journal.appended() {
            return;
        }
        let sequence = node.journal.appended();
        node.syncing = Some(sequence);
        let boot = node.boot;
        let longest = self.plan.weather.sync_max;
        let mut length = self.draws.journal.duration(Duration::from_micros(50), longest);
        let slow = self.plan.weather.slow_disk == Some(index);
        if slow || self.draws.journal.chance(self.plan.weather.sync_stall) {
            length = self.draws.journal.scale(longest, (longest * 100).min(STALL_MAX));
        }
        self.after(length, Event::Synced { node: index, boot, sequence });
    }

    pub(super) fn synced(&mut self, index: usize, boot: u64, sequence: u64) {
        if !self.nodes[index].is_boot(boot) {
            return;
        }
        self.trace.event(self.now, 5, sequence);
        if self.sync_fails(index) {
            return;
        }
        self.nodes[index].syncing = None;
        self.nodes[index].journal.synced(sequence);
        if self.draws.journal.chance(250) {
            self.nodes[index].journal.move_head();
        }
        self.sync(index);
        self.watch_room(index);
        self.drain(index);
    }

    /// Does everything that may be done now, until the process is gone or stands still.
    pub(super) fn drain(&mut self, index: usize) {
        if self.draining.replace(index).is_some() {
            return;
        }
        self.drain_all(index);
        self.draining = None;
    }

    fn drain_all(&mut self, index: usize) {
        while self.nodes[index].runs() && self.violation.is_none() {
            if let Some(output) = self.nodes[index].outbox.pop_front() {
                self.put_out(index, output);
                self.strike_between_effects(index);
            } else if !self.release_call(index) {
                return;
            }
        }
    }

    /// Moves the effects of the next call to the outbox if the disk has what they wait for.
    fn release_call(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        let hasty = self.plan.broken.breaks(DriverFlaw::ActsBeforeTheDisk);
        if node.calls.front().is_none_or(|call| call.sequence > node.journal.durable() && !hasty) {
            return false;
        }
        let Some(call) = node.calls.pop_front() else { return false };
        let held = node.order.durable(call.id);
        self.release(index, call.then);
        self.release(index, held);
        self.nodes[index].outbox.push_back(Output::Persisted(call.id));
        true
    }

    /// Nothing of these waits for the disk any more.
    fn release(&mut self, index: usize, then: Vec<Then>) {
        for then in &then {
            self.watch_promise(index, then);
        }
        self.nodes[index].outbox.extend(then.into_iter().map(Output::Then));
    }

    fn put_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Persisted(id) => self.feed(index, Input::Persisted(id)),
            Output::Then(then) => {
                self.trace.line(self.now, || format!("n{} -> {}", index + 1, crate::describe::then(&then)));
                self.do_then(index, then);
            }
        }
    }

    fn do_then(&mut self, index: usize, then: Then) {
        match then {
            Then::Send { to, message } => self.send(index, node_index(to), message),
            Then::Ack { session, ack } => {
                self.watch_marks(index, ack.epoch, &ack.marks);
                self.say_to_shipper(session, &NodeSays::Ack(ack));
            }
            Then::Positions { session, correlation, answer } => {
                if let Some(positions) = &answer {
                    self.watch_marks(index, positions.epoch, &positions.marks);
                }
                self.say_to_shipper(session, &NodeSays::Positions { correlation, answer });
            }
            Then::Bucket { id, request } => self.ask_bucket(index, id, request),
            Then::Load { epoch, from, end } => {
                let (node, boot) = (index, self.nodes[index].boot);
                let delay = self.draws.journal.duration(Duration::from_micros(50), self.plan.weather.sync_max);
                self.after(delay, Event::Loaded { node, boot, epoch, from, end });
            }
            Then::Free { epoch, below } => self.free(index, epoch, below),
            Then::Role(role) => self.role_changed(index, role),
            Then::Note(Note::Halted(why)) => {
                let what = format!("n{}: {why}", index + 1);
                self.judge(Err(Violation::new("never_halts", what)));
            }
            Then::Note(Note::PastUnreachable { .. }) => self.operator_sees(index),
            Then::Committed { .. }
            | Then::Skipped { .. }
            | Then::SlotStored { .. }
            | Then::Stored { .. }
            | Then::Note(_) => {}
        }
    }

    pub(super) fn loaded(&mut self, index: usize, boot: u64, epoch: Epoch, (from, end): (Lsn, Lsn)) {
        if self.nodes[index].is_boot(boot) {
            let bodies = self.nodes[index].journal.bodies(epoch, from, end);
            self.feed(index, Input::Loaded { epoch, from, bodies });
        }
    }

    fn role_changed(&mut self, index: usize, role: RoleChange) {
        self.trace.event(self.now, 6, index as u64);
        self.nodes[index].role = role;
    }

    fn free(&mut self, index: usize, epoch: Epoch, below: Lsn) {
        let max = self.plan.journal_bytes_max;
        let all = self.plan.broken.breaks(DriverFlaw::JournalForgetsAll);
        let node = &mut self.nodes[index];
        let below = if all { node.journal.end(epoch).max(below) } else { below };
        node.journal.free(epoch, below);
        if !node.room && node.journal_bytes() < max / 2 {
            node.room = true;
            self.feed(index, Input::JournalRoom(true));
        }
    }

    pub(super) fn watch_room(&mut self, index: usize) {
        let max = self.plan.journal_bytes_max;
        let node = &mut self.nodes[index];
        if node.room && node.is_up() && node.journal_bytes() > max {
            node.room = false;
            self.feed(index, Input::JournalRoom(false));
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: ShardMessage) {
        let verdict = self.one_process_per_epoch(from, &message);
        self.judge(verdict);
        let verdict = seal_answer_is_durable(&self.nodes[from].journal, &message);
        self.judge(verdict);
        if let ShardMessage::Copy(copy) = &message {
            self.network.count(to, copy);
        }
        let [first, second] = self.network.arrivals(&self.plan.weather, from, to, self.now);
        if let Some(at) = second {
            self.queue.push(at, Event::Peer { from, to, message: message.clone() });
        }
        if let Some(at) = first {
            self.queue.push(at, Event::Peer { from, to, message });
        }
    }

    /// PROTOCOL R4: only the process that the claim names speaks for an epoch.
    fn one_process_per_epoch(&self, from: usize, message: &ShardMessage) -> Result<(), Violation> {
        let speaks = matches!(message, ShardMessage::Copy(_) | ShardMessage::Seal(_) | ShardMessage::Pull(_));
        if !speaks {
            return Ok(());
        }
        let stamp = message.stamp();
        let claim = self.bucket.claim(stamp.epoch);
        let rightful = stamp.process == self.nodes[from].process
            && claim.is_some_and(|claim| claim.process == stamp.process && node_index(claim.node) == from);
        Violation::unless(rightful, "one_process_per_epoch", || format!("n{} says {stamp:?}: {claim:?}", from + 1))
    }

    /// A call's word on what is committed and stored counts as soon as its records are durable, wherever in the call's
    /// list it stands.
    fn watch_promise(&mut self, index: usize, then: &Then) {
        let verdict = match then {
            Then::Committed { epoch, entries } => self.committed((index, self.nodes[index].boot), *epoch, entries),
            Then::Skipped { epoch, below } => {
                self.oracle.reads.skipped((index, self.nodes[index].boot), *epoch, *below);
                Ok(())
            }
            Then::SlotStored { epoch, slot, ends } => {
                for (partition, end) in ends {
                    self.oracle.objects.stored_end(*partition, *end);
                }
                let process = self.nodes[index].process;
                self.oracle.objects.stored_is_in_the_log(&self.bucket, process, *epoch, *slot)
            }
            Then::Stored { ends } => {
                // A follower's readers let go of it: the bucket has it, or they could never read it again.
                let early = ends.iter().find(|(partition, end)| !self.bucket.has_stored(*partition, *end));
                Violation::unless(early.is_none(), "stored_marks_are_covered", || format!("n{}: {early:?}", index + 1))
            }
            _ => Ok(()),
        };
        self.judge(verdict);
    }

    fn committed(&mut self, process: (usize, u64), epoch: Epoch, entries: &[NumberedEntry]) -> Result<(), Violation> {
        self.oracle.reads.readable_in_order(process, epoch, entries)?;
        for numbered in entries {
            let head = &numbered.entry.head;
            self.oracle.reads.one_entry_per_place(epoch, numbered)?;
            equals_the_source(head, self.sources.iter().find(|source| source.key == head.partition))?;
            let (log, bucket) = (&self.oracle.log, &self.bucket);
            let stored = || log.clone().stored_end(bucket, epoch, head.partition);
            self.oracle.reads.followed_without_a_gap(process, epoch, head, stored)?;
            self.oracle.reads.readable(head);
            if self.plan.weather.faults.contains(&FaultKind::Rollback) {
                self.oracle.reads.remember(head);
            }
            if !self.plan.loss_allowed {
                self.oracle.reads.no_dirty_read(head)?;
            }
        }
        let (Some(claim), Some(last)) = (self.bucket.claim(epoch), entries.last()) else { return Ok(()) };
        is_on_a_quorum(claim, epoch, last.lsn, |id| {
            self.nodes.iter().map(|node| &node.journal).find(|journal| journal.id == id)
        })
    }

    fn watch_marks(&mut self, index: usize, epoch: Epoch, marks: &[PartitionMarks]) {
        let verdict = self.marks_said(index, epoch, marks);
        self.judge(verdict);
    }

    fn marks_said(&mut self, index: usize, epoch: Epoch, marks: &[PartitionMarks]) -> Result<(), Violation> {
        if marks.is_empty() {
            return Ok(());
        }
        let claim = self.bucket.claim(epoch).filter(|claim| claim.process == self.nodes[index].process);
        let Some(claim) = claim.filter(|_| self.bucket.is_open(epoch)) else {
            let what = format!("n{} says marks in epoch {epoch}, which it does not hold open", index + 1);
            return Err(Violation::new("one_open_owner_speaks", what));
        };
        let few = claim.copyset.copies.len() < usize::from(self.plan.min_copies);
        for mark in marks {
            self.oracle.marks.said(epoch, mark, self.plan.loss_allowed)?;
            let stored = self.oracle.objects.stored_end_of(mark.partition);
            Violation::unless(mark.stored <= stored, "stored_marks_are_covered", || format!("{mark:?} over {stored}"))?;
            let acknowledged = if few { stored } else { stored.max(self.oracle.reads.end(mark.partition)) };
            Violation::unless(mark.committed <= acknowledged, "acknowledged_was_committed", || {
                format!("n{} in epoch {epoch}: {mark:?} over {acknowledged}", index + 1)
            })?;
        }
        Ok(())
    }

    /// The process crashes or pauses between two effects.
    fn strike_between_effects(&mut self, index: usize) {
        let weather = &self.plan.weather;
        if !self.stormy || (weather.crash_at_effect == 0 && weather.pause_at_effect == 0) {
            return;
        }
        if self.draws.effects.chance(weather.crash_at_effect) && self.may_crash(index) {
            self.crash(index);
            let delay = self.draws.effects.scale(Duration::from_millis(1), Duration::from_secs(5));
            self.after(delay, Event::Start { node: index });
        } else if self.draws.effects.chance(weather.pause_at_effect) {
            let length = self.draws.effects.scale(Duration::from_millis(5), Duration::from_secs(8));
            self.pause(index, length);
        }
    }
}

/// An entry whose bytes lie in the journal only must not reach a peer, a journal or the bucket.
fn nothing_leaves_without_its_body(effects: &Effects) -> Result<(), Violation> {
    let copied = effects.copies.iter().flat_map(|(_, copy)| &copy.entries).filter_map(|entry| match &entry.source {
        CopySource::Inline(entry) => Some(entry),
        CopySource::Adopt { .. } => None,
    });
    let journaled = effects.persist.iter().filter_map(|persist| match persist {
        Persist::Entry { entry, .. } => Some(entry),
        Persist::Adopted { .. } | Persist::Sealed(_) => None,
    });
    let sent = effects.then.iter().flat_map(|then| match then {
        Then::Send { message: ShardMessage::Pulled(pulled), .. } => pulled.entries.as_slice(),
        Then::Bucket { request: BucketRequest::CreateSlot { body, .. }, .. } => match &**body {
            SlotBody::Log { entries, .. } => entries.as_slice(),
            SlotBody::Open(_) | SlotBody::Seal(_) => &[],
        },
        _ => &[],
    });
    let away = copied.chain(journaled).chain(sent.map(|numbered| &numbered.entry)).find(|entry| entry.is_away());
    Violation::unless(away.is_none(), "nothing_leaves_without_its_body", || format!("{away:?}"))
}
