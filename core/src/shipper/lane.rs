//! One shard as its shipper sees it: who owns it, and which partitions of it want what.

use std::collections::{BTreeSet, VecDeque};

use kennel_protocol::ids::{Epoch, NodeId, PartitionKey};

use crate::time::Instant;

/// One shard. A partition is in at most one of `unplaced` and `asked`.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The newest epoch heard of.
    pub(super) epoch: Epoch,
    /// Who owns it in that epoch, if known.
    pub(super) owner: Option<NodeId>,
    /// Refused: nothing is asked or sent before this time.
    pub(super) paused_until: Option<Instant>,
    /// Refusals since the last progress.
    pub(super) failures: u32,
    /// All partitions of the shard.
    pub(super) partitions: BTreeSet<PartitionKey>,
    /// Positions unknown, not asked.
    pub(super) unplaced: BTreeSet<PartitionKey>,
    /// Positions asked, not answered.
    pub(super) asked: BTreeSet<PartitionKey>,
    /// When they were asked.
    pub(super) asked_at: Instant,
    /// Partitions of which the ring must be asked about a message.
    pub(super) doubtful: BTreeSet<PartitionKey>,
    /// Of those, asked and not answered.
    pub(super) comparing: BTreeSet<PartitionKey>,
    /// While asked, when the answer counts as lost; else when to ask.
    pub(super) compare_at: Instant,
    /// Partitions that may be read, round robin.
    pub(super) ready: VecDeque<PartitionKey>,
    /// Partitions with chunks to send, round robin.
    pub(super) sendable: VecDeque<PartitionKey>,
    /// Partitions with chunks in flight.
    pub(super) flying: BTreeSet<PartitionKey>,
    /// Partitions read to their end and not yet where they should be.
    pub(super) awaited: BTreeSet<PartitionKey>,
    /// Where the next poll of `awaited` starts.
    pub(super) poll_after: Option<PartitionKey>,
    /// Reads under way.
    pub(super) reads: usize,
    /// Bytes read or being read and not acknowledged.
    pub(super) held: u64,
    /// Bytes read and not sent.
    pub(super) boxed: u64,
    /// When the owner last moved a mark, or the first chunk left after a quiet time.
    pub(super) progress_at: Instant,
    /// When the owner was last heard or asked about `awaited`.
    pub(super) polled_at: Instant,
}

impl Lane {
    /// The node to speak to now, if there is one.
    pub(super) fn open_to(&self, sessions: &BTreeSet<NodeId>) -> Option<NodeId> {
        self.owner.filter(|owner| self.paused_until.is_none() && sessions.contains(owner))
    }
}
