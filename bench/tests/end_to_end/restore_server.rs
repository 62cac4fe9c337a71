//! What the ring holds comes back into a real Iggy server (`IGGY_SERVER_BIN`), once and in order. Elsewhere this test says
//! that it looked at nothing.

use std::path::Path;
use std::time::Duration;

use iggy::prelude::{Consumer, Identifier, IggyExpiry, MessageClient, PollingStrategy, TopicClient};
use kennel_core::shipper::Until;
use kennel_protocol::catalog::{Catalog, Scope, merge};
use serde_json::Value;
use wal_shipper::ship::agree;
use wal_shipper::source::Mapping;

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::iggy_server::{IggyServerProcess, create_topic, send};
use crate::support::programs::{output, program};
use crate::support::source::{FIXTURE_MESSAGES, fixtures};

const NAMES: &str = r#"
[[stream]]
id = 0
name = "orders"
[[stream.topic]]
id = 0
name = "events"
[[stream.topic]]
id = 1
name = "more"
[[stream]]
id = 1
name = "telemetry"
[[stream.topic]]
id = 0
name = "readings"
[[stream.topic]]
id = 2
name = "default-flush"
"#;

/// How long news may take to a node that asks its owner four times a second.
const NEWS_PATIENCE: Duration = Duration::from_secs(20);

/// Runs `wal-shipper restore` with further arguments; its exit code and its report.
async fn restore(cluster: &Cluster, server: &IggyServerProcess, arguments: &[&str]) -> (Option<i32>, Value) {
    let json = server.directory.path().join("restored.json");
    let addresses: Vec<String> = cluster.addresses().iter().map(ToString::to_string).collect();
    let mut command = program("wal-shipper");
    command.env("KENNEL_IGGY__PASSWORD", "iggy").arg("restore");
    command.args(["--iggy", &server.address.to_string(), "--username", "iggy"]);
    command.args(["--ring", &addresses.join(","), "--tls-dir"]).arg(cluster.certificates());
    command.arg("--json").arg(&json);
    command.args(arguments);
    let output = output(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), read(&json).unwrap_or_else(|| panic!("no report: {said}")))
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_back_what_the_ring_holds_once_and_in_order() {
    let Some(server) = IggyServerProcess::start().await else {
        eprintln!("SKIPPED: no IGGY_SERVER_BIN, so nothing was restored");
        return;
    };
    let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
    let mapping = Mapping::parse(NAMES).expect("a mapping");
    cluster.shipper().ship_named(&fixtures(), &mapping, Until::Stored).await;

    let (code, report) = restore(&cluster, &server, &["--stream", "orders"]).await;
    assert_eq!(code, Some(0), "{report:#}");
    let some = report["messages_sent"].as_u64().expect("a number");
    assert!(some > 0 && some < FIXTURE_MESSAGES, "one of two streams: {report:#}");

    let (code, report) = restore(&cluster, &server, &[]).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["messages_present"], some, "what was there is not sent again: {report:#}");
    assert_eq!(report["messages_sent"].as_u64(), Some(FIXTURE_MESSAGES - some), "{report:#}");
    assert_eq!(report["messages_verified"].as_u64(), Some(FIXTURE_MESSAGES), "{report:#}");

    let (code, report) = restore(&cluster, &server, &[]).await;
    assert_eq!((code, report["messages_sent"].as_u64()), (Some(0), Some(0)), "{report:#}");
    assert_eq!(total(&server).await, FIXTURE_MESSAGES, "none is there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_expire_as_at_the_source_if_it_is_asked_for() {
    const EXPIRY_MICROS: u64 = 3_600_000_000;
    let Some(server) = IggyServerProcess::start().await else {
        eprintln!("SKIPPED: no IGGY_SERVER_BIN, so nothing was restored");
        return;
    };
    let cluster = one_node().await;
    // A data directory does not say how long messages are kept; a shipper beside a running server does.
    let with_expiry = |standing: Option<&Catalog>| {
        let mut seen = standing.cloned().expect("it was shipped by name");
        seen.streams[0].topics[0].message_expiry_micros = Some(EXPIRY_MICROS);
        merge(standing, &seen, Scope::Partial)
    };
    agree(&cluster.shipper().ring(), &with_expiry).await.expect("it stands");
    let client = cluster.client().await;
    let news = || async {
        let catalog = client.catalog(None).await.expect("a node answers").expect("it stands");
        catalog.streams[0].topics[0].message_expiry_micros.ok_or("no expiry yet".to_owned())
    };
    eventually("the node knows the expiry", NEWS_PATIENCE, news).await;

    let (code, report) = restore(&cluster, &server, &["--stream", "orders"]).await;
    assert_eq!((code, report["topics_with_expiry"].as_u64()), (Some(0), Some(1)), "{report:#}");
    assert_eq!(expiry(&server).await, IggyExpiry::NeverExpire, "it was not asked for");
    let (code, report) = restore(&cluster, &server, &["--stream", "orders", "--with-expiry"]).await;
    assert_eq!((code, report["expiries_set"].as_u64()), (Some(0), Some(1)), "{report:#}");
    assert_eq!(expiry(&server).await, IggyExpiry::from(EXPIRY_MICROS));
}

/// Of the first topic.
async fn expiry(server: &IggyServerProcess) -> IggyExpiry {
    let [stream, topic] = ["orders", "events"].map(|name| Identifier::named(name).expect("a name"));
    let topic = server.client().await.get_topic(&stream, &topic).await.expect("it answers");
    topic.expect("it is there").message_expiry
}

/// One node that holds what the fixtures hold, under their names.
async fn one_node() -> Cluster {
    let cluster = Cluster::start(1, TestBucket::memory(), &["cluster.copies=1", "cluster.min_copies=1"]).await;
    let mapping = Mapping::parse(NAMES).expect("a mapping");
    cluster.shipper().ship_named(&fixtures(), &mapping, Until::Stored).await;
    cluster
}

/// Messages of the whole server.
async fn total(server: &IggyServerProcess) -> u64 {
    let client = server.client().await;
    let mut total = 0;
    for stream in ["orders", "telemetry"] {
        let stream = Identifier::named(stream).expect("a name");
        for topic in client.get_topics(&stream).await.expect("it answers") {
            total += topic.messages_count;
        }
    }
    total
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_holds_something_else_is_left_alone() {
    let Some(server) = IggyServerProcess::start().await else {
        eprintln!("SKIPPED: no IGGY_SERVER_BIN, so nothing was restored");
        return;
    };
    let cluster = one_node().await;
    let producer = server.client().await;
    create_topic(&producer, "orders", "events", 2).await;
    send(&producer, "orders", "events", 0, vec!["of somebody else".into()]).await;
    let (code, report) = restore(&cluster, &server, &["--stream", "orders/events"]).await;
    assert_eq!((code, report["foreign"].as_u64()), (Some(3), Some(1)), "{report:#}");
    let [stream, topic] = ["orders", "events"].map(|name| Identifier::named(name).expect("a name"));
    let (consumer, first) = (Consumer::default(), PollingStrategy::first());
    let polled = producer.poll_messages(&stream, &topic, Some(0), &consumer, &first, 10, false).await;
    assert_eq!(polled.expect("it answers").messages.len(), 1, "nothing was put beside it");
}
