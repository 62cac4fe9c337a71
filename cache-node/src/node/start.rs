//! The start of a node, step by step. What can be wrong is looked at before anything listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use futures::FutureExt;
use kennel_core::membership::{Member, Membership, Settled, Zone};
use kennel_core::shard::{Effects, Shard};
use kennel_gateway::{Counting, Gateway};
use kennel_protocol::ids::{ProcessId, ShardId};
use kennel_protocol::limits::{WIRE_VERSION, WIRE_VERSION_MIN};
use kennel_protocol::object::ClusterIdentity;
use kennel_protocol::wire::{Hello, Role};
use kennel_transport::handshake::HelloPolicy;
use kennel_transport::quic::QuicEndpoint;
use kennel_transport::session::Listener;
use kennel_transport::tls::TlsIdentity;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::answers::Answers;
use super::bucket_edge::BucketEdge;
use super::catalog_book::CatalogBook;
use super::catalog_store::CatalogStore;
use super::clock::Clock;
use super::error::NodeError;
use super::gateway;
use super::journal_edge::JournalEdge;
use super::members::Members;
use super::peers::Peers;
use super::recovery::{Condition, ShardPart, sort_records};
use super::residence::Residence;
use super::roles::Roles;
use super::serve::Serving;
use super::shard_settings::{resident_bytes_max, shard_config};
use super::shard_task::{INBOX_MAX, ShardInput, ShardTask};
use super::showing::Showing;
use super::status::StatusSources;
use super::stowed::Stowed;
use super::{Node, force_file};
use crate::bucket::{Bucket, establish_cluster};
use crate::config::{Durability, Settings};
use crate::fabric::{self, Fabric};
use crate::gossip::{Gossip, GossipSettings};
use crate::http::Http;
use crate::journal::{Journal, JournalSettings, Recovered};
use crate::local::{self, Local, LocalError};
use crate::read::{
    BlockCache, BucketLog, CacheSettings, ColdIndex, ColdReader, ColdSettings, DiskSettings, LogStore, Reader,
    ShardReads, Tail, TailBudget,
};
use crate::{metrics, random};

/// A journal group is closed at this size: large enough to keep a disk busy, small enough to bound its latency.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Lines in the log about what a damaged journal lacks.
const MISSING_REPORTS_MAX: usize = 64;

/// A fatal error that waits; the first one is enough.
const FATAL_MAX: usize = 1;

/// What the steps leave for each other.
pub(super) struct Foundation {
    pub(super) process: ProcessId,
    clock: Clock,
    pub(super) identity: ClusterIdentity,
    tls: TlsIdentity,
    bucket: Bucket,
    pub(super) journal: Journal,
    recovered: Recovered,
    cache: Arc<BlockCache>,
    reachable: Arc<AtomicBool>,
    fabric: Option<Arc<Fabric>>,
}

/// A node on its way up: what is there already, and the tasks that run.
struct Startup {
    settings: Settings,
    foundation: Foundation,
    links: Links,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    shards: Vec<mpsc::Sender<ShardInput>>,
    stowed: Stowed,
    residence: Arc<Residence>,
    local: Option<Arc<Local>>,
}

pub(super) async fn start(settings: Settings) -> Result<Node, NodeError> {
    let handle = metrics::install();
    let mut foundation = lay_foundation(&settings).await?;
    let records = core::mem::take(&mut foundation.recovered.records);
    let condition = if foundation.recovered.damaged.is_some() { Condition::Damaged } else { Condition::Authentic };
    let parts = sort_records(records, condition).map_err(NodeError::JournalRecord)?;
    report_missing(&parts);

    let endpoint = QuicEndpoint::bind(settings.listen.quic, &foundation.tls, settings.quic.clone());
    let endpoint = endpoint.map_err(NodeError::Quic)?;
    let listener = endpoint.listen().map_err(NodeError::Quic)?;
    let quic = listener.local_address();
    let links = Links {
        gossip: Arc::new(start_gossip(&settings, &foundation, quic).await?),
        peers: Peers::new(Arc::new(endpoint.connector()), hello(&settings, &foundation), foundation.fabric.clone()),
        roles: Arc::new(Roles::new(settings.node.id, foundation.identity.shard_count)),
    };
    let stowed = Stowed::new(foundation.journal.clone());
    let reads = shard_reads(&settings, &foundation, &stowed);

    let (stop, _) = watch::channel(false);
    let (tasks, shards) = (JoinSet::new(), Vec::new());
    let residence = Residence::new(resident_bytes_max(&settings, &foundation), foundation.identity.shard_count);
    let mut startup = Startup { settings, foundation, links, tasks, stop, shards, stowed, residence, local: None };
    startup.open_local(&reads.shards)?;
    let failed = startup.spawn_shards(parts, &reads.shards);
    let membership = startup.spawn_members();
    let reader = Arc::new(Reader::new(reads.shards, reads.cold));
    let catalog = startup.spawn_catalog();
    let answers = startup.answers(reader, membership.clone(), catalog.clone());
    let sessions = startup.spawn_serving(Arc::clone(&answers), Box::new(listener));
    let gateway = gateway::start(&startup.settings, answers, catalog.clone()).await?;
    let counting = gateway.as_ref().map(Gateway::counting);
    let status = startup.status(reads.budget, membership, catalog, sessions, counting).into_source();
    let http = Http::start(startup.settings.listen.http, status, handle).await.map_err(NodeError::Http)?;
    Ok(startup.finish(quic, http, gateway, failed))
}

