//! Seals the journals of the past and gathers what they alone hold (PROTOCOL R8, R9).
//!
//! A journal's entries of one epoch are a prefix of its owner's order, so an answer is a range, and the union of the
//! answers is the longest of them. `n - q + 1` authentic answers meet every quorum: whatever was committed is there.

use std::collections::BTreeMap;

use kennel_protocol::entry::Entry;
use kennel_protocol::ids::{Epoch, JournalId, Lsn, NodeId};
use kennel_protocol::object::Claim;
use kennel_protocol::wire::{Pull, Pulled, Seal, SealAnswer, ShardMessage};

use super::flaw::Flaw;
use super::ground::Ground;
use super::io::Effects;
use crate::time::Instant;

/// How often a pull is repeated before its holder counts as gone.
const PULLS_MAX: u32 = 4;

/// The tail of the newest open epoch, being gathered.
#[derive(Debug)]
pub(crate) struct Gather {
    by: Epoch,
    /// The newest open epoch.
    epoch: Epoch,
    /// Its claim.
    claim: Claim,
    /// Every other claim whose copies are sealed as well: claimed after it, never opened.
    between: Vec<Claim>,
    /// The bucket covers everything below.
    stored: Lsn,
    answers: BTreeMap<JournalId, (NodeId, SealAnswer)>,
    entries: Vec<Entry>,
    holder: Option<NodeId>,
    pulls: u32,
    round_at: Instant,
    /// From here on an operator's word replaces missing answers (PROTOCOL R2).
    force_at: Instant,
}

/// How gathering stands.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// Goes on.
    Continues,
    /// Everything that can be needed is in hand.
    Complete,
    /// A copy promised a newer epoch.
    Overtaken(Epoch),
    /// The past is not what the rules allow.
    Broken(String),
}

impl Gather {
    /// Seals the own journal and asks the others.
    pub(crate) fn start(
        ground: &mut Ground,
        by: Epoch,
        claim: Claim,
        between: Vec<Claim>,
        stored: Lsn,
        effects: &mut Effects,
    ) -> Self {
        let round_at = ground.now;
        let force_at = ground.now + ground.config.timing.round * 2;
        let mut gather = Self {
            by,
            epoch: claim.epoch,
            claim,
            between,
            stored,
            answers: BTreeMap::new(),
            entries: Vec::new(),
            holder: None,
            pulls: 0,
            round_at,
            force_at,
        };
        gather.send_seals(ground, effects);
        gather
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn stored(&self) -> Lsn {
        self.stored
    }

    /// The entries `stored..` of the gathered epoch.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a journal said it holds of the gathered epoch.
    pub(crate) fn held(&self, journal: JournalId) -> core::ops::Range<Lsn> {
        self.answers.get(&journal).map_or(Lsn(0)..Lsn(0), |(_, answer)| answer.from..answer.end)
    }

    /// How many journals answered, of how many.
    pub(crate) fn answered(&self) -> (u8, u8) {
        let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        (count(self.answers.len()), count(self.claim.copyset.copies.len()))
    }

    /// How many answers are needed: with fewer an operator has to decide (PROTOCOL R2).
    pub(crate) fn needed(&self, ground: &Ground) -> usize {
        let one = self.is_own(ground) || ground.breaks(Flaw::FirstSealIsEnough);
        if one { 1 } else { self.claim.copyset.seals_needed() }
    }

    /// Whether every answer that is needed is in hand.
    fn has_enough(&self, ground: &Ground) -> bool {
        // R27: the owner's own seal with its full tail counts as all. No other journal's does.
        let any = ground.breaks(Flaw::AnySealCountsAsOwn) || ground.breaks(Flaw::RenewsWithoutItsTail);
        if self.is_own(ground) && !any {
            self.answers.contains_key(&ground.config.journal)
        } else {
            self.answers.len() >= self.needed(ground)
        }
    }

    /// Whether this very process owned the epoch that is gathered.
    fn is_own(&self, ground: &Ground) -> bool {
        self.claim.process == ground.config.process && self.claim.node == ground.config.node
    }

    fn send_seals(&mut self, ground: &Ground, effects: &mut Effects) {
        self.round_at = ground.now + ground.config.timing.round;
        let seal = Seal { stamp: ground.stamp(self.by), gather: self.epoch };
        let claims = core::iter::once(&self.claim).chain(&self.between);
        let mut nodes: Vec<NodeId> = claims
            .flat_map(|claim| claim.copyset.copies.iter())
            .filter(|(journal, _)| !self.answers.contains_key(journal))
            .map(|(journal, node)| ground.placement.holder(*journal).unwrap_or(*node))
            .filter(|node| *node != ground.config.node)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            effects.send(node, ShardMessage::Seal(seal));
        }
    }

