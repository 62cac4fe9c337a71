//! What goes wrong, drawn.

use core::time::Duration;
use std::sync::Arc;

use kennel_core::shard::{Input, RoleChange};
use kennel_protocol::ids::{Epoch, JournalId};

use super::World;
use crate::event::Event;
use crate::node::Node;
use crate::plan::FaultKind;

const BRIEF: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(8);
/// How long after its claim a process may be struck.
const AMBUSH_MAX: Duration = Duration::from_secs(2);

impl World {
    /// Something goes wrong, and something else later.
    pub(super) fn fault(&mut self) {
        if !self.stormy {
            return;
        }
        let mean = self.plan.weather.fault_every;
        let next = self.draws.faults.duration(mean / 4, mean * 2);
        self.after(next, Event::Fault);
        if self.plan.weather.faults.is_empty() {
            return;
        }
        let kinds = &self.plan.weather.faults;
        let kind = kinds[self.draws.faults.index(kinds.len())];
        let node = self.draws.faults.index(self.nodes.len());
        let length = self.draws.faults.scale(BRIEF, LONG);
        self.trace.line(self.now, || format!("FAULT {kind:?} n{} {length:?}", node + 1));
        match kind {
            FaultKind::Crash => self.crash_for(node, length),
            FaultKind::CrashAll => self.crash_all(length),
            FaultKind::Pause => self.pause(node, length),
            FaultKind::Split => self.split(length),
            FaultKind::OneWay => self.cut_one_way(node, length),
            FaultKind::Outage => self.outage(node, length),
            FaultKind::LoseDisk => self.lose_disk_for(node, length),
            FaultKind::Stop => self.stop(node, length),
            FaultKind::Flap => self.flap(node),
            FaultKind::Collect => self.collect(),
            _ => self.deep_fault(kind, node, length),
        }
    }

    /// A process has claimed: it may be struck in the middle of its take-over, or soon after.
    pub(super) fn ambush(&mut self, node: usize) {
        if self.stormy && self.draws.faults.chance(self.plan.weather.ambush) {
            let delay = self.draws.faults.scale(Duration::from_millis(1), AMBUSH_MAX);
            self.after(delay, Event::Ambush { node, boot: self.nodes[node].boot });
        }
    }

    pub(super) fn strike(&mut self, node: usize, boot: u64) {
        if !self.stormy || !self.nodes[node].is_boot(boot) {
            return;
        }
        let length = self.draws.faults.scale(BRIEF, LONG);
        if self.draws.faults.chance(500) {
            self.crash_for(node, length);
        } else {
            self.pause(node, length);
        }
    }

    /// Whether a crash of this node loses only what a quorum tolerates.
    pub(super) fn may_crash(&self, node: usize) -> bool {
        !self.plan.forgetful || self.may_lose(node)
    }

    /// Whether the node's journal may vanish: every copy set that may still be needed keeps enough journals.
    pub(super) fn may_lose(&self, node: usize) -> bool {
        if self.plan.loss_allowed {
            return true;
        }
        let newest_open = self.bucket.newest_open().unwrap_or(Epoch(1));
        // A process that was told to stop ends soon, and what is in memory alone ends with it.
        let keeps = |index: usize, other: &Node| index != node && !(self.plan.forgetful && other.stopping);
        let lost = |id: &JournalId, epoch: Epoch| {
            let mut nodes = self.nodes.iter().enumerate();
            !nodes.any(|(index, other)| keeps(index, other) && other.journal.speaks_for(*id, epoch))
        };
        self.bucket.claims_from(newest_open).all(|claim| {
            let copies = &claim.copyset.copies;
            let gone = copies.iter().filter(|(id, _)| lost(id, claim.epoch)).count();
            gone + usize::from(claim.copyset.quorum) <= copies.len()
        })
    }

    pub(super) fn mend(&mut self, links: &[(usize, usize)], storm: u64) {
        if storm == self.storms {
            for (from, to) in links {
                self.network.mend(*from, *to);
            }
        }
    }

    /// PROTOCOL R2: an operator reads that the past is unreachable and, where that is allowed, accepts a loss.
    pub(super) fn operator_sees(&mut self, node: usize) {
        if self.plan.loss_allowed && self.draws.faults.chance(300) {
            self.force(node);
        }
    }

    pub(super) fn force(&mut self, node: usize) {
        self.forced = true;
        self.feed(node, Input::Force);
    }

