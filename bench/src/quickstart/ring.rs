//! What the tour asks the nodes: their `/status`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cache_node::http::StatusReport;

use super::processes::NodeProcess;

/// How long nodes may take to form a ring in which every shard has an owner.
const RING_PATIENCE: Duration = Duration::from_mins(1);

/// How often they are asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// The nodes' own view, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct RingStatus {
    /// Each node's report.
    pub(super) reports: Vec<StatusReport>,
}

impl RingStatus {
    /// Asks all nodes.
    ///
    /// # Errors
    /// If one does not answer.
    pub(super) async fn ask(nodes: &[NodeProcess]) -> anyhow::Result<Self> {
        let mut reports = Vec::new();
        for node in nodes {
            let url = format!("http://{}/status", node.http);
            let answer = reqwest::get(&url).await.with_context(|| format!("ask {url}"))?;
            reports.push(answer.json().await.with_context(|| format!("read {url}"))?);
        }
        Ok(Self { reports })
    }

    /// Which node owns which shards.
    pub(super) fn owners(&self) -> BTreeMap<u16, u64> {
        let owned = self.reports.iter().flat_map(|report| {
            let owned = report.shards.iter().filter(|shard| shard.role == "owner");
            owned.map(|shard| (shard.shard, report.node))
        });
        owned.collect()
    }

    /// Which node owns the shards with the most partitions: the one whose loss hurts most.
    pub(super) fn busiest(&self) -> Option<u64> {
        let partitions = |report: &StatusReport| -> u64 {
            report.shards.iter().filter(|shard| shard.role == "owner").map(|shard| shard.partitions).sum()
        };
        self.reports.iter().max_by_key(|report| partitions(report)).map(|report| report.node)
    }

    /// Whether every shard has an owner among the nodes asked.
    fn is_owned(&self) -> bool {
        let shards = self.reports.first().map_or(0, |report| report.shards.len());
        self.owners().len() == shards && shards > 0
    }

    /// Whether the nodes asked see each other and nobody else.
    fn is_whole(&self) -> bool {
        self.reports.iter().all(|report| report.ready && report.members.len() == self.reports.len())
    }
}

/// Waits until the nodes see each other and every shard has an owner. Returns how long it took.
///
/// # Errors
/// If a node ends, or it takes too long.
pub(super) async fn whole_ring(nodes: &mut [NodeProcess]) -> anyhow::Result<Duration> {
    wait(nodes, |status| status.is_whole() && status.is_owned()).await
}

/// Waits until every shard has an owner among these nodes. Returns how long it took.
///
/// # Errors
/// If a node ends, or it takes too long.
pub(super) async fn taken_over(nodes: &mut [NodeProcess]) -> anyhow::Result<Duration> {
    wait(nodes, RingStatus::is_owned).await
}

async fn wait(nodes: &mut [NodeProcess], enough: impl Fn(&RingStatus) -> bool) -> anyhow::Result<Duration> {
    let started = Instant::now();
    loop {
        for node in &mut *nodes {
            node.check()?;
        }
        if let Ok(status) = RingStatus::ask(nodes).await
            && enough(&status)
        {
            return Ok(started.elapsed());
        }
        if started.elapsed() > RING_PATIENCE {
            bail!("the nodes form no whole ring within {RING_PATIENCE:?}; see their logs");
        }
        tokio::time::sleep(LOOK).await;
    }
}
