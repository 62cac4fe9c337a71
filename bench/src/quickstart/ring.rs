//! What the tour asks the nodes: their `/status`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cache_node::http::StatusReport;

use super::processes::NodeProcess;

/// How long nodes may take to form a ring in which every shard has an owner.
const RING_PATIENCE: Duration = Duration::from_secs(60);

/// How often they are asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// The nodes' own view, and what follows from it.
#[derive(Debug, Default)]
pub struct RingStatus {
    /// Each node's report.
    pub reports: Vec<StatusReport>,
}

impl RingStatus {
    /// Asks all nodes.
    ///
    /// # Errors
    /// If one does not answer.
    pub async fn ask(nodes: &[NodeProcess]) -> anyhow::Result<Self> {
        let mut reports = Vec::new();
        for node in nodes {
            let url = format!("http://{}/status", node.http);
            let answer = reqwest::get(&url).await.with_context(|| format!("ask {url}"))?;
            reports.push(answer.json().await.with_context(|| format!("read {url}"))?);
        }
        Ok(Self { reports })
    }

    /// Which node owns which shards.
    pub fn owners(&self) -> BTreeMap<u16, u64> {
        let owned = self.reports.iter().flat_map(|report| {
            let owned = report.shards.iter().filter(|shard| shard.role == "owner");
            owned.map(|shard| (shard.shard, report.node))
        });
        owned.collect()
    }

    /// Which node owns the shards with the most partitions: the one whose loss hurts most.
    pub fn busiest(&self) -> Option<u64> {
        let partitions = |report: &StatusReport| -> u64 {
            report.shards.iter().filter(|shard| shard.role == "owner").map(|shard| shard.partitions).sum()
        };
        self.reports.iter().max_by_key(|report| partitions(report)).map(|report| report.node)
    }

    fn is_whole(&self, nodes: usize) -> bool {
        let shards = self.reports.first().map_or(0, |report| report.shards.len());
        let settled = self.reports.iter().all(|report| report.ready && report.members.len() == nodes);
        settled && self.owners().len() == shards && shards > 0
    }
}

/// Waits until the nodes see each other and every shard has an owner. Returns what they say and how long it took.
///
/// # Errors
/// If a node ends, or it takes too long.
pub async fn whole_ring(nodes: &mut [NodeProcess]) -> anyhow::Result<(RingStatus, Duration)> {
    let started = Instant::now();
    loop {
        for node in &mut *nodes {
            node.check()?;
        }
        if let Ok(status) = RingStatus::ask(nodes).await
            && status.is_whole(nodes.len())
        {
            return Ok((status, started.elapsed()));
        }
        if started.elapsed() > RING_PATIENCE {
            bail!("the nodes form no whole ring within {RING_PATIENCE:?}; see their logs");
        }
        tokio::time::sleep(LOOK).await;
    }
}
