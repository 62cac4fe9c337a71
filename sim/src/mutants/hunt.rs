//! Runs mutants through worlds until something notices.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::flaw::Broken;
use super::list::Mutant;
use crate::run::run_broken;

/// How far apart the ranges of seeds of two rounds lie: no round sees a world of another.
const ROUND_SEEDS: u64 = 1 << 32;

/// What to hunt.
#[derive(Debug, Clone)]
pub struct Hunt {
    /// Which mutants.
    pub mutants: Vec<Mutant>,
    /// Most seeds per mutant and round, instead of what the mutant states.
    pub seeds: Option<u64>,
    /// How often each, from seeds that nobody else sees.
    pub rounds: u64,
    /// How many threads.
    pub threads: usize,
}

/// A mutant that was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Catch {
    /// In which world.
    pub seed: u64,
    /// How many worlds that took.
    pub seeds: u64,
    /// The check that noticed.
    pub check: &'static str,
}

/// What became of one mutant.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Which.
    pub mutant: Mutant,
    /// How many seeds it had.
    pub seeds_max: u64,
    /// Per round: who noticed it, if anybody did.
    pub catches: Vec<Option<Catch>>,
}

impl Verdict {
    /// Whether every round caught it.
    pub fn is_caught(&self) -> bool {
        self.catches.iter().all(Option::is_some)
    }

    /// How many worlds it took, from the least to the most.
    pub fn seeds_to_catch(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.catches.iter().flatten().map(|found| found.seeds).collect();
        seeds.sort_unstable();
        seeds
    }

    /// The checks that noticed it, each once.
    pub fn checks(&self) -> Vec<&'static str> {
        let mut checks: Vec<_> = self.catches.iter().flatten().map(|found| found.check).collect();
        checks.sort_unstable();
        checks.dedup();
        checks
    }

    /// How many worlds were run.
    pub fn worlds(&self) -> u64 {
        self.catches.iter().map(|found| found.map_or(self.seeds_max, |found| found.seeds)).sum()
    }
}

/// Hunts every mutant in every round. `tell` hears of each mutant when its last round is through.
pub fn hunt_all(hunt: &Hunt, tell: impl Fn(&Verdict) + Sync) -> Vec<Verdict> {
    let verdict = |mutant: &Mutant| Verdict {
        mutant: *mutant,
        seeds_max: hunt.seeds.unwrap_or(mutant.within),
        catches: Vec::new(),
    };
    let verdicts: Vec<_> = hunt.mutants.iter().map(|mutant| Mutex::new(verdict(mutant))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..hunt.threads.max(1) {
            scope.spawn(|| {
                while let Some(slot) = verdicts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut verdict = slot.lock().unwrap_or_else(PoisonError::into_inner);
                    let (mutant, seeds_max) = (verdict.mutant, verdict.seeds_max);
                    verdict.catches = (0..hunt.rounds).map(|round| hunt_one(&mutant, round, seeds_max)).collect();
                    tell(&verdict);
                }
            });
        }
    });
    verdicts.into_iter().map(|verdict| verdict.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Runs the worlds of a round, in order, until one breaks a rule that the same world keeps when nothing is broken.
fn hunt_one(mutant: &Mutant, round: u64, seeds_max: u64) -> Option<Catch> {
    let from = round * ROUND_SEEDS;
    (from..from + seeds_max).find_map(|seed| {
        let check = run_broken(seed, mutant.broken).violation?.rule;
        let sound = run_broken(seed, Broken::Nothing).violation.is_none();
        sound.then_some(Catch { seed, seeds: seed - from + 1, check })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::MUTANTS;

    #[test]
    fn a_world_with_nothing_broken_is_not_caught() {
        let sound = Mutant { name: "sound", rule: "none", broken: Broken::Nothing, within: 20 };
        let hunt = Hunt { mutants: vec![sound], seeds: None, rounds: 2, threads: 1 };
        let verdicts = hunt_all(&hunt, |_| {});
        assert_eq!(verdicts[0].catches, vec![None, None]);
        assert!(!verdicts[0].is_caught());
        assert_eq!(verdicts[0].worlds(), 40);
    }

    #[test]
    fn a_hunt_repeats_exactly() {
        let easy = MUTANTS.iter().find(|mutant| mutant.name == "forgets-seal-object").expect("it is in the list");
        let one = hunt_one(easy, 0, easy.within);
        assert!(one.is_some(), "a log without its seal is noticed");
        assert_eq!(one, hunt_one(easy, 0, easy.within));
    }

    #[test]
    fn every_mutant_has_a_name_of_its_own() {
        let mut names: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MUTANTS.len());
    }
}
