//! A bucket that is away for longer than the journal lasts: shippers wait and are told why, readers go on, nothing is lost.

use std::time::Duration;

use kennel_s3_server::{Fault, FaultRule, Operation};
use tokio::time::timeout;

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::programs::program;
use crate::support::source::Source;

/// How long it may take to fill 64 MiB, and to empty them, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// F16: back-pressure that says why, and nothing else, once the journal is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_holds_shippers_back_until_the_bucket_is_back() {
    let alone = ["cluster.copies=1", "cluster.min_copies=1", "cluster.shard_count=2"];
    let cluster = Cluster::start(1, TestBucket::s3().await, &alone).await;
    let source = Source::of_messages(8, 80 << 20, 99, 4_000);
    cluster.bucket.faults().add(FaultRule {
        operation: Some(Operation::Put),
        key_contains: "log/".to_owned(),
        fault: Fault::Refuse(503),
        skip: 0,
        times: None,
        share: 1.0,
    });
    let mut import = program("wal-shipper");
    import.args(["import", "--wait", "stored", "--ring", &cluster.addresses()[0].to_string()]);
    import.arg("--data-dir").arg(source.path()).arg("--tls-dir").arg(cluster.certificates());
    let importing = tokio::spawn(import.output());

    let full = || async {
        let status = cluster.statuses().await.remove(0);
        let journal = status.journal;
        let refusals = refusals(&cluster).await;
        let is_full = journal.used_bytes * 10 > journal.capacity_bytes * 8 && refusals > 0;
        if is_full && !status.bucket.reachable { Ok(()) } else { Err(format!("{refusals} refusals, {journal:?}")) }
    };
    eventually("the journal is full, and shippers are refused", PATIENCE, full).await;
    assert!(!importing.is_finished(), "an import ended whose messages no bucket has");

    cluster.bucket.faults().clear();
    let Ok(output) = timeout(PATIENCE, importing).await else {
        panic!("the bucket is back and the import does not go on: {:#?}", cluster.statuses().await);
    };
    let output = output.expect("the task does not panic").expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("journal is full"), "the shipper does not say why it waited: {errors}");
    cluster.check(source.path(), source.messages, None).await;
    let drained = || async {
        let journal = cluster.statuses().await.remove(0).journal;
        // What is pinned is free as soon as somebody needs it.
        let live = journal.used_bytes - journal.pinned_bytes;
        if live * 10 < journal.capacity_bytes { Ok(()) } else { Err(format!("{journal:?}")) }
    };
    eventually("the journal is drained", PATIENCE, drained).await;
}

/// How often the node told a shipper to wait.
async fn refusals(cluster: &Cluster) -> u64 {
    let metrics = cluster.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("kennel_ship_refusals_total{reason=\"busy\"}"));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default()
}
