//! The bad runs behind the rules of the protocol, by number and by hand. The drawn worlds find new ones; these keep the
//! old ones dead.

mod claiming;
mod collecting;
mod failures;
mod logging;
mod shipping;
mod silence;

use core::time::Duration;

use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

/// A calm world of some nodes.
fn world(nodes: usize) -> World {
    World::new(Plan::calm(nodes), 1, Trace::recording())
}

/// A calm world in which data flows.
fn flowing(nodes: usize) -> World {
    flows(world(nodes))
}

/// Waits until data flows.
fn flows(mut world: World) -> World {
    world.wait_until("an owner that acknowledges", |world| world.owner().is_some() && world.acknowledged() > 20);
    world
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
