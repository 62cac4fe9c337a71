//! Before a claim: is the past reachable, and does nobody hear the owner? (PROTOCOL R1)
//!
//! Find the newest claim, find the newest epoch that opened, then ask. Nothing here binds anybody.

use std::collections::BTreeMap;

use kennel_protocol::ids::{Epoch, JournalId, NodeId, Slot};
use kennel_protocol::object::{Claim, Copyset, LogPosition, SlotObject};
use kennel_protocol::wire::{Ask, AskAnswer, ShardMessage};

use super::ground::Ground;
use super::io::{BucketId, BucketRequest, BucketResult, Effects, Then};
use super::note::{Note, Setback};
use crate::time::Instant;

/// How many nodes of the ring are asked besides those that a claim is to name, once those were silent for a round.
const SPARES_MAX: usize = 8;

/// Who answered, and what.
type Answers = BTreeMap<NodeId, AskAnswer>;

#[derive(Debug)]
enum Phase {
    /// Reads claims upward.
    Finding(BucketId),
    /// Reads where the log starts: an epoch whose first slots were collected was open (R22).
    Manifest(BucketId),
    /// Reads slot 0 of epochs downward until one is open.
    Opened { at: Epoch, id: BucketId },
    /// Reads the claim of the newest open epoch.
    Claim(BucketId),
    /// Asks the nodes.
    Asking { open: Option<Claim>, answers: Answers },
}

/// Where an attempt stands.
#[derive(Debug)]
pub(crate) struct Candidate {
    phase: Phase,
    /// Failed attempts before this one.
    pub(crate) failures: u32,
    round: u64,
    log_start: LogPosition,
    deadline: Instant,
    /// When who has not answered is asked again: a question can be lost.
    ask_at: Instant,
    /// Set if this node owns the newest epoch and wants another copy set (PROTOCOL R6).
    renews: bool,
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Goes on.
    Continues,
    /// Comes to nothing now. What it says is for people.
    Fails(Option<Setback>),
    /// The past is reachable and nobody hears the owner: claim with this copy set.
    Claims(Copyset),
}

impl Candidate {
    pub(crate) fn start(ground: &mut Ground, failures: u32, renews: bool, effects: &mut Effects) -> Self {
        let deadline = ground.now + ground.config.timing.open_timeout;
        let phase = Phase::Asking { open: None, answers: Answers::new() };
        let ask_at = deadline;
        let mut candidate = Self { phase, failures, round: 0, log_start: LogPosition::START, deadline, ask_at, renews };
        if renews {
            // R6: the owner's own epoch is the newest open one; while it read, its followers would miss it.
            let own = ground.newest.clone();
            candidate.ask(ground, own, effects);
        } else {
            let above = ground.newest.as_ref().map_or(Epoch(0), |claim| claim.epoch);
            candidate.phase = Phase::Finding(ground.request(BucketRequest::FindClaim { above }, effects));
        }
        candidate
    }

