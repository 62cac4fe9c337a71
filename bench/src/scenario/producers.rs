//! The load: for each shard a task that ships to its owner what is due, and one that hears what is acknowledged.
//!
//! Batches are made from partition and place alone, so that the same ones come again when an owner was lost. A time is
//! from when a batch was due until its owner acknowledged it, whatever came between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kennel_protocol::ids::{Epoch, PartitionKey, ShardId};
use kennel_protocol::wire::{Message, PartitionMarks, PositionsRequest, Ship, ShipAck, ShipChunk, ShipProblem};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{Caller, Inbound};
use kennel_transport::session::Session;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wal_shipper::ship::Ring;

use super::ledger::Ledger;
use super::pace::Pace;
use super::record::{Done, Recorder};
use crate::measure::load::{Owners, Stream};

/// Batches of one partition that are under way.
const WINDOW: u64 = 64;
/// Bytes of payload in one ship.
const SHIP_BYTES: usize = 1 << 20;
/// Batches that were due and are not acknowledged, over a shard: past this the ring takes less than it is asked to.
const BEHIND_MAX: usize = 4_000_000;
/// A node of a healthy ring answers within this.
const ANSWER: Duration = Duration::from_secs(2);
/// Before the next try where an owner could not be used.
const AGAIN: Duration = Duration::from_millis(5);
/// Where nothing says that something changed.
const LOOK: Duration = Duration::from_millis(20);

/// What one shard ships.
#[derive(Debug)]
pub(super) struct Feed {
    shard: ShardId,
    shared: Arc<Shared>,
    /// Number in the ledger, and the partition's batches.
    streams: Vec<(usize, Stream)>,
    batch_payload_bytes: usize,
    messages_per_batch: u64,
}

/// What the two tasks of a shard, and whoever waits for them, know.
#[derive(Debug)]
struct Shared {
    ledger: Arc<Ledger>,
    recorder: Option<Arc<Recorder>>,
    by_key: BTreeMap<PartitionKey, usize>,
    waiting: Mutex<BTreeMap<usize, Waiting>>,
    outstanding: AtomicU64,
    room: Notify,
    payload_bytes: u64,
    messages_per_batch: u64,
}

/// Batches of one partition that were due and are not acknowledged, and how many were before them.
#[derive(Debug, Default)]
struct Waiting {
    acknowledged: u64,
    due: VecDeque<Instant>,
}

/// When batches are due.
#[derive(Debug)]
pub(super) enum Plan {
    /// By the clock, for the partitions in turns.
    Paced(Pace),
    /// As many of each as there is room for, until so many of each were.
    Unpaced { batches_of_each: u64, end: Option<Instant> },
}

/// How to reach owners.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub(super) ring: Ring,
    pub(super) owners: watch::Receiver<Owners>,
}

impl Feed {
    pub(super) fn new(
        shard: ShardId,
        streams: Vec<(usize, Stream)>,
        ledger: Arc<Ledger>,
        recorder: Option<Arc<Recorder>>,
        (messages_per_batch, message_bytes): (u32, u32),
    ) -> Self {
        let payload_bytes = u64::from(messages_per_batch) * u64::from(message_bytes);
        let acknowledged = |number| ledger.committed(number).0 / u64::from(messages_per_batch);
        let waiting = streams.iter().map(|(number, _)| {
            let acknowledged = acknowledged(*number);
            (*number, Waiting { acknowledged, due: VecDeque::new() })
        });
        let waiting = waiting.collect();
        let shared = Shared {
            ledger,
            recorder,
            by_key: streams.iter().map(|(number, stream)| (stream.key, *number)).collect(),
            waiting: Mutex::new(waiting),
            outstanding: AtomicU64::new(0),
            room: Notify::new(),
            payload_bytes,
            messages_per_batch: messages_per_batch.into(),
        };
        Self {
            shard,
            shared: Arc::new(shared),
            streams,
            batch_payload_bytes: usize::try_from(payload_bytes).expect("checked to be small"),
            messages_per_batch: messages_per_batch.into(),
        }
    }

