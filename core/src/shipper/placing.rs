//! Whom a shipper speaks to: views, sessions, positions, and pauses when any of them goes wrong.

use core::time::Duration;

use kennel_protocol::ids::{Epoch, NodeId, PartitionKey, ShardId};
use kennel_protocol::wire::{PartitionMarks, Positions, PositionsRequest, View};
use rand_core::Rng;

use super::Shipper;
use super::contract::{Effect, Effects};
use super::lane::Lane;
use super::partition::{Ending, Phase};
use crate::time::Instant;

/// Pauses double at most this often: 64 times the shortest one.
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

impl Shipper {
    pub(super) fn take_view(&mut self, now: Instant, view: View) {
        self.view_asked = None;
        let expected = self.view.as_ref().map_or(view.shard_count, |known| known.shard_count);
        if view.shard_count == 0 || view.shard_count != expected {
            return self.view_failed(now);
        }
        if self.view.is_none() {
            self.assign_shards(view.shard_count);
        }
        for shard in &view.shards {
            let Some(lane) = self.lanes.get_mut(&shard.shard) else { continue };
            if shard.epoch < lane.epoch {
                continue;
            }
            if shard.epoch > lane.epoch {
                self.enter_epoch(shard.shard, shard.epoch);
            }
            let known = shard.owner.filter(|owner| view.nodes.iter().any(|node| node.node == *owner));
            let lane = self.lanes.get_mut(&shard.shard).expect("the lane was there");
            lane.owner = known.or(lane.owner);
        }
        self.view = Some(view);
        if self.lanes.values().any(|lane| lane.owner.is_none()) {
            self.view_failed(now);
        } else {
            self.view_failures = 0;
            self.view_at = None;
            self.avoid = None;
        }
    }

    pub(super) fn view_failed(&mut self, now: Instant) {
        self.view_asked = None;
        self.view_failures += 1;
        self.view_at = Some(now + self.backoff(self.view_failures));
    }

    pub(super) fn session_up(&mut self, node: NodeId) {
        self.connecting.remove(&node);
        self.sessions.insert(node);
    }

    pub(super) fn session_lost(&mut self, now: Instant, node: NodeId) {
        self.connecting.remove(&node);
        self.sessions.remove(&node);
        for shard in self.shards_of(node) {
            self.doubt_owner(now, shard);
        }
    }

    pub(super) fn take_positions(&mut self, now: Instant, from: NodeId, positions: &Positions) {
        let shard = positions.shard;
        let Some(lane) = self.lanes.get(&shard) else { return };
        if positions.epoch < lane.epoch {
            return self.positions_failed(now, from, shard);
        }
        if positions.epoch > lane.epoch {
            self.enter_epoch(shard, positions.epoch);
            self.lanes.get_mut(&shard).expect("the lane was there").owner = Some(from);
        }
        for marks in &positions.marks {
            let Some(track) = self.tracks.get(&marks.partition) else { continue };
            match track.phase {
                _ if track.shard != shard => {}
                Phase::Unplaced => self.place(now, marks),
                Phase::Moving => self.take_marks(now, marks),
                Phase::Stopped => {}
            }
        }
        let lane = self.lanes.get_mut(&shard).expect("the lane was there");
        lane.polled_at = now;
    }

    pub(super) fn positions_failed(&mut self, now: Instant, from: NodeId, shard: ShardId) {
        if self.lanes.get(&shard).is_some_and(|lane| lane.owner == Some(from)) {
            self.doubt_owner(now, shard);
        }
    }

    pub(super) fn take_timeout(&mut self, now: Instant, effects: &mut Effects) {
        if self.view_asked.is_some_and(|asked| now >= asked + self.config.answer_timeout) {
            self.view_failed(now);
        }
        let mut doubted = Vec::new();
        for (shard, lane) in &mut self.lanes {
            if lane.paused_until.is_some_and(|until| now >= until) {
                lane.paused_until = None;
                // The pause was no time in which the owner could have answered.
                lane.progress_at = now;
            }
            let silent = !lane.asked.is_empty() && now >= lane.asked_at + self.config.answer_timeout;
            let stuck = !lane.flying.is_empty() && now >= lane.progress_at + self.config.progress_timeout;
            if silent || stuck {
                doubted.push(*shard);
            }
        }
        for shard in doubted {
            self.doubt_owner(now, shard);
        }
        let unheard = self.lanes.iter().filter(|(_, lane)| !lane.comparing.is_empty() && now >= lane.compare_at);
        for shard in unheard.map(|(shard, _)| *shard).collect::<Vec<_>>() {
            self.compare_again(now, shard, effects);
        }
    }

