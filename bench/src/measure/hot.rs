//! A reader that asks one node for the newest messages of a partition, over and over, and keeps the time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kennel_client::{Client, ClientSettings, FetchRequest};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_transport::tls::TlsIdentity;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::load::Load;

/// Between two reads: short against any gap that matters.
const PAUSE: Duration = Duration::from_millis(2);
/// What timers of the runtime are late by on an idle machine.
const TIMER_GRAIN: Duration = Duration::from_millis(2);
/// How far behind the acknowledged end a read begins: always there, always in memory.
const BEHIND: u64 = 64;

/// A reader at work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct HotReader {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Instant>,
    /// Since then.
    overslept: Duration,
    longest_gap: Duration,
    latencies: Vec<Duration>,
    /// What came instead of messages since the last that did.
    unserved: Vec<String>,
    /// What was seen in the longest gap, for people.
    gap_story: String,
}

impl Seen {
    /// Takes an answer. The reader overslept by so much before it asked: that is the machine's, and no gap of the ring.
    fn take(&mut self, answer: Result<String, String>, overslept: Duration, started: Instant, now: Instant) {
        self.overslept += overslept;
        let served = match answer {
            Ok(served) => served,
            Err(what) => {
                self.unserved.push(what);
                return;
            }
        };
        let gap = self.last.map_or(Duration::ZERO, |last| (now - last).saturating_sub(self.overslept));
        self.overslept = Duration::ZERO;
        let (unserved, took) = (core::mem::take(&mut self.unserved), now - started);
        if gap > self.longest_gap {
            self.longest_gap = gap;
            let last = unserved.last().map(|last| format!(", the last: {last}")).unwrap_or_default();
            self.gap_story =
                format!("{served} after {took:.0?}, {} answers without messages before{last}", unserved.len());
        }
        self.last = Some(now);
        self.latencies.push(took);
    }
}

/// What a reader saw since it was last asked.
#[derive(Debug)]
pub(super) struct HotReads {
    /// Longest time between two answers with messages, the one that goes on included.
    pub(super) longest_gap: Duration,
    /// How long each answer took.
    pub(super) latencies: Vec<Duration>,
    /// What ended the longest gap, for people.
    pub(super) gap_story: String,
}

impl HotReader {
    /// Reads a partition at one node, which knows the others.
    ///
    /// # Errors
    /// If the node does not welcome a reader.
    pub(super) async fn start(
        node: SocketAddr,
        identity: &TlsIdentity,
        partition: PartitionKey,
        load: Arc<Load>,
    ) -> anyhow::Result<Self> {
        let client = Client::connect(ClientSettings::new(vec![node]), identity).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(read(client, partition, load, Arc::clone(&seen)));
        Ok(Self { task, seen })
    }

    /// What was seen since the last call.
    pub(super) fn take(&self) -> HotReads {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let open = seen.last.map_or(Duration::ZERO, |last| last.elapsed());
        let taken = core::mem::replace(&mut *seen, Seen { last: Some(Instant::now()), ..Seen::default() });
        let Seen { longest_gap, latencies, gap_story, .. } = taken;
        HotReads { longest_gap: longest_gap.max(open), latencies, gap_story }
    }
}

impl Drop for HotReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(client: Client, partition: PartitionKey, load: Arc<Load>, seen: Arc<Mutex<Seen>>) {
    let mut overslept = Duration::ZERO;
    loop {
        let from = Offset(load.committed(&partition).0.saturating_sub(BEHIND));
        let started = Instant::now();
        let answer = client.fetch(FetchRequest { bytes_max: 1, ..FetchRequest::at(partition, from) }).await;
        let now = Instant::now();
        let answer = match answer {
            Ok(answer) if answer.next > from => Ok(format!("{:?} of epoch {}", answer.served, answer.epoch)),
            Ok(answer) => Err(format!("nothing at {from}, committed is {}", answer.committed)),
            Err(error) => Err(error.to_string()),
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).take(answer, overslept, started, now);
        sleep(PAUSE).await;
        overslept = now.elapsed().saturating_sub(PAUSE + TIMER_GRAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_overslept_blames_nobody() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut seen = Seen::default();
        let served = || Ok("tail".to_owned());
        seen.take(served(), Duration::ZERO, at(0), at(1));
        seen.take(served(), Duration::from_millis(500), at(503), at(504));
        assert_eq!(seen.longest_gap, Duration::from_millis(3));
        seen.take(Err("nobody".to_owned()), Duration::ZERO, at(506), at(606));
        seen.take(served(), Duration::ZERO, at(608), at(704));
        assert_eq!(seen.longest_gap, Duration::from_millis(200), "an answer without messages is no answer");
    }
}
