//! The shipper: moves what a source has into the ring, and keeps no state that must survive.
//!
//! The ring is the cursor: every partition starts at its owner's `next` offset, and any doubt (a lost session, a new
//! epoch, a refusal, silence) is answered by dropping what is under way, asking where the partitions stand, and
//! reading the source again. So restarts, several shippers for one partition and fail-overs need no case of their own
//! (PROTOCOL R13, R15, R16).
//!
//! | file | what it decides |
//! |---|---|
//! | `contract` | nothing: the inputs and effects that a driver sees |
//! | `placing` | whom to speak to, and what to do when that goes wrong |
//! | `acking` | what an owner's word changes for a partition |
//! | `comparing` | whether a source that ends elsewhere has the same history |
//! | `pumping` | what to read and send next, within the budgets |
//! | `sources` | which partitions there are, and what a source that grew, shrank or went away means |
//!
//! An event costs O(log partitions) plus a small scan over the shards; only a new epoch walks all partitions of its
//! shard. It refuses to know what a session, a file or a clock is.
//!
//! **Driving it.** Feed [`Input::Start`], an [`Input::Source`] per partition, then [`Input::SourcesListed`]; do the
//! effects; call again with [`Input::Timeout`] at [`Shipper::poll_timeout`]. Every `AskView`, `Connect`,
//! `AskPositions`, `Compare` and `ReadSource` should be answered once; all but the last may be lost.

mod acking;
mod comparing;
mod contract;
mod lane;
#[cfg(test)]
mod model_tests;
mod partition;
mod placing;
mod pumping;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use kennel_protocol::ids::{NodeId, Offset, PartitionKey, ShardId};
use kennel_protocol::wire::View;
use rand_core::SeedableRng;
use rand_pcg::Pcg64Mcg;

pub use contract::{
    Effect, Effects, Input, PartitionNews, PartitionPosition, PartitionProblem, ShipperConfig, ShipperStatus,
    SourceAnswer, SourceDamage, SourceRead, SourceRest, SourceState, Ticket, Until,
};
use lane::Lane;
use partition::{Phase, Track};

use crate::time::Instant;

/// A read under way: its reservation stays until the answer came, even if nobody wants the answer any more.
#[derive(Debug)]
struct PendingRead {
    partition: PartitionKey,
    shard: ShardId,
    from: Offset,
    reserved: u64,
}

/// Ships any number of partitions of one source to a ring. See the module's documentation.
#[derive(Debug)]
pub struct Shipper {
    config: ShipperConfig,
    random: Pcg64Mcg,
    /// The last view that was taken.
    view: Option<View>,
    /// A view was asked for at this time and has not come.
    view_asked: Option<Instant>,
    /// When to ask for a view next.
    view_at: Option<Instant>,
    /// Views in a row that left a shard without an owner.
    view_failures: u32,
    /// The node whose word is doubted.
    avoid: Option<NodeId>,
    sessions: BTreeSet<NodeId>,
    connecting: BTreeSet<NodeId>,
    tracks: BTreeMap<PartitionKey, Track>,
    /// Only shards that have partitions here.
    lanes: BTreeMap<ShardId, Lane>,
    /// The lane whose turn it is to read first.
    turn: Option<ShardId>,
    reads: BTreeMap<Ticket, PendingRead>,
    next_ticket: u64,
    listed: bool,
    done: bool,
    status: ShipperStatus,
}

impl Shipper {
    /// A shipper with nothing to ship yet. `seed` only jitters pauses.
    ///
    /// # Panics
    /// If a limit of `config` is zero: nothing could ever move.
    pub fn new(config: ShipperConfig, seed: u64) -> Self {
        assert!(config.reads_max > 0 && config.read_bytes > 0, "a shipper must be allowed to read");
        assert!(config.ship_chunks_max > 0 && config.positions_max > 0, "a shipper must be allowed to speak");
        assert!(
            config.bytes_in_flight_max.min(config.shard_bytes_in_flight_max).min(config.partition_bytes_in_flight_max)
                > 0,
            "a shipper must be allowed to hold bytes"
        );
        Self {
            config,
            random: Pcg64Mcg::seed_from_u64(seed),
            view: None,
            view_asked: None,
            view_at: None,
            view_failures: 0,
            avoid: None,
            sessions: BTreeSet::new(),
            connecting: BTreeSet::new(),
            tracks: BTreeMap::new(),
            lanes: BTreeMap::new(),
            turn: None,
            reads: BTreeMap::new(),
            next_ticket: 0,
            listed: false,
            done: false,
            status: ShipperStatus::default(),
        }
    }

