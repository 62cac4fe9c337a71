//! What `/status` answers: one document about one shipper. Fields are added and never renamed.

use kennel_core::shipper::{PartitionPosition, PartitionProblem};
use serde::{Deserialize, Serialize};

use super::health::SourceHealth;
use super::observer::Snapshot;

/// How many partitions are named: those that lag most, and of those that stopped. The sums count all.
const NAMED_MAX: usize = 20;

/// The shipper as it sees itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LiveReport {
    /// Whether it ships: it has a session to the server, and nothing diverged.
    pub ready: bool,
    /// Why not, or what a person should know.
    pub reason: Option<String>,
    /// The program's version.
    pub version: String,
    /// The Iggy server.
    pub source: SourceReport,
    /// Partitions that are shipped.
    pub partitions: usize,
    /// Of those, stopped with a problem.
    pub stopped: usize,
    /// Of those, because the ring holds other messages at the same offsets (PROTOCOL R15).
    pub diverged: usize,
    /// Partitions of which the ring has more than the server: it is waited for.
    pub behind: usize,
    /// Messages of the server that the ring has not acknowledged.
    pub uncommitted_messages: u64,
    /// Messages of the server that are not known to be in the bucket.
    pub unstored_messages: u64,
    /// Bytes sent, counting what was sent twice.
    pub bytes_sent: u64,
    /// Bytes that the ring has acknowledged.
    pub bytes_committed: u64,
    /// Bytes read and not acknowledged.
    pub bytes_held: u64,
    /// The partitions that lag most, the worst first.
    pub lagging: Vec<LagReport>,
    /// Some of the partitions that stopped.
    pub problems: Vec<StoppedReport>,
}

/// The Iggy server, as its shipper sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceReport {
    /// Whether the watch has a session.
    pub connected: bool,
    /// Why not.
    pub trouble: Option<String>,
    /// Sessions of the watch since the start.
    pub sessions: u64,
    /// Rounds of the watch since the start.
    pub rounds: u64,
    /// Processor time of the watch.
    pub watch_cpu_seconds: f64,
}

/// How far a partition is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LagReport {
    /// Which.
    pub partition: String,
    /// Where the server ends.
    pub end: u64,
    /// On a quorum below it.
    pub committed: u64,
    /// In the bucket below it.
    pub stored: u64,
}

/// A partition that stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoppedReport {
    /// Which.
    pub partition: String,
    /// Why.
    pub problem: String,
}

impl LiveReport {
    /// From a snapshot.
    pub fn new(snapshot: &Snapshot, health: &SourceHealth) -> Self {
        let source = SourceReport {
            connected: health.trouble().is_none(),
            trouble: health.trouble(),
            sessions: health.sessions(),
            rounds: health.rounds(),
            watch_cpu_seconds: health.cpu().as_secs_f64(),
        };
        let is_diverged = |problem: &&PartitionProblem| matches!(problem, PartitionProblem::Diverged { .. });
        let diverged = snapshot.problems.values().filter(is_diverged).count();
        let reason = match (&source.trouble, diverged) {
            (Some(trouble), _) => Some(trouble.clone()),
            (None, 0) => None,
            (None, count) => Some(format!("{count} partitions diverged; see `Diverged` in docs/OPERATING.md")),
        };
        let problem = |(key, problem): (&_, &PartitionProblem)| {
            let partition: &kennel_protocol::ids::PartitionKey = key;
            StoppedReport { partition: partition.to_string(), problem: problem.to_string() }
        };
        let sum = |lag: fn(&PartitionPosition) -> u64| snapshot.positions.iter().map(lag).sum();
        Self {
            ready: reason.is_none(),
            reason,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source,
            partitions: snapshot.positions.len(),
            stopped: snapshot.positions.iter().filter(|position| position.stopped).count(),
            diverged,
            behind: snapshot.positions.iter().filter(|position| is_behind(position)).count(),
            uncommitted_messages: sum(uncommitted),
            unstored_messages: sum(unstored),
            bytes_sent: snapshot.status.bytes_sent,
            bytes_committed: snapshot.status.bytes_committed,
            bytes_held: snapshot.status.bytes_held,
            lagging: lagging(&snapshot.positions),
            problems: snapshot.problems.iter().take(NAMED_MAX).map(problem).collect(),
        }
    }
}

fn is_behind(position: &PartitionPosition) -> bool {
    position.source_end.zip(position.next).is_some_and(|(end, next)| end < next)
}

fn uncommitted(position: &PartitionPosition) -> u64 {
    position.source_end.map_or(0, |end| end.0.saturating_sub(position.committed.0))
}

fn unstored(position: &PartitionPosition) -> u64 {
    position.source_end.map_or(0, |end| end.0.saturating_sub(position.stored.0))
}

fn lagging(positions: &[PartitionPosition]) -> Vec<LagReport> {
    let mut lagging: Vec<&PartitionPosition> = positions.iter().filter(|position| unstored(position) > 0).collect();
    lagging.sort_unstable_by_key(|position| core::cmp::Reverse((uncommitted(position), unstored(position))));
    lagging.truncate(NAMED_MAX);
    let report = |position: &PartitionPosition| LagReport {
        partition: position.partition.to_string(),
        end: position.source_end.unwrap_or_default().0,
        committed: position.committed.0,
        stored: position.stored.0,
    };
    lagging.into_iter().map(report).collect()
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::Offset;

    use super::*;

    #[test]
    fn the_worst_are_named_and_all_are_summed() {
        let position = |number: u64| PartitionPosition {
            partition: format!("0/0/{number}").parse().expect("a partition"),
            source_end: Some(Offset(100)),
            next: Some(Offset(100 + number / 49)),
            committed: Offset(100 - number),
            stored: Offset(0),
            stopped: false,
        };
        let snapshot = Snapshot { positions: (0..50).map(position).collect(), ..Snapshot::default() };
        let health = SourceHealth::new();
        let report = LiveReport::new(&snapshot, &health);
        assert!(!report.ready && report.reason.is_some_and(|reason| reason.contains("not connected")));
        health.connected();
        let report = LiveReport::new(&snapshot, &health);
        assert!(report.ready && report.lagging.len() == NAMED_MAX);
        assert_eq!((report.lagging[0].partition.as_str(), report.lagging[0].committed), ("0/0/49@0", 51));
        assert_eq!((report.uncommitted_messages, report.unstored_messages, report.behind), (1_225, 5_000, 1));
    }
}