    pub(crate) fn on_bucket(
        &mut self,
        ground: &mut Ground,
        id: BucketId,
        result: BucketResult,
        effects: &mut Effects,
    ) -> Attempt {
        match (&self.phase, result) {
            (Phase::Finding(awaited), BucketResult::Claim(found)) if *awaited == id => {
                if let Some(claim) = found {
                    let known = ground.newest.as_ref().map_or(Epoch(0), |newest| newest.epoch);
                    let newer = claim.epoch > known;
                    ground.learn(claim);
                    if newer && known > Epoch(0) {
                        // Somebody was quicker: it gets the time to show itself.
                        return Attempt::Fails(Some(Setback::NewerClaim));
                    }
                }
                self.phase = Phase::Manifest(ground.request(BucketRequest::NewestManifest, effects));
                Attempt::Continues
            }
            (Phase::Manifest(awaited), BucketResult::Manifest(manifest)) if *awaited == id => {
                let written_by = manifest.as_ref().map(|manifest| manifest.epoch);
                self.log_start = manifest.map_or(LogPosition::START, |manifest| manifest.log_start);
                let newest = ground.newest.as_ref().map_or(Epoch(0), |newest| newest.epoch);
                if let Some(seen) = written_by.filter(|epoch| *epoch > newest) {
                    // R30: either somebody claimed meanwhile, or claims were deleted: then nothing may be claimed.
                    effects.then(Then::Note(Note::ClaimMissing { newest, seen }));
                    return Attempt::Fails(None);
                }
                self.look_for_open(ground, newest, effects)
            }
            (Phase::Opened { at, id: awaited }, BucketResult::Slot(found)) if *awaited == id => {
                match found.as_deref() {
                    Some(SlotObject::Open(_) | SlotObject::Log(_)) => {
                        let at = *at;
                        self.found_open(ground, at, effects)
                    }
                    Some(SlotObject::Seal(_)) | None => {
                        let below = Epoch(at.0 - 1);
                        self.look_for_open(ground, below, effects)
                    }
                }
            }
            (Phase::Claim(awaited), BucketResult::Claim(Some(claim))) if *awaited == id => {
                self.ask(ground, Some(claim), effects)
            }
            (
                Phase::Finding(awaited)
                | Phase::Manifest(awaited)
                | Phase::Opened { id: awaited, .. }
                | Phase::Claim(awaited),
                _,
            ) if *awaited == id => Attempt::Fails(Some(Setback::Bucket)),
            _ => Attempt::Continues,
        }
    }

    fn look_for_open(&mut self, ground: &mut Ground, at: Epoch, effects: &mut Effects) -> Attempt {
        if at == Epoch(0) {
            return self.ask(ground, None, effects);
        }
        if at <= self.log_start.epoch && self.log_start.slot > Slot(0) {
            let open = self.log_start.epoch;
            return self.found_open(ground, open, effects);
        }
        let id = ground.request(BucketRequest::ReadSlot { epoch: at, slot: Slot(0) }, effects);
        self.phase = Phase::Opened { at, id };
        Attempt::Continues
    }

    /// R11, R28: whatever becomes of the attempt, the open record covers all older entries.
    fn found_open(&mut self, ground: &mut Ground, open: Epoch, effects: &mut Effects) -> Attempt {
        ground.holdings.covered(open, effects);
        self.phase = Phase::Claim(ground.request(BucketRequest::ReadClaim { epoch: open }, effects));
        Attempt::Continues
    }

    fn ask(&mut self, ground: &mut Ground, open: Option<Claim>, effects: &mut Effects) -> Attempt {
        self.phase = Phase::Asking { open, answers: Answers::new() };
        self.round += 1;
        self.send_asks(ground, 0, effects);
        self.weigh(ground, effects)
    }

