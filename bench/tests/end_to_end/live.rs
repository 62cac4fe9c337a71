//! A shipper beside a server that lives: what is produced is read from the ring, and deletions, purges, crashes and
//! restarts of the server are what they are. The server is a small one in the process that speaks Iggy's protocol.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kennel_client::{FetchFrom, FetchRequest};
use kennel_core::shipper::{PartitionProblem, ShipperConfig};
use kennel_gateway::testing::{IggyOrigin, Store};
use kennel_protocol::batch::BatchBuilder;
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey, ProcessId};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wal_shipper::live::{
    BarrierSettings, IggyServer, LiveSettings, PaceLimits, Password, Snapshots, SourceHealth, serve,
};
use wal_shipper::recreate::begin_anew;
use wal_shipper::ship::{Ring, ShipReport};
use wal_shipper::source::Filter;

use crate::support::bucket::TestBucket;
use crate::support::cluster::Cluster;
use crate::support::eventually;

/// How long anything here may take to come to be.
const PATIENCE: Duration = Duration::from_secs(30);

const CONSUMER: &str = "kennel";

type Place = (u32, u32, u32);

/// A shipper that runs.
pub(crate) struct LiveShipper {
    pub(crate) snapshots: Snapshots,
    stop: oneshot::Sender<()>,
    task: JoinHandle<ShipReport>,
}

impl LiveShipper {
    pub(crate) fn start(cluster: &Cluster, server: IggyServer, include: &[&str]) -> Self {
        let include: Vec<String> = include.iter().map(|&pattern| pattern.to_owned()).collect();
        let settings = LiveSettings {
            shipper: ShipperConfig { reads_max: 4, ..ShipperConfig::default() },
            patience: PATIENCE,
            filter: Filter::new(&include, &[]).expect("patterns"),
            pace: PaceLimits {
                interval_min: Duration::from_micros(300),
                interval_idle: Duration::from_millis(5),
                core_percent: 10,
            },
            data_dir: None,
            barrier: Some(BarrierSettings { consumer: CONSUMER.to_owned(), interval: Duration::from_secs(1) }),
        };
        let ring = ring(cluster);
        let (stop, stopped) = oneshot::channel();
        let (snapshots, health) = (Snapshots::default(), Arc::new(SourceHealth::new()));
        let seen = snapshots.clone();
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            serve(ring, settings, Arc::new(server), seen, health, stop).await.expect("the ring can be reached")
        });
        Self { snapshots, stop, task }
    }

    pub(crate) async fn stop(self) -> ShipReport {
        let _ = self.stop.send(());
        self.task.await.expect("it ends in order")
    }

    /// The life in which a partition is shipped now.
    pub(crate) async fn key(&self, place: Place) -> PartitionKey {
        eventually("it is shipped", PATIENCE, || async {
            let snapshot = self.snapshots.newest();
            let is = |key: &PartitionKey| (key.stream.0, key.topic.0, key.partition.0) == place;
            let mut keys = snapshot.positions.iter().map(|position| position.partition).filter(is);
            keys.next_back().ok_or_else(|| format!("{place:?} is none of {}", snapshot.positions.len()))
        })
        .await
    }
}

fn ring(cluster: &Cluster) -> Ring {
    let endpoint = QuicEndpoint::bind_any(&cluster.shipper().identity, QuicSettings::default()).expect("a port");
    Ring::new(Arc::new(endpoint.connector()), cluster.addresses(), ProcessId(7))
}

/// A server in the process, and a ring.
struct Stage {
    cluster: Cluster,
    origin: IggyOrigin,
}

impl Stage {
    async fn new() -> Self {
        let cluster = Cluster::start(3, TestBucket::memory(), &[]).await;
        let mut store = Store::default();
        store.topic((0, "orders"), (0, "events"), 3);
        Self { cluster, origin: IggyOrigin::start(store).await }
    }

    fn server(&self) -> IggyServer {
        IggyServer {
            addresses: vec![self.origin.address().to_string()],
            username: "iggy".to_owned(),
            password: Password::new("iggy"),
            tls: false,
            tls_name: String::new(),
            tls_ca: None,
        }
    }

    fn ship(&self) -> LiveShipper {
        LiveShipper::start(&self.cluster, self.server(), &[])
    }

