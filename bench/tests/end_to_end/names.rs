//! Names: what a shipper tells reaches every node and every reader, survives the owner of the catalogue's shard, and is
//! agreed on by shippers that speak at once (PROTOCOL R29).

use std::sync::Arc;
use std::time::Duration;

use kennel_client::{Client, FetchRequest, Offset, PartitionId, PartitionKey};
use kennel_core::shipper::Until;
use kennel_protocol::catalog::{Catalog, PartitionEntry, Scope, StreamEntry, TopicEntry, life_after_purge, merge};
use kennel_protocol::ids::{Incarnation, ShardId, StreamId, TopicId};
use wal_shipper::ship::{CatalogChange, Ring, agree};
use wal_shipper::source::Mapping;

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::source::fixtures;

/// The shard whose owner keeps the catalogue.
const CATALOG_SHARD: ShardId = ShardId(0);

/// How long news may take to a node that asks its owner four times a second.
const NEWS_PATIENCE: Duration = Duration::from_secs(20);

const NAMES: &str = r#"
[[stream]]
id = 0
name = "orders"
[[stream.topic]]
id = 0
name = "events"
[[stream]]
id = 1
name = "telemetry"
[[stream.topic]]
id = 2
name = "readings"
"#;

fn key(text: &str) -> PartitionKey {
    text.parse().expect("a partition")
}

/// A stream of one topic of one partition.
fn stream(id: u32, name: &str, incarnation: u64) -> Catalog {
    let partitions = vec![PartitionEntry { id: PartitionId(0), incarnation: Incarnation(incarnation) }];
    let topic = TopicEntry { id: TopicId(0), name: "t".to_owned(), partitions, message_expiry_micros: None };
    Catalog { revision: 0, streams: vec![StreamEntry { id: StreamId(id), name: name.to_owned(), topics: vec![topic] }] }
}

/// Agrees, as a shipper does: what may pass is tried again.
async fn agreed(ring: &Ring, change: &CatalogChange<'_>) -> Option<Catalog> {
    let try_it = || async { agree(ring, change).await.map_err(|error| format!("{error:?}")) };
    eventually("shippers agree", NEWS_PATIENCE, try_it).await
}

async fn located(client: &Client, stream: &str, topic: &str, partition: u32) -> Option<PartitionKey> {
    client.locate(stream, topic, PartitionId(partition)).await.expect("some node answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_find_partitions_by_name_at_every_node_and_after_the_owner_is_lost() {
    let mut cluster = Cluster::start(3, TestBucket::directory(), &[]).await;
    assert!(cluster.client().await.catalog(None).await.expect("a node answers").is_none(), "nobody has told yet");
    let mapping = Mapping::parse(NAMES).expect("a mapping");
    let shipped = cluster.shipper().ship_named(&fixtures(), &mapping, Until::Stored).await;
    assert!(shipped.catalog_put, "the ring took the names");
    for at in cluster.alive() {
        found_by_name(&cluster.client_of(at).await).await;
    }
    let owner = cluster.owner_of(CATALOG_SHARD).await;
    let survivor = cluster.alive().into_iter().find(|at| *at != owner).expect("two are left");
    let reader = cluster.client_of(survivor).await;
    cluster.crash(owner).await;
    found_by_name(&reader).await;
    cluster.owned().await;
    for at in cluster.alive() {
        found_by_name(&cluster.client_of(at).await).await;
    }
    let again = cluster.shipper().ship_named(&fixtures(), &mapping, Until::Stored).await;
    assert!(again.catalog_put, "the new owner answers");
    let catalog = reader.catalog(None).await.expect("a node answers").expect("it stands");
    assert_eq!(catalog.revision, 1, "what stands already is not written again");
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.owned().await;
    found_by_name(&cluster.client().await).await;
}

async fn found_by_name(client: &Client) {
    let news = || async {
        let found = located(client, "orders", "events", 1).await;
        found.ok_or_else(|| "no such partition".to_owned())
    };
    let partition = eventually("the names are known", NEWS_PATIENCE, news).await;
    assert_eq!(partition, key("0/0/1"));
    assert_eq!(located(client, "0", "events", 1).await, Some(partition), "an id serves as well");
    assert_eq!(located(client, "telemetry", "readings", 0).await, Some(key("1/2/0")));
    assert_eq!(located(client, "telemetry", "0", 2).await, Some(key("1/0/2")), "a topic without a name");
    assert_eq!(located(client, "orders", "nothing", 0).await, None);
    let fetched = client.fetch(FetchRequest::at(partition, Offset(0))).await.expect("it can be read");
    assert!(!fetched.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn shippers_that_speak_at_once_agree() {
    let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    let mut shippers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let ring = cluster.shipper().ring();
        shippers.spawn(async move {
            let seen = stream(number, &format!("stream-{number}"), 10);
            agreed(&ring, &|standing| merge(standing, &seen, Scope::Partial)).await
        });
    }
    shippers.join_all().await;
    let ring = cluster.shipper().ring();
    let standing = agreed(&ring, &|_| Ok(None)).await.expect("it stands");
    assert_eq!(standing.streams.len(), 8, "nobody's names were lost");
    assert_eq!(standing.revision, 8, "and none was written twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_three_shippers_see_is_one_new_life() {
    let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    let ring = cluster.shipper().ring();
    agreed(&ring, &|standing| merge(standing, &stream(0, "s", 500), Scope::Whole)).await;
    let mut shippers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let ring = cluster.shipper().ring();
        shippers.spawn(async move {
            let purged = |standing: Option<&Catalog>| {
                let lives = standing.and_then(|standing| standing.incarnation(StreamId(0), TopicId(0), PartitionId(0)));
                let life = life_after_purge(Incarnation(500), lives);
                merge(standing, &stream(0, "s", life.0), Scope::Whole)
            };
            agreed(&ring, &purged).await.expect("it stands")
        });
    }
    for catalog in shippers.join_all().await {
        assert_eq!(catalog.partitions().collect::<Vec<_>>(), [key("0/0/0@501")]);
    }
    let client = Arc::new(cluster.client().await);
    let news = || async {
        let found = located(&client, "s", "t", 0).await;
        if found == Some(key("0/0/0@501")) { Ok(()) } else { Err(format!("{found:?}")) }
    };
    eventually("readers are led to the new life", NEWS_PATIENCE, news).await;
}
