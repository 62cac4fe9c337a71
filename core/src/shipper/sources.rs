//! Which partitions there are: a source that names one, has more or less of it than before, or has it no more.
//!
//! Knows nothing of owners but that a partition's shard has one.

use kennel_protocol::ids::{Epoch, PartitionKey, ShardId};

use super::Shipper;
use super::contract::{PartitionPosition, SourceState};
use super::lane::Lane;
use super::partition::{Ending, Phase, Track};
use crate::time::Instant;

impl Shipper {
    /// Where every partition stands, in key order. Walks them all.
    pub fn positions(&self) -> impl Iterator<Item = PartitionPosition> {
        self.tracks.iter().map(|(partition, track)| PartitionPosition {
            partition: *partition,
            source_end: track.source.end,
            next: track.placed.then_some(track.marks.next),
            committed: track.marks.committed,
            stored: track.marks.stored,
            stopped: track.phase == Phase::Stopped || track.damaged,
        })
    }

    /// What the source last said of a partition.
    pub fn source(&self, partition: PartitionKey) -> Option<SourceState> {
        self.tracks.get(&partition).map(|track| track.source)
    }

    /// Names a partition, or learns that the source has more or less of it.
    pub(super) fn take_source(&mut self, source: SourceState) {
        let partition = source.partition;
        let Some(track) = self.tracks.get_mut(&partition) else {
            self.status.partitions += 1;
            // The shard is known once a view told the shard count; until then the partition stands in lane 0.
            let shard = self.view.as_ref().map_or(ShardId(0), |view| partition.shard(view.shard_count));
            self.tracks.insert(partition, Track::new(shard, source));
            self.enlist(partition, shard);
            return;
        };
        track.source = source;
        let elsewhere = match &track.ending {
            Some(Ending::Exhausted { end }) => source.end.is_some_and(|source_end| source_end != *end),
            Some(Ending::Damaged { .. }) | None => false,
        };
        if elsewhere {
            track.ending = None;
            self.forget_doubt(partition);
            self.settle(partition);
            self.list_ready(partition);
        }
    }

    /// Forgets a partition that the source has no more. A read under way keeps its reservation until it is answered.
    pub(super) fn forget(&mut self, partition: PartitionKey) {
        if !self.tracks.contains_key(&partition) {
            return;
        }
        self.drop_work(partition);
        let track = self.tracks.remove(&partition).expect("it was just seen");
        let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
        for set in [&mut lane.partitions, &mut lane.unplaced, &mut lane.asked, &mut lane.awaited] {
            set.remove(&partition);
        }
        for list in [&mut lane.ready, &mut lane.sendable] {
            list.retain(|listed| *listed != partition);
        }
        self.status.partitions -= 1;
        self.status.settled -= usize::from(track.settled);
        self.status.stopped -= usize::from(track.damaged);
    }

    pub(super) fn enlist(&mut self, partition: PartitionKey, shard: ShardId) {
        let lane = self.lanes.entry(shard).or_insert_with(|| {
            let seen = self.view.as_ref().and_then(|view| view.shards.iter().find(|seen| seen.shard == shard));
            let (epoch, owner) = seen.map_or((Epoch(0), None), |seen| (seen.epoch, seen.owner));
            Lane { epoch, owner, ..Lane::default() }
        });
        lane.partitions.insert(partition);
        lane.unplaced.insert(partition);
        if lane.owner.is_none() && self.view.is_some() && self.view_asked.is_none() && self.view_at.is_none() {
            // Nobody else would ask: the lane did not exist when the view came.
            self.view_at = Some(Instant::default());
        }
    }
}

impl Track {
    /// Whether the bucket is not known to have all that the ring has.
    pub(super) fn is_unstored(&self) -> bool {
        self.marks.stored < self.marks.next
    }
}