    /// Appends batches of so many messages, that say what they are.
    fn produce(&self, place: Place, from: u64, counts: &[u64], word: &str) -> u64 {
        let mut next = from;
        for count in counts {
            let mut batch = BatchBuilder::new(PartitionId(place.2), Offset(next), 1_700_000_000_000_000 + next);
            for offset in next..next + count {
                batch = batch.payload(format!("{word} {offset} {}", "x".repeat(200)).as_bytes());
            }
            next += count;
            self.origin.store(|store| store.append(place, &batch.build()));
        }
        next
    }

    /// Waits until the ring has as much of a partition, and compares every byte.
    async fn is_shipped(&self, shipper: &LiveShipper, place: Place, end: u64) -> PartitionKey {
        let client = self.cluster.client().await;
        let look = || async {
            let key = shipper.key(place).await;
            let partitions = client.partitions().await.map_err(|error| error.to_string())?;
            let report = partitions.iter().find(|report| report.partition == key);
            match report {
                Some(report) if report.committed == Offset(end) => Ok(key),
                other => Err(format!("{key} should end at {end}: {other:?}")),
            }
        };
        let key = eventually("it is shipped to its end", PATIENCE, look).await;
        let expected = self.origin.store(|store| store.batches(place));
        let mut read = Vec::new();
        let mut next = Offset(0);
        while next < Offset(end) {
            let request = FetchRequest::at(key, next);
            let fetched = client.fetch(request).await.expect("it is there");
            read.extend_from_slice(fetched.batch_bytes());
            next = fetched.next;
        }
        assert!(read == expected, "{key}: {} bytes were read where {} are", read.len(), expected.len());
        key
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_read_from_the_ring() {
    let stage = Stage::new().await;
    let mut end = stage.produce((0, 0, 0), 0, &[1, 40, 7], "before");
    let shipper = stage.ship();
    stage.is_shipped(&shipper, (0, 0, 0), end).await;
    // Batches as long as a read, longer, and one by one while it is shipped.
    end = stage.produce((0, 0, 0), end, &[3_000, 20_000, 1], "long");
    for _ in 0..50 {
        end = stage.produce((0, 0, 0), end, &[1], "single");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    stage.is_shipped(&shipper, (0, 0, 0), end).await;
    // What comes to be later, with names.
    stage.origin.store(|store| store.topic((4, "audit"), (2, "log"), 2));
    stage.produce((4, 2, 1), 0, &[5, 5], "new");
    let key = stage.is_shipped(&shipper, (4, 2, 1), 10).await;
    // Both shards' worth of the barrier follows what is in the bucket.
    eventually("the barrier is stored", PATIENCE, || async {
        let stored = [(0, 0, 0), (4, 2, 1)].map(|place| stage.origin.store(|store| store.stored(CONSUMER, place)));
        if stored == [Some(end - 1), Some(9)] { Ok(()) } else { Err(format!("{stored:?} of {end}")) }
    })
    .await;
    assert_eq!(key.partition.0, 1);
    let report = shipper.stop().await;
    assert_eq!(report.status.stopped, 0, "{:?}", report.news);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_purged_partitions_begin_new_lives() {
    let stage = Stage::new().await;
    stage.produce((0, 0, 0), 0, &[9, 9], "first");
    let (one, two) = (stage.ship(), stage.ship());
    let first = stage.is_shipped(&one, (0, 0, 0), 18).await;
    stage.origin.store(|store| store.purge((0, 0, 0)));
    stage.produce((0, 0, 0), 0, &[4], "second");
    let second = eventually("a purge is seen", PATIENCE, || async {
        let key = one.key((0, 0, 0)).await;
        if key > first { Ok(key) } else { Err(key.to_string()) }
    })
    .await;
    assert_eq!(second.incarnation.0, first.incarnation.0 + 1);
    stage.is_shipped(&one, (0, 0, 0), 4).await;
    // Two shippers of one source agree, and neither ships anything twice.
    assert_eq!(stage.is_shipped(&two, (0, 0, 0), 4).await, second);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.origin.store(|store| store.topic((0, "orders"), (0, "events"), 1));
    stage.produce((0, 0, 0), 0, &[2, 20], "third");
    let third = eventually("it was created again", PATIENCE, || async {
        let key = one.key((0, 0, 0)).await;
        if key > second { Ok(key) } else { Err(key.to_string()) }
    })
    .await;
    assert_eq!(stage.is_shipped(&one, (0, 0, 0), 22).await, third);
    assert_eq!(stage.is_shipped(&two, (0, 0, 0), 22).await, third);
    for shipper in [one, two] {
        assert_eq!(shipper.stop().await.status.stopped, 0);
    }
    // A shipper that begins now finds the life that it is.
    let later = stage.ship();
    assert_eq!(stage.is_shipped(&later, (0, 0, 0), 22).await, third);
    later.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_waited_for_and_what_it_lost_is_told_from_what_it_changed() {
    let mut stage = Stage::new().await;
    stage.produce((0, 0, 0), 0, &[10, 10], "kept");
    stage.produce((0, 0, 1), 0, &[10, 10], "kept");
    let shipper = stage.ship();
    stage.is_shipped(&shipper, (0, 0, 0), 20).await;
    let diverged = stage.is_shipped(&shipper, (0, 0, 1), 20).await;
    stage.origin.kill().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for partition in [0, 1] {
        stage.origin.store(|store| store.lose_from((0, 0, partition), 10));
    }
    stage.origin.revive().await;
    eventually("both are behind", PATIENCE, || async {
        let snapshot = shipper.snapshots.newest();
        let ends = snapshot.positions.iter().filter(|position| position.source_end == Some(Offset(10))).count();
        if ends == 2 { Ok(()) } else { Err(format!("{:?}", snapshot.positions)) }
    })
    .await;
    // One gets the same messages again, and goes on; the other has others at the same offsets (R15).
    stage.produce((0, 0, 0), 10, &[10, 5], "kept");
    stage.produce((0, 0, 1), 10, &[3], "other");
    stage.is_shipped(&shipper, (0, 0, 0), 25).await;
    let problem = eventually("it is seen to differ", PATIENCE, || async {
        let snapshot = shipper.snapshots.newest();
        snapshot.problems.get(&diverged).cloned().ok_or_else(|| format!("{:?}", snapshot.positions))
    })
    .await;
    assert!(
        matches!(problem, PartitionProblem::Diverged { source_message, .. } if source_message.offset == Offset(12))
    );
    // The way on: an operator says that it is a new history.
    let begun = begin_anew(&ring(&stage.cluster), diverged).await.expect("the ring agrees");
    eventually("the new history is shipped", PATIENCE, || async {
        let key = shipper.key((0, 0, 1)).await;
        if Some(key) == begun { Ok(()) } else { Err(format!("{key} is not {begun:?}")) }
    })
    .await;
    stage.is_shipped(&shipper, (0, 0, 1), 13).await;
    assert_eq!(shipper.stop().await.status.stopped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_before_it_was_shipped_is_a_hole() {
    let stage = Stage::new().await;
    let end = stage.produce((0, 0, 0), 0, &[10, 10, 10], "old");
    stage.origin.store(|store| store.retain_from((0, 0, 0), 20));
    let shipper = LiveShipper::start(&stage.cluster, stage.server(), &["orders/events/0"]);
    let key = shipper.key((0, 0, 0)).await;
    let client = stage.cluster.client().await;
    eventually("the rest is shipped", PATIENCE, || async {
        let partitions = client.partitions().await.map_err(|error| error.to_string())?;
        let found = partitions.iter().any(|report| report.partition == key && report.committed == Offset(end));
        if found { Ok(()) } else { Err(format!("{partitions:?}")) }
    })
    .await;
    let report = shipper.stop().await;
    assert!(report.holes.contains(&(key, Offset(0), Offset(20))), "{:?}", report.holes);
    assert_eq!(report.status.partitions, 1, "the others are not chosen");
}

/// Not a bar: what a message takes from the server's log to a reader of the ring, seen on whatever machine this is.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_soon_visible() {
    let stage = Stage::new().await;
    let mut end = stage.produce((0, 0, 0), 0, &[1], "warm");
    let shipper = stage.ship();
    let key = stage.is_shipped(&shipper, (0, 0, 0), end).await;
    let client = stage.cluster.client_of(1).await;
    let mut follower = client.follow(key, FetchFrom::Offset(Offset(end)));
    let mut latencies = Vec::new();
    for _ in 0..200 {
        let produced = Instant::now();
        end = stage.produce((0, 0, 0), end, &[1], "timed");
        while follower.next().await.expect("it comes").next < Offset(end) {}
        latencies.push(produced.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    latencies.sort_unstable();
    println!("produced to read: p50 {:?}, p99 {:?}", latencies[100], latencies[198]);
    assert!(latencies[100] < Duration::from_millis(250), "{latencies:?}");
    shipper.stop().await;
}