    /// Asks the copies of the past and of the future that did not answer yet, and so many others of the ring.
    fn send_asks(&mut self, ground: &Ground, spares: usize, effects: &mut Effects) {
        let Phase::Asking { open, answers } = &self.phase else { return };
        self.ask_at = ground.now + ground.config.timing.round;
        let ask = Ask { stamp: ground.stamp(ground.newest_epoch().next()), round: self.round };
        let wanted = self.wanted(ground);
        let past = open.iter().flat_map(|claim| claim.copyset.copies.iter());
        let copies = past.chain(&wanted.copies);
        let holders = copies.map(|(journal, node)| ground.placement.holder(*journal).unwrap_or(*node));
        let mut nodes: Vec<NodeId> = holders.chain(ground.placement.candidates.iter().copied().take(spares)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes.into_iter().filter(|node| *node != ground.config.node && !answers.contains_key(node)) {
            effects.send(node, ShardMessage::Ask(ask));
        }
    }

    /// The copy set that gossip and ring suggest for a claim.
    fn wanted(&self, ground: &Ground) -> Copyset {
        // A take-over keeps the copies that are warm; an owner that renews moves to where the ring wants them (R6).
        let copies = match &ground.newest {
            Some(claim) if !self.renews => ground.copies_wanted(&claim.copyset.copies),
            _ => ground.copies_ideal(),
        };
        Copyset::majority(copies)
    }

    /// The copy set of those who answer, warm ones first: gossip shows a silent node for long, and hides one that has
    /// only just come back.
    fn answering(&self, ground: &Ground, answers: &Answers) -> Copyset {
        let spoke = |node: &NodeId| answers.get(node).map(|answer| (answer.journal, *node));
        let was_copy = |journal: &JournalId| ground.newest.as_ref().is_some_and(|claim| claim.copyset.names(*journal));
        let warm = answers.keys().filter_map(spoke).filter(|(journal, _)| was_copy(journal));
        let ringed = ground.placement.candidates.iter().filter_map(spoke);
        let suggested = self.wanted(ground).copies;
        Copyset::majority(ground.copies_of(warm.chain(ringed).chain(suggested)))
    }

    pub(crate) fn on_answer(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        answer: AskAnswer,
        effects: &mut Effects,
    ) -> Attempt {
        let Phase::Asking { answers, .. } = &mut self.phase else { return Attempt::Continues };
        if answer.round != self.round || answer.stamp.process != ground.config.process {
            return Attempt::Continues;
        }
        answers.insert(from, answer);
        self.weigh(ground, effects)
    }

    /// Whether the answers allow a claim (PROTOCOL R1).
    fn weigh(&self, ground: &Ground, effects: &mut Effects) -> Attempt {
        let Phase::Asking { open, answers } = &self.phase else { return Attempt::Continues };
        let known = ground.newest.as_ref().map_or(Epoch(0), |claim| claim.epoch);
        let heard_by_me = !self.renews && ground.hears_owner(ground.config.node);
        let newer = answers.values().any(|answer| answer.newest > known.max(ground.fence()));
        let heard = !self.renews && answers.values().any(|answer| answer.hears_owner && answer.newest >= known);
        if heard_by_me {
            return Attempt::Fails(Some(Setback::OwnerHeard));
        }
        if newer {
            return Attempt::Fails(Some(Setback::NewerEpoch));
        }
        if heard {
            return Attempt::Fails(Some(Setback::OwnerHeardElsewhere));
        }
        let answered = |copyset: &Copyset| {
            let speaks = |journal: &JournalId| {
                *journal == ground.config.journal || answers.values().any(|answer| answer.journal == *journal)
            };
            copyset.copies.iter().filter(|(journal, _)| speaks(journal)).count()
        };
        if let Some(open) = open.as_ref().filter(|_| !ground.force && !self.renews) {
            let (answered, needed) = (answered(&open.copyset), open.copyset.seals_needed());
            if answered < needed {
                if ground.now >= self.deadline {
                    effects.then(Then::Note(Note::PastUnreachable { epoch: open.epoch, answered, needed }));
                    return Attempt::Fails(None);
                }
                return Attempt::Continues;
            }
        }
        let speaks = |copyset: &Copyset| answered(copyset) >= usize::from(copyset.quorum);
        let others = (!self.renews).then(|| self.answering(ground, answers));
        if let Some(copyset) = core::iter::once(self.wanted(ground)).chain(others).find(speaks) {
            return Attempt::Claims(copyset);
        }
        if ground.now >= self.deadline { Attempt::Fails(Some(Setback::CopiesSilent)) } else { Attempt::Continues }
    }

    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) -> Attempt {
        match self.phase {
            Phase::Asking { .. } => {
                if ground.now < self.deadline && ground.now >= self.ask_at {
                    self.send_asks(ground, SPARES_MAX, effects);
                }
                // The placement may have changed, and with it the copy set that a claim would name.
                self.weigh(ground, effects)
            }
            Phase::Finding(_) | Phase::Manifest(_) | Phase::Opened { .. } | Phase::Claim(_) => {
                if ground.now < self.deadline { Attempt::Continues } else { Attempt::Fails(Some(Setback::Bucket)) }
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Asking { .. } => self.deadline.min(self.ask_at),
            Phase::Finding(_) | Phase::Manifest(_) | Phase::Opened { .. } | Phase::Claim(_) => self.deadline,
        }
    }
}
