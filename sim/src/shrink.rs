//! Makes a failing world small: switches off what does not matter to the failure, one thing after the other.
//!
//! Greedy and to a fixed point: what is left is needed, each thing by itself, for the same rule to break.

use core::time::Duration;

use crate::plan::{Depths, Plan, Weather, Workload};
use crate::run::{Life, run_plan};

/// A failing world that is as small as the steps below can make it.
#[derive(Debug)]
pub struct Shrunk {
    /// The world.
    pub plan: Plan,
    /// The rule that it breaks.
    pub rule: &'static str,
    /// How many worlds were tried.
    pub tried: usize,
    /// What could be taken away, in order.
    pub taken: Vec<String>,
}

/// One thing to take away, and how.
struct Step {
    name: String,
    take: Box<dyn Fn(&mut Plan)>,
}

/// Makes the world of a failing seed small. `None` if it does not fail.
pub fn shrink(plan: Plan, seed: u64) -> Option<Shrunk> {
    let rule = breaks(&run_plan(plan.clone(), seed))?;
    let mut shrunk = Shrunk { plan, rule, tried: 0, taken: Vec::new() };
    while shrunk.take_away(seed) {}
    Some(shrunk)
}

impl Shrunk {
    /// Tries every step once; answers whether one of them took something away.
    fn take_away(&mut self, seed: u64) -> bool {
        let mut any = false;
        for Step { name, take } in steps(&self.plan) {
            let mut smaller = self.plan.clone();
            take(&mut smaller);
            if format!("{smaller:?}") == format!("{:?}", self.plan) {
                continue;
            }
            self.tried += 1;
            if breaks(&run_plan(smaller.clone(), seed)) == Some(self.rule) {
                self.plan = smaller;
                self.taken.push(name);
                any = true;
            }
        }
        any
    }

    /// What is left, in words: whatever differs from a calm world.
    pub fn lines(&self) -> Vec<String> {
        let calm = Plan::calm(self.plan.nodes);
        let mut lines = vec![format!(
            "{} nodes, {} copies, {} of them needed to acknowledge alone, node {} first, {:?} of storm",
            self.plan.nodes,
            self.plan.copies,
            self.plan.min_copies,
            self.plan.rotation + 1,
            self.plan.storm
        )];
        lines.extend(differences("weather", &calm.weather, &self.plan.weather));
        lines.extend(differences("depths", &calm.depths, &self.plan.depths));
        lines.extend(differences("workload", &calm.workload, &self.plan.workload));
        lines.extend(differences("sizes", &calm.sizes, &self.plan.sizes));
        lines.extend(differences("timing", &calm.timing, &self.plan.timing));
        let flags = [
            (self.plan.forgetful, "journals forget everything at every start"),
            (self.plan.loss_allowed, "an operator accepts losses"),
            (self.plan.journal_bytes_max != calm.journal_bytes_max, "journals are small"),
        ];
        lines.extend(flags.iter().filter(|(set, _)| *set).map(|(_, words)| (*words).to_owned()));
        lines
    }
}

fn breaks(life: &Life) -> Option<&'static str> {
    life.violation.as_ref().map(|violation| violation.rule)
}

/// The lines in which two values' pretty forms differ.
fn differences<T: core::fmt::Debug>(what: &str, calm: &T, drawn: &T) -> Vec<String> {
    let (calm, drawn) = (format!("{calm:#?}"), format!("{drawn:#?}"));
    let known: Vec<&str> = calm.lines().collect();
    let fresh = drawn.lines().filter(|line| !known.contains(line));
    fresh.map(|line| format!("{what}: {}", line.trim().trim_end_matches(','))).collect()
}

/// Everything that can be taken away from a world, the most telling first.
fn steps(plan: &Plan) -> Vec<Step> {
    let mut steps = vec![
        step("half of the storm", |plan| plan.storm = (plan.storm / 2).max(Duration::from_millis(200))),
        step("a tenth of the storm", |plan| plan.storm = plan.storm * 9 / 10),
        step("the rare faults", |plan| plan.depths = Depths::default()),
    ];
    for kind in plan.weather.faults.clone() {
        let take = move |plan: &mut Plan| plan.weather.faults.retain(|other| *other != kind);
        steps.push(step(&format!("{kind:?}"), take));
    }
    steps.extend(weather_steps());
    steps.extend(size_steps());
    steps
}

