//! What the nodes say of themselves while a run goes on: who owns what, and how far it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_node::http::StatusReport;
use tokio::time::{MissedTickBehavior, interval};

use super::timeline::Timeline;

/// How often nodes are asked.
const LOOK: Duration = Duration::from_millis(250);
/// How long a node may take to answer. Stopped ones do not.
const PATIENCE: Duration = Duration::from_millis(800);

/// The newest owner of each shard, by epoch. Clones are handles of the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    shards: BTreeMap<u16, Owner>,
    /// When a node last said that it serves.
    ready: BTreeMap<u8, Instant>,
    /// Copies that each process has placed by the fabric, as it last said.
    placed: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    node: u8,
    epoch: u64,
    opened: u64,
}

impl Owners {
    /// Who owned the shard when it was last seen.
    pub(super) fn of(&self, shard: u16) -> Option<u8> {
        self.lock().shards.get(&shard).map(|owner| owner.node)
    }

    /// Which shards a node owned when they were last seen.
    pub(super) fn shards_of(&self, node: u8) -> Vec<u16> {
        self.lock().shards.iter().filter(|(_, owner)| owner.node == node).map(|(shard, _)| *shard).collect()
    }

    /// How often a shard got a newer owner, its first one apart.
    pub(super) fn takeovers(&self) -> u64 {
        self.lock().shards.values().map(|owner| owner.opened - 1).sum()
    }

    /// Copies that went by the fabric, as far as their owners lived to tell.
    pub(super) fn copies_placed(&self) -> u64 {
        self.lock().placed.values().sum()
    }

    /// Whether a node said after `since` that it serves.
    pub(super) fn ready_after(&self, node: u8, since: Instant) -> bool {
        self.lock().ready.get(&node).is_some_and(|said| *said > since)
    }

    /// Takes a node's word. Returns what is new in it.
    fn learn(&self, report: &StatusReport) -> Vec<(u16, u64)> {
        let Ok(node) = u8::try_from(report.node) else { return Vec::new() };
        let mut seen = self.lock();
        if report.ready {
            seen.ready.insert(node, Instant::now());
        }
        if let Some(fabric) = &report.fabric {
            seen.placed.insert(report.process.clone(), fabric.copies_placed);
        }
        let mut news = Vec::new();
        for shard in report.shards.iter().filter(|shard| shard.role == "owner") {
            let before = seen.shards.get(&shard.shard).copied();
            if before.is_none_or(|before| before.epoch < shard.epoch) {
                let opened = before.map_or(0, |before| before.opened) + 1;
                seen.shards.insert(shard.shard, Owner { node, epoch: shard.epoch, opened });
                news.push((shard.shard, shard.epoch));
            }
        }
        news
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks one node once.
///
/// # Errors
/// If it does not answer in time.
///
/// # Cancel safety
/// Safe: it only reads.
pub(super) async fn ask(http: &reqwest::Client, address: SocketAddr) -> anyhow::Result<StatusReport> {
    let answer = http.get(format!("http://{address}/status")).timeout(PATIENCE).send().await?;
    Ok(answer.json().await?)
}

/// Watches one node for ever, and writes down when it opens a shard or halts one.
///
/// # Cancel safety
/// Safe: it only reads.
pub(super) async fn watch(node: u8, address: SocketAddr, owners: Owners, timeline: Timeline) {
    let http = reqwest::Client::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut halted: BTreeMap<u16, String> = BTreeMap::new();
    loop {
        look.tick().await;
        let Ok(report) = ask(&http, address).await else { continue };
        for (shard, epoch) in owners.learn(&report) {
            timeline.note(format!("n{node} opened shard {shard} epoch {epoch}"));
        }
        // One that does not answer belongs to a node that is stopping; it has no epoch to tell.
        for shard in report.shards.iter().filter(|shard| shard.role == "halted" && shard.epoch > 0) {
            let note = shard.note.clone().unwrap_or_default();
            if halted.insert(shard.shard, note.clone()).as_ref() != Some(&note) {
                timeline.note(format!("n{node} halted shard {}: {note}", shard.shard));
            }
        }
    }
}