    /// Takes the own journal's answer once its promise is durable.
    fn take_own(&mut self, ground: &Ground) {
        let journal = ground.config.journal;
        if ground.holdings.sealed_durable() < self.by || !self.claim.copyset.names(journal) {
            return;
        }
        let (from, end) = ground.holdings.run(self.epoch).map_or((Lsn(0), Lsn(0)), |run| (run.from(), run.end()));
        let answer = SealAnswer { stamp: ground.stamp(self.by), journal, gather: self.epoch, from, end, fenced: None };
        self.answers.insert(journal, (ground.config.node, answer));
    }

    pub(crate) fn on_answer(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        answer: SealAnswer,
        effects: &mut Effects,
    ) -> Gathered {
        if answer.stamp != ground.stamp(self.by) || answer.gather != self.epoch {
            return Gathered::Continues;
        }
        if let Some(newer) = answer.fenced {
            return if newer > self.by { Gathered::Overtaken(newer) } else { Gathered::Continues };
        }
        // R5: an answer under an id that the claim does not name is no answer.
        if self.claim.copyset.names(answer.journal) || ground.breaks(Flaw::AnyJournalAnswers) {
            self.answers.entry(answer.journal).or_insert((from, answer));
        }
        self.advance(ground, effects)
    }

    /// Pulls what is missing, once enough journals answered.
    pub(crate) fn advance(&mut self, ground: &mut Ground, effects: &mut Effects) -> Gathered {
        self.take_own(ground);
        let forced = ground.force && ground.now >= self.force_at;
        if !self.has_enough(ground) && !forced {
            return Gathered::Continues;
        }
        let ends = self.answers.values().map(|(_, answer)| answer.end);
        let end = if ground.breaks(Flaw::ShortestAnswerIsTheTail) { ends.min() } else { ends.max() };
        let end = end.unwrap_or_default();
        loop {
            let next = Lsn(self.stored.0 + self.entries.len() as u64);
            if next >= end {
                return Gathered::Complete;
            }
            let own = ground.holdings.run(self.epoch).and_then(|run| run.entry(next));
            match own {
                Some(entry) => self.entries.push(entry.clone()),
                None => return self.pull(ground, next, end, effects),
            }
        }
    }

    fn pull(&mut self, ground: &Ground, from: Lsn, end: Lsn, effects: &mut Effects) -> Gathered {
        if self.holder.is_some() {
            return Gathered::Continues;
        }
        let holds = |answer: &SealAnswer| answer.from <= from && from < answer.end;
        let others = self.answers.values().filter(|(node, _)| *node != ground.config.node);
        let best = others.filter(|(_, answer)| holds(answer)).max_by_key(|(_, answer)| answer.end);
        let Some((node, _)) = best else {
            return Gathered::Broken(format!("R8: no journal holds entry {from} of epoch {} below {end}", self.epoch));
        };
        self.holder = Some(*node);
        // Whoever is slow is not asked for the same again and again.
        self.round_at = ground.now + ground.config.timing.round * (1 << self.pulls);
        let pull = Pull { stamp: ground.stamp(self.by), gather: self.epoch, from, end };
        effects.send(*node, ShardMessage::Pull(pull));
        Gathered::Continues
    }

    pub(crate) fn on_pulled(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        pulled: Pulled,
        effects: &mut Effects,
    ) -> Gathered {
        if self.holder != Some(from) || pulled.stamp != ground.stamp(self.by) || pulled.gather != self.epoch {
            return Gathered::Continues;
        }
        let before = self.entries.len();
        for numbered in pulled.entries {
            if numbered.lsn.0 == self.stored.0 + self.entries.len() as u64 {
                self.entries.push(numbered.entry);
            }
        }
        if self.entries.len() > before {
            self.holder = None;
            self.pulls = 0;
        }
        self.advance(ground, effects)
    }

    /// Asks again; gives up on a holder that does not answer, and on its answer with it.
    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) -> Gathered {
        if ground.now < self.round_at {
            return Gathered::Continues;
        }
        match self.holder.take() {
            Some(holder) => {
                self.pulls += 1;
                if self.pulls >= PULLS_MAX {
                    self.pulls = 0;
                    self.answers.retain(|_, (node, _)| *node != holder);
                    self.send_seals(ground, effects);
                }
            }
            None => self.send_seals(ground, effects),
        }
        self.advance(ground, effects)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.round_at
    }
}
