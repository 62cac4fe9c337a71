//! One partition on its way into the ring: where it stands and what of it is under way.
//!
//! Knows nothing of other partitions, budgets or nodes.

use std::collections::VecDeque;

use kennel_protocol::ids::{Offset, PartitionKey, ShardId};
use kennel_protocol::wire::{PartitionMarks, ShipChunk};

use super::comparing::Doubt;
use super::contract::{SourceState, Ticket, Until};
use crate::time::Instant;

/// What a partition waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The owner's position: nothing is read before it is known.
    Unplaced,
    /// Chunks are read, sent and acknowledged.
    Moving,
    /// Nothing: it stopped with a problem.
    Stopped,
}

/// What a chunk counts beyond its body: head, handles, queues and acknowledgement on both sides, rounded up. It bounds
/// the number of tiny chunks under way, which their bodies would not.
pub(super) const CHUNK_COST_BYTES: u64 = 4096;

/// What a chunk counts against the budgets.
pub(super) fn weight(chunk: &ShipChunk) -> u64 {
    chunk.body.len() as u64 + CHUNK_COST_BYTES
}

/// A chunk that was sent and is not committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flown {
    pub(super) end: Offset,
    /// By [`weight`].
    pub(super) weight: u64,
}

/// Where reading ended, and why.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    /// The source has no more.
    Exhausted { end: Offset },
    /// What follows is damaged: everything before it is still shipped.
    Damaged { end: Offset },
}

impl Ending {
    pub(super) fn end(&self) -> Offset {
        match self {
            Self::Exhausted { end } | Self::Damaged { end } => *end,
        }
    }
}

/// One partition.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent marks of lists and of what was told, not a state")]
pub(super) struct Track {
    pub(super) shard: ShardId,
    pub(super) source: SourceState,
    pub(super) phase: Phase,
    /// The owner's marks in the lane's epoch.
    pub(super) marks: PartitionMarks,
    /// The next offset to read.
    pub(super) cursor: Offset,
    pub(super) reading: Option<Ticket>,
    /// Read, not sent.
    pub(super) boxed: VecDeque<ShipChunk>,
    /// Weight of `boxed`.
    pub(super) boxed_bytes: u64,
    /// Sent, not committed.
    pub(super) flight: VecDeque<Flown>,
    /// Weight of `flight`.
    pub(super) flight_bytes: u64,
    pub(super) ending: Option<Ending>,
    /// The ring must be asked about a message first.
    pub(super) doubt: Option<Doubt>,
    /// The last rewind that the owner asked for: its echoes are ignored for a while.
    pub(super) rewound: Option<(Offset, Instant)>,
    /// The owner found damage once; twice stops the partition.
    pub(super) corrupt_once: bool,
    /// Stands in its lane's list of partitions to read.
    pub(super) in_ready: bool,
    /// Stands in its lane's list of partitions to send.
    pub(super) in_sendable: bool,
    /// Damage was reported: what is before it is still shipped, but the partition counts as stopped.
    pub(super) damaged: bool,
    /// Counted as settled.
    pub(super) settled: bool,
    /// The owner said at least once where it stands.
    pub(super) placed: bool,
}

impl Track {
    pub(super) fn new(shard: ShardId, source: SourceState) -> Self {
        Self {
            shard,
            source,
            phase: Phase::Unplaced,
            marks: zero_marks(source.partition),
            cursor: Offset(0),
            reading: None,
            boxed: VecDeque::new(),
            boxed_bytes: 0,
            flight: VecDeque::new(),
            flight_bytes: 0,
            ending: None,
            doubt: None,
            rewound: None,
            corrupt_once: false,
            in_ready: false,
            in_sendable: false,
            damaged: false,
            settled: false,
            placed: false,
        }
    }

    /// Forgets what was read and sent; answers how many bytes that frees (boxed, in flight).
    pub(super) fn drop_work(&mut self) -> (u64, u64) {
        self.boxed.clear();
        self.flight.clear();
        self.reading = None;
        (core::mem::take(&mut self.boxed_bytes), core::mem::take(&mut self.flight_bytes))
    }

    /// Takes what the owner says, within one epoch: marks only grow there.
    pub(super) fn raise_marks(&mut self, marks: &PartitionMarks) {
        if marks.next >= self.marks.next {
            self.marks.next = marks.next;
            self.marks.last = marks.last;
        }
        self.marks.committed = self.marks.committed.max(marks.committed);
        self.marks.stored = self.marks.stored.max(marks.stored);
    }

    /// Frees what is committed; answers its weight and how many chunks that were.
    pub(super) fn land(&mut self) -> (u64, u64) {
        let (mut landed, mut chunks) = (0, 0);
        while let Some(flown) = self.flight.pop_front_if(|flown| flown.end <= self.marks.committed) {
            landed += flown.weight;
            chunks += 1;
        }
        self.flight_bytes -= landed;
        (landed, chunks)
    }

    /// Whether another read makes sense now, budgets aside.
    pub(super) fn wants_read(&self, window: u64) -> bool {
        self.phase == Phase::Moving
            && self.reading.is_none()
            && self.ending.is_none()
            && self.doubt.is_none()
            && self.boxed_bytes + self.flight_bytes < window
    }

    /// Whether everything before the ending is where it should be.
    pub(super) fn arrived(&self, until: Until) -> bool {
        let Some(ending) = &self.ending else { return false };
        let mark = match until {
            Until::Committed => self.marks.committed,
            Until::Stored => self.marks.stored,
            Until::Stopped => return false,
        };
        self.phase == Phase::Moving && self.doubt.is_none() && self.boxed.is_empty() && mark >= ending.end()
    }

    /// Messages of the source's range below a mark.
    pub(super) fn below(&self, mark: Offset) -> u64 {
        mark.0.saturating_sub(self.source.start.0)
    }
}

fn zero_marks(partition: PartitionKey) -> PartitionMarks {
    PartitionMarks { partition, next: Offset(0), committed: Offset(0), stored: Offset(0), last: None }
}
