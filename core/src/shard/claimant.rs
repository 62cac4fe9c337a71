//! Takes a shard over: claim, seal the logs, seal the journals, gather, adopt, open (PROTOCOL R8-R11, R18, R22).
//!
//! Every step before the open record can be abandoned without harm: a newer claimant finds what this one found.

mod adopting;

use std::sync::Arc;

use kennel_protocol::ids::{Epoch, Lsn, NodeId};
use kennel_protocol::object::{Claim, Copyset, LogPosition, Manifest, SlotObject};
use kennel_protocol::wire::{Pulled, SealAnswer};

use super::flaw::Flaw;
use super::gather::{Gather, Gathered};
use super::ground::Ground;
use super::io::{BucketId, BucketRequest, BucketResult, CreateOutcome, Effects};
use super::past::{Opening, Past};
use super::publish::{Settled, SlotCreate};
use super::replication::Replication;
use super::table::Table;
use super::walk::{Walk, Walked};
use crate::time::Instant;

#[derive(Debug)]
enum Phase {
    /// Creates the claim.
    Creating(BucketId),
    /// Reads the claim back: was it this one?
    ReadingBack(BucketId),
    /// Waits before it asks the bucket again.
    Waiting(Instant, Resume),
    /// Reads the newest manifest before the logs are sealed.
    Manifest(BucketId),
    /// Seals logs, newest epoch first, down to the newest open one.
    Walking(Box<Walk>),
    /// Reads the claim of the epoch just sealed.
    PastClaim(BucketId),
    /// Reads the newest manifest again: did the log start pass a seal? (R22)
    Confirming(BucketId),
    /// Seals journals and gathers.
    Gathering(Box<Gather>),
    /// Waits until a quorum of the new set holds the gathered tail; asks who is silent whether they live.
    Adopting { ask_at: Instant },
    /// Creates the open record.
    Opening(SlotCreate),
}

/// What to ask the bucket for again.
#[derive(Debug, Clone, Copy)]
enum Resume {
    Create,
    Manifest,
    PastClaim(Epoch),
    Confirm,
}

/// A take-over in progress.
#[derive(Debug)]
pub(crate) struct Claimant {
    claim: Claim,
    phase: Phase,
    past: Past,
    gather: Option<Box<Gather>>,
    replication: Option<Replication>,
    adopted: Lsn,
    pub(crate) failures: u32,
    deadline: Instant,
}

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Goes on.
    Continues,
    /// Another was quicker, or it took too long.
    Fails,
    /// A newer epoch stands.
    Overtaken(Epoch),
    /// No rule allows what was found.
    Broken(String),
    /// The open record stands.
    Opens,
}

