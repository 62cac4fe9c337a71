//! What an owner's word changes for a partition: marks, problems, refusals.

use core::time::Duration;

use kennel_protocol::ids::{NodeId, Offset, PartitionKey, ShardId};
use kennel_protocol::wire::{PartitionMarks, ShipAck, ShipProblem, ShipRefusal};

use super::Shipper;
use super::contract::{Effects, PartitionNews, PartitionProblem, Until};
use super::partition::{CHUNK_COST_BYTES, Phase};
use crate::time::Instant;

/// After a rewind every chunk that was still under way is answered with the same "expected": echoes for this long.
/// A real second loss within it is found by the progress time-out.
const REWIND_ECHO: Duration = Duration::from_millis(250);

impl Shipper {
    pub(super) fn take_ack(&mut self, now: Instant, from: NodeId, ack: &ShipAck, effects: &mut Effects) {
        let Some(lane) = self.lanes.get(&ack.shard) else { return };
        if ack.epoch > lane.epoch {
            self.enter_epoch(ack.shard, ack.epoch);
            self.lanes.get_mut(&ack.shard).expect("the lane was there").owner = Some(from);
        }
        let lane = &self.lanes[&ack.shard];
        if let Some(refusal) = ack.refusal {
            // A node that lost the shard may not know the newest epoch, and still its "no" counts.
            if lane.owner == Some(from) && lane.paused_until.is_none() {
                self.take_refusal(now, ack.shard, refusal, effects);
            }
            return;
        }
        if ack.epoch < lane.epoch {
            return;
        }
        for marks in &ack.marks {
            let moving = self
                .tracks
                .get(&marks.partition)
                .is_some_and(|track| track.shard == ack.shard && track.phase == Phase::Moving);
            if moving {
                self.take_marks(now, marks);
            }
        }
        for (partition, problem) in &ack.problems {
            let moving = self
                .tracks
                .get(partition)
                .is_some_and(|track| track.shard == ack.shard && track.phase == Phase::Moving);
            if moving {
                self.take_problem(now, *partition, *problem, effects);
            }
        }
        if self.config.until != Until::Stopped {
            // What an import awaits is in these marks. A source without end also awaits what nobody tells of.
            self.lanes.get_mut(&ack.shard).expect("the lane was there").polled_at = now;
        }
    }

    fn take_refusal(&mut self, now: Instant, shard: ShardId, refusal: ShipRefusal, effects: &mut Effects) {
        match refusal {
            ShipRefusal::NotOwner => self.doubt_owner(now, shard),
            ShipRefusal::JournalFull | ShipRefusal::UploadsBehind => self.pause(now, shard),
            ShipRefusal::Halted => {
                let partitions: Vec<PartitionKey> = self.lanes[&shard].partitions.iter().copied().collect();
                for partition in partitions {
                    self.stop(partition, PartitionProblem::ShardHalted(shard), effects);
                }
            }
        }
    }

    fn take_problem(&mut self, now: Instant, partition: PartitionKey, problem: ShipProblem, effects: &mut Effects) {
        let track = self.tracks.get_mut(&partition).expect("the caller found it");
        match problem {
            ShipProblem::Expected(offset) => {
                let echo = track.rewound.is_some_and(|(to, at)| to == offset && now < at + REWIND_ECHO);
                // What was sent is already going to be there: only late news of an earlier state.
                if !echo && offset >= track.marks.committed {
                    self.rewind(now, partition, offset);
                }
            }
            ShipProblem::Diverged { ring, source } => {
                self.stop(partition, PartitionProblem::Diverged { ring, source_message: source }, effects);
            }
            ShipProblem::Corrupt => {
                let next = track.marks.next;
                if core::mem::replace(&mut track.corrupt_once, true) {
                    self.stop(partition, PartitionProblem::CorruptOnArrival(next), effects);
                } else {
                    self.rewind(now, partition, next);
                }
            }
        }
    }

    /// Marks of a moving partition, within the lane's epoch.
    pub(super) fn take_marks(&mut self, now: Instant, marks: &PartitionMarks) {
        let partition = marks.partition;
        let track = self.tracks.get_mut(&partition).expect("the caller found it");
        let before = track.marks;
        track.raise_marks(marks);
        let (landed, chunks) = track.land();
        let emptied = track.flight.is_empty();
        let (shard, cursor, committed) = (track.shard, track.cursor, track.marks.committed);
        let moved = track.marks != before;
        if track.marks.committed > before.committed {
            track.corrupt_once = false;
        }
        let lane = self.lanes.get_mut(&shard).expect("a track's shard has a lane");
        lane.held -= landed;
        self.status.bytes_held -= landed;
        self.status.bytes_committed += landed - chunks * CHUNK_COST_BYTES;
        if emptied {
            lane.flying.remove(&partition);
        }
        if moved {
            lane.progress_at = now;
            lane.failures = 0;
        }
        self.count_marks(partition, &before);
        if committed > cursor {
            // Another shipper was quicker.
            self.rewind(now, partition, committed);
        } else {
            self.list_ready(partition);
            self.settle(partition);
        }
    }

    /// Starts a moving partition again at an offset, forwards or backwards.
    pub(super) fn rewind(&mut self, now: Instant, partition: PartitionKey, to: Offset) {
        self.drop_work(partition);
        let track = self.tracks.get_mut(&partition).expect("a partition that was named has a track");
        track.cursor = to;
        track.rewound = Some((to, now));
        track.ending = track.ending.take().filter(|ending| ending.end() <= to);
        self.list_ready(partition);
        self.settle(partition);
    }

    /// Stops a partition for good; the others go on.
    pub(super) fn stop(&mut self, partition: PartitionKey, problem: PartitionProblem, effects: &mut Effects) {
        self.drop_work(partition);
        let track = self.tracks.get_mut(&partition).expect("a partition that was named has a track");
        if track.phase == Phase::Stopped {
            return;
        }
        track.phase = Phase::Stopped;
        if !core::mem::replace(&mut track.damaged, true) {
            self.status.stopped += 1;
        }
        let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
        lane.unplaced.remove(&partition);
        lane.asked.remove(&partition);
        effects.report(partition, PartitionNews::Stopped(problem));
        self.settle(partition);
    }

    /// Carries a change of marks into the sums.
    pub(super) fn count_marks(&mut self, partition: PartitionKey, before: &PartitionMarks) {
        let track = &self.tracks[&partition];
        let status = &mut self.status;
        let moved = |sum: u64, old, new| sum + track.below(new) - track.below(old);
        status.messages_committed = moved(status.messages_committed, before.committed, track.marks.committed);
        status.messages_stored = moved(status.messages_stored, before.stored, track.marks.stored);
    }
}
