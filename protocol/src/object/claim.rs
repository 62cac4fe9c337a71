//! The claim: the numbered object that makes a node the owner of a shard. Never changed, never deleted.

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::{Epoch, JournalId, NodeId, ProcessId, ShardId};

/// The journals that hold a shard's entries in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Copyset {
    /// The journals and the nodes that held them when the claim was made; the owner's own is the first.
    pub copies: Vec<(JournalId, NodeId)>,
    /// How many of them must hold an entry before it is committed: a majority.
    pub quorum: u8,
}

impl Copyset {
    /// A copy set with a majority quorum.
    pub fn majority(copies: Vec<(JournalId, NodeId)>) -> Self {
        let quorum = u8::try_from(copies.len() / 2 + 1).expect("a copy set is small");
        Self { copies, quorum }
    }

    /// Whether a journal is one of the copies.
    pub fn names(&self, journal: JournalId) -> bool {
        self.copies.iter().any(|(copy, _)| *copy == journal)
    }

    /// How many authentic answers are sure to meet every quorum: `n - q + 1` (PROTOCOL R1, R2).
    pub fn seals_needed(&self) -> usize {
        self.copies.len() - usize::from(self.quorum) + 1
    }
}

/// Who owns a shard in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Claim {
    /// Which shard.
    pub shard: ShardId,
    /// Which epoch: the number in the claim's key.
    pub epoch: Epoch,
    /// The owner.
    pub node: NodeId,
    /// The one process start that this epoch belongs to (PROTOCOL R4).
    pub process: ProcessId,
    /// Where its entries are journaled.
    pub copyset: Copyset,
}
