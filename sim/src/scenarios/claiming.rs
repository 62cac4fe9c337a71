//! Who may claim, and what a claimant must find first: bad runs 1, 2, 4 and 7.

use kennel_core::shard::{BucketRequest, SlotBody};
use kennel_protocol::ids::Epoch;

use super::{flowing, flows, millis, seconds, world};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::{PutFate, World};

fn no_log_objects(_: usize, request: &BucketRequest) -> Option<PutFate> {
    match request {
        BucketRequest::CreateSlot { body, .. } if matches!(body.as_ref(), SlotBody::Log { .. }) => {
            Some(PutFate::Failed)
        }
        _ => None,
    }
}

fn anything(_: usize, _: &BucketRequest) -> Option<PutFate> {
    None
}

#[test]
fn bad_run_1_a_node_that_sees_only_itself_takes_nothing_over() {
    let mut world = flowing(3);
    let owner = world.owner().expect("data flows");
    let (lonely, other) = ((owner + 1) % 3, (owner + 2) % 3);
    world.isolate(lonely, &[owner, other, 3], seconds(10));
    world.mislead(lonely, &[lonely]);
    let acknowledged = world.acknowledged();
    world.pass(seconds(9));
    assert_ne!(world.claimant(), Some(lonely), "it claimed alone");
    assert!(world.acknowledged() > acknowledged, "the others went on");
    world.end_well();
}

#[test]
fn bad_run_1_half_deaf_claimants_do_not_duel_for_ever() {
    let mut world = flowing(3);
    let owner = world.owner().expect("data flows");
    let (one, two) = ((owner + 1) % 3, (owner + 2) % 3);
    world.crash_node(owner);
    world.deafen(one, two, seconds(8));
    world.pass(seconds(8));
    world.start_node(owner);
    world.pass(seconds(2));
    assert!(world.epoch() <= Epoch(12), "{} claims", world.epoch());
    world.end_well();
}

#[test]
fn bad_run_2_the_first_node_up_waits_for_those_who_hold_the_tail() {
    let mut world = flowing(3);
    world.script_bucket(no_log_objects);
    let before = world.acknowledged();
    world.wait_until("an unstored tail", move |world| world.acknowledged() > before + 30);
    let acknowledged = world.acknowledged();
    let epoch = world.epoch();
    for node in 0..3 {
        world.crash_node(node);
    }
    world.script_bucket(anything);
    world.start_node(0);
    world.pass(seconds(10));
    assert_eq!(world.epoch(), epoch, "one journal of three is not the past");
    world.start_node(1);
    world.wait_until("an owner", |world| world.owner().is_some());
    assert!(world.acknowledged() >= acknowledged);
    world.end_well();
}

#[test]
fn bad_run_4_a_claimant_that_dies_before_it_gathers_hides_nothing() {
    let mut world = flowing(5);
    world.script_bucket(no_log_objects);
    let before = world.acknowledged();
    world.wait_until("an unstored tail", move |world| world.acknowledged() > before + 30);
    let owner = world.owner().expect("data flows");
    let epoch = world.epoch();
    world.crash_node(owner);
    world.wait_until("a claim", move |world| world.epoch() > epoch);
    let claimant = world.claimant().expect("a claim stands");
    world.crash_node(claimant);
    world.script_bucket(anything);
    world.start_node(owner);
    world.wait_until("another claim", move |world| world.epoch() > epoch.next());
    world.end_well();
}

#[test]
fn bad_run_7_a_copy_that_lost_its_disk_does_not_speak_for_it() {
    let mut world = flowing(3);
    world.script_bucket(no_log_objects);
    let before = world.acknowledged();
    world.wait_until("an unstored tail", move |world| world.acknowledged() > before + 30);
    let owner = world.owner().expect("data flows");
    let epoch = world.epoch();
    world.lose_disk((owner + 1) % 3);
    world.crash_node(owner);
    world.start_node((owner + 1) % 3);
    world.script_bucket(anything);
    world.pass(seconds(10));
    assert_eq!(world.epoch(), epoch, "one authentic journal of three is too few");
    world.start_node(owner);
    world.end_well();
}

#[test]
fn a_forced_take_over_says_so_and_loses_nothing_that_the_source_has() {
    let mut world = world(3);
    world.plan.loss_allowed = true;
    world.wait_until("data", |world| world.owner().is_some() && world.acknowledged() > 20);
    let owner = world.owner().expect("data flows");
    world.lose_disk(owner);
    world.lose_disk((owner + 1) % 3);
    let survivor = (owner + 2) % 3;
    world.start_node(owner);
    world.start_node((owner + 1) % 3);
    world.pass(millis(500));
    world.force_node(survivor);
    world.end_well();
}

/// R2: two nodes cut off together, the owner and its only follower, with nothing to store. Nobody whom they speak to knows
/// of the forced take-over by the others, even when all can speak again.
#[test]
fn an_idle_owner_whose_follower_answers_learns_of_a_forced_take_over() {
    let mut plan = Plan::calm(4);
    plan.copies = 2;
    plan.loss_allowed = true;
    let mut world = flows(World::new(plan, 1, Trace::recording()));
    world.pass(seconds(30));
    world.come_to_rest();
    let (owner, epoch) = (world.owner().expect("data flowed"), world.epoch());
    let follower = world.copies().into_iter().find(|node| *node != owner).expect("there are two");
    let others: Vec<_> = (0..4).filter(|node| ![owner, follower].contains(node)).collect();
    for apart in [owner, follower] {
        world.isolate(apart, &others, seconds(30));
        world.believe(apart, &[owner, follower], seconds(600));
    }
    for other in &others {
        world.believe(*other, &others, seconds(600));
    }
    world.pass(seconds(5));
    world.force_node(others[0]);
    world.force_node(others[1]);
    world.wait_until("a forced take-over", move |world| world.epoch() > epoch && world.owner().is_some());
    let claims = |world: &World| world.node(owner).owns() == Some(epoch);
    world.pass(seconds(60));
    assert!(claims(&world), "nobody tells it");
    world.pass(seconds(400));
    assert!(!claims(&world), "it has looked");
}
