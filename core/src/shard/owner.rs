//! Owns the shard: takes chunks, replicates, commits, publishes, says how far it is.

mod look;
mod retire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kennel_protocol::entry::{Entry, EntryHead, EntryKind, IntegritySum, MessageIdentity};
use kennel_protocol::ids::{Epoch, Lsn, NodeId, PartitionKey, Slot};
use kennel_protocol::object::{Claim, LogPosition, Manifest, PartitionState};
use kennel_protocol::wire::{CopyAck, Positions, PositionsRequest, Ship, ShipAck, ShipChunk, ShipProblem, ShipRefusal};

use super::divergence::{Divergence, Divergences};
use super::flaw::Flaw;
use super::ground::Ground;
use super::io::{BucketId, BucketRequest, BucketResult, CreateOutcome, Effects, RoleChange, SessionId, Then};
use super::note::Note;
use super::past::Opening;
use super::publish::{Published, Publisher};
use super::replication::{Marks, Replication};
use super::table::{Row, Table};
use crate::time::Instant;
use look::Lookout;
use retire::{Misplaced, Retiring};

#[derive(Debug)]
pub(crate) struct Owner {
    claim: Claim,
    replication: Replication,
    /// End of the adopted entries: until they are committed here too, no mark may be said (PROTOCOL R7, R26).
    adopted: Lsn,
    publisher: Publisher,
    table: Table,
    divergences: Divergences,
    /// End of what a quorum holds: may go into objects.
    quorum: Lsn,
    /// End of what may be acknowledged and read.
    committed: Lsn,
    stored: Lsn,
    announced: Marks,
    retiring: Option<Retiring>,
    /// Where the shard should be instead, and since when.
    misplaced: Option<Misplaced>,
    /// The partitions as the open record states them, until the driver has taken them for its readers.
    open_states: Option<Vec<PartitionState>>,
    /// The epoch's first manifest, until it is known to stand.
    manifest: Option<ManifestCreate>,
    lookout: Lookout,
}

/// A manifest on its way to the bucket.
#[derive(Debug)]
struct ManifestCreate {
    manifest: Arc<Manifest>,
    /// The request in flight, or when to try again.
    state: Result<BucketId, Instant>,
}

/// What an owner does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// Goes on.
    Continues,
    /// A newer epoch ended this one.
    Fenced(Epoch),
    /// No rule allows what was found.
    Broken(String),
    /// Everything is published: claim again with another copy set.
    Renews,
    /// Everything is published and the followers know: let another claim.
    Released,
}

impl Owner {
    /// The open record stands: everything adopted is committed, chunks are taken.
    pub(crate) fn open(ground: &mut Ground, opening: Opening, effects: &mut Effects) -> Self {
        let Opening { claim, replication, mut table, adopted, answered, manifest } = opening;
        let epoch = claim.epoch;
        let at_log_end = table.states();
        for (_, entry) in ground.holdings.run_mut(epoch).range(Lsn(0), adopted) {
            table.append(&entry.head).expect("R16: a gathered tail continues the log");
        }
        ground.holdings.covered(epoch, effects);
        effects.then(Then::Role(RoleChange::Owner { epoch }));
        effects.then(Then::Note(Note::Opened { epoch, adopted, answered }));
        let mut owner = Self {
            publisher: Publisher::new(epoch),
            claim,
            replication,
            adopted,
            table,
            divergences: Divergences::default(),
            quorum: Lsn(0),
            committed: Lsn(0),
            stored: Lsn(0),
            announced: Marks { committed: Lsn(0), stored: Lsn(0), open: false, released: false },
            retiring: None,
            misplaced: None,
            manifest: None,
            lookout: Lookout::new(ground.now),
            open_states: None,
        };
        owner.carry_manifest(ground, manifest.as_deref(), &at_log_end, effects);
        owner.open_states = Some(at_log_end);
        owner.advance(ground, effects);
        owner
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.claim.epoch
    }

