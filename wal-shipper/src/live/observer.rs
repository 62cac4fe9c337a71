//! Watches the shipper machine for people, for metrics and for the barrier: a snapshot a second, problems by partition, and
//! a second chance for partitions that stopped for a reason which may pass.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kennel_core::shipper::{Input, PartitionNews, PartitionPosition, PartitionProblem, Shipper, ShipperStatus};
use kennel_protocol::ids::PartitionKey;
use tokio::sync::mpsc;

use crate::ship::{Event, Watcher};

/// Between two snapshots: a walk over all partitions.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// A partition that stopped because of damage, or because its shard halted, is begun again after so long.
const SECOND_CHANCE: Duration = Duration::from_secs(30);

/// Everything at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Sums.
    pub status: ShipperStatus,
    /// Every partition, in key order.
    pub positions: Vec<PartitionPosition>,
    /// What stopped those that stopped.
    pub problems: BTreeMap<PartitionKey, PartitionProblem>,
}

/// The newest snapshot, shared. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Snapshots(Arc<Mutex<Arc<Snapshot>>>);

impl Snapshots {
    /// The newest one; empty before the first.
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Observer {
    snapshots: Snapshots,
    events: mpsc::Sender<Event>,
    problems: BTreeMap<PartitionKey, (PartitionProblem, Instant)>,
    last: Option<Instant>,
}

impl Observer {
    pub(crate) fn new(snapshots: Snapshots, events: mpsc::Sender<Event>) -> Self {
        Self { snapshots, events, problems: BTreeMap::new(), last: None }
    }

    fn give_second_chances(&mut self, shipper: &Shipper) {
        let waited =
            |(problem, since): &(PartitionProblem, Instant)| may_pass(problem) && since.elapsed() >= SECOND_CHANCE;
        let due: Vec<PartitionKey> =
            self.problems.iter().filter(|(_, stopped)| waited(stopped)).map(|(key, _)| *key).collect();
        for key in due {
            let Some(source) = shipper.source(key) else { continue };
            // Both or none. What does not fit into the queue now is due at the next look as well.
            let Ok(places) = self.events.try_reserve_many(2) else { return };
            for (place, input) in places.zip([Input::SourceGone(key), Input::Source(source)]) {
                place.send(Event::Input(input));
            }
            self.problems.remove(&key);
        }
    }
}

impl Watcher for Observer {
    fn progress(&mut self, _status: &ShipperStatus) {
        // All of it is in the snapshots.
    }

    fn news(&mut self, partition: PartitionKey, news: &PartitionNews) {
        match news {
            PartitionNews::Stopped(problem) => {
                self.problems.insert(partition, (problem.clone(), Instant::now()));
            }
            PartitionNews::Hole { from, to, reason } => {
                tracing::warn!(%partition, %from, %to, ?reason, "the server has no messages there: a hole is declared");
            }
            PartitionNews::Behind { end, next, same } => {
                tracing::warn!(%partition, %end, %next, same, "the server has less than the ring; waiting for more");
            }
        }
    }

    fn look(&mut self, shipper: &Shipper) {
        if self.last.is_some_and(|last| last.elapsed() < SNAPSHOT_INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        let positions: Vec<PartitionPosition> = shipper.positions().collect();
        let stopped = |key: &PartitionKey| {
            let at = positions.binary_search_by_key(key, |position| position.partition);
            at.is_ok_and(|at| positions[at].stopped)
        };
        self.problems.retain(|key, _| stopped(key));
        self.give_second_chances(shipper);
        let problems = self.problems.iter().map(|(key, (problem, _))| (*key, problem.clone())).collect();
        self.snapshots.put(Snapshot { status: shipper.status(), positions, problems });
    }
}

fn may_pass(problem: &PartitionProblem) -> bool {
    match problem {
        PartitionProblem::Damaged(_) | PartitionProblem::CorruptOnArrival(_) | PartitionProblem::ShardHalted(_) => true,
        PartitionProblem::Diverged { .. } | PartitionProblem::Misaligned { .. } => false,
    }
}
