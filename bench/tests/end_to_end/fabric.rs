//! Readers whose answers nodes write into their memory, and followers whose copies are: they have what came over the network
//! elsewhere, also when a node is killed in the middle of it. The bytes move by libfabric's TCP, where there is a libfabric.
#![expect(clippy::print_stdout, reason = "what was skipped is told to who runs the tests")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kennel_client::{
    Client, ClientSettings, ConnectError, FabricChoice, FabricSettings, FetchRequest, Offset, PartitionKey,
};
use kennel_core::shipper::Until;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::Epoch;
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::node::free_address;
use crate::support::programs::{output, program, refusal};
use crate::support::readers::keys;
use crate::support::shipping::TestShipper;
use crate::support::source::Source;

const NODE: [&str; 3] = ["fabric.mode=auto", "fabric.provider=tcp;ofi_rxm", "fabric.source=127.0.0.1"];
const ALONE: [&str; 2] = ["cluster.copies=1", "cluster.min_copies=1"];
const PATIENCE: Duration = Duration::from_mins(1);

fn fabric() -> FabricSettings {
    let choice = FabricChoice {
        provider: Some("tcp;ofi_rxm".to_owned()),
        source: Some("127.0.0.1".to_owned()),
        ..FabricChoice::default()
    };
    FabricSettings { required: true, choice, ..FabricSettings::default() }
}

async fn connect(
    cluster: &Cluster,
    addresses: Vec<SocketAddr>,
    fabric: Option<FabricSettings>,
) -> Result<Client, ConnectError> {
    let answer_timeout = Duration::from_secs(2);
    let settings = ClientSettings { local: false, answer_timeout, fabric, ..ClientSettings::new(addresses) };
    Client::connect(settings, &cluster.identity(&cluster.certificates.client)).await
}

