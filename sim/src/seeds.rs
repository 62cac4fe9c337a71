//! Every seed that ever broke a rule, and why. They run with every test.

use crate::plan::Plan;

/// A seed that once failed.
#[derive(Debug, Clone, Copy)]
pub struct Regression {
    /// The seed.
    pub seed: u64,
    /// How its world is drawn.
    pub plan: fn(u64) -> Plan,
    /// What was wrong.
    pub why: &'static str,
}

/// All of them, oldest first.
pub const REGRESSIONS: &[Regression] = &[
    once(57, "R7, R26: with too few copies the committed mark fell back behind a take-over"),
    once(1958, "R7, R26: the same, behind a handover"),
    once(156, "R28: a former copy that tried in vain to claim never forgot"),
    once(308, "R28: the same, with one copy"),
    once(31_225, "an epoch without anything to adopt opened over journals that were gone"),
    once(1799, "the world took a late put into a collected slot for an opening"),
    once(25_867, "the world took a dead claimant's late claim for unrest"),
    once(146_260, "the world let a stopped process live on, and owners handed over to it for ever"),
    once(509_336, "the world stopped all nodes at once that keep their journals in memory, and could not restart one"),
    once(8244, "the world forbade a claimant to seal where it had once tried to open"),
    deep(
        9219,
        "R10: a tail that took longer to adopt than a claimant waits was gathered for ever, by one after the other",
    ),
    deep(
        21_493,
        "DESIGN 1: a shipper heard of a commit while the owner's own readers still waited for the disk to see it",
    ),
    deep(41_948, "R27: whoever was quick took what its owner handed to another, who was handed it again, for ever"),
    deep(101_896, "the world took requests of the storm that were still to land for a leak"),
    deep(900_788, "R13: the world's shipper, told where a partition continues, never asked how far it is stored"),
    deep(936_272, "R27: an owner handed over to a node that was stopping, took the shard back, and so on for ever"),
    deep(
        2_464_010,
        "R28: a former copy that had forgotten took its old owner's entries again, and showed them once more",
    ),
    deep(3_010_119, "the world took a slow network, which puts copies out of order, for one where nothing moves"),
    deep(
        4_163_222,
        "R2: an owner that was alone and forced out, with nothing to publish, owned in its own eyes for ever",
    ),
    deep(
        5_206_410,
        "R3: a claimant came back and was shown an older claim than its own, and everybody waited for somebody else",
    ),
    deep(5_865_625, "R9: an answer to a node's former process told of a newer epoch, and was not listened to"),
];

/// A seed of a world with everything in it.
const fn deep(seed: u64, why: &'static str) -> Regression {
    Regression { seed, plan: Plan::draw, why }
}

/// A seed of the first vintage.
const fn once(seed: u64, why: &'static str) -> Regression {
    Regression { seed, plan: Plan::draw_first, why }
}
