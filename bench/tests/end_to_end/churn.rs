//! A node that comes and goes, again and again (F25): readers elsewhere notice nothing, and nothing is lost or doubled.

use std::time::Duration;

use kennel_core::shipper::Until;
use tokio::time::sleep;

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::readers::{Readers, keys};
use crate::support::source::Source;

/// How often the node goes, and how often it comes back: twenty changes of the ring.
const ROUNDS: u32 = 10;

/// How long the node is there and away, milliseconds: sometimes long enough for gossip to settle on it, more often not.
const SPELLS: [u64; 5] = [100, 900, 300, 1_500, 200];

/// F25.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_and_goes_twenty_times_is_seen_by_no_reader() {
    let mut cluster = Cluster::prepare(4, TestBucket::s3().await, &["cluster.shard_count=8"]);
    cluster.start_all().await;
    cluster.owned().await;
    cluster.steady().await;
    let (first, second) = (Source::generated(16, 2 << 20, 51), Source::generated(48, 16 << 20, 52).of_other_streams());
    cluster.shipper().ship(first.path(), Until::Committed).await;
    let readers = Readers::start(cluster.client_of(0).await, keys(&first));
    let (shipper, path) = (cluster.shipper(), second.path().to_owned());
    let shipping = tokio::spawn(async move { shipper.ship(&path, Until::Stored).await });
    for (round, spell) in (0..ROUNDS).zip(SPELLS.into_iter().map(Duration::from_millis).cycle()) {
        // A power cut and a stop in good order, in turn: each of them in the middle of something.
        if round % 2 == 0 {
            cluster.crash(3).await;
        } else {
            cluster.stop(3).await;
        }
        sleep(spell).await;
        cluster.start_these(vec![3]).await;
        sleep(spell).await;
    }
    shipping.await.expect("shipping does not panic");
    readers.finish().await;
    cluster.owned().await;
    cluster.check(first.path(), first.messages, None).await;
    cluster.check(second.path(), second.messages, None).await;
}
