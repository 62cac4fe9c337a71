//! An owner that stops in the middle of a word, while its sessions stand and gossip still shows it: SIGSTOP. The others
//! take over in the time of an owner's silence, not in that of an attempt that waits for it.

use core::time::Duration;

use super::{flows, millis, seconds};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

/// How many worlds each test lives through.
const SEEDS: u64 = 60;

/// From the last word of an owner until another has opened: the bar of a fail-over, with the timing of real nodes.
const TAKE_OVER_MAX: Duration = Duration::from_secs(3);

/// Until the shard has moved to where the ring wants it.
const SETTLED: Duration = Duration::from_secs(3);

/// How long an owner stays silent: longer than any attempt.
const SILENCE: Duration = Duration::from_secs(30);

/// Three nodes with the timing of real ones, in a network that loses some messages, as links do that are made anew.
fn world(seed: u64, copies: u8) -> World {
    world_where(seed, copies, |_| {})
}

fn world_where(seed: u64, copies: u8, change: impl Fn(&mut Plan)) -> World {
    let mut plan = Plan::calm(3);
    plan.copies = copies;
    plan.rotation = usize::try_from(seed % 3).expect("small");
    plan.timing.open_timeout = seconds(10);
    plan.weather.loss = 50;
    change(&mut plan);
    let mut world = flows(World::new(plan, seed, Trace::recording()));
    world.pass(SETTLED);
    world.wait_until("an owner", |world| world.owner().is_some());
    world
}

/// Pauses the owner, and fails unless another one has opened in time.
fn falls_silent(world: &mut World, seed: u64) -> usize {
    let (owner, epoch) = (world.owner().expect("data flows"), world.epoch());
    world.pause_node(owner, SILENCE);
    let silent = world.now();
    world.wait_until("a new owner", move |world| world.owner().is_some() && world.epoch() > epoch);
    let took = world.now().since(silent);
    assert!(took < TAKE_OVER_MAX, "seed {seed}: {took:?} without an owner");
    owner
}

/// F3, F19: nobody's gossip has noticed anything.
#[test]
fn f3_a_silent_owner_that_gossip_still_shows_is_replaced_in_time() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 3);
        for node in 0..3 {
            world.believe(node, &[0, 1, 2], SILENCE);
        }
        falls_silent(&mut world, seed);
        world.end_well();
    }
}

/// F3, F19: each of the others sees the silent owner and not yet the other one, which has only just come back.
#[test]
fn f3_a_copy_that_gossip_does_not_show_counts_once_it_answers() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 3);
        let owner = world.owner().expect("data flows");
        for node in (0..3).filter(|node| *node != owner) {
            world.believe(node, &[node, owner], SILENCE);
            world.mislead(node, &[node, owner]);
        }
        falls_silent(&mut world, seed);
        world.end_well();
    }
}

/// F3, F19: of two copies one is silent, and only a node that was none can be the second.
#[test]
fn f3_where_a_copy_set_has_no_quorum_without_the_silent_owner_another_node_joins_it() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 2);
        for node in 0..3 {
            world.believe(node, &[0, 1, 2], SILENCE);
        }
        falls_silent(&mut world, seed);
        world.end_well();
    }
}

/// F3, F19: the one who took over falls silent as well, when the first has only just woken up.
#[test]
fn f3_two_owners_that_fall_silent_one_after_the_other_are_both_replaced_in_time() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 3);
        let first = falls_silent(&mut world, seed);
        world.pass(millis(3500));
        world.wake_node(first);
        world.pass(millis(500 + seed * 20));
        world.wait_until("an owner", |world| world.owner().is_some());
        falls_silent(&mut world, seed);
        world.end_well();
    }
}

/// F3, F19: whoever takes over has claimed with another copy, and that one falls silent before it follows; the first is
/// back by then. The claim is given up in the time of a silence, not in that of a slow bucket.
#[test]
fn f3_a_copy_that_falls_silent_in_the_middle_of_a_claim_does_not_hold_it_up() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 2);
        let first = world.owner().expect("data flows");
        let others: Vec<_> = (0..3).filter(|node| *node != first).collect();
        for node in &others {
            world.believe(*node, &others, SILENCE);
            world.mislead(*node, &others);
        }
        let epoch = world.epoch();
        world.pause_node(first, SILENCE);
        world.wait_until("a claim", move |world| world.epoch() > epoch);
        let claimant = world.claimant().expect("waited for");
        let other = others.iter().copied().find(|node| *node != claimant).expect("there are two");
        let silent = world.now();
        world.pause_node(other, SILENCE);
        world.wake_node(first);
        world.wait_until("a new owner", move |world| world.owner().is_some_and(|owner| owner != other));
        let took = world.now().since(silent);
        assert!(took < TAKE_OVER_MAX, "seed {seed}: {took:?} without an owner");
        world.end_well();
    }
}

/// F3, R6: an owner has claimed with one other copy while the third node was away, and that copy falls silent when the third
/// is back. It cannot commit any more, and does not wait for a placement to prove itself before it takes the third in.
#[test]
fn f3_an_owner_that_cannot_commit_takes_another_copy_at_once() {
    let mut stuck = 0;
    for seed in 0..SEEDS {
        let mut world = world_where(seed, 2, |plan| plan.timing.move_after = SILENCE);
        let owner = world.owner().expect("data flows");
        let other = (0..3).filter(|node| *node != owner).nth(usize::try_from(seed % 2).expect("small"));
        world.pause_node(other.expect("there are two"), SILENCE);
        let silent = world.now();
        world.pass(millis(1000));
        let before = world.acknowledged();
        world.wait_until("data that flows", move |world| world.acknowledged() > before);
        let took = world.now().since(silent);
        assert!(took < TAKE_OVER_MAX, "seed {seed}: {took:?} without an acknowledgement");
        stuck += u32::from(took > millis(1500));
        world.end_well();
    }
    assert!(stuck > 0, "in no world was the silent node the copy");
}
