//! Iggy's own client through the gateways of a ring: what was shipped from a server is read as the server would answer.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use iggy::prelude::{Client, IggyClient};
use iggy_binary_protocol::codes::POLL_MESSAGES_CODE;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::{WireConsumer, WireEncode, WireIdentifier, WirePollingStrategy};
use kennel_core::shipper::Until;
use kennel_gateway::testing::{IggyOrigin, Store};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::source::fixtures;

/// Stream, topic and partition of the fixtures.
type Place = (u32, u32, u32);

const PLACES: [Place; 7] = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 2, 0)];

/// A server that holds what the fixtures' server wrote.
async fn server() -> IggyOrigin {
    let mut store = Store::default();
    for (stream, topic) in [(0, 0), (0, 1), (1, 0), (1, 2)] {
        store.topic((stream, &format!("stream-{stream}")), (topic, &format!("topic-{topic}")), 3);
    }
    for place in PLACES {
        let (stream, topic, partition) = place;
        let directory = fixtures().join(format!("streams/{stream}/topics/{topic}/partitions/{partition}"));
        let files = std::fs::read_dir(directory).expect("a partition").map(|file| file.expect("a file").path());
        let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        segments.sort();
        for segment in segments {
            store.append(place, &read(&segment));
        }
    }
    IggyOrigin::start(store).await
}

fn read(path: &Path) -> bytes::Bytes {
    std::fs::read(path).expect("a fixture").into()
}

async fn client(address: SocketAddr) -> IggyClient {
    let client = IggyClient::from_connection_string(&format!("iggy://iggy:iggy@{address}")).expect("an address");
    client.connect().await.expect("a session");
    client
}

async fn poll(client: &IggyClient, place: Place, strategy: WirePollingStrategy, count: u32) -> bytes::Bytes {
    let (stream, topic, partition) = place;
    let request = PollMessagesRequest {
        consumer: WireConsumer::consumer(WireIdentifier::numeric(1)),
        stream_id: WireIdentifier::numeric(stream),
        topic_id: WireIdentifier::numeric(topic),
        partition_id: Some(partition),
        strategy,
        count,
        auto_commit: false,
    };
    client.send_binary_request(POLL_MESSAGES_CODE, request.to_bytes()).await.expect("a reply")
}

/// Waits until every node has the names: one that looked just before they were offered looks again after a while.
async fn named(cluster: &Cluster) {
    let look = || async {
        let statuses = cluster.statuses().await;
        let known: Vec<_> = statuses.iter().map(|status| status.catalog.as_ref().map(|names| names.revision)).collect();
        if known.iter().all(Option::is_some) { Ok(()) } else { Err(format!("{known:?}")) }
    };
    eventually("every node has the names", Duration::from_secs(10), look).await;
}

async fn gateways(cluster: &Cluster) -> Vec<SocketAddr> {
    let reports = cluster.statuses().await.into_iter().map(|status| status.gateway.expect("a gateway"));
    reports.map(|gateway| gateway.address.parse().expect("an address")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_as_the_server_and_goes_on_without_it() {
    let mut server = server().await;
    let origin = format!("gateway.origin={}", server.address());
    let cluster = Cluster::start(3, TestBucket::directory(), &["gateway.listen=127.0.0.1:0", &origin]).await;
    cluster.shipper().ship(&fixtures(), Until::Stored).await;
    named(&cluster).await;

    let direct = client(server.address()).await;
    let mut clients = Vec::new();
    for gateway in gateways(&cluster).await {
        clients.push(client(gateway).await);
    }
    for place in PLACES {
        for (strategy, count) in [
            (WirePollingStrategy::offset(0), 2_000),
            (WirePollingStrategy::offset(3), 7),
            (WirePollingStrategy::last(), 5),
            (WirePollingStrategy::timestamp(0), 10),
        ] {
            let expected = poll(&direct, place, strategy.clone(), count).await;
            for (node, client) in clients.iter().enumerate() {
                assert_eq!(
                    poll(client, place, strategy.clone(), count).await,
                    expected,
                    "{node} {place:?} {strategy:?}"
                );
            }
        }
    }
    let recorded = fixtures().join("raw_polls/orders_events_p0_offset195_count10.bin");
    let sliced = poll(&clients[0], (0, 0, 0), WirePollingStrategy::offset(195), 10).await;
    assert_eq!(sliced, read(&recorded), "as a real server answered");

    for status in cluster.statuses().await {
        let gateway = status.gateway.expect("a gateway");
        // One partition ends before offset 3: more than the ring knows of is asked of the server.
        let only_beyond = gateway.forwarded.keys().all(|reason| reason == "beyond");
        assert!(gateway.served >= 27 && only_beyond, "{gateway:?}");
    }
    let metrics = cluster.metrics().await;
    assert!(metrics.contains("kennel_gateway_polls_served_total"), "{metrics}");
    assert!(metrics.contains("kennel_gateway_poll_seconds_count{answered=\"ring\"}"), "{metrics}");

    let before = poll(&clients[0], (0, 0, 0), WirePollingStrategy::first(), 3).await;
    server.kill().await;
    assert_eq!(poll(&clients[0], (0, 0, 0), WirePollingStrategy::first(), 3).await, before);
}
