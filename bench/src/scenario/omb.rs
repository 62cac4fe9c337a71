//! Workloads of the `OpenMessaging` Benchmark, read as scenarios.
//!
//! Source: <https://openmessaging.cloud/docs/benchmarks/>, `workloads/*.yaml`, and `Workload.java` of the benchmark for
//! meanings and defaults. What a workload says about its own drivers' connections has no counterpart here.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytesize::ByteSize;
use serde::Deserialize;

use super::file::{
    BeforeSection, ReadKind, ReadSection, RingSection, Scenario, ShipSection, TimeSection, default_sessions,
};

/// Messages that a batch holds at most: what a producer of the benchmark sends within a millisecond or so.
const BATCH_MESSAGES_MAX: f64 = 100.0;
const ROUNDS: u32 = 5;

/// As the benchmark writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Workload {
    name: String,
    topics: u32,
    partitions_per_topic: u32,
    message_size: u32,
    #[serde(default)]
    subscriptions_per_topic: u32,
    #[serde(default = "one")]
    consumer_per_subscription: u32,
    producer_rate: f64,
    #[serde(default, rename = "consumerBacklogSizeGB")]
    consumer_backlog_size_gb: f64,
    test_duration_minutes: f64,
    #[serde(default = "one_minute")]
    warmup_duration_minutes: f64,
}

fn one() -> u32 {
    1
}

fn one_minute() -> f64 {
    1.0
}

/// Reads a workload. Its duration is cut into five rounds; a backlog becomes a scan of what was there before.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, positive and checked to be small"
)]
pub(super) fn scenario(text: &str) -> anyhow::Result<Scenario> {
    let workload: Workload = serde_saphyr::from_str(text)?;
    let partitions = workload.topics.checked_mul(workload.partitions_per_topic).context("too many partitions")?;
    ensure!(workload.producer_rate >= 0.0 && workload.producer_rate < 1e9, "producerRate: messages a second");
    ensure!((0.0..1e6).contains(&workload.consumer_backlog_size_gb), "consumerBacklogSizeGB: gigabytes");
    // A batch is what comes for a partition within a millisecond, as a producer that does not linger sends it.
    let of_a_partition = workload.producer_rate / f64::from(partitions.max(1)) / 1e3;
    let messages_per_batch = of_a_partition.clamp(1.0, BATCH_MESSAGES_MAX).round() as u32;
    let rate = ByteSize::b((workload.producer_rate * f64::from(workload.message_size)) as u64);
    let ship = ShipSection { partitions, active: 0, message_bytes: workload.message_size, messages_per_batch, rate };
    let backlog = ByteSize::b((workload.consumer_backlog_size_gb * 1e9) as u64);
    let followers = workload.topics * workload.subscriptions_per_topic * workload.consumer_per_subscription;
    let group = |kind, readers| ReadSection {
        kind,
        readers,
        rate: 0.0,
        bytes: ByteSize::mib(1),
        sessions: default_sessions(),
        shared_memory: false,
        fabric: false,
    };
    let mut read = Vec::new();
    if followers > 0 {
        // A consumer has all partitions that the others of its subscription do not have: a follower for each.
        read.push(group(ReadKind::Follow, partitions * workload.subscriptions_per_topic));
    }
    if backlog.as_u64() > 0 {
        read.push(group(ReadKind::Scan, partitions));
    }
    let minutes = |minutes: f64| Duration::try_from_secs_f64(minutes * 60.0).context("a duration in minutes");
    Ok(Scenario {
        name: workload.name,
        about: "A workload of the OpenMessaging Benchmark.".to_owned(),
        ring: RingSection::default(),
        time: TimeSection {
            warm_up: minutes(workload.warmup_duration_minutes)?,
            round: minutes(workload.test_duration_minutes)? / ROUNDS,
            rounds: ROUNDS,
        },
        ship: Some(ship),
        before: (backlog.as_u64() > 0).then_some(BeforeSection { bytes: backlog }),
        read,
        fault: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_read_as_its_makers_mean_it() {
        let text = "name: 1 topic / 16 partitions / 1Kb\n\ntopics: 1\npartitionsPerTopic: 16\nmessageSize: 1024\n\
                    payloadFile: \"payload/payload-1Kb.data\"\nsubscriptionsPerTopic: 2\nproducersPerTopic: 1\n\
                    consumerPerSubscription: 4\nproducerRate: 50000\nconsumerBacklogSizeGB: 0\ntestDurationMinutes: 15\n";
        let scenario = scenario(text).expect("it is one");
        let ship = scenario.ship.expect("it ships");
        assert_eq!((ship.partitions, ship.messages_per_batch, ship.rate), (16, 3, ByteSize::b(51_200_000)));
        assert_eq!(scenario.time.round, Duration::from_mins(3));
        assert_eq!((scenario.read.len(), scenario.read[0].readers), (1, 32));
        assert_eq!(scenario.before, None);
    }

    #[test]
    fn a_backlog_is_there_before_and_is_scanned() {
        let text = "name: backlog\ntopics: 2\npartitionsPerTopic: 1\nmessageSize: 100\nsubscriptionsPerTopic: 1\n\
                    consumerPerSubscription: 1\nproducerRate: 1000\nconsumerBacklogSizeGB: 2\ntestDurationMinutes: 1\n";
        let scenario = scenario(text).expect("it is one");
        assert_eq!(scenario.before, Some(BeforeSection { bytes: ByteSize::gb(2) }));
        assert_eq!(scenario.read[1].kind, ReadKind::Scan);
    }

    #[test]
    fn what_is_no_workload_is_refused() {
        assert!(scenario("topics: many\n").is_err());
        assert!(scenario("[").is_err());
    }
}
