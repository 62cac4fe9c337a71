//! A bucket that is away for long (F16): acknowledgements and readers go on, memory stays as small as it was, and
//! everything is in the bucket afterwards.

use std::time::Duration;

use cache_node::http::StatusReport;
use kennel_core::shipper::Until;
use kennel_s3_server::{Fault, FaultRule, Operation};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::source::Source;

/// What waits for the bucket: many times of what may stay in memory.
const SHIPPED_BYTES: u64 = 48 << 20;
/// Memory for it on each node, over its four shards.
const RESIDENT_BYTES: u64 = 4 << 20;
/// How long the bucket may take to catch up on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// F16.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_away_data_waits_in_journals_and_is_read_from_there() {
    let settings = ["journal.size=256 MiB", "tail.bytes_max=4 MiB", "limits.resident_bytes_max=4 MiB"];
    let mut cluster = Cluster::start(3, TestBucket::s3().await, &settings).await;
    let source = Source::of_messages(12, SHIPPED_BYTES, 5, 2_000);
    cluster.bucket.faults().add(FaultRule {
        operation: Some(Operation::Put),
        key_contains: "log/".to_owned(),
        fault: Fault::Refuse(503),
        skip: 0,
        times: None,
        share: 1.0,
    });
    cluster.shipper().ship(source.path(), Until::Committed).await;
    let statuses = cluster.statuses().await;
    let (unstored, resident) = waiting(&statuses);
    assert!(unstored > SHIPPED_BYTES, "nothing waits: {unstored} bytes over three copies");
    assert!(resident <= 3 * RESIDENT_BYTES, "{resident} of {unstored} waiting bytes are in memory");
    let refused = statuses.iter().any(|status| status.shards.iter().any(|shard| shard.stored_lsn > 0));
    assert!(!refused, "something reached a bucket that takes nothing");
    cluster.check(source.path(), source.messages, None).await;

    cluster.bucket.faults().clear();
    let drained = || async {
        let (unstored, _) = waiting(&cluster.statuses().await);
        if unstored == 0 { Ok(()) } else { Err(format!("{unstored} bytes wait")) }
    };
    eventually("everything is in the bucket", PATIENCE, drained).await;
    cluster.check(source.path(), source.messages, None).await;
    cluster.crash_all().await;
    cluster.start_all().await;
    cluster.whole().await;
    cluster.check(source.path(), source.messages, None).await;
}

/// Bytes that wait for the bucket, and those of them in memory, over all nodes.
fn waiting(statuses: &[StatusReport]) -> (u64, u64) {
    let shards = statuses.iter().flat_map(|status| &status.shards);
    shards
        .fold((0, 0), |(unstored, resident), shard| (unstored + shard.unstored_bytes, resident + shard.resident_bytes))
}

/// F7, F16, F19.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_loses_power_while_the_bucket_is_away_uploads_from_its_journals() {
    let settings = ["journal.size=128 MiB", "tail.bytes_max=1 MiB", "limits.resident_bytes_max=1 MiB"];
    let mut cluster = Cluster::start(3, TestBucket::s3().await, &settings).await;
    let source = Source::of_messages(6, 16 << 20, 6, 2_000);
    cluster.bucket.faults().add(FaultRule {
        operation: Some(Operation::Put),
        key_contains: "log/".to_owned(),
        fault: Fault::Refuse(503),
        skip: 0,
        times: None,
        share: 1.0,
    });
    cluster.shipper().ship(source.path(), Until::Committed).await;
    cluster.crash_all().await;
    cluster.bucket.faults().clear();
    cluster.start_all().await;
    cluster.whole().await;
    // Nothing is shipped again: whatever is read was in the journals.
    cluster.check(source.path(), source.messages, None).await;
}
