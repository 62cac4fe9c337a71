//! When an owner gives up on purpose: for another copy set (PROTOCOL R6), a better owner or a stop (R27).

use kennel_protocol::ids::Lsn;

use super::{Marks, Owner, Tenure};
use crate::shard::flaw::Flaw;
use crate::shard::ground::Ground;
use crate::shard::holdings::Run;
use crate::shard::io::Effects;

/// Why an owner takes no more chunks, though it still finishes what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retiring {
    /// Another copy set is wanted (PROTOCOL R6).
    Copyset,
    /// A better candidate is ready, or the process stops (PROTOCOL R27).
    Handover,
}

impl Owner {
    /// Whether a retiring owner is through.
    pub(super) fn tenure(&self, ground: &Ground) -> Tenure {
        let end = ground.holdings.run(self.claim.epoch).map_or(Lsn(0), Run::end);
        match self.retiring {
            // R6: resolve all uploads in flight before the next claim.
            Some(Retiring::Copyset) if self.publisher.is_idle() => Tenure::Renews,
            Some(Retiring::Copyset) if ground.breaks(Flaw::RenewsWithoutItsTail) => Tenure::Renews,
            Some(Retiring::Handover) if self.publisher.is_idle() && self.stored == end => Tenure::Released,
            _ => Tenure::Continues,
        }
    }

    /// The last word before another claims.
    pub(crate) fn release(&mut self, ground: &Ground, effects: &mut Effects) {
        let marks = Marks { released: true, ..self.marks_now() };
        self.replication.pump(ground, marks, true, effects);
    }

    /// Starts to retire where the placement has long been better elsewhere (PROTOCOL R6, R27).
    pub(super) fn review_placement(&mut self, ground: &Ground) {
        if ground.stopping {
            self.retiring = Some(Retiring::Handover);
            return;
        }
        let wanted = self.placement_wanted(ground);
        if self.retiring == Some(Retiring::Handover) && wanted == Some(Retiring::Copyset) {
            // The set that was to store the rest cannot any more: first a set that can.
            self.retiring = wanted;
        }
        if self.retiring.is_some() {
            return;
        }
        let Some(wanted) = wanted else {
            self.misplaced_since = None;
            return;
        };
        let since = *self.misplaced_since.get_or_insert(ground.now);
        if ground.now.since(since) >= ground.config.timing.move_after {
            self.retiring = Some(wanted);
        }
    }

    fn placement_wanted(&self, ground: &Ground) -> Option<Retiring> {
        let copies = &self.claim.copyset.copies;
        let wanted = ground.copies_wanted(copies);
        let same = wanted.len() == copies.len() && wanted.iter().all(|copy| self.claim.copyset.names(copy.0));
        // A smaller set is never better: a cut-off owner could otherwise claim alone and shut the others out (R1).
        if !same && wanted.len() >= copies.len() {
            return Some(Retiring::Copyset);
        }
        let first = *ground.placement.candidates.first()?;
        let end = ground.holdings.run(self.claim.epoch)?.end();
        let ready = first != ground.config.node && self.replication.is_caught_up(ground, first, end);
        ready.then_some(Retiring::Handover)
    }
}
