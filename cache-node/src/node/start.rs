//! The start of a node, step by step. What can be wrong is looked at before anything listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use kennel_core::membership::{Member, Settled, Zone};
use kennel_core::shard::{Effects, Shard, ShardConfig, Sizes, Timing};
use kennel_protocol::ids::{ProcessId, ShardId};
use kennel_protocol::limits::{WIRE_VERSION, WIRE_VERSION_MIN};
use kennel_protocol::object::ClusterIdentity;
use kennel_protocol::wire::{Hello, Role};
use kennel_transport::handshake::HelloPolicy;
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::session::{Connector, Listener};
use kennel_transport::tls::TlsIdentity;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::Node;
use super::answers::Answers;
use super::bucket_edge::BucketEdge;
use super::clock::Clock;
use super::error::NodeError;
use super::journal_edge::JournalEdge;
use super::members::Members;
use super::peers::Peers;
use super::recovery::{ShardPart, sort_records};
use super::roles::Roles;
use super::serve::Serving;
use super::shard_task::{INBOX_MAX, ShardInput, ShardTask};
use super::status::StatusSources;
use crate::bucket::{Bucket, establish_cluster};
use crate::config::{Durability, Settings};
use crate::gossip::{Gossip, GossipSettings};
use crate::http::Http;
use crate::journal::{Journal, JournalSettings, Recovered};
use crate::read::{
    BlockCache, BucketLog, CacheSettings, ColdIndex, ColdReader, ColdSettings, DiskSettings, LogStore, Reader,
    ShardReads, Tail, TailBudget,
};
use crate::{metrics, random};

/// A journal group is closed at this size: large enough to keep a disk busy, small enough to bound its latency.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// An object waits for the idle interval below this size.
const OBJECT_BYTES_IDLE: u64 = 64 << 10;

/// Entries of one object. Its index stays far below the format's limit.
const OBJECT_ENTRIES_MAX: usize = 32_768;

/// Bodies in one copy frame.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// Entries in one copy frame; the wire allows more.
const COPY_ENTRIES_MAX: usize = 1024;

/// Bytes on the way to one follower of one shard.
const COPY_WINDOW_BYTES: u64 = 16 << 20;

/// Slots that a claimant reads ahead: at 30 ms a read, sixteen bring 500 slots a second.
const WALK_WINDOW: u64 = 16;

/// A fatal error that waits; the first one is enough.
const FATAL_MAX: usize = 1;

/// What the steps leave for each other.
struct Foundation {
    process: ProcessId,
    clock: Clock,
    identity: ClusterIdentity,
    tls: TlsIdentity,
    bucket: Bucket,
    journal: Journal,
    recovered: Recovered,
    cache: Arc<BlockCache>,
    reachable: Arc<AtomicBool>,
}