impl Startup {
    /// Shares memory with readers of this host, if that is wanted and the system can.
    fn open_local(&mut self, reads: &[ShardReads]) -> Result<(), NodeError> {
        let Some(settings) = &self.settings.local else { return Ok(()) };
        let tails = reads.iter().map(|reads| Arc::clone(&reads.tail)).collect();
        match local::open(settings, tails) {
            Ok((local, doors)) => {
                self.tasks.spawn(doors.run(self.stop.subscribe()));
                self.local = Some(local);
                Ok(())
            }
            Err(error @ LocalError::Socket { .. }) => Err(NodeError::Local(error)),
            // Nothing that a setting could mend: readers come over QUIC.
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no memory is shared with readers of this host"
                );
                Ok(())
            }
        }
    }

    /// Starts every shard's machine. Returns where errors come out that the node cannot live with.
    fn spawn_shards(
        &mut self,
        mut parts: BTreeMap<ShardId, ShardPart>,
        reads: &[ShardReads],
    ) -> mpsc::Receiver<String> {
        let (fatal, failed) = mpsc::channel(FATAL_MAX);
        for (id, reads) in (0..).map(ShardId).zip(reads) {
            let part = parts.remove(&id).unwrap_or_default();
            let (inbox, queue) = mpsc::channel(INBOX_MAX);
            let task = self.shard_task(id, part, reads, inbox.clone(), fatal.clone());
            let running = AssertUnwindSafe(task.run(queue, self.stop.subscribe())).catch_unwind();
            let fatal = fatal.clone();
            self.tasks.spawn(async move {
                if running.await.is_err() {
                    // A broken invariant: the shard's state is worth nothing any more, a restart recovers it.
                    drop(fatal.try_send(format!("the driver of shard {id} panicked; the log says where")));
                }
            });
            self.shards.push(inbox);
        }
        failed
    }

    fn shard_task(
        &self,
        id: ShardId,
        part: ShardPart,
        reads: &ShardReads,
        own_inbox: mpsc::Sender<ShardInput>,
        fatal: mpsc::Sender<String>,
    ) -> ShardTask {
        let foundation = &self.foundation;
        foundation.journal.free(part.unneeded);
        let seed = u64::try_from(random::id() >> 64).expect("the upper half fits");
        let mut effects = Effects::new();
        let config = shard_config(&self.settings, foundation, id);
        let shard = Shard::new(config, part.recovered, seed, foundation.clock.now(), &mut effects);
        debug_assert!(effects.is_empty(), "a machine waits for its first input");
        ShardTask {
            id,
            shard,
            clock: foundation.clock,
            journal: foundation.journal.clone(),
            journal_edge: JournalEdge::new(id, foundation.journal.clone(), part.ledger),
            bucket: BucketEdge::new(id, foundation.bucket.clone(), Arc::clone(&foundation.reachable)),
            peers: self.links.peers.clone(),
            roles: Arc::clone(&self.links.roles),
            gossip: Arc::clone(&self.links.gossip),
            showing: Showing::new(Arc::clone(&reads.tail), self.local.clone()),
            index: Arc::clone(&reads.index),
            stowed: self.stowed.clone(),
            memory: self.residence.resident(),
            own_inbox,
            force: force_file(&self.settings, id),
            fatal,
        }
    }

    /// Starts to watch who is there. Returns the settled membership, once there is one.
    fn spawn_members(&mut self) -> watch::Receiver<Option<Arc<Membership>>> {
        let (current, membership) = watch::channel(None);
        let members = Members {
            clock: self.foundation.clock,
            settled: Settled::new(self.settings.timing.settle),
            copies: usize::from(self.settings.cluster.copies),
            peers: self.links.peers.clone(),
            roles: Arc::clone(&self.links.roles),
            shards: self.shards.clone(),
            current,
        };
        self.tasks.spawn(members.run(self.links.gossip.watch(), self.stop.subscribe()));
        membership
    }

    /// Starts to keep the catalogue.
    fn spawn_catalog(&mut self) -> CatalogBook {
        let store = CatalogStore::new(self.foundation.bucket.clone());
        let (roles, peers) = (Arc::clone(&self.links.roles), self.links.peers.clone());
        let (book, keeper) = CatalogBook::new(self.settings.node.id, roles, peers, store);
        self.tasks.spawn(keeper.run(self.stop.subscribe()));
        book
    }

    fn answers(
        &self,
        reader: Arc<Reader>,
        membership: watch::Receiver<Option<Arc<Membership>>>,
        catalog: CatalogBook,
    ) -> Arc<Answers> {
        Arc::new(Answers {
            node: self.settings.node.id,
            shards: self.shards.clone(),
            reader,
            roles: Arc::clone(&self.links.roles),
            peers: self.links.peers.clone(),
            catalog,
            membership,
            local: self.local.clone(),
            fabric: self.foundation.fabric.clone(),
        })
    }

    /// Starts to take sessions. Returns the places that are free.
    fn spawn_serving(&mut self, answers: Arc<Answers>, listener: Box<dyn Listener>) -> Arc<Semaphore> {
        let sessions = Arc::new(Semaphore::new(self.settings.limits.sessions_max));
        let serving = Arc::new(Serving {
            policy: policy(&self.settings, &self.foundation),
            answers,
            shards: self.shards.clone(),
            sessions: Arc::clone(&sessions),
            shippers: AtomicU64::new(0),
        });
        self.tasks.spawn(serving.run(listener, self.stop.subscribe()));
        sessions
    }

    fn status(
        &self,
        tail: Arc<TailBudget>,
        membership: watch::Receiver<Option<Arc<Membership>>>,
        catalog: CatalogBook,
        sessions: Arc<Semaphore>,
        gateway: Option<Counting>,
    ) -> StatusSources {
        let foundation = &self.foundation;
        StatusSources {
            started: Instant::now(),
            process: foundation.process,
            cluster: foundation.identity.cluster,
            journal: foundation.journal.clone(),
            journal_mode: foundation.recovered.mode,
            bucket: foundation.bucket.clone(),
            reachable: Arc::clone(&foundation.reachable),
            cache: Arc::clone(&foundation.cache),
            tail,
            gossip: self.links.gossip.watch(),
            membership,
            catalog,
            shards: self.shards.clone(),
            sessions,
            gateway,
            local: self.local.clone(),
            fabric: foundation.fabric.clone(),
            settings: self.settings.clone(),
        }
    }

    fn finish(self, quic: SocketAddr, http: Http, gateway: Option<Gateway>, fatal: mpsc::Receiver<String>) -> Node {
        let Self { settings, foundation, links, tasks, stop, shards, stowed: _, residence: _, local: _ } = self;
        Node {
            id: settings.node.id,
            cluster: foundation.identity.cluster,
            quic,
            gossip_address: links.gossip.address(),
            http,
            shards,
            tasks,
            stop,
            fatal,
            peers: links.peers,
            gossip: links.gossip,
            cache: foundation.cache,
            journal: foundation.journal,
            gateway,
        }
    }
}

