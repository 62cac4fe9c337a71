//! Failures that hurt systems of this kind, by their row in the catalogue of failures: the bucket, owners, journals.

use kennel_core::shard::{BucketRequest, SlotBody};
use kennel_protocol::ids::{Epoch, Slot};

use super::{flowing, flows, millis, seconds};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::{PutFate, World};

fn is_log(request: &BucketRequest) -> bool {
    matches!(request, BucketRequest::CreateSlot { body, .. } if matches!(body.as_ref(), SlotBody::Log { .. }))
}

fn answers_are_lost(_: usize, request: &BucketRequest) -> Option<PutFate> {
    is_log(request).then_some(PutFate::DoneExists)
}

fn conflicts_without_effect(_: usize, request: &BucketRequest) -> Option<PutFate> {
    match request {
        BucketRequest::CreateSlot { slot, .. } if is_log(request) && slot.0 < 4 => Some(PutFate::NothingExists),
        _ => None,
    }
}

fn nothing_is_taken(_: usize, request: &BucketRequest) -> Option<PutFate> {
    is_log(request).then_some(PutFate::Failed)
}

/// The first claim that is created lands, and nobody hears of it for long.
fn claims_are_slow(_: usize, request: &BucketRequest) -> Option<PutFate> {
    match request {
        BucketRequest::CreateClaim(claim) if claim.epoch == Epoch(2) => Some(PutFate::DoneUnknown),
        BucketRequest::ReadClaim { epoch: Epoch(2) } => Some(PutFate::Failed),
        _ => None,
    }
}

fn claims_are_away(_: usize, request: &BucketRequest) -> Option<PutFate> {
    let of_a_claim = matches!(
        request,
        BucketRequest::FindClaim { .. } | BucketRequest::ReadClaim { .. } | BucketRequest::CreateClaim(_)
    );
    of_a_claim.then_some(PutFate::Failed)
}

fn second_is_late(_: usize, request: &BucketRequest) -> Option<PutFate> {
    match request {
        BucketRequest::CreateSlot { slot: Slot(2), .. } if is_log(request) => Some(PutFate::Stuck(seconds(2))),
        BucketRequest::ReadSlot { slot: Slot(2), .. } => Some(PutFate::Failed),
        _ => None,
    }
}

fn anything(_: usize, _: &BucketRequest) -> Option<PutFate> {
    None
}

/// How many slots of an epoch hold something.
fn slots(world: &World, epoch: Epoch) -> u64 {
    let mut slot = Slot(0);
    while world.bucket.first_in(epoch, slot).is_some() {
        slot = slot.next();
    }
    slot.0
}

/// F1.
#[test]
fn f1_an_upload_whose_answer_is_lost_is_known_by_its_put_id() {
    let mut world = flowing(3);
    world.script_bucket(answers_are_lost);
    let (epoch, before) = (world.epoch(), slots(&world, world.epoch()));
    world.pass(seconds(4));
    assert_eq!(world.epoch(), epoch, "nobody took its own upload for another's");
    let stored = world.stored_slot(epoch).expect("slots are stored");
    assert!(stored.0 > before, "{stored} was read back and is its own");
    world.script_bucket(anything);
    world.end_well();
}

/// F2.
#[test]
fn f2_a_conflict_where_nothing_landed_is_tried_again_in_the_same_slot() {
    let mut world = super::world(3);
    world.script_bucket(conflicts_without_effect);
    world.wait_until("an owner", |world| world.owner().is_some());
    world.pass(seconds(3));
    assert_eq!(slots(&world, world.epoch()), 1, "only the open record stands");
    world.script_bucket(anything);
    world.end_well();
}

/// F3.
#[test]
fn f3_a_zombie_that_wakes_after_half_a_minute_writes_nothing_that_counts() {
    let mut world = flowing(3);
    let (owner, epoch) = (world.owner().expect("data flows"), world.epoch());
    world.pause_node(owner, seconds(30));
    world.wait_until("a new owner", move |world| world.owner().is_some() && world.epoch() > epoch);
    let sealed = slots(&world, epoch);
    world.pass(seconds(32));
    assert_ne!(world.node(owner).owns(), Some(epoch), "the zombie stopped");
    let first = world.bucket.first_in(epoch, Slot(sealed - 1)).map(AsRef::as_ref);
    assert!(matches!(first, Some(SlotBody::Seal(_))), "{first:?} still ends its log");
    world.end_well();
}

