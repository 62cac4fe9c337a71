//! A steady source: for each shard a task that ships to whoever owns it, and moves as soon as any node names a newer owner.
//!
//! A shipper that is as quick as one can be: what is measured with it is the ring. It keeps its ear at every owner that
//! it ever spoke to, so that a woken one is heard.

mod stream;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kennel_client::{Client, FetchFrom};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, ProcessId, ShardId};
use kennel_protocol::wire::{Message, PartitionMarks, PositionsRequest, Ship, ShipAck};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{Caller, Inbound};
use kennel_transport::session::Session;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use wal_shipper::ship::Ring;

pub(crate) use stream::{Shape, Stream};
pub(crate) use view::{Owners, watch_views};

use super::stage::Stage;

/// Between two ships of a shard.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Before the next try where an owner could not be used.
const AGAIN: Duration = Duration::from_millis(10);
/// A node on the loopback answers within this or not at all.
const ANSWER: Duration = Duration::from_millis(500);
/// What is under way of one partition, chunks.
const WINDOW: u64 = 256;

/// What is shipped, how, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadSettings {
    pub(super) shards: u16,
    pub(super) partitions_of_a_shard: u32,
    pub(super) shape: Shape,
    /// Of each partition in each tick.
    pub(super) chunks_a_tick: u32,
}

/// What owners said, by shard.
#[derive(Debug, Default)]
struct Heard {
    committed: BTreeMap<PartitionKey, Offset>,
    /// When a mark first rose in an epoch.
    first: BTreeMap<(ShardId, Epoch), Instant>,
    /// The newest epoch in which a mark rose.
    newest: BTreeMap<ShardId, Epoch>,
    /// Owners that acknowledged something new after a later epoch had.
    late: Vec<String>,
}

/// The load. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    settings: LoadSettings,
    ring: Ring,
    owners: watch::Receiver<Owners>,
    heard: Mutex<Heard>,
    refusals: AtomicU64,
    problems: AtomicU64,
    rests: AtomicBool,
}

impl Load {
    /// Begins to ship.
    pub(super) fn start(stage: &Stage, settings: LoadSettings) -> anyhow::Result<Self> {
        let endpoint = stage.shipper()?;
        let ring = Ring::new(Arc::new(endpoint.connector()), stage.addresses(), ProcessId(0x10ad));
        let mut tasks = JoinSet::new();
        let owners = watch_views(&ring, stage.addresses(), &mut tasks);
        let (heard, refusals, problems, rests) = Default::default();
        let shared = Arc::new(Shared { settings, ring, owners, heard, refusals, problems, rests });
        for shard in (0..settings.shards).map(ShardId) {
            tasks.spawn(feed(shard, Arc::clone(&shared)));
        }
        Ok(Self { shared, _tasks: tasks })
    }

    /// Ships nothing new from here on.
    pub(super) fn rest(&self) {
        self.shared.rests.store(true, Ordering::Relaxed);
    }

    /// The partitions of a shard.
    pub(super) fn streams(&self, shard: ShardId) -> Vec<Stream> {
        streams(shard, self.shared.settings)
    }

    /// How far a partition is acknowledged.
    pub(super) fn committed(&self, partition: &PartitionKey) -> Offset {
        self.shared.heard().committed.get(partition).copied().unwrap_or_default()
    }

    /// When a mark of the shard first rose in an epoch above this one.
    pub(super) fn first_above(&self, shard: ShardId, epoch: Epoch) -> Option<Instant> {
        let heard = self.shared.heard();
        heard.first.range((shard, epoch.next())..=(shard, Epoch(u64::MAX))).map(|(_, at)| *at).min()
    }

    /// The newest epoch of the shard that acknowledged something.
    pub(super) fn epoch(&self, shard: ShardId) -> Epoch {
        self.shared.heard().newest.get(&shard).copied().unwrap_or_default()
    }

    /// What fenced owners acknowledged after their time.
    pub(super) fn late(&self) -> Vec<String> {
        self.shared.heard().late.clone()
    }

    /// Ships that were refused for want of room.
    pub(super) fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Chunks that were found to differ, or damaged.
    pub(super) fn problems(&self) -> u64 {
        self.shared.problems.load(Ordering::Relaxed)
    }

    /// Reads everything that was acknowledged back and compares it; how many messages there were.
    ///
    /// # Errors
    /// At the first message that is not the one that was shipped, or that does not come.
    pub(super) async fn verify(&self, client: &Client) -> anyhow::Result<u64> {
        let mut messages = 0;
        for shard in (0..self.shared.settings.shards).map(ShardId) {
            for stream in self.streams(shard) {
                let end = self.committed(&stream.key);
                let mut follower = client.follow(stream.key, FetchFrom::First);
                let mut next = Offset(0);
                while next < end {
                    for message in follower.next().await?.messages() {
                        let own = stream.is_own(message.offset, message.timestamp, &message.payload);
                        anyhow::ensure!(message.offset == next, "{}: {} came for {next}", stream.key, message.offset);
                        anyhow::ensure!(own, "{}: another message at {next}", stream.key);
                        next = next.plus(1);
                        messages += 1;
                    }
                }
            }
        }
        Ok(messages)
    }
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Whatever panicked left numbers behind, not a state.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an owner's marks. What was sent to the owner before may be acknowledged by the next one's positions alone.
    fn learn(&self, shard: ShardId, epoch: Epoch, marks: &[PartitionMarks]) {
        let now = Instant::now();
        let mut guard = self.heard();
        let heard = &mut *guard;
        for marks in marks {
            let known = heard.committed.entry(marks.partition).or_default();
            if marks.committed <= *known {
                continue;
            }
            *known = marks.committed;
            heard.first.entry((shard, epoch)).or_insert(now);
            let newest = heard.newest.entry(shard).or_default();
            if epoch < *newest {
                let partition = marks.partition;
                heard.late.push(format!("epoch {epoch} acknowledged {partition} after epoch {newest} had"));
            }
            *newest = epoch.max(*newest);
        }
    }

