//! The same with a real server, where there is one to start (`IGGY_SERVER_BIN`): what it confirmed is read from the ring,
//! whatever happens to it. Elsewhere these tests pass without looking at anything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iggy::prelude::{Consumer, Identifier, MessageClient, PollingStrategy};
use kennel_client::{FetchFrom, FetchRequest};
use kennel_core::shipper::PartitionProblem;
use kennel_protocol::ids::{Offset, PartitionKey};
use wal_shipper::live::{IggyServer, Password};

use crate::live::LiveShipper;
use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::iggy_server::{IggyServerProcess, create_topic, delete_topic, purge_topic, send};

const PATIENCE: Duration = Duration::from_mins(1);

fn shipped_from(server: &IggyServerProcess) -> IggyServer {
    IggyServer {
        addresses: vec![server.address.to_string()],
        username: "iggy".to_owned(),
        password: Password::new("iggy"),
        tls: false,
        tls_name: String::new(),
        tls_ca: None,
    }
}

fn payloads(word: &str, from: u64, count: u64) -> Vec<Bytes> {
    (from..from + count).map(|number| Bytes::from(format!("{word} {number} {}", "x".repeat(100)))).collect()
}

/// Reads a partition from the ring until there are as many messages, and compares what they say.
async fn reads(cluster: &Cluster, shipper: &LiveShipper, place: (u32, u32, u32), expected: &[Bytes]) -> PartitionKey {
    let client = cluster.client().await;
    let end = Offset(expected.len() as u64);
    eventually("the ring has it", PATIENCE, || async {
        let key = shipper.key(place).await;
        let partitions = client.partitions().await.map_err(|error| error.to_string())?;
        let report = partitions.iter().find(|report| report.partition == key);
        if report.is_some_and(|report| report.committed == end) { Ok(()) } else { Err(format!("{key}: {report:?}")) }
    })
    .await;
    let key = shipper.key(place).await;
    let (mut next, mut read) = (Offset(0), Vec::new());
    while next < end {
        let fetched = client.fetch(FetchRequest::at(key, next)).await.expect("it is there");
        read.extend(fetched.messages().map(|message| message.payload.clone()));
        next = fetched.next;
    }
    assert!(read == expected, "{key}: other messages than were confirmed");
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_server_confirmed_is_read_through_its_deaths_purges_and_deletions() {
    let Some(mut server) = IggyServerProcess::start().await else { return };
    let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    let producer = server.client().await;
    create_topic(&producer, "orders", "events", 3).await;
    let mut said: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
    for round in 0..20_u64 {
        for partition in 0..3 {
            let list = said.entry(partition).or_default();
            let batch = payloads("before", list.len() as u64, 1 + round * u64::from(partition + 1));
            list.extend(batch.iter().cloned());
            send(&producer, "orders", "events", partition, batch).await;
        }
    }
    let shipper = LiveShipper::start(&cluster, shipped_from(&server), &[]);
    for (partition, said) in &said {
        reads(&cluster, &shipper, (0, 0, *partition), said).await;
    }
    // A new topic, and a purge of one that is shipped.
    create_topic(&producer, "orders", "more", 1).await;
    let more = payloads("more", 0, 5_000);
    for batch in more.chunks(1_250) {
        send(&producer, "orders", "more", 0, batch.to_vec()).await;
    }
    let before = reads(&cluster, &shipper, (0, 1, 0), &more).await;
    purge_topic(&producer, "orders", "more").await;
    // A purge is carried out a little later than it is confirmed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let purged = payloads("after the purge", 0, 7);
    send(&producer, "orders", "more", 0, purged.clone()).await;
    let after = reads(&cluster, &shipper, (0, 1, 0), &purged).await;
    assert_eq!(after.incarnation.0, before.incarnation.0 + 1);
    // Deleted, and created again under the same name, which gets the same ids.
    delete_topic(&producer, "orders", "more").await;
    create_topic(&producer, "orders", "more", 2).await;
    let again = payloads("created again", 0, 30);
    send(&producer, "orders", "more", 0, again.clone()).await;
    let reborn = reads(&cluster, &shipper, (0, 1, 0), &again).await;
    assert!(reborn > after, "{reborn} is not a later life than {after}");
    // Killed: it has lost what it had not written. It may issue those offsets again, and then it is told.
    let kept = said[&0].len();
    server.kill().await;
    server.revive().await;
    let producer = server.client().await;
    send(&producer, "orders", "events", 0, payloads("after the kill", 0, 3)).await;
    let key = shipper.key((0, 0, 0)).await;
    eventually("the ring and the server differ, and it is said", PATIENCE, || async {
        let snapshot = shipper.snapshots.newest();
        match snapshot.problems.get(&key) {
            Some(PartitionProblem::Diverged { .. }) => Ok(()),
            other => Err(format!("{kept} messages were shipped; {other:?}; {:?}", snapshot.positions)),
        }
    })
    .await;
    shipper.stop().await;
}

/// Produced to read, for one message at a time: of the server by its own SDK, and of another node of the ring.
#[tokio::test(flavor = "multi_thread")]
async fn how_soon_a_message_is_visible() {
    let Some(server) = IggyServerProcess::start().await else { return };
    let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    let (producer, consumer) = (server.client().await, server.client().await);
    create_topic(&producer, "orders", "events", 1).await;
    let payload = |_| vec![Bytes::from(vec![b'x'; 1_000])];
    send(&producer, "orders", "events", 0, payload(0)).await;
    let shipper = LiveShipper::start(&cluster, shipped_from(&server), &[]);
    let key = shipper.key((0, 0, 0)).await;
    let reader = cluster.client_of(1).await;
    let mut follower = reader.follow(key, FetchFrom::Offset(Offset(1)));
    let (mut direct, mut ring) = (Vec::new(), Vec::new());
    let [stream, topic] = ["orders", "events"].map(|name| Identifier::named(name).expect("a name"));
    for number in 1..600_u64 {
        let produced = Instant::now();
        send(&producer, "orders", "events", 0, payload(number)).await;
        if number % 2 == 0 {
            let strategy = PollingStrategy::offset(number);
            while consumer
                .poll_messages(&stream, &topic, Some(0), &Consumer::default(), &strategy, 1, false)
                .await
                .expect("it answers")
                .messages
                .is_empty()
            {}
            direct.push(produced.elapsed());
        }
        while follower.next().await.expect("it comes").next <= Offset(number) {}
        if number % 2 == 1 {
            ring.push(produced.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (what, mut latencies) in [("direct", direct), ("ring", ring)] {
        latencies.sort_unstable();
        let at = |percent: usize| latencies[latencies.len() * percent / 100];
        println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
    }
    shipper.stop().await;
}
