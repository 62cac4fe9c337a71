//! Shards that move on purpose: to a node that joins, away from one that stops. Shipping goes on, and readers notice
//! nothing.

use std::time::Duration;

use kennel_core::shipper::Until;

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::readers::{Readers, keys};
use crate::support::shipping::Milestone;
use crate::support::source::Source;

/// Two settlings of the membership and two new epochs, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_its_shards_while_the_others_serve() {
    let mut cluster = Cluster::prepare(4, TestBucket::directory(), &["cluster.shard_count=8"]);
    cluster.start_these(vec![0, 1, 2]).await;
    cluster.whole().await;
    let (first, second) = (Source::generated(16, 2 << 20, 31), Source::generated(32, 10 << 20, 32).of_other_streams());
    cluster.shipper().ship(first.path(), Until::Committed).await;
    let readers = Readers::start(cluster.client_of(0).await, keys(&first));

    cluster.start_these(vec![3]).await;
    let (shipper, path) = (cluster.shipper(), second.path().to_owned());
    let shipping = tokio::spawn(async move { shipper.ship(&path, Until::Stored).await });
    let moved = || async {
        let owned = cluster
            .statuses()
            .await
            .into_iter()
            .flat_map(|status| status.shards.into_iter().map(move |shard| (status.node, shard)));
        let owned: Vec<_> = owned.filter(|(_, shard)| shard.role == "owner").collect();
        let joined = owned.iter().any(|(node, _)| *node == 4);
        let wide = owned.iter().all(|(_, shard)| shard.copies.len() == 3);
        if joined && wide && owned.len() == 8 { Ok(()) } else { Err(format!("{owned:?}")) }
    };
    eventually("the new node owns shards, and every shard has its copies", PATIENCE, moved).await;
    cluster.steady().await;
    readers.finish().await;
    shipping.await.expect("shipping does not panic");
    cluster.check(first.path(), first.messages, None).await;
    cluster.check(second.path(), second.messages, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_hands_over_in_the_middle_of_an_import() {
    let mut cluster = Cluster::start(3, TestBucket::directory(), &[]).await;
    let (first, second) = (Source::generated(12, 1 << 20, 33), Source::generated(60, 12 << 20, 34).of_other_streams());
    cluster.shipper().ship(first.path(), Until::Committed).await;
    let busiest = cluster.busiest().await;
    let readers = Readers::start(cluster.client_of((busiest + 1) % 3).await, keys(&first));
    let (mut milestone, reached) = Milestone::at(second.bytes / 4);
    let (shipper, path) = (cluster.shipper(), second.path().to_owned());
    let shipping = tokio::spawn(async move { shipper.ship_watched(&path, Until::Stored, &mut milestone).await });
    reached.await.expect("a quarter is committed");
    cluster.stop(busiest).await;
    let owned = cluster.owned().await;
    assert_eq!(owned.values().sum::<usize>(), 4, "{owned:?}");
    let report = shipping.await.expect("shipping does not panic");
    assert_eq!((report.finished, report.status.stopped), (true, 0), "{:?}", report.news);
    readers.finish().await;
    cluster.check(first.path(), first.messages, None).await;
    cluster.check(second.path(), second.messages, None).await;
}