    /// The one way in. Never blocks, never fails, never reads a clock. After [`Effect::Done`] it does nothing.
    pub fn handle(&mut self, now: Instant, input: Input, effects: &mut Effects) {
        if self.done {
            return;
        }
        match input {
            Input::Start => self.view_at = Some(now),
            Input::Source(source) => self.take_source(source),
            Input::SourceGone(partition) => self.forget(partition),
            Input::SourcesListed => self.listed = true,
            Input::View(view) => self.take_view(now, view),
            Input::ViewFailed => self.view_failed(now),
            Input::SessionUp(node) => self.session_up(node),
            Input::SessionLost(node) => self.session_lost(now, node),
            Input::Positions { from, positions } => self.take_positions(now, from, &positions),
            Input::PositionsFailed { from, shard } => self.positions_failed(now, from, shard),
            Input::Compared { from, compared } => self.take_compared(now, from, &compared, effects),
            Input::CompareFailed { shard } => {
                // Where nothing else is under way, nobody else would notice that the owner has moved.
                self.view_at = Some(self.view_at.map_or(now, |at| at.min(now)));
                self.compare_again(now, shard, effects);
            }
            Input::ShipAck { from, ack } => self.take_ack(now, from, &ack, effects),
            Input::SourceRead(answer) => self.take_read(answer, effects),
            Input::Timeout => self.take_timeout(now, effects),
            Input::Stop => return self.finish(effects),
        }
        self.pump(now, effects);
        self.assert_invariants();
        if self.config.until != Until::Stopped && self.listed && self.status.settled == self.status.partitions {
            self.finish(effects);
        }
    }

    /// When to call `handle` with [`Input::Timeout`] if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let view = match self.view_asked {
            Some(asked) => Some(asked + self.config.answer_timeout),
            None => self.view_at,
        };
        let lanes = self.lanes.values().filter_map(|lane| self.lane_deadline(lane));
        lanes.chain(view).min()
    }

    /// What operators and tests may see.
    pub fn status(&self) -> ShipperStatus {
        self.status
    }

    fn finish(&mut self, effects: &mut Effects) {
        self.done = true;
        effects.push(Effect::Done);
    }

    /// Recomputes whether a partition counts as settled, and whether its marks are awaited.
    fn settle(&mut self, partition: PartitionKey) {
        let track = self.tracks.get_mut(&partition).expect("a partition that was named has a track");
        let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
        let settled = track.phase == Phase::Stopped || track.arrived(self.config.until);
        if settled != track.settled {
            track.settled = settled;
            if settled {
                self.status.settled += 1;
            } else {
                self.status.settled -= 1;
            }
        }
        let quiet = track.phase == Phase::Moving && track.ending.is_some() && track.flight.is_empty();
        // Owners tell marks to whom they got chunks from. Who only found a partition where it stands must ask on.
        let awaited = if self.config.until == Until::Stopped { track.is_unstored() } else { !settled };
        if quiet && awaited {
            lane.awaited.insert(partition);
        } else {
            lane.awaited.remove(&partition);
        }
    }

    /// What only a bug can break, in O(shards).
    fn assert_invariants(&self) {
        assert!(self.status.settled <= self.status.partitions, "more partitions settled than there are");
        assert!(self.reads.len() <= self.config.reads_max, "more reads than allowed");
        let held: u64 = self.lanes.values().map(|lane| lane.held).sum();
        assert_eq!(held, self.status.bytes_held, "every held byte belongs to one shard");
    }
}