/// F5.
#[test]
fn f5_what_is_uploaded_behind_a_hole_is_not_stored() {
    let mut world = super::world(3);
    world.script_bucket(second_is_late);
    world.wait_until("an upload behind the hole", |world| {
        world.owner().is_some() && world.bucket.first_in(world.epoch(), Slot(3)).is_some()
    });
    let epoch = world.epoch();
    assert!(world.bucket.first_in(epoch, Slot(2)).is_none());
    assert!(world.stored_slot(epoch) < Some(Slot(2)), "{:?} is beyond the hole", world.stored_slot(epoch));
    world.script_bucket(anything);
    world.end_well();
}

/// F7.
#[test]
fn f7_a_crash_between_upload_and_free_replays_nothing_twice() {
    let mut world = flowing(3);
    for _ in 0..4 {
        let (owner, epoch) = (world.owner().expect("data flows"), world.epoch());
        let slot = world.stored_slot(epoch);
        world.wait_until("an upload", move |world| {
            slots(world, epoch) > world.stored_slot(epoch).map_or(0, |stored| stored.0 + 1) || world.epoch() > epoch
        });
        assert!(world.stored_slot(epoch) >= slot);
        world.crash_node(owner);
        world.start_node(owner);
        world.wait_until("an owner", move |world| world.owner().is_some() && world.epoch() > epoch);
        let acknowledged = world.acknowledged();
        world.wait_until("data", move |world| world.acknowledged() > acknowledged + 10);
    }
    world.end_well();
}

/// F8.
#[test]
fn f8_no_stored_mark_moves_while_the_bucket_takes_nothing() {
    let mut world = flowing(3);
    world.script_bucket(nothing_is_taken);
    world.pass(seconds(1));
    let (epoch, acknowledged) = (world.epoch(), world.acknowledged());
    let (stored, slots_before) = (world.stored_slot(epoch), slots(&world, epoch));
    world.pass(seconds(4));
    assert_eq!(world.stored_slot(epoch), stored);
    assert_eq!(slots(&world, epoch), slots_before);
    assert!(world.acknowledged() > acknowledged, "the journals go on");
    world.script_bucket(anything);
    world.end_well();
}

/// F15.
#[test]
fn f15_a_claim_whose_answer_is_lost_shuts_the_older_epoch_out_all_the_same() {
    let mut world = flowing(3);
    let (owner, epoch) = (world.owner().expect("data flows"), world.epoch());
    assert_eq!(epoch, Epoch(1));
    world.script_bucket(claims_are_slow);
    world.pause_node(owner, seconds(3));
    world.wait_until("a claim", move |world| world.epoch() > epoch);
    world.pass(seconds(4));
    world.script_bucket(anything);
    world.wait_until("a newer owner", move |world| world.owner().is_some() && world.epoch() > epoch);
    world.end_well();
}

/// F17: one upload of twenty says nothing for a minute. What others wait for behind it is there all the same.
#[test]
fn f17_an_upload_that_is_stuck_for_ever_does_not_hold_up_the_log() {
    let throughput = |sticks: bool| {
        let mut world = flowing(3);
        if sticks {
            world.stick_uploads(20, seconds(60));
        }
        let (epoch, before) = (world.epoch(), world.stored());
        let mut behind = 0;
        for _ in 0..60 {
            world.pass(millis(500));
            behind = behind.max(world.acknowledged() - world.stored());
        }
        assert_eq!(world.epoch(), epoch, "nobody is replaced for it");
        let stored = world.stored() - before;
        world.end_well();
        (stored, behind)
    };
    let ((calm, _), (sticky, behind)) = (throughput(false), throughput(true));
    assert!(sticky * 10 >= calm * 9, "{sticky} messages stored, {calm} where nothing sticks");
    assert!(behind * 20 < calm, "{behind} of {calm} messages waited at one time");
}

/// F18: claims are read before anything moves to another owner, not before anything is acknowledged.
#[test]
fn f18_shipping_goes_on_while_claims_can_not_be_read() {
    let mut world = flowing(3);
    world.script_bucket(claims_are_away);
    let (epoch, acknowledged, stored) = (world.epoch(), world.acknowledged(), world.stored_slot(world.epoch()));
    world.pass(seconds(10));
    assert_eq!(world.epoch(), epoch);
    assert!(world.acknowledged() > acknowledged + 100, "shipping goes on");
    assert!(world.stored_slot(epoch) > stored, "so does publishing");
    let owner = world.owner().expect("the same owner");
    world.crash_node(owner);
    world.pass(seconds(10));
    assert_eq!(world.epoch(), epoch, "nobody takes over what it can not claim");
    world.script_bucket(anything);
    world.end_well();
}

