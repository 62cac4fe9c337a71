//! Who reads: what has just come, what comes next, what lies in the bucket, everything from the beginning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kennel_client::{Client, ClientSettings, FetchError, FetchFrom, FetchRequest, Fetched};
use kennel_protocol::ids::Offset;
use kennel_transport::tls::TlsIdentity;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use super::file::{FabricSection, ReadKind, ReadSection};
use super::ledger::Ledger;
use super::pace::Pace;
use super::record::{Done, Recorder, Rounds};
use crate::random::Random;

/// After what failed.
const AGAIN: Duration = Duration::from_millis(10);
/// A copy hears of what was acknowledged when the shipper does, or a moment later: it may wait for that so long.
const NEWS: Duration = Duration::from_secs(1);
/// How long a node may take to offer its memory.
const ATTACH: Duration = Duration::from_secs(10);

/// All readers of one kind.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    pub(super) section: ReadSection,
    pub(super) fabric: FabricSection,
    pub(super) ledger: Arc<Ledger>,
    pub(super) recorder: Arc<Recorder>,
    /// For each partition: where what was there before ends.
    pub(super) before: Arc<Vec<Offset>>,
    pub(super) messages_per_batch: u64,
    /// Of a batch as it lies in the log.
    pub(super) batch_bytes: u64,
    /// Partitions that get messages.
    pub(super) active: usize,
}

impl Readers {
    /// Connects them and lets them read until the rounds are over.
    ///
    /// # Errors
    /// If the ring does not welcome readers, shares no memory where that was asked for, or answers what was not shipped.
    pub(super) async fn start(
        self,
        nodes: &[std::net::SocketAddr],
        identity: &TlsIdentity,
    ) -> anyhow::Result<JoinSet<anyhow::Result<u64>>> {
        let mut clients = Vec::new();
        for number in 0..self.section.readers.min(self.section.sessions) as usize {
            // Each asks another node first, but out of memory only this host's.
            let mut addresses = nodes.to_vec();
            addresses.rotate_left(if self.section.shared_memory { 0 } else { number % nodes.len() });
            let local = self.section.shared_memory;
            let fabric = self.section.fabric.then(|| self.fabric.settings());
            let settings = ClientSettings { local, fabric, ..ClientSettings::new(addresses) };
            let client = Client::connect(settings, identity).await?;
            if local {
                wait_for_memory(&client).await?;
            }
            clients.push(client);
        }
        let mut tasks = JoinSet::new();
        for (number, client) in (0..self.section.readers as usize).zip(clients.iter().cycle()) {
            tasks.spawn(self.clone().read(number, client.clone()));
        }
        Ok(tasks)
    }

    async fn read(self, number: usize, client: Client) -> anyhow::Result<u64> {
        match self.section.kind {
            ReadKind::Follow => self.follow(number, &client).await,
            ReadKind::Hot | ReadKind::Cold | ReadKind::Scan => self.fetch_on(number, &client).await,
            ReadKind::RawQuic => Ok(0),
        }
    }

    /// One fetch after the other, by the clock or as fast as they go.
    async fn fetch_on(self, number: usize, client: &Client) -> anyhow::Result<u64> {
        let rounds = self.recorder.rounds();
        let mut random = Random(number as u64 ^ 0x0bec_4000);
        let mut pace = self.pace(number, rounds);
        let (mut partition, mut position) = (number % self.active, Offset(0));
        let (mut messages, mut placed) = (0, false);
        while Instant::now() < rounds.end() {
            let due = match &mut pace {
                Some(pace) => match pace.next().await {
                    Some(due) => due,
                    None => break,
                },
                None => Instant::now(),
            };
            let from = match self.section.kind {
                ReadKind::Scan => {
                    if position >= self.ledger.committed(partition) {
                        (partition, position) = ((partition + 1) % self.active, Offset(0));
                    }
                    position
                }
                ReadKind::Cold => {
                    partition = usize::try_from(random.below(self.before.len() as u64)).expect("below a length");
                    self.anywhere_before(partition, &mut random)
                }
                _ => {
                    partition = (partition + 1) % self.active;
                    self.newest(partition)
                }
            };
            if self.ledger.committed(partition) <= from {
                sleep(AGAIN).await;
                continue;
            }
            let bytes_max = u32::try_from(self.section.bytes.as_u64()).context("checked to be small")?;
            let request = FetchRequest { bytes_max, ..FetchRequest::at(self.ledger.partitions[partition].key, from) };
            match read_now_or_soon(client, request).await {
                Ok(fetched) => {
                    placed |= fetched.by_fabric;
                    messages += self.count(partition, from, &fetched, due)?;
                    position = fetched.next;
                }
                Err(error) => {
                    self.recorder.failed(error.to_string());
                    sleep(AGAIN).await;
                }
            }
        }
        ensure!(placed || !self.section.fabric || messages == 0, "no answer came by the fabric");
        Ok(messages)
    }

