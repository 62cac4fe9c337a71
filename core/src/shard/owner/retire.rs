//! When an owner gives up on purpose: for another copy set (PROTOCOL R6), a better owner or a stop (R27).

use kennel_protocol::ids::{JournalId, Lsn, NodeId};

use super::{Marks, Owner, Tenure};
use crate::shard::flaw::Flaw;
use crate::shard::ground::Ground;
use crate::shard::holdings::Run;
use crate::shard::io::Effects;
use crate::time::Instant;

/// Why an owner takes no more chunks, though it still finishes what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retiring {
    /// Another copy set is wanted (PROTOCOL R6).
    Copyset,
    /// A better candidate is ready, or the process stops (PROTOCOL R27).
    Handover,
}

/// A better placement, for as long as it is the same one: what flaps moves nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) since: Instant,
    wanted: Retiring,
    copies: Vec<(JournalId, NodeId)>,
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
        let needs_another_set = wanted.as_ref().is_some_and(|(wanted, _)| *wanted == Retiring::Copyset);
        if self.retiring == Some(Retiring::Handover) && needs_another_set && self.lost_a_copy(ground) {
            // The set that was to store the rest cannot any more: first a set that can.
            self.retiring = Some(Retiring::Copyset);
        }
        if self.retiring.is_some() {
            return;
        }
        let Some((wanted, copies)) = wanted else {
            self.misplaced = None;
            return;
        };
        let known = self.misplaced.take().filter(|known| (known.wanted, &known.copies) == (wanted, &copies));
        let since = known.map_or(ground.now, |known| known.since);
        self.misplaced = Some(Misplaced { since, wanted, copies });
        // Load that moves too early costs little, and an owner that cannot commit costs everything.
        let is_stuck = wanted == Retiring::Copyset && !self.can_commit(ground);
        if is_stuck || ground.now.since(since) >= ground.config.timing.move_after {
            self.retiring = Some(wanted);
        }
    }

    /// What would be better: another copy set, one with the better owner in it, or that owner, once it has everything.
    fn placement_wanted(&self, ground: &Ground) -> Option<(Retiring, Vec<(JournalId, NodeId)>)> {
        let copies = &self.claim.copyset.copies;
        let mut wanted = ground.copies_ideal();
        wanted.sort_unstable_by_key(|(_, node)| *node);
        let same = wanted.len() == copies.len() && wanted.iter().all(|copy| self.claim.copyset.names(copy.0));
        // A smaller set is never better: a cut-off owner could otherwise claim alone and shut the others out (R1).
        if !same && wanted.len() >= copies.len() {
            return Some((Retiring::Copyset, wanted));
        }
        let first = *ground.placement.candidates.first()?;
        let end = ground.holdings.run(self.claim.epoch)?.end();
        let ready = first != ground.config.node && self.replication.is_caught_up(ground, first, end);
        ready.then_some((Retiring::Handover, Vec::new()))
    }

    /// Whether live nodes hold a quorum of the copy set.
    fn can_commit(&self, ground: &Ground) -> bool {
        self.live_copies(ground) >= usize::from(self.claim.copyset.quorum)
    }

    /// Whether a journal of the copy set is gone.
    fn lost_a_copy(&self, ground: &Ground) -> bool {
        self.live_copies(ground) < self.claim.copyset.copies.len()
    }

    /// How many journals of the copy set live nodes hold.
    fn live_copies(&self, ground: &Ground) -> usize {
        let copies = self.claim.copyset.copies.iter();
        copies.filter(|(journal, _)| ground.placement.holder(*journal).is_some()).count()
    }
}
