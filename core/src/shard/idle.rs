//! Neither owner nor claimant: follows, watches, and decides when to try.
//!
//! When to try is a matter of liveness only; what makes a try safe is in the claim and the seals (PROTOCOL R1, R8).

use core::time::Duration;

use kennel_protocol::ids::{Epoch, NodeId, Slot};
use kennel_protocol::object::{Claim, LogPosition, SlotObject};

use super::ground::Ground;
use super::io::{BucketId, BucketRequest, BucketResult, Effects};
use crate::time::Instant;

/// Whoever nobody speaks to, a former copy or an owner, looks into the bucket this many owner timeouts apart.
pub(super) const LOOK_TIMEOUTS: u32 = 8;

/// Who has looked so often for the opening of the newest epoch, and found none, does not rely on its claimant any more.
const UNOPENED_LOOKS: u32 = 2;

/// What a former copy asks the bucket: is what I hold covered by now? (PROTOCOL R28)
#[derive(Debug, Clone, Copy)]
enum Look {
    Claim(BucketId),
    Manifest(BucketId, Epoch),
    Slot(BucketId, Epoch),
}

/// What an idle node remembers between attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    look: Option<Look>,
    look_at: Instant,
    /// The newest claim's epoch, if it was not open when it was looked for, and how often in a row.
    unopened: (Epoch, u32),
    /// Silence counts from here if nobody was heard since.
    since: Instant,
    /// No attempt before.
    not_before: Instant,
    /// Failed attempts in a row.
    pub(crate) failures: u32,
}

impl Idle {
    /// Starts to watch.
    pub(crate) fn new(now: Instant) -> Self {
        let unopened = (Epoch(0), 0);
        Self { look: None, look_at: now, unopened, since: now, not_before: now, failures: 0 }
    }

    /// Watches again after an attempt that came to nothing, with a growing delay.
    pub(crate) fn after_failure(ground: &mut Ground, failures: u32) -> Self {
        let delay = ground.backoff(failures);
        Self { not_before: ground.now + delay, failures: failures + 1, ..Self::new(ground.now) }
    }

    /// Watches after handing over on purpose: the others get a head start.
    pub(crate) fn after_release(ground: &Ground) -> Self {
        let head_start = ground.config.timing.owner_timeout * 4;
        Self { not_before: ground.now + head_start, ..Self::new(ground.now) }
    }

    /// When this node is to try to own the shard, if it is a candidate at all.
    pub(crate) fn attempt_at(&self, ground: &Ground) -> Option<Instant> {
        let rank = rank(ground, self.given_up())?;
        let timing = ground.config.timing;
        let heard = ground.heard.filter(|heard| heard.epoch >= ground.newest_epoch());
        let silent_from = match heard {
            // The candidates' order counts from the word itself: all at once, any of them would get what one was to have.
            Some(heard) if heard.released => heard.at.max(self.since),
            Some(heard) => heard.at.max(self.since) + timing.owner_timeout,
            None if ground.newest.is_none() => self.since,
            None => self.since + timing.owner_timeout,
        };
        // Too few live nodes for a copy set that may acknowledge by itself: give the others time to come up (R7).
        let lonely = ground.copies_wanted(&[]).len() < usize::from(ground.config.min_copies);
        let patience = if lonely { timing.open_timeout } else { Duration::ZERO };
        Some((silent_from + patience + timing.claim_stagger * rank).max(self.not_before))
    }

    /// The epoch whose claimant has given up, as it seems. One that came back may have been shown an older claim than its own:
    /// it would wait for that one's owner, who waits for it.
    fn given_up(&self) -> Epoch {
        let (epoch, looks) = self.unopened;
        if looks >= UNOPENED_LOOKS { epoch } else { Epoch(0) }
    }

    /// When a node that holds entries and hears nobody looks whether the bucket covers them.
    pub(crate) fn look_due(&self, ground: &Ground) -> Option<Instant> {
        let holds = ground.holdings.runs().any(|(epoch, run)| epoch < ground.newest_epoch() || run.bytes() > 0);
        let interval = ground.config.timing.owner_timeout * LOOK_TIMEOUTS;
        let heard = ground.heard.filter(|heard| heard.epoch >= ground.newest_epoch()).map(|heard| heard.at);
        (holds && self.look.is_none()).then(|| self.look_at.max(heard.unwrap_or_default()) + interval)
    }

