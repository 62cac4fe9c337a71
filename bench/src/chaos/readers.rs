//! The readers of a run: followers of every partition, and wanderers who read anywhere again, through every node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kennel_client::{
    Client, ClientSettings, FabricChoice, FabricSettings, FetchError, FetchFrom, FetchRequest, Fetched,
};
use kennel_protocol::ids::Offset;
use kennel_transport::close::Advice;
use kennel_transport::tls::TlsIdentity;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Reads;
use super::check::Check;
use super::marks::Marks;
use super::node::FABRIC_PROVIDER;
use super::source::{Source, SourcePartition};
use super::timeline::Timeline;
use super::violation::Violation;
use crate::random::Random;

/// How long a reader looks for a node that answers, before it says so and goes on looking.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(1);
/// Between two tries of whatever did not work.
const AGAIN: Duration = Duration::from_millis(200);
/// Readers that wander, and how long each rests.
const WANDERERS: u64 = 4;
const REST: Duration = Duration::from_millis(60);
/// What a wanderer reads at once.
const WANDER_BYTES: u32 = 64 << 10;
/// How often owners are asked for their marks.
const MARKS: Duration = Duration::from_millis(500);

/// What all readers of a run share.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) source: Arc<Source>,
    pub(super) marks: Arc<Marks>,
    pub(super) ring: Vec<SocketAddr>,
    pub(super) identity: TlsIdentity,
    pub(super) timeline: Timeline,
    pub(super) seen: Arc<Seen>,
    pub(super) reads: Reads,
    /// Where nodes find landings: the address of this process in the network of the run.
    pub(super) host: IpAddr,
}

/// What readers saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Messages checked.
    pub(super) messages: AtomicU64,
    /// Answers that came otherwise than over QUIC.
    pub(super) past_quic: AtomicU64,
    /// Longest time from the writing of a message until its follower had it, milliseconds.
    pub(super) longest_gap_millis: AtomicU64,
    /// Fetches that gave up.
    pub(super) gave_up: AtomicU64,
}

/// Landings for what wanderers and followers that lag ask for.
fn fabric(host: IpAddr) -> FabricSettings {
    let (provider, source) = (Some(FABRIC_PROVIDER.to_owned()), Some(host.to_string()));
    let choice = FabricChoice { provider, source, ..FabricChoice::default() };
    FabricSettings { required: true, choice, landing_count: 8, ..FabricSettings::default() }
}

impl Reading {
    /// Starts all readers, over one client for each node.
    ///
    /// # Cancel safety
    /// Those that were started run on.
    pub(super) async fn start(&self, seed: u64, tasks: &mut JoinSet<()>) {
        let mut clients = Vec::new();
        for home in 0..self.ring.len() {
            clients.push(self.connect(home).await);
        }
        for at in 0..self.source.partitions.len() {
            // Two followers of each, at home at different nodes: of owner, follower and neither some each.
            for step in 0..2 {
                let client = clients[(at + step) % clients.len()].clone();
                tasks.spawn(self.clone().follow(at, client));
            }
        }
        for number in 0..WANDERERS {
            tasks.spawn(self.clone().wander(clients.clone(), Random(seed ^ (number << 32) ^ 0x3a11)));
        }
        tasks.spawn(self.clone().ask_marks(clients.swap_remove(0)));
    }

