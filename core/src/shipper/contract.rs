//! What a driver gives to the [`Shipper`](super::Shipper) and what it gets back: the closed sets of inputs and effects.
//!
//! Nothing here decides anything. A shipper persists nothing, so its effects are one list.

use core::fmt;
use core::time::Duration;

use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::{NodeId, Offset, PartitionKey, ShardId};
use kennel_protocol::wire::{CompareRequest, Compared, Positions, PositionsRequest, Ship, ShipAck, ShipChunk, View};

/// How far a partition must be in the ring before a shipper is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Journaled on a quorum.
    Committed,
    /// In the bucket.
    Stored,
    /// Never done: the source may grow for ever.
    Stopped,
}

/// The limits of a shipper. Byte counts are bodies read or being read and not yet acknowledged, 4 KiB more per chunk.
#[derive(Debug, Clone, Copy)]
pub struct ShipperConfig {
    /// Bytes in memory and on the way, all shards together.
    pub bytes_in_flight_max: u64,
    /// The same for one shard.
    pub shard_bytes_in_flight_max: u64,
    /// The same for one partition: small, so that one large partition does not starve the others.
    pub partition_bytes_in_flight_max: u64,
    /// What one read of the source should return, bytes. One whole batch may be larger.
    pub read_bytes: u32,
    /// How many reads may be under way.
    pub reads_max: usize,
    /// Chunks of several partitions are combined in one frame up to about this many bytes.
    pub ship_bytes_target: u64,
    /// At most this many chunks in one frame.
    pub ship_chunks_max: usize,
    /// At most this many partitions in one question for positions.
    pub positions_max: usize,
    /// Ask again where partitions stand if nothing was heard for so long while something is still awaited.
    pub poll_interval: Duration,
    /// Bytes in flight and no progress for so long: another node is asked for the view.
    pub progress_timeout: Duration,
    /// A question for the view or for positions counts as lost after so long.
    pub answer_timeout: Duration,
    /// First pause after a refusal; doubles with every further one, jittered.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// When a partition is done.
    pub until: Until,
}

impl Default for ShipperConfig {
    fn default() -> Self {
        Self {
            bytes_in_flight_max: 64 << 20,
            // A shard's lane is full at a third of the whole: three slow shards cannot stop the rest at once.
            shard_bytes_in_flight_max: 24 << 20,
            // Two round trips of 10 ms at 400 MB/s (one QUIC connection) are 8 MB.
            partition_bytes_in_flight_max: 8 << 20,
            read_bytes: 1 << 20,
            reads_max: 8,
            ship_bytes_target: 1 << 20,
            ship_chunks_max: 1024,
            // About 100 bytes an answer: 200 KiB frames.
            positions_max: 2048,
            poll_interval: Duration::from_millis(500),
            progress_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
            until: Until::Committed,
        }
    }
}

/// What the source offers of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceState {
    /// Which partition.
    pub partition: PartitionKey,
    /// First offset that the source still has.
    pub start: Offset,
    /// End of what it has, if it is known without reading. Naming another end than was reached makes the shipper look
    /// again: a higher one has more to ship, a lower one lost messages and may issue their offsets again.
    pub end: Option<Offset>,
}

/// Where one partition stands, for people and for whoever tells the source what it may forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPosition {
    /// Which partition.
    pub partition: PartitionKey,
    /// Where the source ends, as far as it has said.
    pub source_end: Option<Offset>,
    /// What the ring expects next; `None` before its owner was heard.
    pub next: Option<Offset>,
    /// Journaled on a quorum below it.
    pub committed: Offset,
    /// In the bucket below it.
    pub stored: Offset,
    /// Whether it stopped with a problem.
    pub stopped: bool,
}

/// Names one read, so that a late answer is told from the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A read of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRead {
    /// Comes back in [`SourceAnswer`].
    pub ticket: Ticket,
    /// Which partition.
    pub partition: PartitionKey,
    /// The first offset wanted.
    pub from: Offset,
    /// About how many bytes; at least one whole batch if there is one.
    pub bytes_max: u32,
}

/// The answer to a [`SourceRead`]; every read gets exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAnswer {
    /// Of which read.
    pub ticket: Ticket,
    /// Whole batches and holes, each starting where the one before it ends, the first at the offset asked for. Every
    /// chunk's `previous` is the message before it as this same source has it (PROTOCOL R15).
    pub chunks: Vec<ShipChunk>,
    /// What comes after them.
    pub rest: SourceRest,
}

/// What a source has after the chunks that it returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceRest {
    /// Probably more.
    More,
    /// Nothing, for now.
    Exhausted {
        /// Where the source ends. Below the offset asked for if the source is behind the ring.
        end: Offset,
        /// The message right before `end`, if the source has it.
        last: Option<MessageIdentity>,
    },
    /// Bytes that do not verify.
    Damaged(SourceDamage),
}

/// Where a source is damaged and how: for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDamage {
    /// The file, or whatever the source calls the place.
    pub place: String,
    /// Where in it, bytes.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for SourceDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.place, self.position, self.reason)
    }
}