    /// Ships what is due until the plan ends and everything is acknowledged; waits so long for the last.
    ///
    /// # Errors
    /// If the ring refuses what it must take, or does not acknowledge in time.
    pub(super) async fn run(mut self, reach: Reach, mut plan: Plan, patience: Duration) -> anyhow::Result<()> {
        let mut listeners = JoinSet::new();
        let mut turn = 0;
        let mut ended: Option<Instant> = None;
        loop {
            let Some(lane) = self.open(&reach, &mut listeners).await? else {
                // What is due meanwhile is due all the same.
                let over = self.admit(&mut plan, &mut turn)?;
                if over && self.shared.outstanding.load(Ordering::Acquire) == 0 {
                    return Ok(());
                }
                let since = over.then(|| *ended.get_or_insert_with(Instant::now));
                ensure!(since.is_none_or(|at| at.elapsed() < patience), "shard {} has no owner", self.shard);
                sleep(AGAIN).await;
                continue;
            };
            while lane.taking.load(Ordering::Acquire) && !lane.overtaken(&reach, self.shard) {
                let over = self.admit(&mut plan, &mut turn)?;
                if over && self.shared.outstanding.load(Ordering::Acquire) == 0 {
                    return Ok(());
                }
                let since = over.then(|| *ended.get_or_insert_with(Instant::now));
                ensure!(since.is_none_or(|at| at.elapsed() < patience), "shard {} acknowledges no more", self.shard);
                let chunks = self.due_chunks();
                if chunks.is_empty() {
                    self.wait(&mut plan, &mut turn).await;
                    continue;
                }
                let ship = Message::Ship(Ship { shard: self.shard, epoch: lane.epoch, chunks });
                if !timeout(ANSWER, lane.caller.send(ship)).await.is_ok_and(|sent| sent.is_ok()) {
                    break;
                }
            }
        }
    }

    /// A lane to the owner, with every stream where that owner goes on.
    async fn open(&mut self, reach: &Reach, listeners: &mut JoinSet<()>) -> anyhow::Result<Option<Owned>> {
        while listeners.try_join_next().is_some() {}
        let Some((epoch, address)) = reach.owners.borrow().get(&self.shard).copied() else { return Ok(None) };
        let opening = async {
            let (session, welcome) = reach.ring.connect(address, None).await.ok()?;
            let (caller, inbound) = Caller::new(session.open(Lane::Shard(self.shard)).await.ok()?);
            let caller = caller.speaking(welcome.version);
            let partitions = self.streams.iter().map(|(_, stream)| stream.key).collect();
            let question = Message::PositionsRequest(PositionsRequest { shard: self.shard, partitions });
            match caller.call(question, tokio::time::Instant::now() + ANSWER).await.ok()? {
                Message::Positions(positions) if positions.epoch >= epoch => {
                    Some((positions, session, caller, inbound))
                }
                _ => None,
            }
        };
        let Some((positions, session, caller, inbound)) = timeout(ANSWER * 2, opening).await.ok().flatten() else {
            return Ok(None);
        };
        for ((number, stream), marks) in self.streams.iter_mut().zip(&positions.marks) {
            let acknowledged = self.shared.ledger.committed(*number);
            if marks.next < acknowledged {
                let what = format!("{}: {acknowledged} was acknowledged, and goes on at {}", stream.key, marks.next);
                self.shared.ledger.problem(what.clone());
                bail!(what);
            }
            ensure!(stream.seek(marks.next), "{} goes on inside a batch, at {}", stream.key, marks.next);
        }
        // What another owner committed, or acknowledged to a lane that is gone, is acknowledged by this word alone.
        self.shared.take_marks(&positions.marks);
        let taking = Arc::new(AtomicBool::new(true));
        let (epoch, shared) = (positions.epoch, Arc::clone(&self.shared));
        listeners.spawn(listen(session, inbound, Arc::clone(&taking), epoch, shared));
        Ok(Some(Owned { epoch, caller, taking }))
    }

    /// Takes note of what is due by now; whether nothing more will be.
    fn admit(&self, plan: &mut Plan, turn: &mut usize) -> anyhow::Result<bool> {
        match plan {
            Plan::Paced(pace) => {
                while let Some(due) = pace.try_next() {
                    self.admit_one(due, turn);
                }
                let behind = self.shared.outstanding.load(Ordering::Acquire);
                let bound = BEHIND_MAX as u64;
                ensure!(behind < bound, "{behind} batches wait: the ring takes less than the scenario's rate");
                Ok(pace.is_over())
            }
            Plan::Unpaced { batches_of_each, end } => {
                let now = Instant::now();
                if end.is_some_and(|end| now >= end) {
                    return Ok(true);
                }
                let mut over = true;
                for waiting in self.shared.lock().values_mut() {
                    while (waiting.due.len() as u64) < WINDOW && waiting.total() < *batches_of_each {
                        waiting.due.push_back(now);
                        self.shared.outstanding.fetch_add(1, Ordering::AcqRel);
                    }
                    over &= waiting.total() >= *batches_of_each;
                }
                Ok(over)
            }
        }
    }

    fn admit_one(&self, due: Instant, turn: &mut usize) {
        let (number, _) = self.streams[*turn % self.streams.len()];
        *turn += 1;
        self.shared.lock().entry(number).or_default().due.push_back(due);
        self.shared.outstanding.fetch_add(1, Ordering::AcqRel);
    }