    fn crash_for(&mut self, node: usize, length: Duration) {
        if self.may_crash(node) {
            self.crash(node);
            self.after(length, Event::Start { node });
        }
    }

    fn crash_all(&mut self, length: Duration) {
        for node in 0..self.nodes.len() {
            if self.may_crash(node) {
                self.crash(node);
                let delay = self.draws.faults.duration(Duration::ZERO, length);
                self.after(delay, Event::Start { node });
            }
        }
    }

    fn lose_disk_for(&mut self, node: usize, length: Duration) {
        if self.may_lose(node) {
            self.crash(node);
            self.lose_journal(node);
            self.after(length, Event::Start { node });
        }
    }

    /// A random group loses the others, in both directions.
    fn split(&mut self, length: Duration) {
        let ends = self.nodes.len() + self.shippers.len();
        let group = self.draws.faults.number();
        let inside = |end: usize| group >> (end % 64) & 1 == 1;
        let pairs = (0..ends).flat_map(|from| (0..ends).map(move |to| (from, to)));
        let links = pairs.filter(|(from, to)| inside(*from) != inside(*to)).collect();
        self.cut_links(links, length);
    }

    /// What a node says to one, or to all, is lost.
    fn cut_one_way(&mut self, node: usize, length: Duration) {
        let ends = self.nodes.len() + self.shippers.len();
        let other = self.draws.faults.index(ends);
        let links = match self.draws.faults.below(3) {
            0 => (0..ends).map(|to| (node, to)).collect(),
            1 => (0..ends).map(|from| (from, node)).collect(),
            _ => vec![(node, other)],
        };
        self.cut_links(links, length);
    }

    pub(super) fn cut_links(&mut self, links: Vec<(usize, usize)>, length: Duration) {
        for (from, to) in &links {
            self.network.cut(*from, *to);
        }
        self.after(length, Event::Mend { links, storm: self.storms });
    }

    fn outage(&mut self, node: usize, length: Duration) {
        let all = self.draws.faults.chance(500);
        if all {
            self.bucket_down.fill(true);
        } else {
            self.bucket_down[node] = true;
        }
        self.after(length, Event::BucketBack { node: (!all).then_some(node) });
    }

    fn stop(&mut self, node: usize, length: Duration) {
        // What is in memory alone ends with its process: people stop such nodes one after the other.
        let alone = !self.plan.forgetful || self.nodes.iter().all(|node| !node.stopping);
        if !self.nodes[node].runs() || !alone || !self.may_crash(node) {
            return;
        }
        self.nodes[node].stopping = true;
        let boot = self.nodes[node].boot;
        self.feed(node, Input::Stop);
        self.after(length, Event::Kill { node, boot });
    }

    fn flap(&mut self, node: usize) {
        let group = self.draws.faults.number();
        let members: Vec<usize> =
            (0..self.nodes.len()).filter(|other| *other == node || group >> other & 1 == 1).collect();
        if self.nodes[node].runs() {
            self.nodes[node].placement = Arc::new(self.placement_of(&members));
            self.tell_placement(node);
        }
    }

    /// Everything is well again: processes run, links are whole, the bucket answers.
    pub(super) fn heal(&mut self) {
        self.trace.line(self.now, || "HEAL".to_owned());
        self.stormy = false;
        self.storms += 1;
        self.network.mend_all();
        self.bucket_down.fill(false);
        let weather = crate::plan::Weather { clocks: self.plan.weather.clocks, ..crate::plan::Weather::calm() };
        self.plan.weather = weather;
        self.end_spells();
        let sleeper = self.sleeper();
        for node in 0..self.nodes.len() {
            if let Some(pause) = self.nodes[node].paused.filter(|_| sleeper != Some(node)) {
                self.resume(node, pause);
            }
            self.start(node);
        }
        self.restart_stopped();
        for shipper in &mut self.shippers {
            shipper.catch_up();
        }
    }

    /// A process that was stopped in good order ends and comes back, if its journal can be missed.
    pub(super) fn restart_stopped(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].stopping && self.may_crash(node) {
                self.crash(node);
                self.start(node);
            }
        }
    }

    /// How many nodes say that they own the shard.
    pub(super) fn owners(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.nodes.iter().filter_map(|node| match node.role {
            RoleChange::Owner { .. } if node.runs() => node.owns(),
            _ => None,
        })
    }
}
