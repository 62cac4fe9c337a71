//! A cluster of nodes in this process: started, crashed, stopped and started again on their directories.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_node::http::StatusReport;
use kennel_bench::verify::{ExpectServed, Verified, verify};
use kennel_client::{Client, ClientSettings};
use kennel_protocol::ids::ShardId;
use kennel_transport::certs::{CertificateFiles, DevelopmentCa, Overwrite, create_development_ca};
use kennel_transport::tls::TlsIdentity;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::bucket::TestBucket;
use super::node::{TestNode, free_address, settings};
use super::shipping::TestShipper;
use super::{LOOK, eventually};

/// How long a ring may take until every shard has an owner: many times of what it takes on an idle machine.
const RING_PATIENCE: Duration = Duration::from_secs(30);

/// Shards that did not move for so long stay: a move waits for twice the time to settle.
const STEADY: Duration = Duration::from_secs(3);

/// Partitions compared at once.
const PARALLEL: usize = 16;

/// What all clusters of the tests are told: everything happens sooner, so that tests wait less.
const SETTINGS: [&str; 12] = [
    "listen.quic=127.0.0.1:0",
    "listen.http=127.0.0.1:0",
    "cluster.shard_count=4",
    "journal.size=64 MiB",
    "flush.interval=200ms",
    "flush.interval_idle=200ms",
    "cache.memory=16 MiB",
    "cache.disk=64 MiB",
    "timing.heartbeat=50ms",
    "timing.owner_timeout=400ms",
    "timing.settle=500ms",
    "timing.gossip=100ms",
];

/// Nodes that share a bucket.
#[derive(Debug)]
pub(crate) struct Cluster {
    // First, so that nodes end before what they stand on goes away.
    places: Vec<Place>,
    stage: TempDir,
    pub(crate) certificates: DevelopmentCa,
    pub(crate) bucket: TestBucket,
    assignments: Vec<String>,
    shares_memory: bool,
}

/// Where a node lives, running or not.
#[derive(Debug)]
struct Place {
    id: usize,
    gossip: SocketAddr,
    running: Option<TestNode>,
}

impl Cluster {
    /// Starts so many nodes with `assignments` over the settings of all tests, and waits until they are a whole ring.
    pub(crate) async fn start(nodes: usize, bucket: TestBucket, assignments: &[&str]) -> Self {
        let mut cluster = Self::prepare(nodes, bucket, assignments);
        cluster.start_all().await;
        cluster.whole().await;
        cluster
    }

    /// The same without starting anything.
    pub(crate) fn prepare(nodes: usize, bucket: TestBucket, assignments: &[&str]) -> Self {
        super::log();
        let stage = tempfile::tempdir().expect("a directory");
        let certificates = create_development_ca(&stage.path().join("tls"), &[], Overwrite::Refuse);
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        // The test's own come last: what is said last counts.
        let assignments = [owned(&SETTINGS), bucket.assignments(), owned(assignments)].concat();
        Self {
            certificates: certificates.expect("certificates"),
            assignments,
            bucket,
            places: (1..=nodes).map(|id| Place { id, gossip: free_address(), running: None }).collect(),
            stage,
            shares_memory: false,
        }
    }

    /// Nodes that start from now on share memory with readers.
    pub(crate) fn share_memory(&mut self) {
        self.shares_memory = true;
    }

    /// Starts every node that does not run, all at once, as after a power cut of a whole rack.
    pub(crate) async fn start_all(&mut self) {
        let stopped = (0..self.places.len()).filter(|&at| self.places[at].running.is_none()).collect();
        self.start_these(stopped).await;
    }

    /// Starts the nodes at these places, all at once.
    pub(crate) async fn start_these(&mut self, places: Vec<usize>) {
        for &at in &places {
            self.places[at].gossip = free_address();
        }
        let mut starting = tokio::task::JoinSet::new();
        for at in places {
            let assignments = self.assignments_of(at);
            starting.spawn(async move { (at, TestNode::start(settings(&assignments)).await) });
        }
        while let Some(started) = starting.join_next().await {
            let (at, node) = started.expect("starting does not panic");
            self.places[at].running = Some(node.unwrap_or_else(|error| panic!("node {}: {error:?}", at + 1)));
        }
    }