pub(super) async fn start(settings: Settings) -> Result<Node, NodeError> {
    let handle = metrics::install();
    let mut foundation = lay_foundation(&settings).await?;
    let records = core::mem::take(&mut foundation.recovered.records);
    let mut parts = sort_records(records).map_err(NodeError::JournalRecord)?;
    let shard_count = foundation.identity.shard_count;

    let endpoint =
        QuicEndpoint::bind(settings.listen.quic, &foundation.tls, quic_settings()).map_err(NodeError::Quic)?;
    let listener = endpoint.listen().map_err(NodeError::Quic)?;
    let quic = listener.local_address();
    let gossip = Arc::new(start_gossip(&settings, &foundation, quic).await?);
    let peers = Peers::new(Arc::new(endpoint.connector()) as Arc<dyn Connector>, hello(&settings, &foundation));
    let roles = Arc::new(Roles::new(settings.node.id, shard_count));
    let reads = shard_reads(&settings, &foundation);

    let (stop, stopped) = watch::channel(false);
    let (fatal, failed) = mpsc::channel(FATAL_MAX);
    let mut tasks = JoinSet::new();
    let mut shards = Vec::new();
    for (id, reads) in (0..shard_count).map(ShardId).zip(&reads.shards) {
        let part = parts.remove(&id).unwrap_or_default();
        let (inbox, queue) = mpsc::channel(INBOX_MAX);
        let links = Links { peers: peers.clone(), roles: Arc::clone(&roles), gossip: Arc::clone(&gossip) };
        let task = shard_task(&settings, &foundation, id, part, reads, links, inbox.clone(), fatal.clone());
        tasks.spawn(task.run(queue, stopped.clone()));
        shards.push(inbox);
    }
    let reader = Arc::new(Reader::new(reads.shards, reads.cold));

    let (placed, membership) = watch::channel(None);
    let members = Members {
        clock: foundation.clock,
        settled: Settled::new(settings.timing.settle),
        copies: usize::from(settings.cluster.copies),
        peers: peers.clone(),
        roles: Arc::clone(&roles),
        shards: shards.clone(),
        current: placed,
    };
    tasks.spawn(members.run(gossip.watch(), stopped.clone()));

    let answers = Arc::new(Answers {
        node: settings.node.id,
        shards: shards.clone(),
        reader: Arc::clone(&reader),
        roles,
        peers: peers.clone(),
        bucket: foundation.bucket.clone(),
        membership: membership.clone(),
    });
    let sessions = Arc::new(Semaphore::new(settings.limits.sessions_max));
    let serving = Arc::new(Serving {
        policy: policy(&settings, &foundation),
        answers,
        shards: shards.clone(),
        sessions: Arc::clone(&sessions),
        shippers: AtomicU64::new(0),
    });
    tasks.spawn(serving.run(Box::new(listener) as Box<dyn Listener>, stopped));

    let sources = StatusSources {
        started: Instant::now(),
        process: foundation.process,
        cluster: foundation.identity.cluster,
        journal: foundation.journal.clone(),
        journal_mode: foundation.recovered.mode,
        bucket: foundation.bucket,
        reachable: foundation.reachable,
        cache: Arc::clone(&foundation.cache),
        tail: reads.budget,
        gossip: gossip.watch(),
        membership,
        shards: shards.clone(),
        sessions,
        settings: settings.clone(),
    };
    let http = Http::start(settings.listen.http, sources.into_source(), handle).await.map_err(NodeError::Http)?;
    Ok(Node {
        id: settings.node.id,
        cluster: foundation.identity.cluster,
        quic,
        gossip_address: gossip.address(),
        http,
        shards,
        tasks,
        stop,
        fatal: failed,
        peers,
        gossip,
        cache: foundation.cache,
        journal: foundation.journal,
    })
}

/// Directory, certificates, bucket, journal, cache: in the order in which a mistake is cheapest to find.
async fn lay_foundation(settings: &Settings) -> Result<Foundation, NodeError> {
    let directory = &settings.node.directory;
    let failed = |source| NodeError::Directory { path: directory.clone(), source };
    tokio::fs::create_dir_all(directory).await.map_err(failed)?;
    let tls = TlsIdentity::load(&settings.tls.ca, &settings.tls.cert, &settings.tls.key);
    let tls = tls.map_err(NodeError::Certificates)?;

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
    })
}

