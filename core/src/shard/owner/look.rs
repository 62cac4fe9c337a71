//! An owner that stores nothing looks whether it still is one: soon where nobody answers it, and now and then where somebody does.
//!
//! Followers tell a fenced owner that it is, and so does the seal in the place of its next object. One with nothing to publish
//! and without a follower that knows better hears neither: after a forced take-over (PROTOCOL R2) it would own its epoch in its
//! own eyes for ever, alone or with a follower that the new claim does not name.

use super::{Owner, Tenure};
use crate::shard::ground::Ground;
use crate::shard::idle::LOOK_TIMEOUTS;
use crate::shard::io::{BucketId, BucketRequest, BucketResult, Effects};
use crate::time::Instant;

/// An owner that is answered and stores nothing looks this many owner timeouts apart: minutes, since each look costs a request.
const ANSWERED_LOOK_TIMEOUTS: u32 = 600;

/// What is known of newer claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookout {
    /// The question that is on its way.
    asked: Option<BucketId>,
    /// When the bucket last said, or was last asked, whether this epoch is the newest.
    pub(super) last: Instant,
}

impl Lookout {
    pub(super) fn new(now: Instant) -> Self {
        Self { asked: None, last: now }
    }
}

impl Owner {
    /// When to look, if nobody answers and nothing is stored until then.
    pub(super) fn look_due(&self, ground: &Ground) -> Option<Instant> {
        let (last, timeout) = (self.lookout.last, ground.config.timing.owner_timeout);
        let alone = self.replication.heard().unwrap_or_default().max(last) + timeout * LOOK_TIMEOUTS;
        let answered = last + timeout * ANSWERED_LOOK_TIMEOUTS;
        self.lookout.asked.is_none().then(|| alone.min(answered))
    }

    pub(super) fn look_if_due(&mut self, ground: &mut Ground, effects: &mut Effects) {
        if self.look_due(ground).is_some_and(|due| due <= ground.now) {
            let id = ground.request(BucketRequest::FindClaim { above: self.claim.epoch }, effects);
            self.lookout = Lookout { asked: Some(id), last: ground.now };
        }
    }

    /// Takes the answer, if it is one to this question. One that did not come is asked for again later.
    pub(super) fn on_look(&mut self, ground: &mut Ground, id: BucketId, result: &BucketResult) -> Option<Tenure> {
        self.lookout.asked.take_if(|asked| *asked == id)?;
        let BucketResult::Claim(Some(newer)) = result else { return Some(Tenure::Continues) };
        ground.learn(newer.clone());
        Some(if newer.epoch > self.claim.epoch { Tenure::Fenced(newer.epoch) } else { Tenure::Continues })
    }
}