    /// What a node is told, as `--set` takes it.
    pub(crate) fn assignments_of(&self, at: usize) -> Vec<String> {
        let place = &self.places[at];
        let seeds: Vec<_> = self.places.iter().map(|place| format!("{:?}", place.gossip.to_string())).collect();
        let CertificateFiles { certificate, key } = &self.certificates.node;
        let own = [
            format!("node.id={}", place.id),
            format!("node.directory={}", self.directory(at).display()),
            format!("listen.gossip={}", place.gossip),
            format!("cluster.seeds=[{}]", seeds.join(",")),
            format!("tls.ca={}", self.certificates.ca.display()),
            format!("tls.cert={}", certificate.display()),
            format!("tls.key={}", key.display()),
        ];
        let socket = self.directory(at).join("local.sock");
        let shared = self.shares_memory.then(|| format!("listen.local={}", socket.display()));
        self.assignments.iter().cloned().chain(own).chain(shared).collect()
    }

    /// A node's directory.
    pub(crate) fn directory(&self, at: usize) -> PathBuf {
        self.stage.path().join(format!("node-{}", at + 1))
    }

    /// Where certificates lie.
    pub(crate) fn certificates(&self) -> &Path {
        self.certificates.ca.parent().expect("it lies in a directory")
    }

    /// Cuts the power of a node.
    pub(crate) async fn crash(&mut self, at: usize) {
        self.places[at].running.take().expect("it runs").crash().await;
    }

    /// Cuts the power of all at the same time.
    pub(crate) async fn crash_all(&mut self) {
        let mut crashes = tokio::task::JoinSet::new();
        for node in self.places.iter_mut().filter_map(|place| place.running.take()) {
            crashes.spawn(node.crash());
        }
        crashes.join_all().await;
    }

    /// Stops a node in good order.
    pub(crate) async fn stop(&mut self, at: usize) {
        self.places[at].running.take().expect("it runs").stop().await;
    }

    /// Stops all in order, one after the other.
    pub(crate) async fn stop_all(&mut self) {
        for place in &mut self.places {
            if let Some(node) = place.running.take() {
                node.stop().await;
            }
        }
    }