/// Everything that can happen to a shipper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The first input: the shipper asks for the view.
    Start,
    /// What the source offers of a partition; again whenever that changes.
    Source(SourceState),
    /// The source has a partition no more: it was deleted, or purged and goes on as another incarnation. What is under
    /// way is forgotten; what the ring has stays there.
    SourceGone(PartitionKey),
    /// Every partition was named at least once: from now on the shipper may find itself done.
    SourcesListed,
    /// The answer to [`Effect::AskView`].
    View(View),
    /// No node answered [`Effect::AskView`].
    ViewFailed,
    /// A session to a node stands.
    SessionUp(NodeId),
    /// It fell, or could not be opened.
    SessionLost(NodeId),
    /// The answer to [`Effect::AskPositions`].
    Positions {
        /// Who answers.
        from: NodeId,
        /// The answer.
        positions: Positions,
    },
    /// A node refused or failed to answer [`Effect::AskPositions`]: it is not the owner.
    PositionsFailed {
        /// Who refused.
        from: NodeId,
        /// For which shard.
        shard: ShardId,
    },
    /// The answer to [`Effect::Compare`].
    Compared {
        /// Who answers.
        from: NodeId,
        /// The answer.
        compared: Compared,
    },
    /// A node refused or failed to answer [`Effect::Compare`].
    CompareFailed {
        /// For which shard.
        shard: ShardId,
    },
    /// An owner spoke.
    ShipAck {
        /// Who.
        from: NodeId,
        /// What it said.
        ack: ShipAck,
    },
    /// A read of the source finished.
    SourceRead(SourceAnswer),
    /// The time that [`poll_timeout`](super::Shipper::poll_timeout) named has come.
    Timeout,
    /// Stop at once. Nothing is lost: the ring is the cursor.
    Stop,
}

/// Why a partition does not move any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionProblem {
    /// PROTOCOL R15: two histories. Ship the source's under a new incarnation, or repair the source.
    #[error(
        "diverged at offset {}: the ring has {}, the source {}; see `Diverged` in docs/OPERATING.md",
        ring.offset, describe(ring), describe(source_message)
    )]
    Diverged {
        /// What the ring holds.
        ring: MessageIdentity,
        /// What the source holds.
        source_message: MessageIdentity,
    },
    /// The source's bytes do not verify. Repair the file from another server.
    #[error("the source is damaged: {0}")]
    Damaged(SourceDamage),
    /// The owner twice received bytes of this partition that do not verify. Check the host's memory and network.
    #[error("the owner found damaged bytes at offset {0}, also after they were read again")]
    CorruptOnArrival(Offset),
    /// The ring's log ends inside one of the source's batches.
    #[error("the ring expects offset {expected}, but the source's batch there starts at {base}")]
    Misaligned {
        /// What the ring expects.
        expected: Offset,
        /// Where the source's batch starts.
        base: Offset,
    },
    /// The shard halted; the node's log says why.
    #[error("shard {0} halted; the log of its node says why")]
    ShardHalted(ShardId),
}

/// News about one partition, for people and tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionNews {
    /// It stops; the others go on.
    Stopped(PartitionProblem),
    /// A range without messages is declared to the ring (PROTOCOL R16). May be said again after a rewind.
    Hole {
        /// First offset.
        from: Offset,
        /// End, exclusive.
        to: Offset,
        /// Why.
        reason: HoleReason,
    },
    /// The source ends below what the ring holds: waited for, not an error (PROTOCOL R15).
    Behind {
        /// Where the source ends.
        end: Offset,
        /// What the ring expects next.
        next: Offset,
        /// Whether the ring was seen to have the same last message. If not, it was trimmed there, or could not be asked.
        same: bool,
    },
}

fn describe(message: &MessageIdentity) -> String {
    format!("checksum {:016x} of {}", message.checksum, message.base_timestamp)
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a node for the view; one other than `avoid` if there is a choice.
    AskView {
        /// A node whose word is doubted.
        avoid: Option<NodeId>,
    },
    /// Open a session; answered by [`Input::SessionUp`] or [`Input::SessionLost`].
    Connect {
        /// To whom.
        node: NodeId,
        /// Its address, `ip:port`.
        address: String,
    },
    /// Ask an owner where partitions stand.
    AskPositions {
        /// Whom.
        node: NodeId,
        /// The question.
        request: PositionsRequest,
    },
    /// Ask an owner what it has where a source ends; answered by [`Input::Compared`] or [`Input::CompareFailed`].
    Compare {
        /// Whom.
        node: NodeId,
        /// The question.
        request: CompareRequest,
    },
    /// Read the source.
    ReadSource(SourceRead),
    /// Send chunks; frames of one shard keep their order.
    Send {
        /// To whom.
        node: NodeId,
        /// The chunks.
        ship: Ship,
    },
    /// Tell people.
    Report {
        /// About which partition.
        partition: PartitionKey,
        /// What.
        news: PartitionNews,
    },
    /// Every partition is where it should be, or stopped; or the shipper was told to stop. The last effect.
    Done,
}

/// What a call of `handle` wants done. A shipper persists nothing, so there is no list to finish first.
#[derive(Debug, Default)]
pub struct Effects {
    /// In this order.
    pub then: Vec<Effect>,
}

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.then.push(effect);
    }

    pub(super) fn report(&mut self, partition: PartitionKey, news: PartitionNews) {
        self.push(Effect::Report { partition, news });
    }
}

/// How far a shipper is: sums over all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShipperStatus {
    /// Partitions named by the source.
    pub partitions: usize,
    /// Of those, where they should be, or stopped.
    pub settled: usize,
    /// Of those, stopped.
    pub stopped: usize,
    /// Bytes sent, counting what was sent twice.
    pub bytes_sent: u64,
    /// Bytes that this shipper sent and a quorum has.
    pub bytes_committed: u64,
    /// Messages of the source's range that the ring has committed, whoever shipped them.
    pub messages_committed: u64,
    /// Of those, in the bucket.
    pub messages_stored: u64,
    /// What counts against the budgets: bodies read or being read and not acknowledged, and a fixed cost per chunk.
    pub bytes_held: u64,
}