    /// Takes an owner's word; whether it still takes chunks, as they come.
    fn take(&self, ack: &ShipAck) -> bool {
        self.learn(ack.shard, ack.epoch, &ack.marks);
        if let Some(refusal) = ack.refusal {
            use kennel_protocol::wire::ShipRefusal::{Halted, JournalFull, NotOwner, UploadsBehind};
            match refusal {
                JournalFull | UploadsBehind => self.refusals.fetch_add(1, Ordering::Relaxed),
                NotOwner | Halted => 0,
            };
        }
        let differs = |problem: &&(_, kennel_protocol::wire::ShipProblem)| {
            !matches!(problem.1, kennel_protocol::wire::ShipProblem::Expected(_))
        };
        self.problems.fetch_add(ack.problems.iter().filter(differs).count() as u64, Ordering::Relaxed);
        ack.refusal.is_none() && ack.problems.is_empty()
    }
}

/// As many partitions as are wanted that lie in a shard.
fn streams(shard: ShardId, settings: LoadSettings) -> Vec<Stream> {
    let keys = (0_u32..).map(|number| PartitionKey {
        stream: kennel_protocol::ids::StreamId(1),
        topic: kennel_protocol::ids::TopicId(1),
        partition: kennel_protocol::ids::PartitionId(number),
        incarnation: kennel_protocol::ids::Incarnation(0),
    });
    let own = keys.filter(|key| key.shard(settings.shards) == shard);
    own.take(settings.partitions_of_a_shard as usize).map(|key| Stream::new(key, settings.shape)).collect()
}

/// Ships to one owner after the other, for ever.
async fn feed(shard: ShardId, shared: Arc<Shared>) {
    let mut listeners = JoinSet::new();
    loop {
        if let Some((epoch, lane)) = Owned::open(shard, &shared).await {
            lane.ship(epoch, &shared, &mut listeners).await;
        }
        while listeners.try_join_next().is_some() {}
        sleep(AGAIN).await;
    }
}

/// A lane to an owner that said where its partitions stand.
struct Owned {
    shard: ShardId,
    session: Arc<dyn Session>,
    caller: Caller,
    inbound: Inbound,
    streams: Vec<Stream>,
}

impl Owned {
    async fn open(shard: ShardId, shared: &Shared) -> Option<(Epoch, Self)> {
        let (epoch, address) = shared.owners.borrow().get(&shard).copied()?;
        let opening = async {
            let (session, welcome) = shared.ring.connect(address, None).await.ok()?;
            let (caller, inbound) = Caller::new(session.open(Lane::Shard(shard)).await.ok()?);
            let caller = caller.speaking(welcome.version);
            let mut streams = streams(shard, shared.settings);
            let partitions = streams.iter().map(|stream| stream.key).collect();
            let question = Message::PositionsRequest(PositionsRequest { shard, partitions });
            let answer = caller.call(question, tokio::time::Instant::now() + ANSWER).await.ok()?;
            let Message::Positions(positions) = answer else { return None };
            let placed = streams.iter_mut().zip(&positions.marks).all(|(stream, marks)| stream.seek(marks.next));
            if positions.epoch >= epoch {
                shared.learn(shard, positions.epoch, &positions.marks);
            }
            placed.then_some((positions.epoch, Self { shard, session, caller, inbound, streams }))
        };
        let (found, lane) = timeout(ANSWER * 2, opening).await.ok().flatten()?;
        (found >= epoch).then_some((found, lane))
    }

    /// Ships until the owner refuses, falls silent for good, or another one is named.
    async fn ship(self, epoch: Epoch, shared: &Arc<Shared>, listeners: &mut JoinSet<()>) {
        let Self { shard, session, caller, inbound, mut streams } = self;
        let (taking, taken) = watch::channel(true);
        listeners.spawn(listen(session, inbound, taking, Arc::clone(shared)));
        let window = WINDOW * u64::from(shared.settings.shape.messages);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let newer = shared.owners.borrow().get(&shard).is_some_and(|(newest, _)| *newest > epoch);
            if newer || !*taken.borrow() {
                return;
            }
            if shared.rests.load(Ordering::Relaxed) {
                continue;
            }
            let mut chunks = Vec::new();
            for stream in &mut streams {
                let committed = shared.heard().committed.get(&stream.key).copied().unwrap_or_default();
                for _ in 0..shared.settings.chunks_a_tick {
                    if stream.next.0.saturating_sub(committed.0) < window {
                        chunks.push(stream.chunk());
                    }
                }
            }
            let sent = chunks.is_empty()
                || timeout(ANSWER, caller.send(Message::Ship(Ship { shard, epoch, chunks })))
                    .await
                    .is_ok_and(|sent| sent.is_ok());
            if !sent {
                return;
            }
        }
    }
}

/// Hears an owner for as long as its session lasts, whoever owns the shard by then.
async fn listen(session: Arc<dyn Session>, mut inbound: Inbound, taking: watch::Sender<bool>, shared: Arc<Shared>) {
    while let Ok(incoming) = inbound.next().await {
        if let Message::ShipAck(ack) = incoming.message
            && !shared.take(&ack)
        {
            taking.send_replace(false);
        }
    }
    taking.send_replace(false);
    drop(session);
}