    /// The next time at which a lane wants [`Self::take_timeout`] or a poll.
    pub(super) fn lane_deadline(&self, lane: &Lane) -> Option<Instant> {
        if lane.paused_until.is_some() {
            return lane.paused_until;
        }
        let open = lane.open_to(&self.sessions).is_some();
        let answer = (!lane.asked.is_empty()).then(|| lane.asked_at + self.config.answer_timeout);
        let progress = (!lane.flying.is_empty()).then(|| lane.progress_at + self.config.progress_timeout);
        let poll = (open && !lane.awaited.is_empty()).then(|| lane.polled_at + self.config.poll_interval);
        let compare = (!lane.comparing.is_empty() || (open && !lane.doubtful.is_empty())).then_some(lane.compare_at);
        [answer, progress, poll, compare].into_iter().flatten().min()
    }

    /// The owner refused, fell silent or is gone: everything under way there is dropped and the view is asked, after
    /// a pause, from somebody else.
    pub(super) fn doubt_owner(&mut self, now: Instant, shard: ShardId) {
        self.pause(now, shard);
        let lane = self.lanes.get_mut(&shard).expect("a doubted shard has a lane");
        self.avoid = lane.owner.take();
        let at = lane.paused_until.unwrap_or(now);
        self.view_at = Some(self.view_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Nothing is sent to the shard for a while; what was in flight is taken as refused.
    pub(super) fn pause(&mut self, now: Instant, shard: ShardId) {
        let lane = self.lanes.get_mut(&shard).expect("a paused shard has a lane");
        lane.failures += 1;
        let failures = lane.failures;
        // What was read and not sent goes as well: budgets are for shards that move.
        let uncertain: Vec<PartitionKey> =
            lane.flying.iter().chain(&lane.asked).chain(&lane.sendable).copied().collect();
        for partition in uncertain {
            self.unplace(partition);
        }
        let until = now + self.backoff(failures);
        self.lanes.get_mut(&shard).expect("the lane was there").paused_until = Some(until);
    }

    /// A newer epoch speaks: what an older one said about positions is void.
    pub(super) fn enter_epoch(&mut self, shard: ShardId, epoch: Epoch) {
        let lane = self.lanes.get_mut(&shard).expect("an epoch is entered by a shard with a lane");
        assert!(epoch > lane.epoch, "epochs only grow");
        lane.epoch = epoch;
        lane.owner = None;
        let partitions: Vec<PartitionKey> = lane.partitions.iter().copied().collect();
        for partition in partitions {
            self.unplace(partition);
        }
    }

    /// Drops what is under way of a partition until the owner said again where it stands.
    pub(super) fn unplace(&mut self, partition: PartitionKey) {
        let track = self.tracks.get_mut(&partition).expect("a partition of a lane has a track");
        if track.phase == Phase::Stopped {
            return;
        }
        track.phase = Phase::Unplaced;
        self.drop_work(partition);
        let shard = self.tracks[&partition].shard;
        let lane = self.lanes.get_mut(&shard).expect("a track's shard has a lane");
        lane.asked.remove(&partition);
        lane.unplaced.insert(partition);
        self.settle(partition);
    }

    /// Frees what was read and sent of a partition.
    pub(super) fn drop_work(&mut self, partition: PartitionKey) {
        if self.tracks[&partition].doubt.is_some() {
            self.forget_doubt(partition);
            // Nobody was asked, so the end that raised the doubt must be met again.
            let track = self.tracks.get_mut(&partition).expect("it was just seen");
            track.ending = track.ending.take().filter(|ending| matches!(ending, Ending::Damaged { .. }));
        }
        let track = self.tracks.get_mut(&partition).expect("a partition of a lane has a track");
        let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
        let (boxed, flown) = track.drop_work();
        lane.flying.remove(&partition);
        lane.boxed -= boxed;
        lane.held -= boxed + flown;
        self.status.bytes_held -= boxed + flown;
    }

    /// The owner said where a partition stands: shipping starts there.
    fn place(&mut self, now: Instant, marks: &PartitionMarks) {
        let partition = marks.partition;
        let track = self.tracks.get_mut(&partition).expect("the caller found it");
        let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
        lane.unplaced.remove(&partition);
        lane.asked.remove(&partition);
        let before = track.marks;
        track.marks = *marks;
        track.phase = Phase::Moving;
        track.placed = true;
        self.count_marks(partition, &before);
        self.rewind(now, partition, marks.next);
    }

    pub(super) fn ask_view(&mut self, now: Instant, effects: &mut Effects) {
        if self.view_asked.is_none() && self.view_at.is_some_and(|at| now >= at) {
            self.view_at = None;
            self.view_asked = Some(now);
            effects.push(Effect::AskView { avoid: self.avoid });
        }
    }

    pub(super) fn connect(&mut self, effects: &mut Effects) {
        let Some(view) = &self.view else { return };
        for lane in self.lanes.values() {
            let Some(owner) = lane.owner else { continue };
            let known = view.nodes.iter().find(|node| node.node == owner);
            if let Some(known) = known
                && lane.paused_until.is_none()
                && !self.sessions.contains(&owner)
                && self.connecting.insert(owner)
            {
                effects.push(Effect::Connect { node: owner, address: known.address.clone() });
            }
        }
    }

    /// Asks the owners of open lanes where unplaced partitions stand, and how far the awaited ones are.
    pub(super) fn ask_positions(&mut self, now: Instant, effects: &mut Effects) {
        for (shard, lane) in &mut self.lanes {
            let Some(node) = lane.open_to(&self.sessions) else { continue };
            let mut ask = |partitions| {
                effects.push(Effect::AskPositions { node, request: PositionsRequest { shard: *shard, partitions } });
            };
            // One question at a time: the answer to the last one paces the next.
            if lane.asked.is_empty() && !lane.unplaced.is_empty() {
                let partitions = take_first(&mut lane.unplaced, self.config.positions_max);
                lane.asked.extend(&partitions);
                lane.asked_at = now;
                lane.polled_at = now;
                ask(partitions);
            } else if !lane.awaited.is_empty() && now >= lane.polled_at + self.config.poll_interval {
                lane.polled_at = now;
                ask(next_awaited(lane, self.config.positions_max));
            }
        }
    }

    /// An exponential pause with a jitter of half to one and a half.
    fn backoff(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(BACKOFF_DOUBLINGS_MAX);
        let pause = (self.config.backoff_min * (1 << doublings)).min(self.config.backoff_max);
        pause / 2 + pause * (self.random.next_u32() % 1024) / 1024
    }

    fn shards_of(&self, node: NodeId) -> Vec<ShardId> {
        self.lanes.iter().filter(|(_, lane)| lane.owner == Some(node)).map(|(shard, _)| *shard).collect()
    }

    /// The first view told the shard count: partitions move from lane 0 to their own.
    fn assign_shards(&mut self, shard_count: u16) {
        self.lanes.clear();
        let partitions: Vec<PartitionKey> = self.tracks.keys().copied().collect();
        for partition in partitions {
            let shard = partition.shard(shard_count);
            self.tracks.get_mut(&partition).expect("it was just listed").shard = shard;
            self.enlist(partition, shard);
        }
    }
}

fn take_first(set: &mut std::collections::BTreeSet<PartitionKey>, count: usize) -> Vec<PartitionKey> {
    let mut taken = Vec::with_capacity(count.min(set.len()));
    while taken.len() < count
        && let Some(partition) = set.pop_first()
    {
        taken.push(partition);
    }
    taken
}

/// The next awaited partitions after those polled last, round and round.
fn next_awaited(lane: &mut Lane, count: usize) -> Vec<PartitionKey> {
    use core::ops::Bound;
    let after = lane.poll_after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut partitions: Vec<PartitionKey> =
        lane.awaited.range((after, Bound::Unbounded)).take(count).copied().collect();
    if partitions.is_empty() {
        partitions = lane.awaited.iter().take(count).copied().collect();
    }
    lane.poll_after = partitions.last().copied();
    partitions
}