/// Directory, certificates, fabric, journal, bucket, cache: in the order in which a mistake is cheapest to find.
async fn lay_foundation(settings: &Settings) -> Result<Foundation, NodeError> {
    let directory = &settings.node.directory;
    let failed = |source| NodeError::Directory { path: directory.clone(), source };
    tokio::fs::create_dir_all(directory).await.map_err(failed)?;
    let tls = TlsIdentity::load(&settings.tls.ca, &settings.tls.cert, &settings.tls.key);
    let tls = tls.map_err(NodeError::Certificates)?;
    let fabric = fabric::open(settings.fabric.as_ref()).await.map_err(NodeError::Fabric)?;

    let (journal, recovered) = Journal::open(&journal_settings(settings)).map_err(NodeError::Journal)?;
    report_recovery(&recovered);

    let bucket = Bucket::connect(&settings.bucket).await.map_err(NodeError::Bucket)?;
    let report = bucket.probe().await.map_err(NodeError::Probe)?;
    tracing::info!(rounds = report.rounds, racers = report.racers, "the bucket decides races");
    let identity = establish_cluster(&bucket, settings.cluster.shard_count, settings.cluster.id).await;
    let identity = identity.map_err(NodeError::Cluster)?;

    let disk = (settings.cache.disk_bytes > 0)
        .then(|| DiskSettings { directory: settings.cache.directory.clone(), bytes: settings.cache.disk_bytes });
    let cache = BlockCache::open(&CacheSettings { memory_bytes: settings.cache.memory_bytes, disk }).await;
    let cache = Arc::new(cache.map_err(NodeError::Cache)?);
    let process = ProcessId(random::id());
    Ok(Foundation {
        process,
        clock: Clock::start(),
        identity,
        tls,
        bucket,
        journal,
        recovered,
        cache,
        reachable: Arc::new(AtomicBool::new(true)),
        fabric,
    })
}

