//! What must hold in a machine after every input, by name.
//!
//! Cheap enough for the simulator to run after every event; the hot path asserts the same where a mark moves.

use kennel_protocol::ids::{Epoch, Lsn};

use super::{Role, Shard};

/// A rule that does not hold: a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name and rule.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
}

impl Shard {
    /// Checks every invariant that one machine can see by itself.
    pub fn check(&self) -> Result<(), Violation> {
        self.marks_are_ordered()?;
        self.owner_has_its_claim()?;
        self.nothing_below_the_fence_is_owned()?;
        self.partitions_are_ordered()
    }

    /// R12, R20, R21: `captured <= quorum`, `stored <= committed <= end` for an owner.
    fn marks_are_ordered(&self) -> Result<(), Violation> {
        for (epoch, run) in self.ground.holdings.runs() {
            let fine = run.durable <= run.end() && run.committed <= run.end() && run.from() <= run.end();
            ensure(fine, "R12 marks_are_ordered", || {
                format!("epoch {epoch}: {} {} {}", run.durable, run.committed, run.end())
            })?;
        }
        let Role::Owner(owner) = &self.role else { return Ok(()) };
        let (committed, stored) = owner.marks();
        let end = self.ground.holdings.run(owner.epoch()).map_or(Lsn(0), super::holdings::Run::end);
        ensure(stored <= committed && committed <= end, "R21 marks_are_ordered", || {
            format!("stored {stored}, committed {committed}, end {end}")
        })?;
        let captured = owner.publisher().captured();
        ensure(captured <= end && stored <= captured, "R20 objects_hold_committed_only", || {
            format!("captured {captured}, stored {stored}, end {end}")
        })
    }

    /// R4, R5: an owner's claim names its own process and journal, and is the newest it knows.
    fn owner_has_its_claim(&self) -> Result<(), Violation> {
        let Role::Owner(owner) = &self.role else { return Ok(()) };
        let claim = owner.claim();
        let own = claim.process == self.ground.config.process && claim.copyset.names(self.ground.config.journal);
        ensure(own, "R4 owner_has_its_claim", || format!("{claim:?}"))
    }

    /// R8, R9: whoever promised a newer epoch owns nothing older.
    fn nothing_below_the_fence_is_owned(&self) -> Result<(), Violation> {
        let fence = self.ground.fence();
        let owned = match &self.role {
            Role::Owner(owner) => owner.epoch(),
            Role::Claimant(claimant) if claimant.stands() => claimant.epoch(),
            _ => return Ok(()),
        };
        ensure(owned >= fence && owned > Epoch(0), "R9 nothing_below_the_fence_is_owned", || {
            format!("owns epoch {owned} below fence {fence}")
        })
    }

    /// DESIGN 1: `trim <= end`, `stored <= committed <= end` for every partition.
    fn partitions_are_ordered(&self) -> Result<(), Violation> {
        let Role::Owner(owner) = &self.role else { return Ok(()) };
        for (partition, row) in owner.table().rows() {
            let fine = row.stored <= row.committed && row.committed <= row.end && row.trim <= row.end;
            ensure(fine, "R17 partitions_are_ordered", || format!("{partition}: {row:?}"))?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}
