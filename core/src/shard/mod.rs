//! A shard on one node: claim, fence, seal, adopt, open, append, copy, commit, publish, step down.
//!
//! One machine per shard and node. It refuses to know sockets, files, the bucket's client and the time: see
//! [`io`] for all it is told and all it asks for. The rules are numbered as in the protocol document; an assertion that
//! cites one can only be broken by a bug.
//!
//! | state | meaning | leaves to |
//! |---|---|---|
//! | idle | follows whoever owns the newest epoch, or waits | candidate |
//! | candidate | asks whether a claim would find a reachable past (R1) | claimant, idle |
//! | claimant | has claimed; seals, gathers, adopts, opens (R8-R11) | owner, idle |
//! | owner | takes chunks, commits, publishes | candidate (R6), idle |
//! | halted | met what no rule allows; only a person helps | |

mod candidate;
mod claimant;
mod config;
mod copy;
mod divergence;
mod flaw;
mod gather;
mod ground;
mod holdings;
mod idle;
mod in_order;
mod invariants;
pub mod io;
mod note;
mod owner;
mod past;
mod patience;
mod publish;
mod replication;
mod resident;
mod table;
mod walk;
mod weight;

pub use config::{ShardConfig, Sizes, Timing};
pub use divergence::Divergence;
pub use flaw::{Flaw, Flaws};
pub use in_order::InOrder;
pub use invariants::Violation;
pub use io::{
    BucketId, BucketRequest, BucketResult, CreateOutcome, Effects, Input, Persist, PersistId, Placement,
    RecoveredShard, RoleChange, SessionId, ShardStatus, SlotBody, Then,
};
pub use note::{Note, Setback};
pub use weight::Weight;

use kennel_protocol::ids::{Epoch, Lsn, NodeId, Slot};
use kennel_protocol::object::PartitionState;
use kennel_protocol::wire::{Copy, PartitionReport, Seal, ShardMessage, Ship, ShipRefusal};

use crate::time::Instant;
use candidate::{Attempt, Candidate};
use claimant::{Claimant, Step};
use copy::CopyVerdict;
use ground::Ground;
use holdings::Holdings;
use idle::Idle;
use owner::{Owner, Tenure, refused};

/// What this node is to the shard.
#[derive(Debug)]
enum Role {
    Idle(Idle),
    Candidate(Box<Candidate>),
    Claimant(Box<Claimant>),
    Owner(Box<Owner>),
    Halted(String),
}

/// The machine of one shard on one node.
#[derive(Debug)]
pub struct Shard {
    ground: Ground,
    role: Role,
}

impl Shard {
    /// Starts from what the journal gave back. `seed` makes its random choices.
    pub fn new(config: ShardConfig, recovered: RecoveredShard, seed: u64, now: Instant, effects: &mut Effects) -> Self {
        let mut ground = Ground::new(config, Holdings::recovered(recovered), seed, now);
        let role = Role::Idle(Idle::new(now));
        ground.holdings.submit(effects);
        Self { ground, role }
    }

    /// The one way in. Never blocks, never fails, never reads a clock.
    pub fn handle(&mut self, now: Instant, input: Input, effects: &mut Effects) {
        assert!(effects.is_empty(), "every call gets its own effects");
        self.ground.now = self.ground.now.max(now);
        if !matches!(self.role, Role::Halted(_)) {
            self.dispatch(input, effects);
            self.start_attempt_if_due(effects);
        } else if let Input::Ship { session, .. } = input {
            let ack = refused(&self.ground, self.ground.newest_epoch(), ShipRefusal::Halted);
            effects.then(Then::Ack { session, ack });
        }
        self.ground.holdings.let_go(self.ground.config.sizes.resident_bytes_max);
        self.ground.holdings.submit(effects);
    }