impl Claimant {
    pub(crate) fn start(ground: &mut Ground, copyset: Copyset, failures: u32, effects: &mut Effects) -> Self {
        let epoch = ground.newest.as_ref().map_or(Epoch(0), |newest| newest.epoch).next();
        let claim = Claim {
            shard: ground.config.shard,
            epoch,
            node: ground.config.node,
            process: ground.config.process,
            copyset,
        };
        let phase = Phase::Creating(ground.request(BucketRequest::CreateClaim(claim.clone()), effects));
        let deadline = ground.now + ground.config.timing.open_timeout;
        Self {
            claim,
            phase,
            past: Past::default(),
            gather: None,
            replication: None,
            adopted: Lsn(0),
            failures,
            deadline,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.claim.epoch
    }

    /// Whether the claim is known to stand: from here on this node speaks as a claimant.
    pub(crate) fn stands(&self) -> bool {
        !matches!(self.phase, Phase::Creating(_) | Phase::ReadingBack(_) | Phase::Waiting(_, Resume::Create))
    }

    pub(crate) fn into_opening(self) -> Opening {
        let answered = self.gather.as_ref().map_or((0, 0), |gather| gather.answered());
        Opening {
            claim: self.claim,
            replication: self.replication.expect("an epoch opens only after its tail was adopted"),
            table: self.past.table,
            adopted: self.adopted,
            answered,
            manifest: self.past.manifest,
        }
    }

    pub(crate) fn on_bucket(
        &mut self,
        ground: &mut Ground,
        id: BucketId,
        result: BucketResult,
        effects: &mut Effects,
    ) -> Step {
        let blind = ground.breaks(Flaw::CollectedIsAGap) && matches!(result, BucketResult::Manifest(_));
        let result = if blind { BucketResult::Manifest(None) } else { result };
        match &mut self.phase {
            Phase::Creating(awaited) if *awaited == id => self.created(ground, &result, effects),
            Phase::ReadingBack(awaited) if *awaited == id => self.read_back(ground, result, effects),
            Phase::Manifest(awaited) if *awaited == id => match result {
                BucketResult::Manifest(Some(manifest)) if manifest.epoch >= self.claim.epoch => {
                    Step::Overtaken(manifest.epoch)
                }
                BucketResult::Manifest(manifest) => {
                    self.past = Past { manifest, ..Past::default() };
                    let newest = Epoch(self.claim.epoch.0 - 1);
                    self.walk(ground, newest, effects)
                }
                _ => self.wait(ground, Resume::Manifest),
            },
            Phase::Walking(walk) => {
                let walked = walk.on_bucket(ground, id, result, effects);
                self.went_on(ground);
                self.walked(ground, walked, effects)
            }
            Phase::PastClaim(awaited) if *awaited == id => match result {
                BucketResult::Claim(Some(claim)) => self.past_claim(ground, claim, effects),
                BucketResult::Unreachable | BucketResult::Unreadable(_) => {
                    let epoch = self.past.sealed.last().map_or(Epoch(0), |position| position.epoch);
                    self.wait(ground, Resume::PastClaim(epoch))
                }
                _ => Step::Broken("R3: a claim below an existing one is missing".to_owned()),
            },
            Phase::Confirming(awaited) if *awaited == id => match result {
                BucketResult::Manifest(manifest) => self.confirmed(ground, manifest, effects),
                _ => self.wait(ground, Resume::Confirm),
            },
            Phase::Opening(create) if create.awaits(id) => match create.on_bucket(ground, result, effects) {
                Settled::Open => Step::Continues,
                Settled::Mine => Step::Opens,
                Settled::Other(found) => match &*found {
                    SlotObject::Seal(seal) => Step::Overtaken(seal.by),
                    SlotObject::Open(_) | SlotObject::Log(_) => {
                        Step::Broken(format!("R4: another process opened epoch {}", self.claim.epoch))
                    }
                },
                Settled::Unreadable(what) => Step::Broken(what),
            },
            _ => Step::Continues,
        }
    }

    /// A long log and a long tail take long; only a standstill counts against the claimant. The next one would have to
    /// begin all over again.
    fn went_on(&mut self, ground: &Ground) {
        self.deadline = ground.now + ground.config.timing.open_timeout;
    }

    fn created(&mut self, ground: &mut Ground, result: &BucketResult, effects: &mut Effects) -> Step {
        match result {
            BucketResult::Created(CreateOutcome::Done) => self.claimed(ground, effects),
            BucketResult::Created(CreateOutcome::Exists | CreateOutcome::Unknown) => {
                let request = BucketRequest::ReadClaim { epoch: self.claim.epoch };
                self.phase = Phase::ReadingBack(ground.request(request, effects));
                Step::Continues
            }
            _ => self.wait(ground, Resume::Create),
        }
    }

    fn read_back(&mut self, ground: &mut Ground, result: BucketResult, effects: &mut Effects) -> Step {
        match result {
            BucketResult::Claim(Some(claim)) if claim == self.claim => self.claimed(ground, effects),
            BucketResult::Claim(Some(claim)) => {
                ground.learn(claim);
                Step::Fails
            }
            // Nothing stands there: the same bytes again (R20).
            _ => self.wait(ground, Resume::Create),
        }
    }

    fn wait(&mut self, ground: &mut Ground, resume: Resume) -> Step {
        let delay = ground.backoff(0);
        self.phase = Phase::Waiting(ground.now + delay, resume);
        Step::Continues
    }

    fn resume(&mut self, ground: &mut Ground, resume: Resume, effects: &mut Effects) -> Step {
        match resume {
            Resume::Create => {
                let request = BucketRequest::CreateClaim(self.claim.clone());
                self.phase = Phase::Creating(ground.request(request, effects));
                Step::Continues
            }
            Resume::Manifest => self.read_manifest(ground, effects),
            Resume::PastClaim(epoch) => self.read_past_claim(ground, epoch, effects),
            Resume::Confirm => self.confirm(ground, effects),
        }
    }

    /// The claim stands: promise its epoch to oneself, then read where the log starts.
    fn claimed(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        if ground.fence() > self.claim.epoch {
            return Step::Overtaken(ground.fence());
        }
        ground.learn(self.claim.clone());
        ground.accept(&self.claim);
        ground.holdings.seal(self.claim.epoch, effects);
        self.read_manifest(ground, effects)
    }

    fn read_manifest(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        self.phase = Phase::Manifest(ground.request(BucketRequest::NewestManifest, effects));
        Step::Continues
    }

    /// Seals the log of an epoch, or goes on where there is none left.
    fn walk(&mut self, ground: &mut Ground, epoch: Epoch, effects: &mut Effects) -> Step {
        let start = self.past.manifest.as_ref().map_or(LogPosition::START, |manifest| manifest.log_start);
        if epoch < start.epoch {
            // Nothing ever opened, or everything that did was collected.
            if let Some(manifest) = &self.past.manifest {
                self.past.table = Table::stored_at(&manifest.partitions);
            }
            return self.confirm(ground, effects);
        }
        let manifest = self.past.manifest.clone();
        let walk = Walk::start(ground, epoch, manifest.as_deref(), effects);
        self.phase = Phase::Walking(Box::new(walk));
        Step::Continues
    }

    fn walked(&mut self, ground: &mut Ground, walked: Walked, effects: &mut Effects) -> Step {
        match walked {
            Walked::Continues => Step::Continues,
            Walked::Overtaken(by) => Step::Overtaken(by),
            Walked::Broken(what) => Step::Broken(what),
            Walked::Ended(slot) => {
                let adopting = Phase::Adopting { ask_at: ground.now };
                let Phase::Walking(walk) = core::mem::replace(&mut self.phase, adopting) else {
                    unreachable!("a walk ends only while walking");
                };
                let epoch = walk.epoch();
                self.past.sealed.push(LogPosition { epoch, slot });
                if walk.is_open() {
                    let (table, stored) = walk.into_result();
                    self.past.table = table;
                    self.past.open = Some((epoch, stored));
                }
                self.read_past_claim(ground, epoch, effects)
            }
        }
    }

    fn read_past_claim(&mut self, ground: &mut Ground, epoch: Epoch, effects: &mut Effects) -> Step {
        self.phase = Phase::PastClaim(ground.request(BucketRequest::ReadClaim { epoch }, effects));
        Step::Continues
    }

    fn past_claim(&mut self, ground: &mut Ground, claim: Claim, effects: &mut Effects) -> Step {
        let epoch = claim.epoch;
        self.past.unopened.push(claim);
        match self.past.open {
            // The logs below the newest open epoch were sealed by its own claimant before it opened.
            Some(_) => self.confirm(ground, effects),
            None => self.walk(ground, Epoch(epoch.0 - 1), effects),
        }
    }

    fn confirm(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        self.phase = Phase::Confirming(ground.request(BucketRequest::NewestManifest, effects));
        Step::Continues
    }

    /// A seal below a log start that moved meanwhile ended nothing: all over again, from the new start (R22).
    fn confirmed(&mut self, ground: &mut Ground, manifest: Option<Arc<Manifest>>, effects: &mut Effects) -> Step {
        let start = manifest.as_ref().map_or(LogPosition::START, |manifest| manifest.log_start);
        if self.past.sealed.iter().any(|seal| *seal < start) {
            self.past = Past { manifest, ..Past::default() };
            let newest = Epoch(self.claim.epoch.0 - 1);
            return self.walk(ground, newest, effects);
        }
        let Some((_, stored)) = self.past.open else { return self.adopt(ground, effects) };
        let mut claim = self.past.unopened.pop().expect("the claim of the open epoch was read last");
        let mut between = core::mem::take(&mut self.past.unopened);
        let mut stored = stored;
        if ground.breaks(Flaw::SealsLastCopysetOnly) && !between.is_empty() {
            (claim, stored) = (between.remove(0), Lsn(0));
            between.clear();
        }
        let mut gather = Box::new(Gather::start(ground, self.claim.epoch, claim, between, stored, effects));
        let gathered = gather.advance(ground, effects);
        self.phase = Phase::Gathering(gather);
        self.gathered(ground, gathered, effects)
    }

    fn gathered(&mut self, ground: &mut Ground, gathered: Gathered, effects: &mut Effects) -> Step {
        match gathered {
            Gathered::Continues => Step::Continues,
            Gathered::Overtaken(by) => Step::Overtaken(by),
            Gathered::Broken(what) => Step::Broken(what),
            Gathered::Complete => {
                let adopting = Phase::Adopting { ask_at: ground.now };
                if let Phase::Gathering(gather) = core::mem::replace(&mut self.phase, adopting) {
                    self.gather = Some(gather);
                }
                self.adopt(ground, effects)
            }
        }
    }

    pub(crate) fn on_seal_answer(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        answer: SealAnswer,
        effects: &mut Effects,
    ) -> Step {
        let Phase::Gathering(gather) = &mut self.phase else { return Step::Continues };
        let gathered = gather.on_answer(ground, from, answer, effects);
        self.gathered(ground, gathered, effects)
    }

    pub(crate) fn on_pulled(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        pulled: Pulled,
        effects: &mut Effects,
    ) -> Step {
        let Phase::Gathering(gather) = &mut self.phase else { return Step::Continues };
        let before = gather.entries().len();
        let gathered = gather.on_pulled(ground, from, pulled, effects);
        if gather.entries().len() > before {
            self.went_on(ground);
        }
        self.gathered(ground, gathered, effects)
    }

    pub(crate) fn on_persisted(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        if let Phase::Gathering(gather) = &mut self.phase {
            let gathered = gather.advance(ground, effects);
            return self.gathered(ground, gathered, effects);
        }
        self.open_if_adopted(ground, effects)
    }

    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        if ground.now >= self.deadline && !matches!(self.phase, Phase::Opening(_)) {
            return Step::Fails;
        }
        self.pump(ground, false, effects);
        match &mut self.phase {
            Phase::Waiting(due, resume) if *due <= ground.now => {
                let resume = *resume;
                self.resume(ground, resume, effects)
            }
            Phase::Walking(walk) => {
                walk.on_timeout(ground, effects);
                Step::Continues
            }
            Phase::Gathering(gather) => {
                let gathered = gather.on_timeout(ground, effects);
                self.gathered(ground, gathered, effects)
            }
            Phase::Opening(create) => {
                create.on_timeout(ground, effects);
                Step::Continues
            }
            Phase::Adopting { .. } => self.look_after_followers(ground, effects),
            _ => Step::Continues,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Waiting(due, _) => Some(*due),
            Phase::Walking(walk) => walk.poll_timeout(),
            Phase::Gathering(gather) => Some(gather.poll_timeout()),
            Phase::Opening(create) => create.poll_timeout(),
            Phase::Adopting { ask_at } => Some(*ask_at),
            _ => None,
        };
        let deadline = (!matches!(self.phase, Phase::Opening(_))).then_some(self.deadline);
        let pump = self.replication.as_ref().and_then(Replication::poll_timeout);
        phase.into_iter().chain(deadline).chain(pump).min()
    }
}
