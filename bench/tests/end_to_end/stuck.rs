//! A bucket that sometimes says nothing (F17), and one that says `slow down` to everybody (F36): the rest goes on.

use std::time::Duration;

use kennel_core::shipper::Until;
use kennel_s3_server::{Fault, FaultRule, Operation};
use tokio::time::{Instant, sleep};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::source::Source;
use crate::support::trickle::Trickle;

const SHARDS: u16 = 4;

/// Long enough for dozens of uploads of each shard.
const WATCHED: Duration = Duration::from_secs(12);

/// An upload is sent a second time after two seconds; what lies behind it is stored right after.
const STORED_BEHIND_MAX: Duration = Duration::from_secs(5);

/// How long reads of the bucket are refused.
const THROTTLED: Duration = Duration::from_secs(4);

/// What a shard without an owner may ask for in a second: it backs off between its tries.
const REQUESTS_A_SECOND_MAX: u64 = 40;

/// F17.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_stuck_for_ever_do_not_hold_up_the_others() {
    // As nodes are by default: a request may take far longer than this test.
    let patient = ["bucket.attempt_timeout=60s", "bucket.overall_timeout=120s"];
    let cluster = Cluster::start(3, TestBucket::s3().await, &patient).await;
    cluster.steady().await;
    let mut trickle = Trickle::start(&cluster, SHARDS, 200, 800).await;
    // One of some twenty uploads, of whichever shard.
    for stuck in 0..8 {
        cluster.bucket.faults().add(FaultRule {
            skip: 10 + stuck * 20,
            ..FaultRule::next_put("log/", Fault::Stall(Duration::from_mins(5)))
        });
    }
    let (mut moved, mut stored_before, mut behind) = (Instant::now(), stored(&cluster).await, Duration::ZERO);
    let started = Instant::now();
    while started.elapsed() < WATCHED {
        sleep(Duration::from_millis(100)).await;
        let now = stored(&cluster).await;
        if now.iter().zip(&stored_before).all(|(now, before)| now > before) {
            (moved, stored_before) = (Instant::now(), now);
        }
        behind = behind.max(moved.elapsed());
    }
    trickle.check();
    let stuck = cluster.bucket.faults().hits();
    println!("{stuck} uploads were stuck; a shard's stored mark stood still for {behind:?} at most");
    assert!(stuck >= 4, "only {stuck} uploads were stuck");
    assert!(behind < STORED_BEHIND_MAX, "a shard stored nothing for {behind:?}");
}

/// How far every shard's owner has stored.
async fn stored(cluster: &Cluster) -> Vec<u64> {
    let mut stored = vec![0; SHARDS.into()];
    for status in cluster.statuses().await {
        for shard in status.shards.iter().filter(|shard| shard.role == "owner") {
            stored[usize::from(shard.shard)] = shard.stored_lsn;
        }
    }
    stored
}

/// F36: no storm of requests while the bucket refuses them, and the take-over ends once it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_goes_on_when_the_bucket_has_stopped_to_throttle() {
    let mut cluster = Cluster::start(3, TestBucket::s3().await, &[]).await;
    // Several seconds of uploads, so that there is a log to walk.
    let source = Source::generated(40, 8 << 20, 61);
    cluster.shipper().ship(source.path(), Until::Stored).await;
    let throttle = |share, operation| FaultRule {
        operation: Some(operation),
        key_contains: String::new(),
        fault: Fault::Refuse(503),
        skip: 0,
        times: None,
        share,
    };
    for operation in [Operation::Get, Operation::List] {
        cluster.bucket.faults().add(throttle(1.0, operation));
    }
    let before = cluster.bucket.faults().hits();
    cluster.crash(cluster.busiest().await).await;
    sleep(THROTTLED).await;
    let refused = cluster.bucket.faults().hits() - before;
    let most = REQUESTS_A_SECOND_MAX * THROTTLED.as_secs() * u64::from(SHARDS);
    println!("{refused} requests were refused in {THROTTLED:?}");
    assert!(refused > 0, "nobody tried to take over");
    assert!(refused < most, "{refused} requests in {THROTTLED:?}: a storm");
    cluster.bucket.faults().clear();
    // From now on every second one, as a prefix does that is at its limit.
    for operation in [Operation::Get, Operation::List] {
        cluster.bucket.faults().add(throttle(0.5, operation));
    }
    cluster.owned().await;
    cluster.bucket.faults().clear();
    cluster.check(source.path(), source.messages, None).await;
}
