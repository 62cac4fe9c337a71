//! The price of freshness: PUTs a second follow from shards and interval, and from nothing else.

use std::time::Duration;

use kennel_protocol::object::{SlotObject, SlotSuffix, decode_slot_suffix};
use tokio::time::{Instant, sleep};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::trickle::Trickle;

const SHARDS: u16 = 4;
const INTERVAL: Duration = Duration::from_millis(400);

/// Messages a second, over all partitions: some for every upload of every shard.
const RATE: usize = 2_000;

/// Until every shard is in its rhythm.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long is counted: 25 intervals, so that one upload more or less of a shard is 4%.
const COUNTED: Duration = Duration::from_secs(10);

/// At most so many PUTs per shard and interval.
const PUTS_MAX: f64 = 1.05;

/// Fewer than this would mean that data lies around for longer than it was told to.
const PUTS_MIN: f64 = 0.75;

/// How far the two may be apart, beyond one upload more or less that fell into the count.
const APART_MAX: f64 = 0.05;

/// What an object says of itself, index and footer, lies in so many of its last bytes.
const INDEX_BYTES_MAX: usize = 1 << 20;

/// An acknowledgement takes a sync on two disks and a round trip, on a machine that does all of it alone. Of a typical
/// second: one stall of a borrowed disk is a hundredth of ten seconds.
const COMMIT_P99_MAX: Duration = Duration::from_millis(50);

/// F30.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_partitions_cost_as_many_puts_as_sixteen() {
    let few = puts_per_shard_and_interval(16).await;
    let many = puts_per_shard_and_interval(10_000).await;
    println!("PUTs per shard and interval: {few:.3} for 16 partitions, {many:.3} for 10,000");
    for puts in [few, many] {
        assert!((PUTS_MIN..=PUTS_MAX).contains(&puts), "{few:.3} for 16, {many:.3} for 10,000 partitions");
    }
    // Busy machines are late with uploads, and the busier one is later: the many may be fewer, never more.
    let one_upload = INTERVAL.as_secs_f64() / COUNTED.as_secs_f64();
    assert!(many <= few * (1.0 + APART_MAX) + one_upload, "{few:.3} for 16, {many:.3} for 10,000 partitions");
}

async fn puts_per_shard_and_interval(partitions: u32) -> f64 {
    let interval = format!("{}ms", INTERVAL.as_millis());
    let [flush, idle] = ["flush.interval", "flush.interval_idle"].map(|key| format!("{key}={interval}"));
    let cluster = Cluster::start(3, TestBucket::s3().await, &[&flush, &idle]).await;
    cluster.steady().await;
    let mut trickle = Trickle::start(&cluster, SHARDS, partitions, RATE).await;
    assert_eq!(trickle.shards, usize::from(SHARDS), "every shard has something to say");
    sleep(WARM_UP).await;
    trickle.p99();
    let (before, started) = (puts(&cluster).await, Instant::now());
    let commits = seconds_of(&trickle).await;
    let (after, counted) = (puts(&cluster).await, started.elapsed());
    trickle.check();
    let typical = commits[commits.len() / 2];
    assert!(typical < COMMIT_P99_MAX, "{partitions} partitions: p99 of each second, sorted: {commits:?}");
    indexes_are_small(&cluster);
    let puts = u32::try_from(after - before).expect("some hundreds");
    f64::from(puts) / f64::from(SHARDS) / (counted.as_secs_f64() / INTERVAL.as_secs_f64())
}

/// What 99 of a hundred acknowledgements took in each second that is counted, sorted.
async fn seconds_of(trickle: &Trickle) -> Vec<Duration> {
    let mut p99s = Vec::new();
    for _ in 0..COUNTED.as_secs() {
        sleep(Duration::from_secs(1)).await;
        p99s.push(trickle.p99());
    }
    p99s.sort_unstable();
    p99s
}

/// What all nodes asked of the bucket: every PUT, whether it was answered or not.
async fn puts(cluster: &Cluster) -> u64 {
    cluster.statuses().await.iter().map(|status| status.bucket.puts).sum()
}

/// Every object's index is a fraction of what a reader fetches at once.
fn indexes_are_small(cluster: &Cluster) {
    let contents = &cluster.bucket.server().contents;
    let mut objects = 0;
    for summary in contents.objects("kennel").into_iter().filter(|summary| summary.key.contains("/log/")) {
        let body = contents.body("kennel", &summary.key).expect("nothing is deleted");
        let suffix = body.slice(body.len().saturating_sub(INDEX_BYTES_MAX)..);
        let found = decode_slot_suffix(summary.size, &suffix).expect("a whole object");
        objects += u32::from(matches!(found, SlotSuffix::Complete(SlotObject::Log(_))));
        assert!(matches!(found, SlotSuffix::Complete(_)), "the index of {} is larger", summary.key);
    }
    assert!(objects > 0, "nothing was uploaded");
}