/// Nodes that do not run yet; `None` where there is no libfabric.
async fn prepare(nodes: usize, assignments: &[&str]) -> Option<Cluster> {
    let cluster = Cluster::prepare(nodes, TestBucket::directory(), assignments);
    match connect(&cluster, Vec::new(), Some(fabric())).await {
        Err(ConnectError::NoAddress) => Some(cluster),
        Err(error @ ConnectError::Fabric(_)) => {
            assert!(std::env::var_os("KENNEL_REQUIRE_FABRIC").is_none(), "{error:?}");
            println!("SKIPPED: {error:?}");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// Everything of a partition, and how many of the answers came by the fabric.
async fn read_all(client: &Client, partition: PartitionKey) -> (Vec<u8>, u64) {
    let (mut bytes, mut placed, mut next) = (Vec::new(), 0, Offset(0));
    let (mut epoch, mut last): (Epoch, Option<MessageIdentity>) = (Epoch(0), None);
    loop {
        let request = FetchRequest { epoch, last, ..FetchRequest::at(partition, next) };
        let fetched = client.fetch(request).await.unwrap_or_else(|error| panic!("{partition} at {next}: {error}"));
        if fetched.is_empty() {
            return (bytes, placed);
        }
        bytes.extend_from_slice(fetched.batch_bytes());
        (epoch, last, next) = (epoch.max(fetched.epoch), fetched.last.or(last), fetched.next);
        placed += u64::from(fetched.by_fabric);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fabric_and_network_give_the_same_bytes() {
    let Some(mut cluster) = prepare(3, &NODE).await else { return };
    cluster.start_all().await;
    cluster.whole().await;
    let source = Source::generated(4, 12 << 20, 31);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    let reader = connect(&cluster, cluster.addresses(), Some(fabric())).await.expect("a node welcomes it");
    let network = connect(&cluster, cluster.addresses(), None).await.expect("a node welcomes it");
    let mut by_fabric = 0;
    for partition in keys(&source) {
        let (expected, none) = read_all(&network, partition).await;
        assert_eq!(none, 0, "it has no fabric");
        let (found, placed) = read_all(&reader, partition).await;
        assert!(found == expected, "{partition}: other bytes");
        by_fabric += placed;
    }
    let counts = reader.fabric_counts().expect("it has a fabric");
    assert!(by_fabric >= 8, "{by_fabric} answers came by the fabric: {counts:?}");
    assert_eq!((counts.placed, counts.refused, counts.quarantined), (by_fabric, 0, 0), "{counts:?}");
    let reports = cluster.statuses().await.into_iter().map(|status| status.fabric.expect("it is on"));
    let (placed, bytes) = reports.fold((0, 0), |sum, node| (sum.0 + node.placed, sum.1 + node.placed_bytes));
    assert_eq!((placed, bytes), (counts.placed, counts.placed_bytes), "nodes and reader agree");
    assert!(cluster.metrics().await.contains("kennel_fabric_placed_bytes_total "));
}

/// What the nodes of a cluster say of their copies: placed, and their bytes; landed, and refused.
async fn copies(cluster: &Cluster) -> (u64, u64, u64, u64) {
    let reports = cluster.statuses().await.into_iter().filter_map(|status| status.fabric);
    reports.fold((0, 0, 0, 0), |sum, node| {
        let landed = (sum.2 + node.copies_landed, sum.3 + node.copies_refused);
        (sum.0 + node.copies_placed, sum.1 + node.copies_placed_bytes, landed.0, landed.1)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_placed_in_the_memory_of_followers() {
    let Some(mut cluster) = prepare(3, &NODE).await else { return };
    cluster.start_all().await;
    cluster.whole().await;
    let source = Source::generated(4, 12 << 20, 35);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    cluster.check(source.path(), source.messages, None).await;
    let (placed, bytes, landed, refused) = copies(&cluster).await;
    // What goes while the first landings are asked for goes over the network.
    assert!(bytes > source.bytes / 2, "{bytes} bytes of copies were placed, of {}", 2 * source.bytes);
    assert_eq!((landed, refused), (placed, 0), "{placed} were placed");
    assert!(cluster.metrics().await.contains("kennel_fabric_copies_placed_total "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lends_nothing_gets_its_copies_over_the_network() {
    let none = [&NODE[..], &["fabric.landing_count=0"]].concat();
    let Some(mut cluster) = prepare(3, &none).await else { return };
    cluster.start_all().await;
    cluster.whole().await;
    let source = Source::generated(4, 4 << 20, 36);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    cluster.check(source.path(), source.messages, None).await;
    assert_eq!(copies(&cluster).await, (0, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_it_is_read_over_the_network() {
    let Some(mut cluster) = prepare(1, &ALONE).await else { return };
    cluster.start_all().await;
    cluster.whole().await;
    let source = Source::generated(2, 2 << 20, 32);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    let reader = connect(&cluster, cluster.addresses(), Some(fabric())).await.expect("the node welcomes it");
    for partition in keys(&source) {
        let (bytes, placed) = read_all(&reader, partition).await;
        assert!(!bytes.is_empty() && placed == 0);
    }
    assert_eq!(reader.fabric_counts(), Some(kennel_client::FabricCounts::default()));
    assert_eq!(cluster.statuses().await[0].fabric, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_is_not_there_is_fatal_only_where_it_is_required() {
    let library = "fabric.library=/nowhere/libfabric.so.1";
    let required = Cluster::prepare(1, TestBucket::directory(), &["fabric.mode=require", library]);
    let said = refusal(&required.assignments_of(0)).await;
    for word in ["fabric.mode", "install libfabric 1.17 or newer", "/nowhere/libfabric.so.1"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let wanted = [&ALONE[..], &["fabric.mode=auto", library]].concat();
    let cluster = Cluster::start(1, TestBucket::directory(), &wanted).await;
    let source = Source::generated(2, 1 << 20, 33);
    cluster.shipper().ship(source.path(), Until::Committed).await;
    cluster.check(source.path(), source.messages, None).await;
    assert_eq!(cluster.statuses().await[0].fabric, None);
}

#[tokio::test]
async fn the_selftest_says_whether_the_fabric_is_fit_for_use() {
    let mut command = program("cache-node");
    command.args(["fabric-selftest", "--library", "/nowhere/libfabric.so.1"]);
    let ended = output(command).await;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("install libfabric 1.17 or newer"), "{said}");
    if prepare(1, &[]).await.is_none() {
        return;
    }
    let mut command = program("cache-node");
    command.args(["fabric-selftest", "--provider", "tcp;ofi_rxm", "--source", "127.0.0.1", "--json"]);
    let ended = output(command).await;
    let (said, report) = (String::from_utf8_lossy(&ended.stderr), String::from_utf8_lossy(&ended.stdout));
    assert_eq!(ended.status.code(), Some(0), "{said} {report}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["tested"]["name"], "tcp;ofi_rxm");
    assert_eq!(report["bytes_arrived"], true);
}

/// Nodes as processes of their own, so that they can be killed.
struct Processes {
    // First, so that nodes end before their directories go away.
    children: Vec<Child>,
    cluster: Cluster,
    addresses: Vec<SocketAddr>,
}

impl Processes {
    fn start(cluster: Cluster, nodes: usize) -> Self {
        let addresses: Vec<SocketAddr> = (0..nodes).map(|_| free_address()).collect();
        let start = |(at, address): (usize, &SocketAddr)| {
            let mut command = program("cache-node");
            command.arg("run").args(cluster.assignments_of(at).iter().map(|set| format!("--set={set}")));
            command.arg(format!("--set=listen.quic={address}"));
            // What libpsm2, which Debian's libfabric brings, leaves where it crashes.
            command.current_dir(cluster.certificates()).env("HFI_NO_BACKTRACE", "1");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
        };
        let children = addresses.iter().enumerate().map(start).collect();
        Self { children, cluster, addresses }
    }

    async fn up(&self) {
        for address in &self.addresses {
            let look = || async {
                let connected = connect(&self.cluster, vec![*address], None).await;
                connected.map(drop).map_err(|error| error.to_string())
            };
            eventually("the node takes sessions", PATIENCE, look).await;
        }
    }

    fn shipper(&self) -> TestShipper {
        let identity = self.cluster.identity(&self.cluster.certificates.shipper);
        TestShipper { identity, addresses: self.addresses.clone() }
    }

    async fn reader(&self, fabric: Option<FabricSettings>) -> Client {
        connect(&self.cluster, self.addresses.clone(), fabric).await.expect("a node welcomes it")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shipping_goes_on_when_a_node_is_killed_while_copies_are_placed() {
    let Some(cluster) = prepare(3, &NODE).await else { return };
    let mut nodes = Processes::start(cluster, 3);
    nodes.up().await;
    let source = Source::generated(4, 32 << 20, 37);
    let (shipper, path) = (nodes.shipper(), source.path().to_owned());
    let shipping = tokio::spawn(async move { shipper.ship(&path, Until::Committed).await });
    sleep(Duration::from_millis(500)).await;
    nodes.children[2].kill().await.expect("it runs");
    timeout(PATIENCE, shipping).await.expect("two nodes are enough").expect("everything is acknowledged");
    let network = nodes.reader(None).await;
    let mut messages = 0;
    for partition in keys(&source) {
        messages += read_all(&network, partition).await.0.len();
    }
    assert!(messages as u64 >= source.bytes, "{messages} bytes of {} are there", source.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_with_the_right_bytes_when_a_node_is_killed() {
    let Some(cluster) = prepare(3, &NODE).await else { return };
    let mut nodes = Processes::start(cluster, 3);
    nodes.up().await;
    let source = Source::generated(4, 12 << 20, 34);
    nodes.shipper().ship(source.path(), Until::Committed).await;
    let network = nodes.reader(None).await;
    let mut expected = Vec::new();
    for partition in keys(&source) {
        expected.push((partition, read_all(&network, partition).await.0));
    }
    let (reader, expected) = (nodes.reader(Some(fabric())).await, Arc::new(expected));
    let (stop, whole) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut reading = JoinSet::new();
    for _ in 0..4 {
        let (reader, expected) = (reader.clone(), Arc::clone(&expected));
        let (stop, whole) = (Arc::clone(&stop), Arc::clone(&whole));
        reading.spawn(async move {
            for (partition, bytes) in expected.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                assert!(read_all(&reader, *partition).await.0 == *bytes, "{partition}: other bytes");
                whole.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let placed = || reader.fabric_counts().expect("it has a fabric").placed;
    let until = async |what: &str, placed_min: u64, whole_min: u64| {
        let look = || async {
            let seen = (placed(), whole.load(Ordering::Relaxed));
            if seen.0 >= placed_min && seen.1 >= whole_min { Ok(()) } else { Err(format!("{seen:?}")) }
        };
        eventually(what, PATIENCE, look).await;
    };
    until("answers are placed", 50, 0).await;
    // The one that is asked first.
    nodes.children[0].kill().await.expect("it runs");
    let (placed_before, whole_before) = (placed(), whole.load(Ordering::Relaxed));
    until("others place, and everything is read", placed_before + 50, whole_before + 20).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = reading.join_next().await {
        ended.expect("every byte was right");
    }
    println!("{:?}", reader.fabric_counts());
}
