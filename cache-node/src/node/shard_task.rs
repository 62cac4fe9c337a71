//! Drives one shard's machine: inputs in, effects out, in the order that the machine's rules ask for.
//!
//! `copies` leave at once. A list of persists goes to the journal, and what waits for it starts when the journal says
//! that it is durable; calls without persists wait for nothing, but for what readers here are to see before.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use kennel_core::shard::{
    BucketId, BucketRequest, BucketResult, Divergence, Effects, InOrder, Input, Note, PersistId, RoleChange, SessionId,
    Shard, ShardStatus, Then,
};
use kennel_protocol::entry::NumberedEntry;
use kennel_protocol::ids::{Epoch, Lsn, NodeId, ShardId, Slot};
use kennel_protocol::object::{PartitionState, SlotObject};
use kennel_protocol::wire::{
    Copy, Message, PartitionReport, Positions, PositionsRequest, ShardMessage, ShipAck, ShipProblem, ShipRefusal,
};
use kennel_transport::rpc::Caller;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::announcing::Announcing;
use super::bucket_edge::BucketEdge;
use super::clock::Clock;
use super::journal_edge::{JournalEdge, Journaling};
use super::peers::Peers;
use super::residence::Resident;
use super::roles::Roles;
use super::showing::Showing;
use super::stowed::{Stowed, stow_place};
use crate::gossip::Gossip;
use crate::journal::{Journal, JournalError, RecordId};
use crate::metrics::{self, Refusal};
use crate::read::ColdIndex;

/// Inputs of one shard that wait. Lanes wait when it is full, so it is what bounds them.
pub(super) const INBOX_MAX: usize = 1024;

/// How often journal room is looked at and ownership is told to gossip.
const TICK: Duration = Duration::from_millis(100);

/// How often persists that found no room are tried again.
const RETRY: Duration = Duration::from_millis(10);

/// How many ticks apart an operator's word is looked for: a second.
const FORCE_TICKS: u64 = 10;

/// Above this share of the journal, in percent, shippers are told to wait.
const ROOM_CLOSES_PERCENT: u64 = 85;

/// Below this share, in percent, they may go on.
const ROOM_OPENS_PERCENT: u64 = 75;

/// How long what commits in a new epoch may wait for the epoch's open record before it is shown.
const OPEN_RECORD_PATIENCE: Duration = Duration::from_millis(500);

/// How long an inbox may be full before a result of the bucket is worth a warning.
const RESULT_PATIENCE: Duration = Duration::from_secs(5);

/// Something for a shard.
#[derive(Debug)]
pub(super) enum ShardInput {
    /// For the machine.
    Machine(Input),
    /// A shipper's lane begins.
    ShipperUp(SessionId, Caller),
    /// A shipper's lane ended.
    ShipperDown(SessionId),
    /// Where partitions stand; `None` where this node is not the open owner.
    Positions(PositionsRequest, oneshot::Sender<Option<Positions>>),
    /// The partitions that an epoch opened with; `None` if its open record could not be read.
    Opened(Epoch, Option<Vec<PartitionState>>),
    /// For people.
    Status(oneshot::Sender<ShardStatus>),
    /// The partitions that the owner knows; `None` where this node is not the owner.
    Partitions(oneshot::Sender<Option<(Epoch, Vec<PartitionReport>)>>),
}

/// Everything that one shard's driver works with.
#[derive(Debug)]
pub(super) struct ShardTask {
    pub(super) id: ShardId,
    pub(super) shard: Shard,
    pub(super) clock: Clock,
    pub(super) journal: Journal,
    pub(super) journal_edge: JournalEdge,
    pub(super) bucket: BucketEdge,
    pub(super) peers: Peers,
    pub(super) roles: Arc<Roles>,
    pub(super) gossip: Arc<Gossip>,
    pub(super) showing: Showing,
    pub(super) index: Arc<ColdIndex>,
    /// Bodies that lie in the journal only.
    pub(super) stowed: Stowed,
    /// Memory for the others.
    pub(super) memory: Resident,
    /// Results of the bucket come back here.
    pub(super) own_inbox: mpsc::Sender<ShardInput>,
    /// An operator's word that a loss is accepted: a file of this name (PROTOCOL R2).
    pub(super) force: PathBuf,
    /// The first error that the node cannot live with.
    pub(super) fatal: mpsc::Sender<String>,
}

type Durable = futures::future::BoxFuture<'static, (Accepted, Result<(), JournalError>)>;

/// A list that the journal has accepted, without its receiver.
#[derive(Debug)]
struct Accepted {
    id: PersistId,
    then: Vec<Then>,
    replaced: Vec<RecordId>,
    since: tokio::time::Instant,
}

