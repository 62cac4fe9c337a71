//! A journal that rots while its node is away: the node says so, counts for nothing, and is made a copy again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use cache_node::inspect::JournalSummary;
use kennel_core::shipper::Until;
use kennel_s3_server::{Fault, FaultRule, Operation};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::source::Source;

/// How long the ring may take to make a node a copy again, on a busy machine.
const REPAIR_PATIENCE: Duration = Duration::from_mins(1);

/// The one whose disk rots.
const ROTTEN: usize = 0;

/// F27 in the journal: what is acknowledged and in no bucket survives a rotten journal and, after the ring has repaired
/// itself, the loss of another copy as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_journal_is_one_copy_less_until_the_ring_has_repaired_it() {
    let source = Source::generated(20, 4 << 20, 31);
    let mut cluster = Cluster::start(3, TestBucket::s3().await, &[]).await;
    cluster.bucket.faults().add(no_log_object());
    let report = cluster.shipper().ship(source.path(), Until::Committed).await;
    assert_eq!((report.status.messages_committed, report.status.messages_stored), (source.messages, 0));

    cluster.crash(ROTTEN).await;
    let journal = cluster.directory(ROTTEN).join("journal");
    let before = read(&journal);
    rot(&journal, &before);
    let rotten = read(&journal);
    assert!(rotten.is_damaged(), "{rotten}");
    assert_eq!((rotten.journal.as_str(), rotten.damaged_records), (before.journal.as_str(), 2), "{rotten}");

    // A take-over needs the bucket (PROTOCOL R32): it comes back now, and what was acknowledged must still be there.
    cluster.bucket.faults().clear();
    cluster.start_all().await;
    let after = read(&journal);
    assert_ne!(after.journal, before.journal, "a damaged journal is another journal (PROTOCOL R5)");
    assert!(!after.is_damaged(), "what is known is not told again: {after}");
    let metrics = cluster.metrics().await;
    assert!(metrics.contains("kennel_journal_damaged_records_total 2"), "{metrics}");

    // The ring takes it in again, as the journal that it is now: a follower's claim names its journal (PROTOCOL R5).
    let taken_in = || async {
        let statuses = cluster.statuses().await;
        let shards = &statuses[ROTTEN].shards;
        let outside = shards.iter().find(|shard| shard.role != "owner" && shard.role != "follower");
        outside.map_or(Ok(()), |shard| Err(format!("{shard:?}")))
    };
    eventually("the rotten node is a copy of every shard", REPAIR_PATIENCE, taken_in).await;
    cluster.whole().await;
    cluster.check(source.path(), source.messages, None).await;
    cluster.crash(1).await;
    cluster.owned().await;
    cluster.check(source.path(), source.messages, None).await;
    let again = cluster.shipper().ship(source.path(), Until::Stored).await;
    assert_eq!((again.status.messages_stored, again.status.bytes_sent), (source.messages, 0));
}

fn no_log_object() -> FaultRule {
    FaultRule {
        operation: Some(Operation::Put),
        key_contains: "log/".to_owned(),
        fault: Fault::Refuse(503),
        skip: 0,
        times: None,
        share: 1.0,
    }
}

fn read(journal: &Path) -> JournalSummary {
    JournalSummary::read(journal, None, true).expect("it can be read")
}

/// Flips a bit in the bodies of two records in the middle of what is live.
fn rot(journal: &Path, before: &JournalSummary) {
    let records = before.listing.as_ref().expect("they were asked for");
    let with_bodies: Vec<_> = records.iter().filter(|record| record.body_bytes > 0).collect();
    let file = OpenOptions::new().read(true).write(true).open(journal).expect("it is there");
    for at in [with_bodies.len() / 3, with_bodies.len() / 2] {
        // Behind the record's header and head: in the body.
        let offset = with_bodies[at].offset + with_bodies[at].body_bytes / 2 + 200;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("it lies in the file");
        file.write_all_at(&[byte[0] ^ 4], offset).expect("it lies in the file");
    }
    file.sync_all().expect("the disk works");
    assert!(fs::metadata(journal).is_ok_and(|metadata| metadata.len() == before.size_bytes));
}