    /// A client at home at a node, or at the next one that answers.
    pub(super) async fn connect(&self, home: usize) -> Client {
        loop {
            let ring = self.ring.iter().cycle().skip(home).take(self.ring.len()).copied().collect();
            let settings = ClientSettings {
                patience: PATIENCE,
                answer_timeout: ANSWER,
                connect_timeout: CONNECT,
                local: self.reads == Reads::SharedMemory,
                fabric: (self.reads == Reads::Fabric).then(|| fabric(self.host)),
                ..ClientSettings::new(ring)
            };
            match Client::connect(settings, &self.identity).await {
                Ok(client) => return client,
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn follow(self, at: usize, client: Client) {
        let partition = &self.source.partitions[at];
        let mut follower = client.follow(partition.key, FetchFrom::Offset(Offset(0)));
        let mut check = Check::at(0);
        loop {
            match follower.next().await {
                Ok(fetched) => {
                    self.record_gap(partition, check.next());
                    self.record_way(&fetched);
                    let before = check.next();
                    for violation in check.take(partition, &fetched) {
                        self.timeline.violated(violation);
                    }
                    self.seen.messages.fetch_add(check.next() - before, Ordering::Relaxed);
                    self.marks.raise(at, check.next());
                }
                Err(error) => {
                    if !self.may_go_on(partition, check.next(), &error) {
                        return;
                    }
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// How long the first message of an answer took from the source to here.
    fn record_gap(&self, partition: &SourcePartition, first: u64) {
        let Some(written) = partition.written_at(first) else { return };
        let millis = u64::try_from(written.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.longest_gap_millis.fetch_max(millis, Ordering::Relaxed);
    }

    fn record_way(&self, fetched: &Fetched) {
        let past_quic = fetched.from_shared_memory || fetched.by_fabric;
        self.seen.past_quic.fetch_add(past_quic.into(), Ordering::Relaxed);
    }

    async fn wander(self, clients: Vec<Client>, mut random: Random) {
        loop {
            sleep(REST).await;
            let at = usize::try_from(random.below(self.source.partitions.len() as u64)).expect("below a length");
            let (partition, end) = (&self.source.partitions[at], self.marks.acknowledged(at));
            if end == 0 {
                continue;
            }
            let offset = random.below(end);
            let request = FetchRequest { bytes_max: WANDER_BYTES, ..FetchRequest::at(partition.key, Offset(offset)) };
            let client = &clients[usize::try_from(random.below(clients.len() as u64)).expect("below a length")];
            match client.fetch(request).await {
                Ok(fetched) => {
                    self.record_way(&fetched);
                    for violation in Check::at(offset).take(partition, &fetched) {
                        self.timeline.violated(violation);
                    }
                }
                Err(error) => {
                    self.may_go_on(partition, offset, &error);
                }
            }
        }
    }

    /// Whether an error is one that passes. One that does not is a violation: no history was given up here.
    fn may_go_on(&self, partition: &SourcePartition, offset: u64, error: &FetchError) -> bool {
        // Before its first message nobody knows a partition.
        let is_new = offset == 0 && matches!(error, FetchError::UnknownPartition(_));
        if is_new || error.advice() == Advice::Wait {
            self.seen.gave_up.fetch_add(u64::from(!is_new), Ordering::Relaxed);
            return true;
        }
        let (partition, said) = (partition.key, error.to_string());
        self.timeline.violated(Violation::Denied { partition, offset, said });
        false
    }

    /// Asks owners how far everything is committed: what they say is as binding as an acknowledgement.
    async fn ask_marks(self, client: Client) {
        loop {
            sleep(MARKS).await;
            let Ok(reports) = client.partitions().await else { continue };
            for report in reports {
                let found = self.source.partitions.binary_search_by_key(&report.partition, |partition| partition.key);
                if let Ok(at) = found {
                    self.marks.raise(at, report.committed.0);
                }
            }
        }
    }

    /// Reads a partition from its start up to `end`. `Err` is where it got to without finding anything wrong.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub(super) async fn read_up_to(&self, client: &Client, at: usize, end: u64, until: Instant) -> Result<(), u64> {
        let partition = &self.source.partitions[at];
        let mut check = Check::at(0);
        while check.next() < end {
            let request = FetchRequest::at(partition.key, Offset(check.next())).waiting(AGAIN);
            match client.fetch(request).await {
                Ok(fetched) => {
                    for violation in check.take(partition, &fetched) {
                        self.timeline.violated(violation);
                    }
                }
                Err(error) if error.advice() == Advice::Wait => sleep(AGAIN).await,
                Err(error) => {
                    self.may_go_on(partition, check.next().max(1), &error);
                    return Err(check.next());
                }
            }
            if Instant::now() > until {
                return Err(check.next());
            }
        }
        Ok(())
    }
}
