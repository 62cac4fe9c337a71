//! From source to log: bad runs 6, 8, 10 and 11.

use super::{flowing, flows, millis, seconds};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

#[test]
fn bad_run_6_a_duplicate_is_not_acknowledged_before_its_original() {
    let mut plan = Plan::calm(3);
    plan.weather.duplicate = 1000;
    plan.weather.straggle = 200;
    plan.workload.shippers = 2;
    let mut world = flows(World::new(plan, 6, Trace::recording()));
    world.pass(seconds(5));
    world.end_well();
}

#[test]
fn bad_run_8_batches_sliced_anew_after_a_rewind_are_neither_stuck_nor_diverged() {
    let mut plan = Plan::calm(3);
    plan.workload.slices = true;
    plan.workload.shippers = 2;
    plan.weather.loss = 100;
    let mut world = flows(World::new(plan, 8, Trace::recording()));
    for _ in 0..3 {
        let owner = world.owner();
        if let Some(owner) = owner {
            world.crash_node(owner);
            world.pass(seconds(2));
            world.start_node(owner);
        }
        world.pass(seconds(2));
    }
    world.end_well();
}

#[test]
fn bad_run_10_a_source_that_starts_high_begins_with_a_declared_hole() {
    let mut plan = Plan::calm(3);
    plan.workload.imports = true;
    plan.workload.partitions = 5;
    let mut world = World::new(plan, 10, Trace::recording());
    world.pass(seconds(4));
    world.end_well();
    assert!(world.holes() > 0, "a drawn partition starts above 0");
}

#[test]
fn bad_run_11_what_was_never_shipped_is_a_hole_in_the_log_and_no_gap() {
    let mut world = flowing(3);
    let shipper = 3;
    world.isolate(shipper, &[0, 1, 2], seconds(3));
    let before = world.written();
    world.wait_until("unshipped messages", move |world| world.written() > before + 20);
    world.expire_source();
    let owner = world.owner().expect("nodes hear each other");
    world.crash_node(owner);
    world.pass(millis(500));
    world.start_node(owner);
    world.pass(seconds(4));
    world.end_well();
    assert!(world.holes() > 0, "the loss at the source is declared");
}

#[test]
fn acknowledgements_go_on_while_the_bucket_is_away() {
    let mut world = flowing(3);
    world.bucket_outage(seconds(4));
    let acknowledged = world.acknowledged();
    world.pass(seconds(3));
    assert!(world.acknowledged() > acknowledged + 20, "R32: the journals' quorum is enough");
    world.end_well();
}

/// F17: followers answer, but later than an owner waits at first, as they do where nodes have more to do than they can.
#[test]
fn followers_that_are_slow_are_not_sent_everything_twice() {
    let mut plan = Plan::calm(3);
    plan.timing.owner_timeout = seconds(2);
    plan.workload.append_every = plan.timing.round * 2;
    (plan.weather.delay_min, plan.weather.delay_max) = (plan.timing.round, plan.timing.round);
    let mut world = flows(World::new(plan, 17, Trace::recording()));
    world.pass(seconds(3));
    let before = world.copied().clone();
    world.pass(seconds(20));
    let after = world.copied();
    let (sent, again) = (after.sent - before.sent, after.again - before.again);
    assert!(sent > 50, "{sent} entries were sent");
    assert!(again * 20 < sent, "{again} of {sent} entries were sent again");
    world.end_well();
}
