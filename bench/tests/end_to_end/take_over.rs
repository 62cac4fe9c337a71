//! Nodes that crash, one or all, with journals that come back or do not: nothing acknowledged is lost, doubled or wrong.

use std::time::Duration;

use kennel_bench::verify::ExpectServed;
use kennel_bench::walk::{SourceMessage, Walk};
use kennel_client::{Client, FetchFrom, Message, PartitionKey};
use kennel_core::shipper::Until;
use kennel_s3_server::{Fault, FaultRule, Operation};
use tokio::time::{sleep, timeout};
use wal_shipper::source::{FoundPartition, scan};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::shipping::Milestone;
use crate::support::source::Source;

/// How long a follower may take to see everything, a take-over included.
const FOLLOW_PATIENCE: Duration = Duration::from_mins(1);

/// Long enough for a ring to claim whatever it dares to claim: seven times the time-out of an owner.
const CLAIMS_WOULD_BE_MADE: Duration = Duration::from_secs(3);

/// F19.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_crashes_in_the_middle_of_an_import() {
    let mut cluster = Cluster::start(3, TestBucket::directory(), &[]).await;
    let source = Source::generated(60, 12 << 20, 42);
    let (mut milestone, reached) = Milestone::at(source.bytes / 4);
    let (shipper, path) = (cluster.shipper(), source.path().to_owned());
    let shipping = tokio::spawn(async move { shipper.ship_watched(&path, Until::Stored, &mut milestone).await });
    reached.await.expect("a quarter is committed");
    assert!(!shipping.is_finished(), "the import is too short to crash into");
    cluster.crash(cluster.busiest().await).await;
    let report = shipping.await.expect("shipping does not panic");
    assert_eq!((report.finished, report.status.stopped), (true, 0), "{:?}", report.news);
    assert_eq!(report.status.messages_stored, source.messages);
    cluster.owned().await;
    cluster.check(source.path(), source.messages, None).await;
    // And from the bucket alone, with the crashed node back.
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.owned().await;
    cluster.check(source.path(), source.messages, Some(ExpectServed::Bucket)).await;
}

/// F19.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_each_message_once_across_a_crash() {
    let mut cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    let source = Source::generated(12, 6 << 20, 3);
    let found = largest(&source);
    let mut expected = messages(&found);
    let following = tokio::spawn(follow(cluster.client().await, found.key, expected.len()));
    let (mut milestone, reached) = Milestone::at(source.bytes / 4);
    let (shipper, path) = (cluster.shipper(), source.path().to_owned());
    let shipping = tokio::spawn(async move { shipper.ship_watched(&path, Until::Committed, &mut milestone).await });
    reached.await.expect("a quarter is committed");
    let shard = found.key.shard(4);
    cluster.crash(cluster.owner_of(shard).await).await;
    assert!(shipping.await.expect("shipping does not panic").finished);
    let seen = timeout(FOLLOW_PATIENCE, following).await.expect("all of it comes").expect("following does not panic");
    expected.truncate(seen.len());
    assert!(seen == expected, "the follower saw other messages, or in another order");
}

/// Acknowledged on a quorum and nowhere else: the bucket takes nothing while it is shipped (PROTOCOL R32).
async fn unstored(source: &Source) -> Cluster {
    let cluster = Cluster::start(3, TestBucket::s3().await, &[]).await;
    cluster.bucket.faults().add(FaultRule {
        operation: Some(Operation::Put),
        key_contains: "log/".to_owned(),
        fault: Fault::Refuse(503),
        skip: 0,
        times: None,
        share: 1.0,
    });
    let report = cluster.shipper().ship(source.path(), Until::Committed).await;
    assert_eq!((report.status.messages_committed, report.status.messages_stored), (source.messages, 0));
    cluster
}

/// F19.
#[tokio::test(flavor = "multi_thread")]
async fn all_crash_with_entries_that_no_bucket_has() {
    let source = Source::generated(30, 4 << 20, 21);
    let mut cluster = unstored(&source).await;
    cluster.crash_all().await;
    cluster.bucket.faults().clear();
    cluster.start_all().await;
    cluster.owned().await;
    cluster.check(source.path(), source.messages, None).await;
    // The bucket gets it all the same, and the ring still knows where the source is to go on.
    let again = cluster.shipper().ship(source.path(), Until::Stored).await;
    assert_eq!((again.status.messages_stored, again.status.bytes_sent), (source.messages, 0));
}

/// F20: a copy less is no loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_directory_is_one_copy_less() {
    let source = Source::generated(20, 2 << 20, 22);
    let mut cluster = unstored(&source).await;
    cluster.crash_all().await;
    cluster.bucket.faults().clear();
    std::fs::remove_dir_all(cluster.directory(0)).expect("it was there");
    cluster.start_all().await;
    cluster.owned().await;
    cluster.check(source.path(), source.messages, None).await;
    cluster.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn journals_that_forgot_have_no_vote() {
    let source = Source::generated(20, 2 << 20, 23);
    let mut cluster = unstored(&source).await;
    cluster.crash_all().await;
    cluster.bucket.faults().clear();
    let hidden = [0, 1].map(|at| (cluster.directory(at), cluster.directory(at).with_extension("hidden")));
    for (directory, aside) in &hidden {
        std::fs::rename(directory, aside).expect("it was there");
    }
    // Two fresh journals and one old one: were the fresh ones heard (PROTOCOL R5), a quorum would open without the data.
    cluster.start_all().await;
    sleep(CLAIMS_WOULD_BE_MADE).await;
    for status in cluster.statuses().await {
        for shard in &status.shards {
            assert_ne!(shard.role, "owner", "node {} owns without the past: {shard:?}", status.node);
        }
    }
    cluster.crash_all().await;
    for (directory, aside) in &hidden {
        std::fs::remove_dir_all(directory).expect("the fresh one");
        std::fs::rename(aside, directory).expect("it lies aside");
    }
    cluster.start_all().await;
    cluster.owned().await;
    cluster.check(source.path(), source.messages, None).await;
}

fn largest(source: &Source) -> FoundPartition {
    let found = scan(source.path()).expect("a data directory");
    found.into_iter().max_by_key(FoundPartition::bytes).expect("there are partitions")
}

fn messages(found: &FoundPartition) -> Vec<SourceMessage> {
    let mut walk = Walk::open(&found.directory).expect("a partition");
    let mut messages = Vec::new();
    while let Some(message) = walk.peek().expect("it can be read") {
        messages.push(message.clone());
        walk.advance();
    }
    messages
}

/// Follows from the first message on, from before it exists, until so many were seen.
async fn follow(client: Client, partition: PartitionKey, messages: usize) -> Vec<SourceMessage> {
    let mut follower = client.follow(partition, FetchFrom::First);
    let mut seen = Vec::new();
    while seen.len() < messages {
        match follower.next().await {
            Ok(fetched) => seen.extend(fetched.messages().map(as_source)),
            // Nobody knows it before its first message is shipped.
            Err(_) if seen.is_empty() => sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("after {} messages: {error:?}", seen.len()),
        }
    }
    seen
}

fn as_source(message: Message) -> SourceMessage {
    let Message { offset, timestamp, origin_timestamp, id, checksum, payload, user_headers } = message;
    SourceMessage { offset: offset.0, timestamp, origin_timestamp, id, checksum, payload, user_headers }
}
