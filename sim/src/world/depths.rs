//! What seldom goes wrong: clocks that jump, buckets that throttle, journals that rot, shippers that sleep.

use core::time::Duration;
use std::collections::BTreeSet;

use kennel_core::shard::{BucketRequest, BucketResult, Input, SlotBody};
use kennel_core::time::Instant;
use kennel_protocol::ids::{Epoch, JournalId, Slot};

use super::bucket_io::is_create;
use super::{PutFate, World};
use crate::event::Event;
use crate::plan::FaultKind;

/// The longest jump of a clock: as after a host that was suspended.
const LEAP_MAX: Duration = Duration::from_hours(1);
/// A poisoned journal's process is back after this long at most.
const POISONED_MAX: Duration = Duration::from_secs(4);
/// How many of a thousand requests a throttling bucket refuses.
const THROTTLED: u64 = 900;

/// Spells of bad weather, by when they end, and what they have done.
#[derive(Debug, Default)]
pub(super) struct Spells {
    throttled: Instant,
    pub(super) sluggish: Instant,
    claims_away: Instant,
    /// Uploads to slots of this remainder get no answer to their first try, for so long.
    pub(super) silent: Option<(u64, u64, Duration)>,
    /// Slots whose first try was met by that.
    silenced: BTreeSet<(Epoch, Slot)>,
    /// What arrived damaged, and where.
    garbled: BTreeSet<(usize, String)>,
}

impl World {
    pub(super) fn deep_fault(&mut self, kind: FaultKind, node: usize, length: Duration) {
        let until = self.now + length;
        match kind {
            FaultKind::Leap => self.leap(node),
            FaultKind::Throttle => self.spells.throttled = until,
            FaultKind::Sluggish => self.spells.sluggish = until,
            FaultKind::ClaimsAway => self.spells.claims_away = until,
            FaultKind::Rot => self.rot(node, length),
            FaultKind::Delude => self.delude(node, until),
            FaultKind::PauseShipper => self.pause_shipper(length),
            FaultKind::Neighbour => self.neighbour_fills(node, length),
            FaultKind::Rollback => {
                let (index, count) = (self.draw_source(), self.draws.depths.between(1, 20));
                self.lose_tail(index, count);
            }
            FaultKind::Recreate => {
                let index = self.draw_source();
                self.recreate(index);
            }
            _ => unreachable!("the everyday faults are done elsewhere"),
        }
    }

    /// What becomes of a request while the bucket is under a spell.
    pub(super) fn under_a_spell(&mut self, request: &BucketRequest) -> Option<PutFate> {
        let of_a_claim = matches!(
            request,
            BucketRequest::FindClaim { .. } | BucketRequest::ReadClaim { .. } | BucketRequest::CreateClaim(_)
        );
        let claims_away = of_a_claim && self.now < self.spells.claims_away;
        let throttled = self.now < self.spells.throttled && self.draws.depths.chance(THROTTLED);
        let lost = claims_away && is_create(request) && self.draws.depths.chance(500);
        (claims_away || throttled).then_some(if lost { PutFate::NothingUnknown } else { PutFate::Failed })
    }

    /// The first upload to some slots is stuck; what is sent to them later is not.
    pub(super) fn falls_silent(&mut self, request: &BucketRequest) -> Option<PutFate> {
        let (every, remainder, length) = self.spells.silent?;
        let BucketRequest::CreateSlot { epoch, slot, body } = request else { return None };
        let is_log = matches!(body.as_ref(), SlotBody::Log { .. });
        let hit = is_log && slot.0 % every == remainder && self.spells.silenced.insert((*epoch, *slot));
        hit.then_some(PutFate::Silent(length))
    }

    /// A search for the newest claim may miss it. Reads by name are strong in every store that passes the probe (R30).
    pub(super) fn perhaps_stale(&mut self, request: &BucketRequest, result: BucketResult) -> BucketResult {
        let (BucketRequest::FindClaim { above }, BucketResult::Claim(Some(newest))) = (request, &result) else {
            return result;
        };
        if !self.stormy || !self.draws.depths.chance(self.plan.depths.stale_claims) {
            return result;
        }
        let older = Epoch(newest.epoch.0 - 1);
        BucketResult::Claim(self.bucket.claim(older).filter(|claim| claim.epoch > *above).cloned())
    }

    /// What is read may arrive damaged: the object itself is whole, and the next read shows it.
    pub(super) fn perhaps_garbled(
        &mut self,
        node: usize,
        request: &BucketRequest,
        result: BucketResult,
    ) -> BucketResult {
        let found = match &result {
            BucketResult::Claim(found) => found.is_some(),
            BucketResult::Slot(found) => found.is_some(),
            BucketResult::Manifest(found) => found.is_some(),
            _ => false,
        };
        if !found || !self.stormy || !self.draws.depths.chance(self.plan.depths.garbled) {
            return result;
        }
        let fresh = self.spells.garbled.insert((node, format!("{request:?}")));
        if fresh { BucketResult::Unreadable("what arrived does not verify".to_owned()) } else { result }
    }