    /// What is due and was not sent in this epoch, as far as there is room for it.
    fn due_chunks(&mut self) -> Vec<ShipChunk> {
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        let waiting = self.shared.lock();
        for (number, stream) in &mut self.streams {
            let Some(waiting) = waiting.get(number).filter(|waiting| !waiting.due.is_empty()) else { continue };
            loop {
                // What was acknowledged while the owner was lost lies before what the next one goes on with.
                let ahead = (stream.next.0 / self.messages_per_batch).saturating_sub(waiting.acknowledged);
                let Ok(at) = usize::try_from(ahead) else { break };
                let Some(due) = waiting.due.get(at).filter(|_| ahead < WINDOW) else { break };
                if bytes >= SHIP_BYTES {
                    return chunks;
                }
                let (base, chunk) = (stream.next, stream.chunk());
                let checksum = checksum_of(&chunk);
                self.shared.ledger.shipping(*number, base, checksum, *due);
                bytes += self.batch_payload_bytes;
                chunks.push(chunk);
            }
        }
        chunks
    }

    /// Until something is due, acknowledged, or lost.
    async fn wait(&self, plan: &mut Plan, turn: &mut usize) {
        let paced = async {
            match plan {
                Plan::Paced(pace) => pace.next().await,
                Plan::Unpaced { .. } => None,
            }
        };
        tokio::select! {
            Some(due) = paced => self.admit_one(due, turn),
            () = self.shared.room.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

fn checksum_of(chunk: &ShipChunk) -> u64 {
    let mut batches = kennel_protocol::batch::batches(&chunk.body);
    let batch = batches.next().expect("a chunk is one batch").expect("a batch that was just built is whole");
    batch.header().batch_checksum
}

/// A lane to an owner.
struct Owned {
    epoch: Epoch,
    caller: Caller,
    /// Until it refuses something, or its session ends.
    taking: Arc<AtomicBool>,
}

impl Owned {
    fn overtaken(&self, reach: &Reach, shard: ShardId) -> bool {
        reach.owners.borrow().get(&shard).is_some_and(|(newest, _)| *newest > self.epoch)
    }
}

impl Waiting {
    fn total(&self) -> u64 {
        self.acknowledged + self.due.len() as u64
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an owner has committed.
    fn take_marks(&self, marks: &[PartitionMarks]) {
        let over = Instant::now();
        for marks in marks {
            let Some(&number) = self.by_key.get(&marks.partition) else { continue };
            self.ledger.commit(number, marks.committed);
            let mut guard = self.lock();
            let waiting = guard.entry(number).or_default();
            while waiting.acknowledged < marks.committed.0 / self.messages_per_batch {
                waiting.acknowledged += 1;
                let Some(due) = waiting.due.pop_front() else { continue };
                self.outstanding.fetch_sub(1, Ordering::AcqRel);
                if let Some(recorder) = &self.recorder {
                    let (messages, bytes) = (self.messages_per_batch, self.payload_bytes);
                    recorder.done(Done { due, over, messages, bytes });
                }
            }
        }
    }

    /// Takes an owner's word; whether it goes on taking chunks.
    fn take(&self, ack: &ShipAck) -> bool {
        self.take_marks(&ack.marks);
        let wrong = ack.problems.iter().find(|(_, problem)| !matches!(problem, ShipProblem::Expected(_)));
        if let Some((partition, problem)) = wrong {
            self.ledger.problem(format!("{partition}: the owner found {problem:?}"));
        }
        if let (Some(refusal), Some(recorder)) = (ack.refusal, &self.recorder) {
            recorder.failed(format!("refused: {refusal:?}"));
        }
        self.room.notify_one();
        ack.refusal.is_none() && ack.problems.is_empty()
    }
}

/// Hears an owner for as long as its session lasts.
async fn listen(
    session: Arc<dyn Session>,
    mut inbound: Inbound,
    taking: Arc<AtomicBool>,
    epoch: Epoch,
    shared: Arc<Shared>,
) {
    while let Ok(incoming) = inbound.next().await {
        if let Message::ShipAck(ack) = incoming.message
            && ack.epoch == epoch
            && !shared.take(&ack)
        {
            break;
        }
    }
    taking.store(false, Ordering::Release);
    shared.room.notify_one();
    drop(session);
}

/// The shard of each stream.
pub(super) fn by_shard(streams: Vec<(usize, Stream)>, shards: u16) -> BTreeMap<ShardId, Vec<(usize, Stream)>> {
    let mut sorted: BTreeMap<ShardId, Vec<(usize, Stream)>> = BTreeMap::new();
    for (number, stream) in streams {
        sorted.entry(stream.key.shard(shards)).or_default().push((number, stream));
    }
    sorted
}

/// How often a batch is due where a share of a rate, bytes a second, comes in batches of so many bytes.
pub(super) fn interval(rate: f64, batch_bytes: f64, share: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(batch_bytes / (rate * share)).context("a rate that can be kept")
}
