//! The log in the bucket: bad runs 3, 12 and 15.

use kennel_core::shard::{BucketRequest, SlotBody};
use kennel_protocol::ids::{Epoch, Slot};

use super::{flowing, flows, millis, seconds};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::{PutFate, World};

/// Third log objects land seconds later than those after them, and nobody can look whether they did.
fn third_is_stuck(_: usize, request: &BucketRequest) -> Option<PutFate> {
    match request {
        BucketRequest::CreateSlot { slot: Slot(3), body, .. } if matches!(body.as_ref(), SlotBody::Log { .. }) => {
            Some(PutFate::Stuck(seconds(6)))
        }
        BucketRequest::ReadSlot { slot: Slot(3), .. } => Some(PutFate::Failed),
        _ => None,
    }
}

fn anything(_: usize, _: &BucketRequest) -> Option<PutFate> {
    None
}

/// A world whose owner has stored slots beyond a gap, and that owner's epoch.
fn gapped(seed: u64) -> (World, usize, Epoch) {
    let mut world = World::new(Plan::calm(3), seed, Trace::recording());
    world.script_bucket(third_is_stuck);
    world.wait_until("slots beyond a gap", |world| {
        world.owner().is_some() && world.bucket.first_in(world.epoch(), Slot(5)).is_some()
    });
    let (owner, epoch) = (world.owner().expect("just seen"), world.epoch());
    assert!(world.bucket.first_in(epoch, Slot(3)).is_none());
    world.script_bucket(anything);
    (world, owner, epoch)
}

#[test]
fn bad_run_3_a_zombie_that_holds_a_slot_fools_nobody() {
    let (mut world, owner, epoch) = gapped(3);
    world.pause_node(owner, seconds(12));
    world.wait_until("a new owner", move |world| world.owner().is_some() && world.epoch() > epoch);
    let acknowledged = world.acknowledged();
    world.pass(seconds(4));
    assert!(world.acknowledged() > acknowledged, "the new owner takes data");
    world.pass(seconds(10));
    assert_ne!(world.node(owner).owns(), Some(epoch), "the zombie noticed");
    world.end_well();
}

#[test]
fn bad_run_15_the_seal_goes_into_the_first_gap_and_the_late_put_finds_it() {
    let (mut world, owner, epoch) = gapped(15);
    world.pause_node(owner, seconds(20));
    world.wait_until("the next epoch", move |world| world.owner().is_some() && world.epoch() > epoch);
    let first = world.bucket.first_in(epoch, Slot(3)).map(AsRef::as_ref);
    assert!(matches!(first, Some(SlotBody::Seal(_))), "{first:?} stands in the gap");
    world.end_well();
}

#[test]
fn bad_run_15_a_restarted_process_never_resumes_its_epoch() {
    let mut world = flowing(3);
    let owner = world.owner().expect("data flows");
    let epoch = world.epoch();
    let process = world.node(owner).process;
    world.crash_node(owner);
    world.start_node(owner);
    world.pass(millis(50));
    assert_ne!(world.node(owner).process, process);
    assert_eq!(world.node(owner).owns(), None);
    world.wait_until("a new epoch", move |world| world.owner().is_some() && world.epoch() > epoch);
    world.end_well();
}

#[test]
fn bad_run_12_an_owner_that_changes_its_copy_set_loses_no_upload() {
    let mut plan = Plan::calm(4);
    plan.weather.bucket_max = millis(600);
    let mut world = flows(World::new(plan, 12, Trace::recording()));
    let owner = world.owner().expect("data flows");
    let epoch = world.epoch();
    let claim = world.bucket.claim(epoch).expect("the owner's claim").clone();
    let copies: Vec<usize> = (0..4).filter(|node| claim.copyset.names(world.node(*node).journal.id)).collect();
    let follower = copies.into_iter().find(|node| *node != owner).expect("three copies");
    world.crash_node(follower);
    world.wait_until("another copy set", move |world| world.epoch() > epoch && world.owner().is_some());
    let renewed = world.bucket.claim(epoch.next()).expect("the next claim");
    assert_eq!(renewed.process, claim.process, "the same process claims again");
    assert!(!renewed.copyset.names(world.node(follower).journal.id));
    world.end_well();
}