/// Nodes notice a silent session sooner than the default: a reader's question to a dead owner waits for it.
fn quic_settings() -> QuicSettings {
    QuicSettings {
        idle_timeout: Duration::from_secs(3),
        keep_alive_interval: Duration::from_secs(1),
        ..QuicSettings::default()
    }
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
        tracing::error!(damage, "the journal is damaged; it counts as a new one, and the other copies decide");
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

async fn start_gossip(
    settings: &Settings,
    foundation: &Foundation,
    quic: std::net::SocketAddr,
) -> Result<Gossip, NodeError> {
    let member = Member {
        node: settings.node.id,
        process: foundation.process,
        journal: foundation.journal.journal_id(),
        address: settings.listen.advertised(quic),
        zone: Zone(settings.node.zone.clone()),
        weight: settings.node.weight,
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

fn shard_reads(settings: &Settings, foundation: &Foundation) -> Reads {
    let store: Arc<dyn LogStore> = Arc::new(BucketLog::new(foundation.bucket.background()));
    let budget = TailBudget::new(settings.tail_bytes_max);
    let shards = (0..foundation.identity.shard_count).map(ShardId).map(|shard| ShardReads {
        tail: Tail::new(shard, &budget),
        index: Arc::new(ColdIndex::new(shard, Arc::clone(&store))),
    });
    let shards = shards.collect();
    let hot: Arc<dyn LogStore> = Arc::new(BucketLog::new(foundation.bucket.clone()));
    let cold = ColdReader::new(hot, Arc::clone(&foundation.cache), ColdSettings::default());
    Reads { budget, shards, cold }
}

/// Whom a shard talks to.
struct Links {
    peers: Peers,
    roles: Arc<Roles>,
    gossip: Arc<Gossip>,
}

#[expect(clippy::too_many_arguments, reason = "the one place where a shard's parts come together")]
fn shard_task(
    settings: &Settings,
    foundation: &Foundation,
    id: ShardId,
    part: ShardPart,
    reads: &ShardReads,
    links: Links,
    own_inbox: mpsc::Sender<ShardInput>,
    fatal: mpsc::Sender<String>,
) -> ShardTask {
    foundation.journal.free(part.unneeded);
    let seed = u64::try_from(random::id() >> 64).expect("the upper half fits");
    let mut effects = Effects::new();
    let config = shard_config(settings, foundation, id);
    let shard = Shard::new(config, part.recovered, seed, foundation.clock.now(), &mut effects);
    debug_assert!(effects.is_empty(), "a machine waits for its first input");
    ShardTask {
        id,
        shard,
        clock: foundation.clock,
        journal: foundation.journal.clone(),
        journal_edge: JournalEdge::new(id, foundation.journal.clone(), part.ledger),
        bucket: BucketEdge::new(id, foundation.bucket.clone(), Arc::clone(&foundation.reachable)),
        peers: links.peers,
        roles: links.roles,
        gossip: links.gossip,
        tail: Arc::clone(&reads.tail),
        index: Arc::clone(&reads.index),
        own_inbox,
        fatal,
    }
}

fn shard_config(settings: &Settings, foundation: &Foundation, shard: ShardId) -> ShardConfig {
    let timing = &settings.timing;
    ShardConfig {
        cluster: foundation.identity.cluster,
        shard,
        node: settings.node.id,
        process: foundation.process,
        journal: foundation.journal.journal_id(),
        copies: settings.cluster.copies,
        min_copies: settings.cluster.min_copies,
        timing: Timing {
            heartbeat: timing.heartbeat,
            owner_timeout: timing.owner_timeout,
            claim_stagger: timing.owner_timeout / 4,
            round: timing.heartbeat * 2,
            open_timeout: timing.owner_timeout * 10,
            backoff_min: timing.heartbeat,
            backoff_max: timing.owner_timeout * 4,
            flush_interval: settings.flush.interval,
            flush_interval_idle: settings.flush.interval_idle,
            move_after: timing.settle * 2,
        },
        sizes: Sizes {
            object_bytes_max: settings.flush.object_bytes_max,
            object_bytes_idle: OBJECT_BYTES_IDLE,
            object_entries_max: OBJECT_ENTRIES_MAX,
            uploads_max: settings.flush.uploads_in_flight,
            unstored_bytes_max: settings.limits.unstored_bytes_max,
            copy_bytes_max: COPY_BYTES_MAX,
            copy_entries_max: COPY_ENTRIES_MAX,
            copy_window_bytes: COPY_WINDOW_BYTES,
            walk_window: WALK_WINDOW,
        },
    }
}