/// What changes while the task runs.
struct Running {
    task: ShardTask,
    in_flight: FuturesOrdered<Durable>,
    order: InOrder,
    announcing: Announcing,
    shippers: HashMap<SessionId, Caller>,
    positions: HashMap<u64, oneshot::Sender<Option<Positions>>>,
    asked: u64,
    has_room: bool,
    /// Where the gathered tail of the own epoch ends, until the readers have it.
    unsettled: Option<Lsn>,
    owns: Option<Epoch>,
    unowned_ticks: u64,
}

impl ShardTask {
    /// Runs until the inbox closes or `stop` says so.
    pub(super) async fn run(self, mut inbox: mpsc::Receiver<ShardInput>, mut stop: watch::Receiver<bool>) {
        let mut running = Running {
            task: self,
            in_flight: FuturesOrdered::new(),
            order: InOrder::default(),
            announcing: Announcing::default(),
            shippers: HashMap::new(),
            positions: HashMap::new(),
            asked: 0,
            has_room: true,
            unsettled: None,
            owns: None,
            unowned_ticks: 0,
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let retry = running.task.journal_edge.is_stalled().then(|| tokio::time::Instant::now() + RETRY);
            let due = running.task.shard.poll_timeout().map(|due| running.task.clock.wall(due));
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return running.announce(),
                Some((list, outcome)) = running.in_flight.next() => running.durable(list, outcome),
                input = inbox.recv() => match input {
                    Some(input) => running.take(input),
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(far_away)) => running.feed(Input::Timeout),
                () = sleep_until(retry.unwrap_or_else(far_away)) => running.retry_stalled(),
                _ = tick.tick() => running.tick(),
                () = yield_now(), if !running.announcing.is_empty() => running.announce(),
            }
        }
    }
}

fn count_refusals(ack: &ShipAck) {
    if let Some(refusal) = ack.refusal {
        metrics::record_refusal(match refusal {
            ShipRefusal::NotOwner | ShipRefusal::Halted => Refusal::Moved,
            ShipRefusal::JournalFull | ShipRefusal::UploadsBehind => Refusal::Busy,
        });
    }
    for (_, problem) in &ack.problems {
        metrics::record_refusal(match problem {
            ShipProblem::Expected(_) => Refusal::Gap,
            ShipProblem::Diverged { .. } => Refusal::Diverged,
            ShipProblem::Corrupt => Refusal::Damaged,
        });
    }
}

/// A timer that is not needed.
fn far_away() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_hours(1)
}