/// F18: searches that answer from a stale listing, while reads by name are strong, as in every store that passes the probe.
#[test]
fn f18_searches_that_miss_the_newest_claim_mislead_nobody() {
    let mut plan = Plan::calm(3);
    plan.depths.stale_claims = 1000;
    let mut world = flows(World::new(plan, 18, Trace::recording()));
    for _ in 0..3 {
        let (owner, epoch) = (world.owner().expect("data flows"), world.epoch());
        world.crash_node(owner);
        world.wait_until("a take-over", move |world| world.owner().is_some() && world.epoch() > epoch);
        world.start_node(owner);
        let acknowledged = world.acknowledged();
        world.wait_until("data", move |world| world.owner().is_some() && world.acknowledged() > acknowledged + 20);
    }
    assert!(world.epoch() <= Epoch(16), "{} claims for three take-overs", world.epoch());
    world.end_well();
}

/// F19: the stated three seconds of a take-over are ten times the owner time-out of this world's timing.
#[test]
fn f19_what_was_acknowledged_and_not_uploaded_survives_a_kill() {
    let mut world = flowing(3);
    world.script_bucket(nothing_is_taken);
    let before = world.acknowledged();
    world.wait_until("an unstored tail", move |world| world.acknowledged() > before + 30);
    let (owner, epoch, acknowledged) = (world.owner().expect("data flows"), world.epoch(), world.acknowledged());
    world.crash_node(owner);
    world.script_bucket(anything);
    let killed = world.now();
    world.wait_until("an owner", move |world| world.owner().is_some() && world.epoch() > epoch);
    assert!(world.now().since(killed) < seconds(3), "{:?} without an owner", world.now().since(killed));
    assert!(world.acknowledged() >= acknowledged);
    world.end_well();
}

/// F20: all copies of the tail are gone, and so are the messages at their source.
#[test]
fn f20_what_nobody_holds_any_more_is_declared_missing() {
    let mut world = flowing(3);
    world.plan.loss_allowed = true;
    world.script_bucket(nothing_is_taken);
    let before = world.acknowledged();
    world.wait_until("an unstored tail", move |world| world.acknowledged() > before + 30);
    world.isolate(3, &[0, 1, 2], seconds(30));
    world.expire_source();
    for node in 0..3 {
        world.lose_disk(node);
    }
    world.script_bucket(anything);
    for node in 0..3 {
        world.start_node(node);
    }
    world.pass(seconds(5));
    world.force_node(0);
    world.end_well();
    assert!(world.holes() > 0, "the loss is an entry of the log, with its offsets");
}

/// F21, as far as it reaches the ring: a source that loses shipped messages and gives their offsets to others.
#[test]
fn f21_a_source_that_lost_messages_and_goes_on_is_stopped_and_nothing_is_mixed() {
    let mut world = flowing(3);
    world.pass(seconds(1));
    for _ in 0..3 {
        world.roll_back_source(0, 6);
    }
    world.pass(seconds(6));
    world.end_well();
    assert!(world.has_diverged(0), "somebody says that the ring holds another history");
    assert!(!world.has_diverged(1), "the other partitions go on");
}

/// F21: what the ring did not have yet is no other history.
#[test]
fn f21_a_source_that_lost_only_what_was_not_shipped_goes_on() {
    let mut world = flowing(3);
    world.isolate(3, &[0, 1, 2], seconds(4));
    let before = world.written();
    world.wait_until("unshipped messages", move |world| world.written() > before + 60);
    world.roll_back_source(0, 2);
    world.pass(seconds(6));
    world.end_well();
    assert!(!world.has_diverged(0));
}

/// F22.
#[test]
fn f22_a_topic_that_is_created_again_is_another_partition() {
    let mut world = flowing(3);
    world.recreate_source(0);
    let before = world.acknowledged();
    world.wait_until("data of both", move |world| world.acknowledged() > before + 30);
    world.recreate_source(0);
    world.pass(millis(1500));
    world.end_well();
    let incarnations = world.partitions_of(0);
    assert_eq!(incarnations, 3, "each has a log of its own");
}

/// F27, as far as the log goes: every object arrives damaged once at every node that reads it.
#[test]
fn f27_what_arrives_damaged_is_read_again_and_halts_nobody() {
    let mut plan = Plan::calm(3);
    plan.depths.garbled = 1000;
    let mut world = flows(World::new(plan, 27, Trace::recording()));
    world.pass(seconds(1));
    let (owner, epoch) = (world.owner().expect("data flows"), world.epoch());
    world.crash_node(owner);
    world.wait_until("a take-over", move |world| world.owner().is_some() && world.epoch() > epoch);
    world.end_well();
}