fn journal_settings(settings: &Settings) -> JournalSettings {
    JournalSettings {
        path: settings.journal.path.clone(),
        bytes: settings.journal.bytes,
        group_bytes_max: GROUP_BYTES_MAX,
        group_linger: Duration::ZERO,
        memory_only: settings.cluster.durability == Durability::Memory,
    }
}

fn report_recovery(recovered: &Recovered) {
    let (records, torn) = (recovered.records.len(), recovered.torn_bytes);
    tracing::info!(journal = %recovered.journal, records, torn_bytes = torn, mode = ?recovered.mode, "the journal is open");
    if let Some(damage) = &recovered.damaged {
        metrics::record_journal_damage(damage.records_lost);
        tracing::error!(
            journal = %recovered.journal,
            records_lost = damage.records_lost,
            %damage,
            "the journal is damaged: it goes on under a new id and has no vote until it is a copy again"
        );
    }
}

/// Says which entries a damaged journal lacks, as far as what is around them tells.
fn report_missing(parts: &BTreeMap<ShardId, ShardPart>) {
    let missing = parts.iter().flat_map(|(shard, part)| part.missing.iter().map(move |missing| (shard, missing)));
    for (shard, (epoch, lsns)) in missing.take(MISSING_REPORTS_MAX) {
        tracing::error!(%shard, %epoch, from = %lsns.start, end = %lsns.end, "the damaged journal lacks these entries");
    }
}

fn hello(settings: &Settings, foundation: &Foundation) -> Hello {
    Hello {
        version_min: WIRE_VERSION_MIN,
        version_max: WIRE_VERSION,
        role: Role::Node,
        cluster: Some(foundation.identity.cluster),
        node: Some(settings.node.id),
        process: foundation.process,
        agent: concat!("cache-node ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn policy(settings: &Settings, foundation: &Foundation) -> HelloPolicy {
    HelloPolicy {
        version_min: WIRE_VERSION_MIN,
        version_max: WIRE_VERSION,
        cluster: foundation.identity.cluster,
        node: settings.node.id,
        process: foundation.process,
        shard_count: foundation.identity.shard_count,
    }
}

async fn start_gossip(settings: &Settings, foundation: &Foundation, quic: SocketAddr) -> Result<Gossip, NodeError> {
    let member = Member {
        node: settings.node.id,
        process: foundation.process,
        journal: foundation.journal.journal_id(),
        address: settings.listen.advertised(quic),
        zone: Zone(settings.node.zone.clone()),
        weight: settings.node.weight,
        draining: false,
    };
    let gossip = GossipSettings {
        listen: settings.listen.gossip,
        advertise: settings.listen.advertise.clone(),
        seeds: settings.seeds.clone(),
        cluster: foundation.identity.cluster,
        shard_count: foundation.identity.shard_count,
        interval: settings.timing.gossip,
        member,
        http: settings.listen.advertised(settings.listen.http),
    };
    Gossip::start(gossip).await.map_err(NodeError::Gossip)
}

/// What is read of the shards, and what they share.
struct Reads {
    budget: Arc<TailBudget>,
    shards: Vec<ShardReads>,
    cold: ColdReader,
}

fn shard_reads(settings: &Settings, foundation: &Foundation, stowed: &Stowed) -> Reads {
    let store: Arc<dyn LogStore> = Arc::new(BucketLog::new(foundation.bucket.background()));
    let budget = TailBudget::new(settings.tail_bytes_max);
    let shards = (0..foundation.identity.shard_count).map(ShardId).map(|shard| ShardReads {
        tail: Tail::new(shard, &budget),
        stow: Arc::new(stowed.clone()),
        index: Arc::new(ColdIndex::new(shard, Arc::clone(&store))),
    });
    let shards = shards.collect();
    let hot: Arc<dyn LogStore> = Arc::new(BucketLog::new(foundation.bucket.clone()));
    let cold = ColdReader::new(hot, Arc::clone(&foundation.cache), ColdSettings::default());
    Reads { budget, shards, cold }
}

/// Whom a node talks to.
struct Links {
    peers: Peers,
    roles: Arc<Roles>,
    gossip: Arc<Gossip>,
}