    /// Waits for what comes. An answer's time is that of its first batch, which waited longest.
    async fn follow(self, number: usize, client: &Client) -> anyhow::Result<u64> {
        let partition = number % self.active;
        let from = self.ledger.committed(partition);
        let mut follower = client.follow(self.ledger.partitions[partition].key, FetchFrom::Offset(from));
        follower.set_bytes_max(u32::try_from(self.section.bytes.as_u64()).context("checked to be small")?);
        let mut messages = 0;
        let end = self.recorder.rounds().end();
        loop {
            let asked = follower.position().unwrap_or(from);
            match timeout_at(end.into(), follower.next()).await {
                Err(_) => return Ok(messages),
                Ok(Ok(fetched)) => {
                    let over = Instant::now();
                    let seen = self.ledger.compare(partition, asked, &fetched)?;
                    let due = seen.due.context("an answer has a batch")?;
                    self.recorder.done(Done { due, over, messages: seen.messages, bytes: seen.bytes });
                    self.recorder.tier(&tier(&fetched));
                    messages += seen.messages;
                }
                Ok(Err(error)) => {
                    self.recorder.failed(error.to_string());
                    sleep(AGAIN).await;
                }
            }
        }
    }

    fn count(&self, partition: usize, from: Offset, fetched: &Fetched, due: Instant) -> anyhow::Result<u64> {
        // What the comparing takes is not the product's.
        let over = Instant::now();
        let seen = self.ledger.compare(partition, from, fetched)?;
        ensure!(seen.messages > 0, "nothing at {from} a second after it was acknowledged");
        self.recorder.done(Done { due, over, messages: seen.messages, bytes: seen.bytes });
        self.recorder.tier(&tier(fetched));
        Ok(seen.messages)
    }

    fn pace(&self, number: usize, rounds: Rounds) -> Option<Pace> {
        let interval = Duration::try_from_secs_f64(1.0 / self.section.rate).ok()?;
        // Readers do not march in step.
        let own = interval * u32::try_from(number).unwrap_or(0) / self.section.readers;
        Some(Pace::start(Instant::now() + own, interval, rounds.end()))
    }

    /// As many batches from the end as an answer holds.
    fn newest(&self, partition: usize) -> Offset {
        let committed = self.ledger.committed(partition).0 / self.messages_per_batch;
        let batches = (self.section.bytes.as_u64() / self.batch_bytes).max(1);
        Offset(committed.saturating_sub(batches) * self.messages_per_batch)
    }

    fn anywhere_before(&self, partition: usize, random: &mut Random) -> Offset {
        let batches = (self.before[partition].0 / self.messages_per_batch).max(1);
        Offset(random.below(batches) * self.messages_per_batch)
    }
}

/// A fetch that waits only where there is nothing yet: others come another way, and not by the fabric.
async fn read_now_or_soon(client: &Client, request: FetchRequest) -> Result<Fetched, FetchError> {
    let fetched = client.fetch(request).await?;
    if fetched.is_empty() { client.fetch(request.waiting(NEWS)).await } else { Ok(fetched) }
}

async fn wait_for_memory(client: &Client) -> anyhow::Result<()> {
    let attached = async {
        while !client.shares_memory() {
            sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(ATTACH, attached).await.context("no node on this host shares its memory")
}

fn tier(fetched: &Fetched) -> String {
    let served = format!("{:?}", fetched.served).to_lowercase();
    match fetched {
        Fetched { from_shared_memory: true, .. } => "shared memory".to_owned(),
        Fetched { by_fabric: true, .. } => format!("{served}, by the fabric"),
        _ => served,
    }
}

/// Reads everything that was acknowledged from the beginning, and compares it.
///
/// # Errors
/// At the first message that is not the one that was shipped, or that does not come.
pub(super) async fn read_back(
    client: &Client,
    ledger: &Arc<Ledger>,
    progress: &indicatif::ProgressBar,
) -> anyhow::Result<u64> {
    let mut messages = 0;
    for (number, line) in ledger.partitions.iter().enumerate() {
        let end = ledger.committed(number);
        let mut next = Offset(0);
        while next < end {
            let request = FetchRequest { bytes_max: 4 << 20, ..FetchRequest::at(line.key, next) };
            let fetched: Fetched = client.fetch(request).await?;
            messages += ledger.compare(number, next, &fetched)?.messages;
            ensure!(fetched.next > next, "{}: {next} was acknowledged and is not there", line.key);
            next = fetched.next;
        }
        progress.inc(1);
    }
    Ok(messages)
}
