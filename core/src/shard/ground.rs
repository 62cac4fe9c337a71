//! What every role of a shard stands on: identity, placement, holdings, and the newest claim known.

use core::time::Duration;
use std::sync::Arc;

use kennel_protocol::ids::{Epoch, JournalId, NodeId, ProcessId, PutId};
use kennel_protocol::object::Claim;
use kennel_protocol::wire::{CopyAck, Pull, ShardStamp};
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

use super::config::ShardConfig;
use super::flaw::Flaw;
use super::holdings::Holdings;
use super::io::{BucketId, BucketRequest, Effects, Placement, Then};
use crate::time::Instant;

/// A claim that was read from the bucket and names this journal: its owner's copies are taken (PROTOCOL R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) epoch: Epoch,
    pub(crate) process: ProcessId,
    pub(crate) node: NodeId,
}

/// The last sign of life of whoever holds the newest epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) epoch: Epoch,
    pub(crate) node: NodeId,
    pub(crate) at: Instant,
    pub(crate) released: bool,
}

#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) config: ShardConfig,
    pub(crate) now: Instant,
    pub(crate) placement: Arc<Placement>,
    pub(crate) holdings: Holdings,
    /// The newest claim read from the bucket.
    pub(crate) newest: Option<Claim>,
    pub(crate) accepted: Option<Accepted>,
    /// The claim being read because a copy came under its epoch.
    pub(crate) verifying: Option<(BucketId, Epoch)>,
    /// The newest claim that was read for a copy and does not name this journal: not read again.
    pub(crate) not_named: Epoch,
    pub(crate) heard: Option<Heard>,
    /// The last answer to a copy, and when it was given.
    pub(crate) answered: Option<(CopyAck, Instant)>,
    /// Claimants whose answers wait for the journal, the last question of each.
    pub(crate) pulls_waiting: Vec<(NodeId, Pull)>,
    pub(crate) journal_room: bool,
    pub(crate) force: bool,
    pub(crate) stopping: bool,
    rng: Pcg64Mcg,
    bucket_ids: u64,
}

impl Ground {
    pub(crate) fn new(config: ShardConfig, holdings: Holdings, seed: u64, now: Instant) -> Self {
        Self {
            config,
            now,
            placement: Arc::default(),
            holdings,
            newest: None,
            accepted: None,
            verifying: None,
            not_named: Epoch(0),
            heard: None,
            answered: None,
            pulls_waiting: Vec::new(),
            journal_room: true,
            force: false,
            stopping: false,
            rng: Pcg64Mcg::new(u128::from(seed)),
            bucket_ids: 0,
        }
    }

    /// Asks the bucket for something; the result comes back under the id.
    pub(crate) fn request(&mut self, request: BucketRequest, effects: &mut Effects) -> BucketId {
        self.bucket_ids += 1;
        let id = BucketId(self.bucket_ids);
        effects.then(Then::Bucket { id, request });
        id
    }

    pub(crate) fn put_id(&mut self) -> PutId {
        PutId(u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64()))
    }

    /// `duration` and up to half as much again, so that equals do not move in step.
    pub(crate) fn jitter(&mut self, duration: Duration) -> Duration {
        let half = u64::try_from(duration.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        duration + Duration::from_micros(self.rng.next_u64() % half)
    }

    /// The delay before the next attempt after `failures` failed ones in a row.
    pub(crate) fn backoff(&mut self, failures: u32) -> Duration {
        let timing = self.config.timing;
        let grown = timing.backoff_min.saturating_mul(1 << failures.min(10));
        self.jitter(grown.min(timing.backoff_max))
    }

    /// Everything below is refused here: promised to, followed, or known to be open. Of the last nothing is on disk: who
    /// forgot it may take a fenced owner's entries, which then never commit; who knows it forgot the same entries (R28),
    /// and would show its readers again what they had.
    pub(crate) fn fence(&self) -> Epoch {
        let followed = self.accepted.map_or(Epoch(0), |accepted| accepted.epoch);
        self.holdings.sealed().max(self.holdings.covered_by()).max(followed)
    }

    /// Whether this rule is broken on purpose: never, outside of the simulator.
    pub(crate) fn breaks(&self, flaw: Flaw) -> bool {
        self.config.flaws.has(flaw)
    }

    /// The newest epoch known from any source.
    pub(crate) fn newest_epoch(&self) -> Epoch {
        self.fence().max(self.newest.as_ref().map_or(Epoch(0), |claim| claim.epoch))
    }

    pub(crate) fn stamp(&self, epoch: Epoch) -> ShardStamp {
        ShardStamp { shard: self.config.shard, epoch, process: self.config.process }
    }

    pub(crate) fn learn(&mut self, claim: Claim) {
        if self.newest.as_ref().is_none_or(|newest| newest.epoch < claim.epoch) {
            self.newest = Some(claim);
        }
    }

    pub(crate) fn hear(&mut self, epoch: Epoch, node: NodeId, released: bool) {
        if self.heard.is_none_or(|heard| heard.epoch <= epoch) {
            self.heard = Some(Heard { epoch, node, at: self.now, released });
        }
    }

    /// Whether somebody other than `asker` who holds the newest epoch spoke within the owner timeout.
    pub(crate) fn hears_owner(&self, asker: NodeId) -> bool {
        self.heard.is_some_and(|heard| {
            heard.epoch >= self.newest_epoch()
                && heard.node != asker
                && !heard.released
                && self.now.since(heard.at) < self.config.timing.owner_timeout
        })
    }

    /// The journals of the copy set that the ring wants for a shard that this node owns: the own one, that of the first
    /// candidate, who is to own it later, and the next ones in the ring's order, which spreads them over the zones.
    pub(crate) fn copies_ideal(&self) -> Vec<(JournalId, NodeId)> {
        self.copies_wanted(&[])
    }

    /// The journals that a claim made now would name: the own one, those to keep that are alive, then the ring's order.
    pub(crate) fn copies_wanted(&self, keep: &[(JournalId, NodeId)]) -> Vec<(JournalId, NodeId)> {
        let kept = keep.iter().filter_map(|(journal, _)| Some((*journal, self.placement.holder(*journal)?)));
        let ringed =
            self.placement.candidates.iter().filter_map(|node| Some((self.placement.journal_of(*node)?, *node)));
        self.copies_of(kept.chain(ringed))
    }

    /// The own journal and the first of these, one of each node, as many as a claim names.
    pub(crate) fn copies_of(&self, others: impl Iterator<Item = (JournalId, NodeId)>) -> Vec<(JournalId, NodeId)> {
        let mut copies = vec![(self.config.journal, self.config.node)];
        for (journal, node) in others {
            if copies.len() >= usize::from(self.config.copies) {
                break;
            }
            if !copies.iter().any(|(held, at)| *held == journal || *at == node) {
                copies.push((journal, node));
            }
        }
        copies
    }
}