impl Running {
    fn take(&mut self, input: ShardInput) {
        match input {
            ShardInput::Machine(input) => self.feed(input),
            ShardInput::Opened(epoch, states) => self.opened(epoch, states.as_deref()),
            ShardInput::ShipperUp(session, lane) => {
                self.shippers.insert(session, lane);
            }
            ShardInput::ShipperDown(session) => {
                self.shippers.remove(&session);
            }
            ShardInput::Positions(request, answer) => {
                self.asked += 1;
                self.positions.insert(self.asked, answer);
                self.feed(Input::Positions { session: SessionId(0), correlation: self.asked, request });
            }
            // A receiver that is gone no longer wants to know.
            ShardInput::Status(answer) => drop(answer.send(self.task.shard.status())),
            ShardInput::Partitions(answer) => {
                let epoch = self.task.shard.status().epoch;
                drop(answer.send(self.task.shard.partitions().map(|partitions| (epoch, partitions))));
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.task.shard.may_keep(self.task.memory.may_keep());
        self.task.shard.handle(self.task.clock.now(), input, &mut effects);
        self.task.memory.keeps(self.task.shard.resident_bytes());
        self.carry_out(effects);
        if self.announcing.is_due() {
            self.announce();
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        let copies = self.announcing.sort(effects.copies);
        self.send_copies(copies);
        if let Some(id) = effects.persist_id {
            self.order.submitted(id, &effects.then);
            let accepted = self.task.journal_edge.submit(id, effects.persist, effects.then);
            self.accepted(accepted);
        } else {
            let now = self.order.at_once(effects.then);
            self.perform(now);
        }
    }

    fn announce(&mut self) {
        let marks = self.announcing.take();
        self.send_copies(marks);
    }

    fn send_copies(&self, copies: Vec<(NodeId, Copy)>) {
        for (node, copy) in copies {
            self.task.peers.send(node, ShardMessage::Copy(copy));
        }
    }

    fn accepted(&mut self, accepted: Result<Vec<Journaling>, crate::journal::AppendError>) {
        match accepted {
            Ok(lists) => {
                for Journaling { id, then, done, replaced } in lists {
                    let list = Accepted { id, then, replaced, since: tokio::time::Instant::now() };
                    self.in_flight.push_back(Box::pin(async move {
                        let outcome = done.await.unwrap_or(Err(JournalError::Closed));
                        (list, outcome)
                    }));
                }
            }
            Err(error) => self.fail(format!("the journal refuses records: {error}")),
        }
    }

    fn durable(&mut self, list: Accepted, outcome: Result<(), JournalError>) {
        if let Err(error) = outcome {
            // Nobody knows what is on the disk: only a restart finds out.
            self.fail(format!("the journal failed: {error}"));
            return;
        }
        metrics::record_append(list.since.elapsed());
        self.task.journal_edge.free_records(list.replaced);
        self.perform(list.then);
        let held = self.order.durable(list.id);
        self.perform(held);
        self.feed(Input::Persisted(list.id));
    }

    fn fail(&self, what: String) {
        // The first failure is enough; a full channel holds one already.
        let _ = self.task.fatal.try_send(what);
    }

    fn retry_stalled(&mut self) {
        let accepted = self.task.journal_edge.retry();
        self.accepted(accepted);
    }

    /// Takes an operator's word, once. Looked for only while nobody owns the shard for long.
    fn take_force(&mut self) {
        if self.owns.is_none() && self.unowned_ticks > FORCE_TICKS && std::fs::remove_file(&self.task.force).is_ok() {
            tracing::warn!(shard = %self.task.id, "an operator accepts what unreachable journals alone hold as lost");
            self.feed(Input::Force);
        }
    }

    fn tick(&mut self) {
        self.unowned_ticks = if self.owns.is_some() { 0 } else { self.unowned_ticks + 1 };
        if self.unowned_ticks.is_multiple_of(FORCE_TICKS) {
            self.take_force();
        }
        let usage = self.task.journal.usage();
        let percent = usage.used_bytes * 100 / usage.capacity_bytes.max(1);
        let room = if self.has_room { percent < ROOM_CLOSES_PERCENT } else { percent < ROOM_OPENS_PERCENT };
        let room = room && !self.task.journal_edge.is_stalled();
        if room != self.has_room {
            self.has_room = room;
            self.feed(Input::JournalRoom(room));
        }
        if let Some(epoch) = self.task.showing.follows(self.task.shard.followed_epoch()) {
            self.read_open_record(epoch);
        }
        if let Some(epoch) = self.owns {
            self.task.gossip.set_ownership(self.task.id, epoch, self.task.shard.status().stored.0);
        }
    }

    fn perform(&mut self, then: Vec<Then>) {
        for then in then {
            match then {
                Then::Send { to, message } => self.task.peers.send(to, message),
                Then::Ack { session, ack } => {
                    count_refusals(&ack);
                    if let Some(lane) = self.shippers.get(&session)
                        && lane.try_send(&Message::ShipAck(ack)).is_err()
                    {
                        tracing::debug!("a shipper is slow to take its marks; they are cumulative, so one is dropped");
                    }
                }
                Then::Positions { correlation, answer, .. } => {
                    if let Some(asker) = self.positions.remove(&correlation) {
                        drop(asker.send(answer));
                    }
                }
                Then::Bucket { id, request } => self.ask_bucket(id, request),
                Then::Committed { epoch, entries } => self.show(epoch, entries),
                Then::Skipped { epoch, .. } => {
                    if let Some(epoch) = self.task.showing.skipped(epoch) {
                        self.read_open_record(epoch);
                    }
                }
                Then::SlotStored { epoch, slot, ends } => {
                    self.task.showing.stored(ends);
                    if let Some(index) = self.task.bucket.take_index(epoch, slot) {
                        self.publish(&SlotObject::Log(Arc::unwrap_or_clone(index)));
                    }
                }
                Then::Stored { ends } => self.task.showing.stored(ends),
                Then::Load { epoch, from, end } => self.load(epoch, from, end),
                Then::Free { epoch, below } => self.task.journal_edge.free(epoch, below),
                Then::Role(change) => self.role_changed(change),
                Then::Note(note) => self.note(note),
            }
        }
    }

    fn ask_bucket(&self, id: BucketId, request: BucketRequest) {
        let (bucket, inbox) = (self.task.bucket.clone(), self.task.own_inbox.clone());
        let shard = self.task.id;
        tokio::spawn(async move {
            let result: BucketResult = bucket.perform(request).await;
            let input = ShardInput::Machine(Input::Bucket(id, result));
            if inbox.send_timeout(input, RESULT_PATIENCE).await.is_err() {
                tracing::warn!(%shard, "a result of the bucket found no one to take it");
            }
        });
    }

    /// Reads bodies back from the journal. A journal that cannot stops the node: only a restart finds out what it holds.
    fn load(&self, epoch: Epoch, from: Lsn, end: Lsn) {
        let records = self.task.journal_edge.bodies(epoch, from, end);
        let (stowed, inbox) = (self.task.stowed.clone(), self.task.own_inbox.clone());
        let fatal = self.task.fatal.clone();
        tokio::spawn(async move {
            match stowed.load(records).await {
                Ok(bodies) => {
                    // An inbox that is closed has no machine behind it any more.
                    let loaded = Input::Loaded { epoch, from, bodies };
                    let _ = inbox.send(ShardInput::Machine(loaded)).await;
                }
                Err(error) => {
                    let _ = fatal.try_send(format!("the journal failed: {error}"));
                }
            }
        });
    }

    /// Shows committed entries to readers.
    fn show(&mut self, epoch: Epoch, entries: Vec<NumberedEntry>) {
        let end = entries.last().map_or(Lsn(0), |last| last.lsn.next());
        let journal = &self.task.journal_edge;
        let place = |epoch, lsn| journal.body(epoch, lsn).map(stow_place);
        if let Some(epoch) = self.task.showing.committed(epoch, entries, place) {
            self.read_open_record(epoch);
        }
        if self.unsettled.is_some_and(|unsettled| end >= unsettled) {
            self.unsettled = None;
            self.task.showing.tail().settle();
        }
    }

    fn read_open_record(&self, epoch: Epoch) {
        let (bucket, inbox) = (self.task.bucket.clone(), self.task.own_inbox.clone());
        tokio::spawn(async move {
            let reading = bucket.perform(BucketRequest::ReadSlot { epoch, slot: Slot(0) });
            let states = match timeout(OPEN_RECORD_PATIENCE, reading).await {
                Ok(BucketResult::Slot(Some(found))) => match Arc::unwrap_or_clone(found) {
                    SlotObject::Open(record) => Some(record.partitions),
                    SlotObject::Log(_) | SlotObject::Seal(_) => None,
                },
                _ => None,
            };
            // An inbox that is closed has nobody behind it who shows anything.
            let _ = inbox.send(ShardInput::Opened(epoch, states)).await;
        });
    }

    fn opened(&mut self, epoch: Epoch, states: Option<&[PartitionState]>) {
        let journal = &self.task.journal_edge;
        self.task.showing.opened(epoch, states, |epoch, lsn| journal.body(epoch, lsn).map(stow_place));
    }

    fn publish(&self, object: &SlotObject) {
        if let Err(error) = self.task.index.publish(object) {
            tracing::warn!(error = %error, "an object of this node does not fit its index; the index reads the log instead");
        }
    }

    fn role_changed(&mut self, change: RoleChange) {
        self.task.roles.changed(self.task.id, change);
        match change {
            RoleChange::Owner { epoch } => {
                self.owns = Some(epoch);
                let states = self.task.shard.take_open_states().unwrap_or_default();
                self.task.showing.owns(epoch, &states);
                self.unsettled = Some(Lsn(0));
                let index = Arc::clone(&self.task.index);
                tokio::spawn(async move {
                    if let Err(error) = index.refresh(Duration::ZERO).await {
                        tracing::warn!(error = %error, "the log could not be read yet; the first cold read tries again");
                    }
                });
            }
            RoleChange::NotOwner { epoch, .. } => self.leave_ownership(epoch),
            RoleChange::Halted => self.leave_ownership(self.task.showing.epoch()),
        }
    }

    fn leave_ownership(&mut self, newest: Epoch) {
        if self.owns.take().is_some() {
            self.task.gossip.clear_ownership(self.task.id);
            self.task.bucket.forget_written();
            self.task.showing.retires(newest);
            self.unsettled = None;
        }
    }

    fn note(&mut self, note: Note) {
        let shard = self.task.id;
        match note {
            Note::Opened { epoch, adopted, answered } => {
                tracing::info!(%shard, %epoch, %adopted, ?answered, "owns the shard");
                if adopted == Lsn(0) {
                    self.unsettled = None;
                    self.task.showing.tail().settle();
                } else {
                    self.unsettled = Some(adopted);
                }
            }
            Note::Fenced { epoch, by } => tracing::info!(%shard, %epoch, %by, "fenced by a newer epoch"),
            Note::PastUnreachable { epoch, answered, needed } => tracing::warn!(
                %shard, %epoch, answered, needed,
                "cannot take over: too few journals of the past answer; bring them back, or accept the loss with `cache-node force`"
            ),
            Note::ClaimMissing { newest, seen } => tracing::warn!(
                %shard, %newest, %seen,
                "a manifest lies above every claim found; if this repeats, claims were deleted from the bucket"
            ),
            Note::Diverged(partition, Divergence { ring, source }) => {
                metrics::record_divergence();
                tracing::error!(
                    %shard, %partition, ?ring, ?source,
                    "the source differs from what the ring holds; the partition is stopped"
                );
            }
            Note::Abandoned(setback) => tracing::debug!(%shard, ?setback, "an attempt to own the shard was abandoned"),
            Note::Halted(why) => tracing::error!(%shard, why, "halted"),
        }
    }
}
