//! Collection: bad run 14.

use kennel_protocol::ids::{Epoch, Slot};

use super::{flowing, seconds};
use crate::world::World;

/// Waits for a few stored slots and collects them. Where another epoch begins meanwhile nothing is deleted, and it is tried there.
fn collect(world: &mut World) -> (Epoch, Slot) {
    loop {
        let epoch = world.epoch();
        let is_over = move |world: &World| world.epoch() > epoch;
        world.wait_until("stored slots", move |world| is_over(world) || world.stored_slot(epoch) >= Some(Slot(4)));
        let Some(start) = world.stored_slot(epoch).filter(|_| !is_over(world)) else { continue };
        world.collect_below(epoch, start);
        let deleted = move |world: &World| world.bucket.slot(epoch, Slot(0)).is_none();
        world.wait_until("the deletion", move |world| is_over(world) || deleted(world));
        if deleted(world) {
            return (epoch, start);
        }
    }
}

#[test]
fn bad_run_14_a_take_over_begins_where_the_collected_log_begins() {
    let mut world = flowing(3);
    let (epoch, start) = collect(&mut world);
    let owner = world.owner().expect("data flows");
    world.crash_node(owner);
    world.wait_until("the next epoch", move |world| world.owner().is_some() && world.epoch() > epoch);
    let found = world.bucket.slot(epoch, Slot(0));
    assert!(found.is_none(), "{found:?} lies below slot {start}");
    world.end_well();
}

#[test]
fn bad_run_14_a_claimant_that_slept_through_a_collection_ends_nothing() {
    let mut world = flowing(5);
    let owner = world.owner().expect("data flows");
    let epoch = world.epoch();
    world.crash_node(owner);
    world.wait_until("a claim", move |world| world.epoch() > epoch);
    let sleeper = world.claimant().expect("a claim stands");
    world.pause_node(sleeper, seconds(30));
    world.wait_until("a newer owner", move |world| world.epoch() > epoch.next() && world.owner().is_some());
    collect(&mut world);
    world.start_node(owner);
    let (before, acknowledged) = (world.owner(), world.acknowledged());
    world.pass(seconds(20));
    assert!(world.acknowledged() > acknowledged, "{before:?} goes on");
    world.end_well();
}