fn weather_steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut off = |name: &str, take: fn(&mut Plan)| steps.push(step(name, take));
    off("lost messages", |plan| plan.weather.loss = 0);
    off("doubled messages", |plan| plan.weather.duplicate = 0);
    off("stragglers", |plan| plan.weather.straggle = 0);
    off("slow syncs", |plan| plan.weather.sync_stall = 0);
    off("failing requests", |plan| plan.weather.bucket_fail = 0);
    off("lost answers of the bucket", |plan| plan.weather.bucket_lost_answer = 0);
    off("false answers of the bucket", |plan| plan.weather.bucket_false_exists = 0);
    off("stuck requests", |plan| plan.weather.bucket_stuck = 0);
    off("crashes between effects", |plan| plan.weather.crash_at_effect = 0);
    off("pauses between effects", |plan| plan.weather.pause_at_effect = 0);
    off("clocks", |plan| plan.weather.clocks = false);
    off("gossip that misses nodes", |plan| plan.weather.gossip_misses = 0);
    off("failing syncs", |plan| plan.depths.sync_fail = 0);
    off("stale claims", |plan| plan.depths.stale_claims = 0);
    off("damage on the wire", |plan| plan.depths.garbled = 0);
    off("long sleeps", |plan| plan.depths.long_sleeps = false);
    off("who oversleeps", |plan| plan.depths.oversleeps = false);
    off("slow network", |plan| plan.weather.delay_max = Weather::calm().delay_max);
    off("slow disks", |plan| plan.weather.sync_max = Weather::calm().sync_max);
    off("slow bucket", |plan| plan.weather.bucket_max = Weather::calm().bucket_max);
    steps
}

fn size_steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut off = |name: &str, take: fn(&mut Plan)| steps.push(step(name, take));
    off("all but three nodes", |plan| plan.nodes = plan.nodes.min(3));
    off("more than three copies", |plan| plan.copies = plan.copies.min(3));
    off("all but one partition", |plan| plan.workload.partitions = 1);
    off("all but one shipper", |plan| plan.workload.shippers = 1);
    off("slices", |plan| plan.workload.slices = false);
    off("imports", |plan| plan.workload.imports = false);
    off("retention", |plan| plan.workload.retention = false);
    off("the lag of the second shipper", |plan| plan.workload.lagging_twin = false);
    off("the drawn workload", |plan| {
        plan.workload =
            Workload { partitions: plan.workload.partitions, shippers: plan.workload.shippers, ..Workload::calm() };
    });
    off("the drawn sizes", |plan| plan.sizes = Plan::calm(3).sizes);
    off("the drawn pace", |plan| plan.timing = Plan::calm(3).timing);
    off("the rotation of the ring", |plan| plan.rotation = 0);
    off("small journals", |plan| plan.journal_bytes_max = Plan::calm(3).journal_bytes_max);
    off("losses that an operator accepts", |plan| plan.loss_allowed = false);
    off("journals that forget", |plan| plan.forgetful = false);
    off("who acknowledges alone", |plan| plan.min_copies = Plan::calm(3).min_copies);
    steps
}

fn step(name: &str, take: impl Fn(&mut Plan) + 'static) -> Step {
    Step { name: name.to_owned(), take: Box::new(take) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_that_breaks_nothing_cannot_be_made_smaller() {
        let mut plan = Plan::calm(3);
        plan.storm = Duration::from_millis(500);
        assert!(shrink(plan, 1).is_none());
    }

    #[test]
    fn every_step_is_idempotent_or_shortens() {
        let drawn = Plan::draw(12);
        for Step { name, take } in steps(&drawn) {
            let mut once = drawn.clone();
            take(&mut once);
            let mut twice = once.clone();
            take(&mut twice);
            assert!(twice.storm <= once.storm, "{name}");
            assert_eq!(format!("{:?}", twice.weather), format!("{:?}", once.weather), "{name}");
        }
    }
}
