//! What may go wrong beyond the everyday: drawn apart, so that a seed of the first vintage keeps its world.
//!
//! Most worlds have none of it or one kind: heavy faults hide what light ones find.

use super::{FaultKind, Plan};
use crate::stream::Stream;

/// Rare and heavy faults. Chances are per mille.
#[derive(Debug, Clone, Default)]
pub struct Depths {
    /// Syncs that fail: the journal is poisoned and takes its process down.
    pub sync_fail: u64,
    /// Searches for the newest claim that miss it.
    pub stale_claims: u64,
    /// Reads of objects that arrive damaged: never the same object twice at one node.
    pub garbled: u64,
    /// A process that wakes up finds that its clock went on for an hour.
    pub long_sleeps: bool,
    /// One process sleeps until everything is well, then wakes up.
    pub oversleeps: bool,
}

const DEEP_FAULTS: [FaultKind; 10] = [
    FaultKind::Leap,
    FaultKind::Throttle,
    FaultKind::Sluggish,
    FaultKind::ClaimsAway,
    FaultKind::Rot,
    FaultKind::Delude,
    FaultKind::PauseShipper,
    FaultKind::Neighbour,
    FaultKind::Rollback,
    FaultKind::Recreate,
];

impl Plan {
    /// The world of a seed with everything in it.
    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::draw_first(seed);
        plan.set_traps(seed);
        let mut stream = Stream::new(seed, 0x6465_6570);
        if stream.chance(400) {
            return plan;
        }
        let mut rarely = |rate: u64| if stream.chance(150) { stream.between(1, rate) } else { 0 };
        plan.depths.sync_fail = rarely(20);
        plan.depths.stale_claims = rarely(500);
        plan.depths.long_sleeps = stream.chance(200);
        plan.depths.oversleeps = stream.chance(150);
        plan.weather.faults.extend(DEEP_FAULTS.iter().filter(|_| stream.chance(150)));
        // What is drawn later is drawn last: the seeds that failed before keep their worlds.
        if stream.chance(200) {
            plan.depths.garbled = stream.between(1, 150);
        }
        plan
    }

    /// Puts in place what aims at take-overs, drawn apart.
    fn set_traps(&mut self, seed: u64) {
        let mut traps = Stream::new(seed, 0x7472_6170);
        if traps.chance(200) {
            // The ring's first node is the owner more often than others.
            self.weather.slow_disk = Some(if traps.chance(500) { self.rotation } else { traps.index(self.nodes) });
        }
        if traps.chance(250) {
            self.weather.ambush = traps.between(200, 900);
        }
    }
}
