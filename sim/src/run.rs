//! Runs seeds: one, or many on several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::mutants::Broken;
use crate::oracle::Violation;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

/// How a seed ended.
#[derive(Debug)]
pub struct Life {
    /// Which.
    pub seed: u64,
    /// The fingerprint of everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// The end of the trace, if it was recorded.
    pub tail: Vec<String>,
}

/// Runs one seed. A machine that panics breaks the rule `never_panics`.
pub fn run_seed(seed: u64) -> Life {
    run_plan(Plan::draw(seed), seed)
}

/// Runs one seed in a world of this plan.
pub fn run_plan(plan: Plan, seed: u64) -> Life {
    live(plan, seed, Trace::silent(), 0)
}

/// Runs one seed with something broken on purpose, in a world of the first vintage.
pub fn run_broken(seed: u64, broken: Broken) -> Life {
    run_plan(Plan { broken, ..Plan::draw_first(seed) }, seed)
}

/// Runs one seed and keeps the last `tail` lines of its trace.
pub fn run_recorded(seed: u64, tail: usize) -> Life {
    record_plan(Plan::draw(seed), seed, tail)
}

/// Runs one seed in a world of this plan and keeps the last `tail` lines of its trace.
pub fn record_plan(plan: Plan, seed: u64, tail: usize) -> Life {
    live(plan, seed, Trace::recording(), tail)
}

/// Runs seeds `from..from + count` on `threads` threads. Answers the lowest seed that failed, if one did: all seeds below
/// it ran well.
pub fn run_many(from: u64, count: u64, threads: usize) -> Option<Life> {
    run_plans(Plan::draw, from, count, threads)
}

/// The same in worlds that `plan` draws.
pub fn run_plans(plan: fn(u64) -> Plan, from: u64, count: u64, threads: usize) -> Option<Life> {
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let worst: Mutex<Option<Life>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let life = run_plan(plan(seed), seed);
                    if life.violation.is_some() {
                        failed.store(true, Ordering::Relaxed);
                        let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
                        if worst.as_ref().is_none_or(|other| other.seed > seed) {
                            *worst = Some(life);
                        }
                    }
                }
            });
        }
    });
    worst.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn live(plan: Plan, seed: u64, trace: Trace, tail: usize) -> Life {
    let mut world = World::new(plan, seed, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.live()));
    let panicked = ended.err().map(|cause| Violation::new("never_panics", words_of(cause.as_ref())));
    Life {
        seed,
        hash: world.trace.hash(),
        events: world.trace.events(),
        violation: panicked.or_else(|| world.violation().cloned()),
        tail: world.trace.tail(tail).map(str::to_owned).collect(),
    }
}

fn words_of(cause: &(dyn core::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}
