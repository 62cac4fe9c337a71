//! Everything that can happen in a world.

use std::sync::Arc;

use kennel_core::shard::{Placement, SessionId};
use kennel_core::time::Instant;
use kennel_protocol::ids::{Epoch, Lsn};
use kennel_protocol::wire::{Positions, PositionsRequest, ShardMessage, Ship, ShipAck};

/// One thing that happens at one instant.
#[derive(Debug, Clone)]
pub enum Event {
    /// A message between nodes arrives.
    Peer {
        /// Who sent it.
        from: usize,
        /// Where it arrives.
        to: usize,
        /// What it says.
        message: ShardMessage,
    },
    /// A shipper's message arrives at a node.
    FromShipper {
        /// On which connection.
        session: SessionId,
        /// What it says.
        says: ShipperSays,
    },
    /// A node's message arrives at a shipper.
    ToShipper {
        /// On which connection.
        session: SessionId,
        /// What it says.
        says: NodeSays,
    },
    /// A journal's sync is done.
    Synced {
        /// Whose.
        node: usize,
        /// Which process began it.
        boot: u64,
        /// How far.
        sequence: u64,
    },
    /// Bodies come back from a journal.
    Loaded {
        /// Whose.
        node: usize,
        /// Which process asked.
        boot: u64,
        /// Under which epoch.
        epoch: Epoch,
        /// First entry.
        from: Lsn,
        /// End, exclusive.
        end: Lsn,
    },
    /// A machine asked to be woken.
    Timer {
        /// Whose.
        node: usize,
        /// Which process.
        boot: u64,
        /// At which reading of the queue, to tell it from timers that were replaced.
        at: Instant,
    },
    /// A bucket request takes effect.
    Apply {
        /// Which.
        flight: u64,
    },
    /// A bucket request is answered.
    Answer {
        /// Which.
        flight: u64,
    },
    /// A node looks who is alive.
    Gossip {
        /// Which node.
        node: usize,
    },
    /// A node is told who is alive.
    Placement {
        /// Which node.
        node: usize,
        /// Which process.
        boot: u64,
        /// Who.
        placement: Arc<Placement>,
    },
    /// A shipper looks what to do.
    Shipper {
        /// Which.
        shipper: usize,
    },
    /// The source commits a batch.
    Append,
    /// Something goes wrong.
    Fault,
    /// A paused process wakes up.
    Resume {
        /// Which node.
        node: usize,
        /// Which pause, to tell it from later ones.
        pause: u64,
    },
    /// A process that is down starts.
    Start {
        /// Which node.
        node: usize,
    },
    /// A process is killed.
    Kill {
        /// Which node.
        node: usize,
        /// Which process.
        boot: u64,
    },
    /// A process that claimed is struck.
    Ambush {
        /// Which node.
        node: usize,
        /// Which process.
        boot: u64,
    },
    /// Cut links are whole again.
    Mend {
        /// Which, as (from, to).
        links: Vec<(usize, usize)>,
        /// In which storm they were cut.
        storm: u64,
    },
    /// The bucket answers again.
    BucketBack {
        /// Whom; everybody if not set.
        node: Option<usize>,
    },
    /// Another shard's entries are stored: their place in the journal is free.
    NeighbourFrees {
        /// Whose journal.
        node: usize,
    },
    /// A collector that published a manifest goes on: it looks for a newer claim.
    CollectorLooks {
        /// Which collection.
        collection: Collection,
    },
    /// A collector that found itself rightful deletes.
    CollectorDeletes {
        /// Which collection.
        collection: Collection,
    },
}

/// One move of the log's start.
#[derive(Debug, Clone, Copy)]
pub struct Collection {
    /// Under which claim.
    pub epoch: Epoch,
    /// Where the log starts now.
    pub start: kennel_protocol::object::LogPosition,
}

/// What a shipper says.
#[derive(Debug, Clone)]
pub enum ShipperSays {
    /// Chunks.
    Ship(Ship),
    /// Where do partitions stand?
    Positions {
        /// Ties the answer to the question.
        correlation: u64,
        /// Which partitions.
        request: PositionsRequest,
    },
}

/// What a node says to a shipper.
#[derive(Debug, Clone)]
pub enum NodeSays {
    /// Marks.
    Ack(ShipAck),
    /// Where partitions stand.
    Positions {
        /// As in the question.
        correlation: u64,
        /// The answer.
        answer: Option<Positions>,
    },
}