    pub(crate) fn on_timeout(&mut self, ground: &mut Ground, effects: &mut Effects) {
        if self.look_due(ground).is_some_and(|due| due <= ground.now) {
            let above = ground.newest.as_ref().map_or(Epoch(0), |claim| claim.epoch);
            let id = ground.request(BucketRequest::FindClaim { above }, effects);
            self.look = Some(Look::Claim(id));
            self.look_at = ground.now;
        }
    }

    /// R11, R28: an epoch whose open record stands covers every entry of the epochs before it.
    pub(crate) fn on_bucket(
        &mut self,
        ground: &mut Ground,
        id: BucketId,
        result: &BucketResult,
        effects: &mut Effects,
    ) {
        match (self.look, result) {
            (Some(Look::Claim(awaited)), BucketResult::Claim(found)) if awaited == id => {
                if let Some(claim) = found {
                    ground.learn(claim.clone());
                }
                let newest = ground.newest.as_ref().map(|claim| claim.epoch);
                self.look =
                    newest.map(|epoch| Look::Manifest(ground.request(BucketRequest::NewestManifest, effects), epoch));
            }
            (Some(Look::Manifest(awaited, epoch)), BucketResult::Manifest(manifest)) if awaited == id => {
                // R22: what was collected was open.
                let start = manifest.as_ref().map_or(LogPosition::START, |manifest| manifest.log_start);
                ground.holdings.covered(start.epoch, effects);
                let request = BucketRequest::ReadSlot { epoch, slot: Slot(0) };
                self.look = (start < LogPosition { epoch, slot: Slot(1) })
                    .then(|| Look::Slot(ground.request(request, effects), epoch));
            }
            (Some(Look::Slot(awaited, epoch)), result) if awaited == id => {
                self.look = None;
                if matches!(result, BucketResult::Slot(None)) {
                    let before = if self.unopened.0 == epoch { self.unopened.1 } else { 0 };
                    self.unopened = (epoch, before + 1);
                }
                if let BucketResult::Slot(Some(found)) = result
                    && matches!(&**found, SlotObject::Open(_))
                {
                    ground.holdings.covered(epoch, effects);
                }
            }
            (Some(Look::Claim(awaited) | Look::Manifest(awaited, _)), _) if awaited == id => self.look = None,
            _ => {}
        }
    }
}

/// This node's place among those who may claim. The old copies that are alive come first: they are warm.
fn rank(ground: &Ground, given_up: Epoch) -> Option<u32> {
    if ground.stopping {
        return None;
    }
    let newest = ground.newest.as_ref();
    let me = ground.config.node;
    if newest.is_some_and(|claim| claim.epoch > given_up && is_out_of_earshot(ground, claim)) {
        return None;
    }
    let copies = |node: &NodeId| newest.is_some_and(|claim| claim.copyset.copies.iter().any(|(_, copy)| copy == node));
    let owner = |node: &NodeId| *node != me && newest.is_some_and(|claim| claim.node == *node);
    let candidates = || ground.placement.candidates.iter().filter(|node| !owner(node));
    let position = candidates()
        .filter(|node| copies(node))
        .chain(candidates().filter(|node| !copies(node)))
        .position(|node| *node == me)?;
    u32::try_from(position).ok()
}

/// A node that is no copy of a living owner cannot hear it and so cannot miss it.
fn is_out_of_earshot(ground: &Ground, claim: &Claim) -> bool {
    let copy = claim.copyset.names(ground.config.journal);
    let owner_lives = claim.node != ground.config.node && ground.placement.journal_of(claim.node).is_some();
    let copies_live = claim
        .copyset
        .copies
        .iter()
        .any(|(journal, node)| *node != claim.node && ground.placement.holder(*journal).is_some());
    !copy && owner_lives && copies_live
}
