//! Fixed seeds, regressions, and the promise that a seed is enough to repeat a run.

use kennel_sim::run::{run_many, run_plan, run_recorded, run_seed};
use kennel_sim::seeds::REGRESSIONS;

/// How many seeds every test run lives through.
const SEEDS: u64 = 1000;

#[test]
fn fixed_seeds_break_no_rule() {
    if let Some(life) = run_many(0, SEEDS, 2) {
        panic!("seed {} breaks {:?}", life.seed, life.violation);
    }
}

#[test]
fn seeds_that_once_failed_stay_well() {
    for regression in REGRESSIONS {
        let life = run_plan((regression.plan)(regression.seed), regression.seed);
        assert!(life.violation.is_none(), "seed {} ({}): {:?}", regression.seed, regression.why, life.violation);
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_bytes() {
    for seed in 0..12 {
        let (one, other) = (run_recorded(seed, usize::MAX), run_recorded(seed, usize::MAX));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
        assert!(one.tail == other.tail, "seed {seed} tells its story in two ways");
        assert_eq!(one.hash, run_seed(seed).hash, "recording changes nothing");
    }
    assert_ne!(run_seed(0).hash, run_seed(1).hash);
}
