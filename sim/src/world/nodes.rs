//! Processes start, crash, pause and wake up.

use core::time::Duration;
use std::sync::Arc;

use kennel_core::shard::{Effects, Input, RecoveredShard, Shard, ShardConfig};
use kennel_core::time::Instant;
use kennel_protocol::entry::Entry;
use kennel_protocol::ids::{JournalId, ProcessId, ShardId};
use kennel_protocol::wire::ShardMessage;

use super::{World, node_id};
use crate::event::Event;
use crate::journal::Journal;
use crate::mutants::DriverFlaw;
use crate::node::Clock;
use crate::oracle::Violation;

/// What passes for a process that sleeps long.
const LONG_SLEEP: Duration = Duration::from_hours(1);

impl World {
    pub(super) fn format_journal(&mut self) -> Journal {
        Journal::format(JournalId(self.draws.ids.id()))
    }

    /// A node's disk is empty again, and its journal another one (PROTOCOL R5).
    pub(super) fn lose_journal(&mut self, index: usize) {
        let mut journal = self.format_journal();
        if self.plan.broken.breaks(DriverFlaw::AmnesiacKeepsItsId) {
            journal.id = self.nodes[index].journal.id;
            journal.amnesia = Some(self.epoch());
        }
        self.nodes[index].journal = journal;
    }

    /// A process starts from what its disk holds.
    pub(super) fn start(&mut self, index: usize) {
        if self.nodes[index].is_up() {
            return;
        }
        let mut process = ProcessId(self.draws.ids.id());
        if self.plan.broken.breaks(DriverFlaw::RestartKeepsTheProcess) && self.nodes[index].boot > 0 {
            process = self.nodes[index].process;
        }
        let clock = self.clock();
        let seed = self.draws.ids.number();
        let node = &mut self.nodes[index];
        node.boot += 1;
        node.process = process;
        node.clock = clock;
        let mut recovered = node.journal.recover();
        if self.plan.sizes.resident_bytes_max < u64::MAX {
            for numbered in recovered.runs.iter_mut().flat_map(|(_, run)| run) {
                numbered.entry = Entry::away(numbered.entry.head.clone());
            }
        }
        self.trace.event(self.now, 1, index as u64);
        self.trace.line(self.now, || started(index, &recovered));
        let config = self.config(index);
        let mut effects = core::mem::take(&mut self.effects);
        let machine = Shard::new(config, recovered, seed, clock.read(self.now), &mut effects);
        self.nodes[index].machine = Some(machine);
        self.take_effects(index, &mut effects);
        self.effects = effects;
        self.set_timer(index);
        self.drain(index);
    }

    /// The process dies. What its disk did not have is gone; what it had under way in the bucket may land.
    pub(super) fn crash(&mut self, index: usize) {
        if !self.nodes[index].is_up() {
            return;
        }
        self.trace.event(self.now, 2, index as u64);
        self.trace.line(self.now, || format!("n{} crashes", index + 1));
        self.nodes[index].forget();
        self.nodes[index].journal.crash(&mut self.draws.journal);
        if self.plan.forgetful {
            self.lose_journal(index);
        }
        self.abandon_flights(index);
        let gone: Vec<_> =
            self.sessions.iter().filter(|(_, session)| session.node == index).map(|(id, _)| *id).collect();
        for session in gone {
            if let Some(session) = self.sessions.remove(&session) {
                self.shippers[session.shipper].disconnected();
            }
        }
    }

    /// The process stops as by SIGSTOP, for a while.
    pub(super) fn pause(&mut self, index: usize, length: Duration) {
        if !self.nodes[index].runs() {
            return;
        }
        self.pauses += 1;
        let pause = self.pauses;
        self.trace.line(self.now, || format!("n{} is paused for {length:?}", index + 1));
        self.nodes[index].paused = Some(pause);
        self.after(length, Event::Resume { node: index, pause });
    }

    /// It wakes up, and everything that waited happens at once.
    pub(super) fn resume(&mut self, index: usize, pause: u64) {
        if self.nodes[index].paused != Some(pause) {
            return;
        }
        self.trace.event(self.now, 3, index as u64);
        self.trace.line(self.now, || format!("n{} wakes up", index + 1));
        self.nodes[index].paused = None;
        if self.plan.depths.long_sleeps {
            self.nodes[index].clock.leap(LONG_SLEEP);
        }
        let waiting = core::mem::take(&mut self.nodes[index].waiting);
        for event in waiting {
            self.queue.push(self.now, event);
        }
        self.drain(index);
    }