    /// A sync that fails poisons the journal, and the journal takes its process down: what was not synced before may be
    /// there after all.
    pub(super) fn sync_fails(&mut self, node: usize) -> bool {
        let fails = self.stormy && self.draws.depths.chance(self.plan.depths.sync_fail) && self.may_crash(node);
        if fails {
            self.trace.line(self.now, || format!("n{} cannot sync its journal", node + 1));
            self.crash(node);
            let delay = self.draws.depths.scale(Duration::from_millis(10), POISONED_MAX);
            self.after(delay, Event::Start { node });
        }
        fails
    }

    pub(super) fn neighbour_frees(&mut self, node: usize) {
        if core::mem::take(&mut self.nodes[node].neighbours) == 0 {
            return;
        }
        let node_now = &mut self.nodes[node];
        if !node_now.room && node_now.journal_bytes() < self.plan.journal_bytes_max / 2 {
            node_now.room = true;
            self.feed(node, Input::JournalRoom(true));
        }
    }

    /// All spells are over.
    pub(super) fn end_spells(&mut self) {
        self.spells = Spells::default();
        for node in 0..self.nodes.len() {
            self.nodes[node].deluded = None;
            self.neighbour_frees(node);
        }
        for shipper in &mut self.shippers {
            shipper.asleep_until = shipper.asleep_until.min(self.now);
        }
    }

    /// A paused process that may sleep on while everything else heals.
    pub(super) fn sleeper(&self) -> Option<usize> {
        let sleeps = |node: &usize| self.nodes[*node].paused.is_some() && self.may_lose(*node);
        (0..self.nodes.len()).find(sleeps).filter(|_| self.plan.depths.oversleeps)
    }

    /// Wakes who slept through the healing; answers whether anybody did.
    pub(super) fn wake_sleepers(&mut self) -> bool {
        let mut woken = false;
        for node in 0..self.nodes.len() {
            if let Some(pause) = self.nodes[node].paused {
                self.resume(node, pause);
                woken = true;
            }
        }
        woken
    }

    fn leap(&mut self, node: usize) {
        let by = self.draws.depths.scale(Duration::from_millis(100), LEAP_MAX);
        self.nodes[node].clock.leap(by);
        if self.nodes[node].is_up() {
            self.set_timer(node);
        }
    }

    fn rot(&mut self, node: usize, length: Duration) {
        if self.may_lose(node) {
            self.crash(node);
            let id = JournalId(self.draws.depths.id());
            self.nodes[node].journal.rot(id, &mut self.draws.depths);
            self.after(length, Event::Start { node });
        }
    }

    fn delude(&mut self, node: usize, until: Instant) {
        let group = self.draws.depths.number();
        let believed = (0..self.nodes.len()).filter(|other| *other == node || group >> other & 1 == 1);
        self.nodes[node].deluded = Some((until, believed.collect()));
    }

    /// A shipper stops with a frame in hand and sends it when it wakes up, whatever happened meanwhile.
    fn pause_shipper(&mut self, length: Duration) {
        let index = self.draws.depths.index(self.shippers.len());
        let until = self.now + length;
        if self.now < self.shippers[index].asleep_until {
            return;
        }
        let session = self.shippers[index].session;
        let in_hand = session.and_then(|_| self.shippers[index].act(self.now, &self.plan.workload, &self.sources));
        if let (Some(session), Some(says)) = (session, in_hand) {
            self.queue.push(until, Event::FromShipper { session, says });
        }
        self.shippers[index].asleep_until = until;
    }

    /// Another shard of the node is stuck: its entries fill the journal that all shards share.
    fn neighbour_fills(&mut self, node: usize, length: Duration) {
        self.nodes[node].neighbours = self.plan.journal_bytes_max;
        self.watch_room(node);
        self.after(length, Event::NeighbourFrees { node });
    }

    /// A host comes back without its newest messages. Its shippers come back with it.
    pub(super) fn lose_tail(&mut self, index: usize, count: u64) {
        let source = &mut self.sources[index];
        source.lose_tail(count);
        let end = source.end();
        self.trace.line(self.now, || format!("source {index} ends at {end} again"));
        self.restart_shippers();
    }

    /// A topic is deleted and created again: another incarnation.
    pub(super) fn recreate(&mut self, index: usize) {
        if self.sources[index].deleted {
            return;
        }
        let successor = self.sources[index].recreate();
        self.trace.line(self.now, || format!("source {index} is deleted, {} follows it", successor.key));
        self.sources.push(successor);
        self.restart_shippers();
    }

    fn draw_source(&mut self) -> usize {
        self.draws.depths.index(self.sources.len())
    }

    fn restart_shippers(&mut self) {
        self.sessions.clear();
        for shipper in &mut self.shippers {
            shipper.restart(self.sources.len());
        }
    }
}
