//! What the node says of itself over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use kennel_core::membership::Membership;
use kennel_core::shard::{Divergence, ShardStatus};
use kennel_gateway::Counting;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{ClusterId, PartitionKey, ProcessId, ShardId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::catalog_book::{CatalogBook, StandingCatalog};
use super::shard_task::ShardInput;
use crate::bucket::Bucket;
use crate::config::Settings;
use crate::fabric::Fabric;
use crate::gossip::GossipView;
use crate::http::{
    BucketReport, CacheReport, CatalogReport, DivergedReport, GatewayReport, JournalReport, MemberReport,
    MessageReport, ShardReport, StatusReport, StatusSource, StreamReport, TailReport, TopicReport,
};
use crate::journal::{IoMode, Journal};
use crate::local::Local;
use crate::metrics;
use crate::read::{BlockCache, TailBudget};

/// How long a shard may take to say how it is.
const SHARD_PATIENCE: Duration = Duration::from_secs(1);

/// Streams and topics that the report names, each.
const NAMED_TOPICS_MAX: usize = 200;

/// Everything that the report is read from.
#[derive(Debug)]
pub(super) struct StatusSources {
    pub(super) started: Instant,
    pub(super) process: ProcessId,
    pub(super) cluster: ClusterId,
    pub(super) journal: Journal,
    pub(super) journal_mode: IoMode,
    pub(super) bucket: Bucket,
    pub(super) reachable: Arc<AtomicBool>,
    pub(super) cache: Arc<BlockCache>,
    pub(super) tail: Arc<TailBudget>,
    pub(super) gossip: watch::Receiver<GossipView>,
    pub(super) membership: watch::Receiver<Option<Arc<Membership>>>,
    pub(super) catalog: CatalogBook,
    pub(super) shards: Vec<mpsc::Sender<ShardInput>>,
    pub(super) sessions: Arc<Semaphore>,
    pub(super) gateway: Option<Counting>,
    pub(super) local: Option<Arc<Local>>,
    pub(super) fabric: Option<Arc<Fabric>>,
    pub(super) settings: Settings,
}

impl StatusSources {
    pub(super) fn into_source(self) -> StatusSource {
        let sources = Arc::new(self);
        Arc::new(move || {
            let sources = Arc::clone(&sources);
            async move { sources.report().await }.boxed()
        })
    }

    async fn report(&self) -> StatusReport {
        let mut shards = Vec::with_capacity(self.shards.len());
        for (shard, inbox) in (0..).map(ShardId).zip(&self.shards) {
            shards.push(shard_report(shard, ask(inbox).await));
        }
        let membership = self.membership.borrow().clone();
        let halted = shards.iter().find(|shard| shard.role == "halted");
        let reason = match (&membership, halted) {
            (None, _) => Some("the membership has not settled yet".to_owned()),
            (_, Some(halted)) => Some(format!("shard {} halted: its note says why", halted.shard)),
            _ => diverged_reason(&shards),
        };
        let report = StatusReport {
            ready: membership.is_some(),
            reason,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.settings.node.id.0,
            process: self.process.to_string(),
            cluster: self.cluster.to_string(),
            zone: self.settings.node.zone.clone(),
            uptime_seconds: self.started.elapsed().as_secs(),
            membership_version: membership.as_ref().map_or(0, |membership| membership.version()),
            members: self.members(membership.as_deref()),
            shards,
            journal: self.journal(),
            bucket: self.bucket(),
            cache: self.cache(),
            catalog: self.catalog.standing().map(|standing| catalog_report(&standing)),
            tail: TailReport { used_bytes: self.tail.used(), capacity_bytes: self.settings.tail_bytes_max },
            gateway: self.gateway.as_ref().map(gateway_report),
            local: self.local.as_deref().map(Local::report),
            fabric: self.fabric.as_deref().map(Fabric::report),
            sessions: (self.settings.limits.sessions_max - self.sessions.available_permits()) as u64,
        };
        metrics::record_status(&report);
        report
    }

    fn members(&self, settled: Option<&Membership>) -> Vec<MemberReport> {
        let view = self.gossip.borrow();
        let member = |member: &kennel_core::membership::Member| MemberReport {
            node: member.node.0,
            address: member.address.clone(),
            http: view.http.get(&member.node).cloned(),
            zone: member.zone.0.clone(),
            weight: member.weight,
            settled: settled.is_some_and(|settled| settled.member(member.node).is_some()),
        };
        view.members.iter().map(member).collect()
    }

    fn journal(&self) -> JournalReport {
        let usage = self.journal.usage();
        let mode = match self.journal_mode {
            IoMode::Direct => "direct",
            IoMode::Buffered => "buffered",
            IoMode::Memory => "memory",
        };
        JournalReport {
            mode: mode.to_owned(),
            used_bytes: usage.used_bytes,
            capacity_bytes: usage.capacity_bytes,
            pinned_bytes: usage.pinned_bytes,
            queued_bytes: usage.queued_bytes,
        }
    }

    fn bucket(&self) -> BucketReport {
        let counters = self.bucket.counters().snapshot();
        BucketReport {
            url: self.settings.bucket.url.clone(),
            reachable: self.reachable.load(Ordering::Relaxed),
            puts: counters.put,
            gets: counters.get,
            lists: counters.list,
            heads: counters.head,
            deletes: counters.delete,
            bytes_put: counters.bytes_put,
            bytes_got: counters.bytes_got,
            cost_usd: counters.dollars(),
        }
    }

    fn cache(&self) -> CacheReport {
        let counters = self.cache.counters();
        CacheReport {
            hits_memory: counters.memory_hits,
            hits_disk: counters.disk_hits,
            misses: counters.misses,
            refused: counters.corrupt,
            memory_bytes: self.cache.memory_bytes(),
            memory_bytes_max: self.settings.cache.memory_bytes,
            disk_bytes_max: self.settings.cache.disk_bytes,
        }
    }
}

/// The first streams and topics by name: a status page is no place for a quarter of a million.
fn catalog_report(standing: &StandingCatalog) -> CatalogReport {
    let mut room = NAMED_TOPICS_MAX;
    let streams = standing.catalog.streams.iter().take(NAMED_TOPICS_MAX).map(|stream| {
        let topics = stream.topics.iter().take(room).map(|topic| TopicReport {
            id: topic.id.0,
            name: topic.name.clone(),
            partitions: topic.partitions.len() as u64,
        });
        let topics: Vec<_> = topics.collect();
        room -= topics.len();
        StreamReport { id: stream.id.0, name: stream.name.clone(), topics }
    });
    CatalogReport {
        revision: standing.revision,
        streams: streams.collect(),
        topics_total: standing.catalog.streams.iter().map(|stream| stream.topics.len() as u64).sum(),
        partitions_total: standing.catalog.partitions().count() as u64,
    }
}

/// A diverged partition is nothing that the node could do better, but a person must know.
fn diverged_reason(shards: &[ShardReport]) -> Option<String> {
    let count: u64 = shards.iter().map(|shard| shard.diverged_partitions).sum();
    (count > 0).then(|| format!("{count} partitions stopped because their source differs: /status names them"))
}

fn diverged_report((partition, Divergence { ring, source }): &(PartitionKey, Divergence)) -> DivergedReport {
    let message = |identity: &MessageIdentity| MessageReport {
        timestamp: identity.base_timestamp,
        checksum: format!("{:016x}", identity.checksum),
    };
    DivergedReport {
        partition: partition.to_string(),
        offset: ring.offset.0,
        ring: message(ring),
        source: message(source),
    }
}

fn gateway_report(gateway: &Counting) -> GatewayReport {
    let counts = gateway.counts();
    GatewayReport {
        address: gateway.address().to_string(),
        origin: gateway.origin().to_owned(),
        origin_reachable: gateway.has_origin(),
        sessions: counts.sessions,
        sessions_total: counts.sessions_total,
        refused: counts.refused,
        served: counts.served,
        served_messages: counts.served_messages,
        served_bytes: counts.served_bytes,
        served_without_origin: counts.served_without_origin,
        forwarded: counts.forwarded.into_iter().map(|(reason, polls)| (reason.to_owned(), polls)).collect(),
        passed: counts.passed,
        verdicts: counts.verdicts,
        denials: counts.denials,
        mismatches: counts.mismatches,
    }
}

async fn ask(inbox: &mpsc::Sender<ShardInput>) -> Option<ShardStatus> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        inbox.send(ShardInput::Status(answer)).await.ok()?;
        answered.await.ok()
    };
    timeout(SHARD_PATIENCE, asked).await.ok().flatten()
}

fn shard_report(shard: ShardId, status: Option<ShardStatus>) -> ShardReport {
    let Some(status) = status else {
        let note = Some("does not answer: its driver is busy or gone".to_owned());
        return ShardReport { shard: shard.0, role: "halted".to_owned(), note, ..ShardReport::default() };
    };
    ShardReport {
        shard: shard.0,
        role: status.role.to_owned(),
        epoch: status.epoch.0,
        owner: status.owner.map(|owner| owner.0),
        copies: status.copies.iter().map(|copy| copy.0).collect(),
        tail_lsn: status.tail.0,
        committed_lsn: status.committed.0,
        stored_lsn: status.stored.0,
        unstored_bytes: status.unstored_bytes,
        resident_bytes: status.resident_bytes,
        partitions: status.partitions as u64,
        diverged_partitions: status.diverged_partitions as u64,
        diverged: status.diverged.iter().map(diverged_report).collect(),
        objects: status.slot.0.saturating_sub(1),
        note: status.note,
    }
}