    /// When to call `handle` with [`Input::Timeout`] if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Idle(idle) => idle.attempt_at(&self.ground).into_iter().chain(idle.look_due(&self.ground)).min(),
            Role::Candidate(candidate) => Some(candidate.poll_timeout()),
            Role::Claimant(claimant) => claimant.poll_timeout(),
            Role::Owner(owner) => owner.poll_timeout(&self.ground),
            Role::Halted(_) => None,
        }
    }

    fn dispatch(&mut self, input: Input, effects: &mut Effects) {
        match input {
            Input::Placement(placement) => {
                self.ground.placement = placement;
                self.on_timeout(effects);
            }
            Input::Peer { from, message } => self.on_peer(from, message, effects),
            Input::Ship { session, ship } => self.on_ship(session, ship, effects),
            Input::Positions { session, correlation, request } => match &mut self.role {
                Role::Owner(owner) => owner.positions(&self.ground, session, correlation, &request, effects),
                _ => effects.then(Then::Positions { session, correlation, answer: None }),
            },
            Input::Persisted(id) => {
                self.ground.holdings.persisted(id);
                self.on_persisted(effects);
            }
            Input::Diverged(partition, divergence) => {
                if let Role::Owner(owner) = &mut self.role {
                    owner.diverged(partition, divergence, effects);
                }
            }
            Input::JournalRoom(room) => self.ground.journal_room = room,
            Input::Loaded { epoch, from, bodies } => {
                self.ground.holdings.loaded(epoch, from, bodies);
                self.ground.give_back_waiting(effects);
                self.on_timeout(effects);
            }
            Input::Bucket(id, result) => self.on_bucket(id, result, effects),
            Input::Timeout => self.on_timeout(effects),
            Input::Force => self.ground.force = true,
            Input::Stop => {
                self.ground.stopping = true;
                self.on_timeout(effects);
            }
        }
    }

    fn on_ship(&mut self, session: SessionId, ship: Ship, effects: &mut Effects) {
        if let Role::Owner(owner) = &mut self.role {
            owner.ship(&mut self.ground, session, ship, effects);
        } else {
            let ack = refused(&self.ground, self.ground.newest_epoch(), ShipRefusal::NotOwner);
            effects.then(Then::Ack { session, ack });
        }
    }

    fn on_peer(&mut self, from: NodeId, message: ShardMessage, effects: &mut Effects) {
        if message.stamp().shard != self.ground.config.shard {
            return;
        }
        match message {
            ShardMessage::Ask(ask) => {
                let owns = match &self.role {
                    Role::Owner(_) => true,
                    Role::Claimant(claimant) => claimant.stands(),
                    _ => false,
                };
                self.ground.answer_ask(from, ask, owns, effects);
            }
            ShardMessage::Seal(seal) => self.on_seal(from, seal, effects),
            ShardMessage::Pull(pull) if pull.stamp.epoch >= self.ground.fence() => {
                self.ground.give_back(from, pull, effects);
            }
            ShardMessage::Pull(_) => {}
            ShardMessage::Copy(copy) => self.on_copy(from, copy, effects),
            ShardMessage::AskAnswer(answer) => match &mut self.role {
                Role::Candidate(candidate) => {
                    let attempt = candidate.on_answer(&mut self.ground, from, answer, effects);
                    self.after_attempt(attempt, effects);
                }
                Role::Claimant(claimant) => claimant.on_ask_answer(&self.ground, from, answer),
                _ => {}
            },
            ShardMessage::SealAnswer(answer) => {
                if let Role::Claimant(claimant) = &mut self.role {
                    let step = claimant.on_seal_answer(&mut self.ground, from, answer, effects);
                    self.after_step(step, effects);
                }
            }
            ShardMessage::Pulled(pulled) => {
                if let Role::Claimant(claimant) = &mut self.role {
                    let step = claimant.on_pulled(&mut self.ground, from, pulled, effects);
                    self.after_step(step, effects);
                }
            }
            // What a copy holds of a former process's is nothing to this one; that it sealed a newer epoch is.
            ShardMessage::CopyAck(ack) if ack.fenced.is_none() && ack.stamp.process != self.ground.config.process => {}
            ShardMessage::CopyAck(ack) => match &mut self.role {
                Role::Owner(owner) => {
                    let tenure = owner.on_copy_ack(&mut self.ground, from, ack, effects);
                    self.after_tenure(tenure, effects);
                }
                Role::Claimant(claimant) => {
                    let step = claimant.on_copy_ack(&mut self.ground, from, ack, effects);
                    self.after_step(step, effects);
                }
                _ => {}
            },
        }
    }

    fn on_seal(&mut self, from: NodeId, seal: Seal, effects: &mut Effects) {
        let epoch = seal.stamp.epoch;
        if epoch < self.ground.fence() {
            self.ground.refuse_seal(from, seal, effects);
            return;
        }
        // R4: an epoch that this node claimed or accepted belongs to one process.
        let accepted = self.ground.accepted.filter(|accepted| accepted.epoch == epoch);
        if accepted.is_some_and(|accepted| accepted.process != seal.stamp.process) {
            self.halt(format!("R4: two processes speak for epoch {epoch}"), effects);
            return;
        }
        self.step_down_below(epoch, effects);
        self.ground.promise(from, seal, effects);
    }

    fn on_copy(&mut self, from: NodeId, copy: Copy, effects: &mut Effects) {
        match self.ground.judge_copy(copy.stamp) {
            CopyVerdict::Fenced => self.ground.refuse_copy(from, copy.stamp, effects),
            CopyVerdict::Unverified => self.ground.verify(copy.stamp, effects),
            CopyVerdict::Impostor => {
                self.halt(format!("R4: two processes speak for epoch {}", copy.stamp.epoch), effects);
            }
            CopyVerdict::Followed => {
                self.step_down_below(copy.stamp.epoch, effects);
                self.ground.follow(from, copy, effects);
            }
        }
    }

    fn on_persisted(&mut self, effects: &mut Effects) {
        match &mut self.role {
            Role::Owner(owner) => owner.on_persisted(&mut self.ground, effects),
            Role::Claimant(claimant) => {
                let step = claimant.on_persisted(&mut self.ground, effects);
                self.after_step(step, effects);
            }
            _ => {}
        }
    }

    fn on_bucket(&mut self, id: BucketId, result: BucketResult, effects: &mut Effects) {
        if self.ground.verifying.is_some_and(|(awaited, _)| awaited == id) {
            self.ground.verifying = None;
            if let BucketResult::Claim(Some(claim)) = result {
                let epoch = claim.epoch;
                let before = self.ground.newest_epoch();
                self.ground.accept(&claim);
                if epoch > before {
                    self.announce_not_owner(effects);
                }
                self.step_down_below(epoch, effects);
            }
            return;
        }
        match &mut self.role {
            Role::Candidate(candidate) => {
                let attempt = candidate.on_bucket(&mut self.ground, id, result, effects);
                self.after_attempt(attempt, effects);
            }
            Role::Claimant(claimant) => {
                let step = claimant.on_bucket(&mut self.ground, id, result, effects);
                self.after_step(step, effects);
            }
            Role::Owner(owner) => {
                let tenure = owner.on_bucket(&mut self.ground, id, result, effects);
                self.after_tenure(tenure, effects);
            }
            Role::Idle(idle) => idle.on_bucket(&mut self.ground, id, &result, effects),
            Role::Halted(_) => {}
        }
    }

    fn on_timeout(&mut self, effects: &mut Effects) {
        match &mut self.role {
            Role::Halted(_) => {}
            Role::Idle(idle) => idle.on_timeout(&mut self.ground, effects),
            Role::Candidate(candidate) => {
                let attempt = candidate.on_timeout(&mut self.ground, effects);
                self.after_attempt(attempt, effects);
            }
            Role::Claimant(claimant) => {
                let step = claimant.on_timeout(&mut self.ground, effects);
                self.after_step(step, effects);
            }
            Role::Owner(owner) => {
                let tenure = owner.on_timeout(&mut self.ground, effects);
                self.after_tenure(tenure, effects);
            }
        }
    }

    fn start_attempt_if_due(&mut self, effects: &mut Effects) {
        let Role::Idle(idle) = &self.role else { return };
        if idle.attempt_at(&self.ground).is_some_and(|due| due <= self.ground.now) {
            let failures = idle.failures;
            let candidate = Candidate::start(&mut self.ground, failures, false, effects);
            self.role = Role::Candidate(Box::new(candidate));
        }
    }

    fn after_attempt(&mut self, attempt: Attempt, effects: &mut Effects) {
        let Role::Candidate(candidate) = &self.role else { return };
        match attempt {
            Attempt::Continues => {}
            Attempt::Fails(setback) => {
                let failures = candidate.failures;
                effects.then.extend(setback.map(|setback| Then::Note(Note::Abandoned(setback))));
                self.role = Role::Idle(Idle::after_failure(&mut self.ground, failures));
            }
            Attempt::Claims(copyset) => {
                let claimant = Claimant::start(&mut self.ground, copyset, candidate.failures, effects);
                self.role = Role::Claimant(Box::new(claimant));
            }
        }
    }

    fn after_step(&mut self, step: Step, effects: &mut Effects) {
        let Role::Claimant(claimant) = &self.role else { return };
        match step {
            Step::Continues => {}
            Step::Fails => {
                let failures = claimant.failures;
                effects.then(Then::Note(Note::Abandoned(Setback::NotOpened)));
                self.role = Role::Idle(Idle::after_failure(&mut self.ground, failures));
            }
            Step::Overtaken(by) => {
                effects.then(Then::Note(Note::Fenced { epoch: claimant.epoch(), by }));
                self.role = Role::Idle(Idle::after_failure(&mut self.ground, claimant.failures));
            }
            Step::Broken(what) => self.halt(what, effects),
            Step::Opens => {
                let idle = Role::Idle(Idle::new(self.ground.now));
                if let Role::Claimant(claimant) = core::mem::replace(&mut self.role, idle) {
                    let owner = Owner::open(&mut self.ground, claimant.into_opening(), effects);
                    self.ground.force = false;
                    self.role = Role::Owner(Box::new(owner));
                }
            }
        }
    }

    fn after_tenure(&mut self, tenure: Tenure, effects: &mut Effects) {
        let Role::Owner(owner) = &mut self.role else { return };
        match tenure {
            Tenure::Continues => {}
            Tenure::Fenced(by) => {
                effects.then(Then::Note(Note::Fenced { epoch: owner.epoch(), by }));
                self.role = Role::Idle(Idle::after_failure(&mut self.ground, 0));
                self.announce_not_owner(effects);
            }
            Tenure::Broken(what) => self.halt(what, effects),
            Tenure::Renews => {
                let candidate = Candidate::start(&mut self.ground, 0, true, effects);
                self.role = Role::Candidate(Box::new(candidate));
                self.announce_not_owner(effects);
            }
            Tenure::Released => {
                owner.release(&self.ground, effects);
                self.role = Role::Idle(Idle::after_release(&self.ground));
                self.announce_not_owner(effects);
            }
        }
    }

    /// Gives up whatever this node was in an older epoch.
    fn step_down_below(&mut self, epoch: Epoch, effects: &mut Effects) {
        let old = match &self.role {
            Role::Owner(owner) => owner.epoch(),
            Role::Claimant(claimant) => claimant.epoch(),
            Role::Candidate(_) => {
                self.role = Role::Idle(Idle::after_failure(&mut self.ground, 0));
                return;
            }
            Role::Idle(_) | Role::Halted(_) => return,
        };
        if old < epoch {
            effects.then(Then::Note(Note::Fenced { epoch: old, by: epoch }));
            self.role = Role::Idle(Idle::after_failure(&mut self.ground, 0));
            self.announce_not_owner(effects);
        }
    }

    fn announce_not_owner(&self, effects: &mut Effects) {
        let epoch = self.ground.newest_epoch();
        let owner = self.ground.newest.as_ref().filter(|claim| claim.epoch == epoch).map(|claim| claim.node);
        effects.then(Then::Role(RoleChange::NotOwner { epoch, owner }));
    }

    fn halt(&mut self, why: String, effects: &mut Effects) {
        effects.then(Then::Note(Note::Halted(why.clone())));
        effects.then(Then::Role(RoleChange::Halted));
        self.role = Role::Halted(why);
    }

    /// Where the partitions stood when this node's epoch opened, before what was adopted. Given once per epoch: readers
    /// begin from it.
    pub fn take_open_states(&mut self) -> Option<Vec<PartitionState>> {
        match &mut self.role {
            Role::Owner(owner) => owner.take_open_states(),
            _ => None,
        }
    }

    /// The newest epoch, if this node follows its owner and the owner spoke lately. What a follower that hears nobody knows
    /// may be long past: the ring can have moved on without it.
    pub fn followed_epoch(&self) -> Option<Epoch> {
        let newest = self.ground.newest_epoch();
        let accepts = self.ground.accepted.is_some_and(|accepted| accepted.epoch == newest);
        (accepts && self.ground.hears_owner(self.ground.config.node)).then_some(newest)
    }

    /// Where the partitions stand, if this node owns the shard.
    pub fn partitions(&self) -> Option<Vec<PartitionReport>> {
        let Role::Owner(owner) = &self.role else { return None };
        let report = |(partition, row): (&kennel_protocol::ids::PartitionKey, &table::Row)| PartitionReport {
            partition: *partition,
            trim: row.trim,
            stored: row.stored,
            committed: row.committed,
        };
        Some(owner.table().rows().map(report).collect())
    }

    /// What operators and tests may see.
    pub fn status(&self) -> ShardStatus {
        let epoch = self.ground.newest_epoch();
        let run = self.ground.holdings.run(epoch);
        let newest = self.ground.newest.as_ref().filter(|claim| claim.epoch == epoch);
        let (committed, stored) = match &self.role {
            Role::Owner(owner) => owner.marks(),
            _ => run.map_or((Lsn(0), Lsn(0)), |run| (run.committed, run.stored)),
        };
        let (partitions, slot) = match &self.role {
            Role::Owner(owner) => (owner.table().len(), owner.publisher().next_slot()),
            _ => (0, Slot(0)),
        };
        let (diverged_partitions, diverged) = match &self.role {
            Role::Owner(owner) => (owner.divergences().len(), owner.divergences().listed()),
            _ => (0, Vec::new()),
        };
        let (role, note) = match &self.role {
            Role::Idle(_) if self.ground.accepted.is_some_and(|accepted| accepted.epoch == epoch) => ("follower", None),
            Role::Idle(_) => ("idle", None),
            Role::Candidate(_) => ("candidate", None),
            Role::Claimant(_) => ("claimant", None),
            Role::Owner(_) => ("owner", None),
            Role::Halted(why) => ("halted", Some(why.clone())),
        };
        ShardStatus {
            shard: self.ground.config.shard,
            role,
            epoch,
            owner: newest.map(|claim| claim.node),
            copies: newest
                .map(|claim| claim.copyset.copies.iter().map(|(_, node)| *node).collect())
                .unwrap_or_default(),
            tail: run.map_or(Lsn(0), holdings::Run::end),
            committed,
            stored,
            unstored_bytes: self.ground.holdings.bytes(),
            resident_bytes: self.ground.holdings.resident(),
            reads_flying: self.ground.holdings.reads_flying(),
            partitions,
            diverged_partitions,
            diverged,
            slot,
            note,
        }
    }
}
