//! A ring that is well, or that starts anew: what is read is what Iggy wrote, hot and cold, on every kind of bucket.

use kennel_bench::verify::ExpectServed;
use kennel_core::shipper::Until;
use kennel_s3_server::{Fault, FaultRule, Operation};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::source::{FIXTURE_MESSAGES, Source, fixtures};

/// Every third PUT takes effect, and nobody hears of it.
const LOST_ANSWERS: f64 = 0.3;

#[tokio::test(flavor = "multi_thread")]
async fn real_iggy_bytes_are_hot_at_every_node() {
    let cluster = Cluster::start(3, TestBucket::directory(), &[]).await;
    let shipped = cluster.shipper().ship(&fixtures(), Until::Committed).await;
    assert_eq!(shipped.status.messages_committed, FIXTURE_MESSAGES);
    assert!(shipped.catalog_put, "the ring took the names");
    cluster.check(&fixtures(), FIXTURE_MESSAGES, Some(ExpectServed::Tail)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shipping_again_changes_nothing() {
    let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    cluster.shipper().ship(&fixtures(), Until::Stored).await;
    let again = cluster.shipper().ship(&fixtures(), Until::Stored).await;
    assert_eq!((again.status.messages_committed, again.status.bytes_sent), (FIXTURE_MESSAGES, 0));
    cluster.check(&fixtures(), FIXTURE_MESSAGES, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_ring_without_caches_reads_the_bucket() {
    let mut cluster = Cluster::start(3, TestBucket::directory(), &[]).await;
    let source = Source::generated(40, 6 << 20, 11);
    cluster.shipper().ship(source.path(), Until::Stored).await;
    cluster.check(source.path(), source.messages, Some(ExpectServed::Tail)).await;
    cold(&mut cluster).await;
    cluster.check(source.path(), source.messages, Some(ExpectServed::Bucket)).await;
    // What was fetched once is in the caches of those who fetched it, but for what they evicted or others answered.
    let first = cache_misses(&cluster).await;
    cluster.check(source.path(), source.messages, Some(ExpectServed::Bucket)).await;
    let second = cache_misses(&cluster).await - first;
    assert!(first > 0 && second * 2 < first, "{first} blocks were fetched, and {second} of them again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_memory_holds_it() {
    everything_through(Cluster::start(3, TestBucket::memory(), &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_loses_answers_holds_it() {
    let cluster = Cluster::start(3, TestBucket::s3().await, &[]).await;
    // All that is created, but for the probes: a node that cannot make out what its bucket does refuses to start.
    for key_contains in ["/claims/", "/log/", "/manifests/"].map(str::to_owned) {
        cluster.bucket.faults().add(FaultRule {
            operation: Some(Operation::Put),
            key_contains,
            fault: Fault::LostAnswer,
            skip: 0,
            times: None,
            share: LOST_ANSWERS,
        });
    }
    let faults = cluster.bucket.faults().clone();
    everything_through(cluster).await;
    // A third of some thirty: that hardly any is lost happens once in a thousand times.
    assert!(faults.hits() >= 3, "only {} answers were lost", faults.hits());
}

async fn everything_through(mut cluster: Cluster) {
    // A shard that moves while it is read is read from the bucket, and this asks for memory.
    cluster.steady().await;
    let source = Source::generated(30, 3 << 20, 5);
    cluster.shipper().ship(source.path(), Until::Stored).await;
    cluster.check(source.path(), source.messages, Some(ExpectServed::Tail)).await;
    cold(&mut cluster).await;
    cluster.check(source.path(), source.messages, Some(ExpectServed::Bucket)).await;
}

async fn cache_misses(cluster: &Cluster) -> u64 {
    cluster.statuses().await.iter().map(|status| status.cache.misses).sum()
}

/// Stops the ring, empties its caches, and starts it again.
async fn cold(cluster: &mut Cluster) {
    cluster.stop_all().await;
    for at in 0..3 {
        std::fs::remove_dir_all(cluster.directory(at).join("cache")).expect("a node has a cache");
    }
    cluster.start_all().await;
    cluster.owned().await;
}