    pub(super) fn kill(&mut self, index: usize, boot: u64) {
        if self.nodes[index].is_boot(boot) && self.may_crash(index) {
            self.crash(index);
            let delay = self.draws.faults.scale(Duration::from_millis(20), Duration::from_secs(2));
            self.after(delay, Event::Start { node: index });
        }
    }

    pub(super) fn peer(&mut self, from: usize, to: usize, message: ShardMessage) {
        let fenced = if let ShardMessage::CopyAck(ack) = &message { ack.fenced } else { None };
        self.feed(to, Input::Peer { from: node_id(from), message });
        // R9: whoever is told of a newer epoch has nothing to say in its own any more.
        if let (Some(fence), Some(machine)) = (fenced, &self.nodes[to].machine) {
            let status = machine.status();
            let stopped = status.role != "owner" || status.epoch >= fence;
            self.judge(Violation::unless(stopped, "a_fenced_owner_stops", || {
                format!("n{} was fenced by epoch {fence} and goes on in {}", to + 1, status.epoch)
            }));
        }
    }

    pub(super) fn timer(&mut self, index: usize, boot: u64, at: Instant) {
        let node = &mut self.nodes[index];
        if node.is_boot(boot) && node.timer == Some(at) {
            node.timer = None;
            self.feed(index, Input::Timeout);
        }
    }

    /// Tells the machine one thing and takes what it wants done.
    pub(super) fn feed(&mut self, index: usize, input: Input) {
        let now = self.nodes[index].clock.read(self.now);
        let Some(machine) = &mut self.nodes[index].machine else { return };
        self.trace.event(self.now, 4, index as u64);
        self.trace.line(self.now, || format!("n{} <- {}", index + 1, crate::describe::input(&input)));
        let mut effects: Effects = core::mem::take(&mut self.effects);
        let keeps = self.plan.sizes.resident_bytes_max;
        if keeps < u64::MAX {
            // Other shards of the node come and go: what is left for this one is less and more every 65 ms.
            machine.may_keep(keeps << (now.micros() >> 16 & 3));
        }
        machine.handle(now, input, &mut effects);
        let verdict = machine.check();
        self.take_effects(index, &mut effects);
        self.effects = effects;
        if let Err(violation) = verdict {
            let what = format!("n{}: {}", index + 1, violation.what);
            self.judge(Err(Violation::new(violation.rule, what)));
        }
        self.set_timer(index);
        self.drain(index);
    }

    /// Wakes the machine when it asks to be, or a little later.
    pub(super) fn set_timer(&mut self, index: usize) {
        let late = self.draws.timers.duration(Duration::ZERO, Duration::from_micros(500));
        let node = &mut self.nodes[index];
        let Some(wanted) = node.machine.as_ref().and_then(Shard::poll_timeout) else {
            node.timer = None;
            return;
        };
        let at = node.clock.when(wanted).max(self.now);
        // A timer that stands within the jitter of what is wanted serves.
        if node.timer.is_some_and(|timer| timer >= at && timer <= at + Duration::from_micros(500)) {
            return;
        }
        let at = at + late;
        node.timer = Some(at);
        let boot = node.boot;
        self.queue.push(at, Event::Timer { node: index, boot, at });
    }

    fn config(&self, index: usize) -> ShardConfig {
        ShardConfig {
            cluster: self.cluster,
            shard: ShardId(0),
            node: node_id(index),
            process: self.nodes[index].process,
            journal: self.nodes[index].journal.id,
            copies: self.plan.copies,
            min_copies: self.plan.min_copies,
            timing: self.plan.timing,
            sizes: self.plan.sizes,
            flaws: self.plan.broken.flaws(),
        }
    }

    fn clock(&mut self) -> Clock {
        let origin = Instant::from_micros(self.draws.ids.below(1 << 40));
        let per_mille = if self.plan.weather.clocks { self.draws.ids.between(800, 1250) } else { 1000 };
        Clock::new(self.now, origin, u32::try_from(per_mille).expect("small"))
    }

    pub(super) fn tell_placement(&mut self, index: usize) {
        let placement = Arc::clone(&self.nodes[index].placement);
        self.feed(index, Input::Placement(placement));
    }
}

fn started(index: usize, recovered: &RecoveredShard) -> String {
    let runs: Vec<String> = recovered
        .runs
        .iter()
        .filter_map(|(epoch, run)| Some(format!("e{epoch}: {}..={}", run.first()?.lsn, run.last()?.lsn)))
        .collect();
    format!("n{} starts, sealed {}, holds {runs:?}", index + 1, recovered.sealed)
}