    pub(crate) fn marks(&self) -> (Lsn, Lsn) {
        (self.committed, self.stored)
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn divergences(&self) -> &Divergences {
        &self.divergences
    }

    pub(crate) fn take_open_states(&mut self) -> Option<Vec<PartitionState>> {
        self.open_states.take()
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// R23: a take-over copies the newest older manifest into its own epoch. The first owner writes the first one.
    fn carry_manifest(
        &mut self,
        ground: &mut Ground,
        older: Option<&Manifest>,
        states: &[PartitionState],
        effects: &mut Effects,
    ) {
        let epoch = self.claim.epoch;
        let manifest = match older {
            Some(older) => Manifest { epoch, number: 0, ..older.clone() },
            None => Manifest {
                shard: self.claim.shard,
                epoch,
                number: 0,
                log_start: LogPosition::START,
                log_start_lsn: Lsn(0),
                partitions: Vec::new(),
                sum: IntegritySum::default(),
            },
        };
        // Where the log starts at its very beginning, the manifest states nothing: the first open record does.
        debug_assert!(older.is_some() || epoch > Epoch(1) || states.is_empty(), "a new shard has no partitions");
        let manifest = Arc::new(manifest);
        let id = ground.request(BucketRequest::CreateManifest(Arc::clone(&manifest)), effects);
        self.manifest = Some(ManifestCreate { manifest, state: Ok(id) });
    }

    /// Takes what continues a partition; everything else gets an answer that says what to do (PROTOCOL R13-R16).
    pub(crate) fn ship(&mut self, ground: &mut Ground, session: SessionId, ship: Ship, effects: &mut Effects) {
        if let Some(refusal) = self.refusal(ground) {
            effects.then(Then::Ack { session, ack: refused(ground, self.claim.epoch, refusal) });
            return;
        }
        let mut answer = ShipAck {
            shard: ground.config.shard,
            epoch: self.claim.epoch,
            marks: Vec::new(),
            problems: Vec::new(),
            refusal: None,
        };
        for chunk in ship.chunks {
            self.take_chunk(ground, session, chunk, &mut answer, effects);
        }
        if !answer.marks.is_empty() || !answer.problems.is_empty() {
            effects.then(Then::Ack { session, ack: answer });
        }
        self.pump(ground, effects);
    }

    fn refusal(&self, ground: &Ground) -> Option<ShipRefusal> {
        let sizes = ground.config.sizes;
        let behind = ground.holdings.run(self.claim.epoch).is_some_and(|run| {
            run.bytes() > sizes.unstored_bytes_max || run.end().0 - run.from().0 > sizes.unstored_entries_max
        });
        if self.retiring.is_some() || self.committed < self.adopted {
            Some(ShipRefusal::NotOwner)
        } else if !ground.journal_room {
            Some(ShipRefusal::JournalFull)
        } else if behind {
            Some(ShipRefusal::UploadsBehind)
        } else {
            None
        }
    }

    fn take_chunk(
        &mut self,
        ground: &mut Ground,
        session: SessionId,
        chunk: ShipChunk,
        answer: &mut ShipAck,
        effects: &mut Effects,
    ) {
        let ShipChunk { mut head, body } = chunk;
        let partition = head.partition;
        let blind = ground.breaks(Flaw::IgnoresDivergence);
        let problem = self.problem(ground, &head);
        if let Some(problem) = problem.filter(|problem| !(blind && matches!(problem, ShipProblem::Diverged { .. }))) {
            if let ShipProblem::Diverged { ring, source } = problem {
                self.diverged(partition, Divergence { ring, source }, effects);
            }
            answer.problems.push((partition, problem));
            return;
        }
        let row = self.table.row_mut(partition);
        row.shipped_by(session);
        if head.end <= row.end {
            let mut marks = self.table.marks(&partition);
            if ground.breaks(Flaw::AcksDuplicates) {
                marks.committed = marks.committed.max(head.end);
            }
            answer.marks.push(marks);
            return;
        }
        if ground.breaks(Flaw::TakesGaps) {
            row.end = head.base;
        }
        head.cut = row.cut;
        self.divergences.continued(&partition);
        self.table.append(&head).expect("R16: the chunk was checked to continue its partition");
        ground.holdings.append(self.claim.epoch, Entry { head, body }, false, effects);
    }

    /// Remembers a difference for people, and says it if it is news (PROTOCOL R15).
    pub(crate) fn diverged(&mut self, partition: PartitionKey, divergence: Divergence, effects: &mut Effects) {
        if self.divergences.found(partition, divergence) {
            effects.then(Then::Note(Note::Diverged(partition, divergence)));
        }
    }

    /// Why a chunk can be neither appended nor counted as a duplicate.
    fn problem(&self, ground: &Ground, head: &EntryHead) -> Option<ShipProblem> {
        if !matches!(head.kind, EntryKind::Chunk | EntryKind::Hole(_)) || head.end <= head.base {
            return Some(ShipProblem::Corrupt);
        }
        let row = self.table.row(&head.partition).cloned().unwrap_or_default();
        if head.end <= row.end {
            let source = head.last?;
            return match self.known_message(ground, source, &head.partition, &row) {
                Some(ring) if ring == source => None,
                Some(ring) => Some(ShipProblem::Diverged { ring, source }),
                // A duplicate that cannot be compared is no proof of anything. At the end there is always a message to
                // compare with: the shipper goes on from there, or asks (PROTOCOL R15).
                None => Some(ShipProblem::Expected(row.end)),
            };
        }
        if head.base != row.end && !(head.base > row.end && ground.breaks(Flaw::TakesGaps)) {
            return Some(ShipProblem::Expected(row.end));
        }
        // R15: only a mismatch is divergence; a source that no longer has the message before may not know it.
        match (row.last, head.previous) {
            (Some(ring), Some(source)) if ring != source => Some(ShipProblem::Diverged { ring, source }),
            _ => None,
        }
    }

    /// The message that the ring holds at the last offset of a duplicate, if it is still at hand.
    fn known_message(
        &self,
        ground: &Ground,
        last: MessageIdentity,
        partition: &PartitionKey,
        row: &Row,
    ) -> Option<MessageIdentity> {
        if let Some(ring) = row.last.filter(|ring| ring.offset == last.offset) {
            return Some(ring);
        }
        let run = ground.holdings.run(self.claim.epoch)?;
        // A bounded look: duplicates are of the newest entries, or stored long ago.
        let from = Lsn(run.end().0.saturating_sub(DUPLICATE_LOOK_BACK));
        run.range(from, run.end())
            .filter(|(_, entry)| entry.head.partition == *partition)
            .filter_map(|(_, entry)| entry.head.last)
            .find(|ring| ring.offset == last.offset)
    }

    pub(crate) fn positions(
        &mut self,
        ground: &Ground,
        session: SessionId,
        correlation: u64,
        request: &PositionsRequest,
        effects: &mut Effects,
    ) {
        let speaks = self.retiring.is_none() && self.committed >= self.adopted;
        let answer = speaks.then(|| Positions {
            shard: ground.config.shard,
            epoch: self.claim.epoch,
            marks: request.partitions.iter().map(|partition| self.table.marks(partition)).collect(),
        });
        effects.then(Then::Positions { session, correlation, answer });
    }

    pub(crate) fn on_copy_ack(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        ack: CopyAck,
        effects: &mut Effects,
    ) -> Tenure {
        if let Some(newer) = ack.fenced {
            if ground.breaks(Flaw::IgnoresFence) {
                return Tenure::Continues;
            }
            return if newer > self.claim.epoch { Tenure::Fenced(newer) } else { Tenure::Continues };
        }
        let end = ground.holdings.run(self.claim.epoch).map_or(Lsn(0), super::holdings::Run::end);
        if ack.stamp.epoch == self.claim.epoch && self.replication.acked(ground, from, &ack, end) {
            self.advance(ground, effects);
        }
        Tenure::Continues
    }

    pub(crate) fn on_persisted(&mut self, ground: &mut Ground, effects: &mut Effects) {
        self.advance(ground, effects);
    }

    /// Moves the marks as far as copies and bucket allow, and tells whom it concerns.
    fn advance(&mut self, ground: &mut Ground, effects: &mut Effects) {
        let own = ground.holdings.run(self.claim.epoch).map_or(Lsn(0), |run| run.durable);
        let alone = ground.breaks(Flaw::OwnJournalIsEnough);
        let quorum = if alone { own } else { self.replication.quorum_durable(own) };
        self.quorum = self.quorum.max(quorum);
        self.publisher.ready(ground, self.quorum);
        let few = self.claim.copyset.copies.len() < usize::from(ground.config.min_copies);
        let few = few && !ground.breaks(Flaw::IgnoresMinCopies);
        // R7: with too few copies an acknowledgement waits for the bucket.
        let committed = if few { self.quorum.min(self.stored) } else { self.quorum };
        if committed > self.committed {
            self.commit(ground, committed, effects);
        }
        self.publisher.flush(ground, self.retiring.is_some(), effects);
        self.pump(ground, effects);
    }

    fn commit(&mut self, ground: &mut Ground, committed: Lsn, effects: &mut Effects) {
        let run = ground.holdings.run_mut(self.claim.epoch);
        let entries = run.numbered(self.committed, committed);
        run.committed = committed;
        self.committed = committed;
        let mut touched = BTreeSet::new();
        for numbered in &entries {
            self.table.committed(&numbered.entry.head);
            touched.insert(numbered.entry.head.partition);
        }
        effects.then(Then::Committed { epoch: self.claim.epoch, entries });
        self.ack_shippers(ground, &touched, effects);
    }

    /// Cumulative marks to whoever ships the partitions that moved (PROTOCOL R13).
    fn ack_shippers(&self, ground: &Ground, touched: &BTreeSet<PartitionKey>, effects: &mut Effects) {
        let mut acks: BTreeMap<SessionId, Vec<_>> = BTreeMap::new();
        for partition in touched {
            let Some(row) = self.table.row(partition) else { continue };
            for session in row.sessions() {
                acks.entry(session).or_default().push(self.table.marks(partition));
            }
        }
        for (session, marks) in acks {
            let (shard, epoch) = (ground.config.shard, self.claim.epoch);
            let ack = ShipAck { shard, epoch, marks, problems: Vec::new(), refusal: None };
            effects.then(Then::Ack { session, ack });
        }
    }

    pub(crate) fn on_bucket(
        &mut self,
        ground: &mut Ground,
        id: BucketId,
        result: BucketResult,
        effects: &mut Effects,
    ) -> Tenure {
        if self.manifest.as_ref().is_some_and(|create| create.state == Ok(id)) {
            self.on_manifest(ground, &result);
            return Tenure::Continues;
        }
        if let Some(tenure) = self.on_look(ground, id, &result) {
            return tenure;
        }
        match self.publisher.on_bucket(ground, id, result, effects) {
            Published::Nothing => {}
            Published::Sealed(by) => return Tenure::Fenced(by),
            Published::Foreign(what) => return Tenure::Broken(what),
            Published::Stored(slots) => self.stored(ground, slots, effects),
        }
        self.tenure(ground)
    }

    /// A manifest's number is this epoch's own: whatever stands there is the same bytes.
    fn on_manifest(&mut self, ground: &mut Ground, result: &BucketResult) {
        if matches!(result, BucketResult::Created(CreateOutcome::Done | CreateOutcome::Exists)) {
            self.manifest = None;
        } else if let Some(create) = &mut self.manifest {
            create.state = Err(ground.now + ground.backoff(MANIFEST_FAILURES));
        }
    }

    fn retry_manifest(&mut self, ground: &mut Ground, effects: &mut Effects) {
        let Some(create) = &mut self.manifest else { return };
        if create.state.is_err_and(|due| due <= ground.now) {
            let request = BucketRequest::CreateManifest(Arc::clone(&create.manifest));
            create.state = Ok(ground.request(request, effects));
        }
    }

    /// Slots are stored: marks move, followers and journal may forget.
    fn stored(&mut self, ground: &mut Ground, slots: Vec<(Slot, Lsn)>, effects: &mut Effects) {
        let epoch = self.claim.epoch;
        self.lookout.last = ground.now;
        let mut touched = BTreeSet::new();
        for (slot, end) in slots {
            assert!(end > self.stored, "R21: slots are taken in order");
            let entries = ground.holdings.run_mut(epoch).numbered(self.stored, end);
            self.stored = end;
            // R7: where an acknowledgement waits for the bucket, this is what it waited for.
            self.advance(ground, effects);
            let mut ends = BTreeMap::new();
            for numbered in &entries {
                let head = &numbered.entry.head;
                let row = self.table.stored(head);
                ends.insert(head.partition, row.stored);
            }
            touched.extend(ends.keys().copied());
            effects.then(Then::SlotStored { epoch, slot, ends: ends.into_iter().collect() });
        }
        assert!(self.stored <= self.committed, "stored <= committed");
        ground.holdings.stored(epoch, self.stored, effects);
        self.ack_shippers(ground, &touched, effects);
        self.advance(ground, effects);
    }

    fn marks_now(&self) -> Marks {
        Marks { committed: self.committed, stored: self.stored, open: true, released: false }
    }

    fn pump(&mut self, ground: &Ground, effects: &mut Effects) {
        let marks = self.marks_now();
        let announce = marks != self.announced;
        self.announced = marks;
        self.replication.pump(ground, marks, announce, effects);
        while self.replication.has_more(ground) {
            self.replication.pump(ground, marks, false, effects);
        }
    }

    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) -> Tenure {
        self.review_placement(ground);
        self.publisher.on_timeout(ground, effects);
        self.retry_manifest(ground, effects);
        self.look_if_due(ground, effects);
        self.advance(ground, effects);
        self.tenure(ground)
    }

    pub(crate) fn poll_timeout(&self, ground: &Ground) -> Option<Instant> {
        let publish = self.publisher.poll_timeout(ground);
        let moves = self.misplaced.as_ref().filter(|_| self.retiring.is_none());
        let moves = moves.map(|misplaced| misplaced.since + ground.config.timing.move_after);
        let heartbeat = self.replication.poll_timeout();
        let alone = heartbeat.is_none().then(|| ground.now + ground.config.timing.owner_timeout);
        let look = self.look_due(ground);
        let manifest = self.manifest.as_ref().and_then(|create| create.state.err());
        publish.into_iter().chain(moves).chain(heartbeat).chain(alone).chain(look).chain(manifest).min()
    }
}

/// Manifests are in no hurry: they wait as if so many tries had failed before.
const MANIFEST_FAILURES: u32 = 4;

/// How many of the newest entries a duplicate is compared with.
const DUPLICATE_LOOK_BACK: u64 = 256;

/// The answer to a shipper where nothing was taken.
pub(crate) fn refused(ground: &Ground, epoch: Epoch, refusal: ShipRefusal) -> ShipAck {
    ShipAck { shard: ground.config.shard, epoch, marks: Vec::new(), problems: Vec::new(), refusal: Some(refusal) }
}