    /// Where a running node takes sessions.
    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.places[at].running.as_ref().expect("it runs").address()
    }

    fn running(&self) -> impl Iterator<Item = (usize, &TestNode)> {
        self.places.iter().enumerate().filter_map(|(at, place)| Some((at, place.running.as_ref()?)))
    }

    /// The places of the nodes that run.
    pub(crate) fn alive(&self) -> Vec<usize> {
        self.running().map(|(at, _)| at).collect()
    }

    /// What the running nodes say of themselves.
    pub(crate) async fn statuses(&self) -> Vec<StatusReport> {
        let mut statuses = Vec::new();
        for (at, node) in self.running() {
            statuses.push(node.status().await.unwrap_or_else(|error| panic!("node {}: {error:#}", at + 1)));
        }
        statuses
    }

    /// The metrics of this process: all nodes in it share them.
    pub(crate) async fn metrics(&self) -> String {
        let (_, node) = self.running().next().expect("a node runs");
        node.metrics().await.expect("it answers")
    }

    /// Waits until every shard has one owner among the running nodes; says who owns how many.
    pub(crate) async fn owned(&self) -> BTreeMap<usize, usize> {
        eventually("every shard has an owner", RING_PATIENCE, || async { owners(&self.statuses().await) }).await
    }

    /// Waits until every shard has an owner, and every running node a copy of it.
    pub(crate) async fn whole(&self) {
        let nodes = self.running().count();
        let look = || async {
            let statuses = self.statuses().await;
            owners(&statuses)?;
            let mut owned = statuses.iter().flat_map(|status| &status.shards).filter(|shard| shard.role == "owner");
            match owned.find(|shard| shard.copies.len() < nodes) {
                Some(narrow) => Err(format!("shard {} has the copies {:?}", narrow.shard, narrow.copies)),
                None => Ok(()),
            }
        };
        eventually("the ring is whole", RING_PATIENCE, look).await;
    }

    /// Waits until shards have stopped to move to where the ring wants them.
    pub(crate) async fn steady(&self) {
        let (mut since, mut before) = (Instant::now(), BTreeMap::new());
        let patience = RING_PATIENCE + STEADY;
        let deadline = since + patience;
        while since.elapsed() < STEADY {
            assert!(Instant::now() < deadline, "shards still move after {patience:?}: {before:?}");
            let epochs = self.statuses().await.into_iter().flat_map(|status| status.shards);
            let epochs = epochs.map(|shard| ((shard.shard, shard.role), shard.epoch)).collect();
            if epochs != before {
                (since, before) = (Instant::now(), epochs);
            }
            sleep(LOOK).await;
        }
    }

    /// The place of the node that owns most.
    pub(crate) async fn busiest(&self) -> usize {
        let owned = self.owned().await;
        owned.into_iter().max_by_key(|&(_, shards)| shards).expect("somebody owns something").0
    }

    /// The place of the node that owns a shard.
    pub(crate) async fn owner_of(&self, shard: ShardId) -> usize {
        self.owned().await;
        let statuses = self.statuses().await;
        let owner = statuses.iter().find(|status| status.shards[usize::from(shard.0)].role == "owner");
        usize::try_from(owner.expect("it has an owner").node).expect("small") - 1
    }

    /// A shipper that knows all running nodes.
    pub(crate) fn shipper(&self) -> TestShipper {
        TestShipper { identity: self.identity(&self.certificates.shipper), addresses: self.addresses() }
    }

    /// A reader whose home is the node at a place, and which knows no other to begin with.
    pub(crate) async fn client_of(&self, at: usize) -> Client {
        self.connect(vec![self.address(at)]).await
    }

    /// A reader that knows all running nodes.
    pub(crate) async fn client(&self) -> Client {
        self.connect(self.addresses()).await
    }

    /// A reader that knows nodes at these addresses.
    pub(crate) async fn connect(&self, addresses: Vec<SocketAddr>) -> Client {
        let mut settings = ClientSettings::new(addresses);
        settings.answer_timeout = Duration::from_secs(2);
        let identity = self.identity(&self.certificates.client);
        Client::connect(settings, &identity).await.expect("a node welcomes a reader")
    }

    /// Where the running nodes take sessions.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.running().map(|(_, node)| node.address()).collect()
    }

    pub(crate) fn identity(&self, files: &CertificateFiles) -> TlsIdentity {
        TlsIdentity::load(&self.certificates.ca, &files.certificate, &files.key).expect("certificates of the test")
    }

    /// Reads everything from every running node, and fails unless each gives exactly what the source has.
    pub(crate) async fn check(&self, data_dir: &Path, messages: u64, expect: Option<ExpectServed>) {
        for at in self.alive() {
            let verified = read_back(&self.client_of(at).await, data_dir, expect).await;
            assert!(verified.is_clean(), "through node {}: {}: {verified:#?}", at + 1, verified.line());
            assert_eq!(verified.messages, messages, "through node {}: {verified:#?}", at + 1);
        }
    }
}

/// Compares everything that the source has with what a reader gets.
pub(crate) async fn read_back(client: &Client, data_dir: &Path, expect: Option<ExpectServed>) -> Verified {
    verify(client, data_dir, PARALLEL, expect, &|_, _| {}).await.expect("the source can be read")
}

/// How many shards each place owns, if every shard has exactly one owner and all nodes see the others.
fn owners(statuses: &[StatusReport]) -> Result<BTreeMap<usize, usize>, String> {
    let mut owners: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for status in statuses {
        let settled = status.members.iter().filter(|member| member.settled).count();
        if !status.ready || settled != statuses.len() {
            return Err(format!("node {} sees {settled} members: {:?}", status.node, status.reason));
        }
        let place = usize::try_from(status.node).expect("small") - 1;
        for shard in &status.shards {
            let owners = owners.entry(shard.shard).or_default();
            owners.extend((shard.role == "owner").then_some(place));
        }
    }
    let mut owned = BTreeMap::new();
    for (shard, owners) in owners {
        let [owner] = owners[..] else {
            return Err(format!("the owners of shard {shard} are {owners:?}; {}", notes(statuses, shard)));
        };
        *owned.entry(owner).or_default() += 1;
    }
    Ok(owned)
}

fn notes(statuses: &[StatusReport], shard: u16) -> String {
    let of_shard = statuses.iter().map(|status| {
        let report = &status.shards[usize::from(shard)];
        format!("node {}: {} in epoch {}, {:?}", status.node, report.role, report.epoch, report.note)
    });
    of_shard.collect::<Vec<_>>().join("; ")
}
