//! Between the nodes of one shard: claims asked about, entries copied, journals sealed.
//!
//! | message | from | to | says |
//! |---|---|---|---|
//! | `Ask` | candidate | node | may I claim? (binds nobody, PROTOCOL R1) |
//! | `AskAnswer` | node | candidate | my journal, the newest epoch I know, whether I hear its owner |
//! | `Seal` | claimant | copy | refuse every epoch below mine, for ever (R8, R9) |
//! | `SealAnswer` | copy | claimant | done, and this is what I hold of the epoch you ask about |
//! | `Pull` | claimant | copy | give me entries that I lack |
//! | `Pulled` | copy | claimant | the entries |
//! | `Copy` | owner | follower | append these in order; this much is committed and stored (R12) |
//! | `CopyAck` | follower | owner | durable up to here; or what I expect instead; or a newer epoch |

use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::{Entry, NumberedEntry};
use crate::ids::{Epoch, JournalId, Lsn, ProcessId, ShardId};

/// Which shard, in which epoch, by which process: on every message between nodes (PROTOCOL R4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub struct ShardStamp {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch of the claimant or owner that the exchange belongs to.
    pub epoch: Epoch,
    /// The process that holds that epoch.
    pub process: ProcessId,
}

/// A candidate asks whether its claim would find a reachable past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Ask {
    /// The epoch that the candidate would claim, and its process.
    pub stamp: ShardStamp,
    /// Tells this round's answers from those of earlier rounds.
    pub round: u64,
}

/// A node's answer. Binds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct AskAnswer {
    /// As in the question.
    pub stamp: ShardStamp,
    /// As in the question.
    pub round: u64,
    /// The journal of the node that answers.
    pub journal: JournalId,
    /// The newest epoch that this node sealed or follows.
    pub newest: Epoch,
    /// Whether a claimant or owner of that epoch was heard within the owner timeout.
    pub hears_owner: bool,
}

/// A claimant seals a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Seal {
    /// The claimant's epoch: everything below is to be refused.
    pub stamp: ShardStamp,
    /// The epoch whose entries the claimant gathers: the newest open one.
    pub gather: Epoch,
}

/// A copy's durable promise, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct SealAnswer {
    /// As in the request.
    pub stamp: ShardStamp,
    /// The journal that promises (PROTOCOL R5).
    pub journal: JournalId,
    /// The epoch gathered.
    pub gather: Epoch,
    /// The first entry of that epoch still held. Everything below is stored.
    pub from: Lsn,
    /// End of the entries of that epoch, exclusive; equal to `from` where none is held.
    pub end: Lsn,
    /// Set where the journal refuses because it has promised a newer epoch.
    pub fenced: Option<Epoch>,
}

/// A claimant asks for entries of the gathered epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Pull {
    /// The claimant's epoch.
    pub stamp: ShardStamp,
    /// The epoch gathered.
    pub gather: Epoch,
    /// First entry wanted.
    pub from: Lsn,
    /// End of the entries wanted, exclusive. The answer may stop earlier, at a byte limit.
    pub end: Lsn,
}

/// Entries of a gathered epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// As in the request.
    pub stamp: ShardStamp,
    /// The epoch gathered.
    pub gather: Epoch,
    /// The entries, dense from the requested `from`; empty if that is not held.
    pub entries: Vec<NumberedEntry>,
}

/// Where a follower finds the entry to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// Here.
    Inline(Entry),
    /// In its own journal under the gathered epoch: adopt, do not copy (PROTOCOL R10).
    Adopt {
        /// The gathered epoch.
        epoch: Epoch,
        /// The entry's place in it.
        lsn: Lsn,
    },
}

/// One entry of a [`struct@Copy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyEntry {
    /// Its place in the owner's epoch.
    pub lsn: Lsn,
    /// Where its bytes are.
    pub source: CopySource,
}

impl CopyEntry {
    fn body_bytes(&self) -> usize {
        match &self.source {
            CopySource::Inline(entry) => entry.body.len(),
            CopySource::Adopt { .. } => 0,
        }
    }
}

/// The owner's stream to one follower. Without entries it is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The owner.
    pub stamp: ShardStamp,
    /// Dense, in order.
    pub entries: Vec<CopyEntry>,
    /// End of what a quorum holds and may be read.
    pub committed: Lsn,
    /// End of what is in the bucket. A follower may drop all below, and may start here.
    pub stored: Lsn,
    /// The epoch's open record stands: entries of older epochs are covered by it (PROTOCOL R11).
    pub open: bool,
    /// The owner steps down on purpose: whoever is first on the ring may claim at once (PROTOCOL R27).
    pub released: bool,
}

/// A follower's answer to [`struct@Copy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct CopyAck {
    /// As in the copy.
    pub stamp: ShardStamp,
    /// The journal that answers (PROTOCOL R5).
    pub journal: JournalId,
    /// End of what this journal holds durably of the epoch.
    pub durable: Lsn,
    /// End of what it has accepted, durable or not: the next entry it takes.
    pub expected: Lsn,
    /// Set if entries from `expected` on must be sent inline: an adoption found nothing.
    pub inline: bool,
    /// Set where the journal refuses because it has promised a newer epoch.
    pub fenced: Option<Epoch>,
}

/// Any message between the nodes of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardMessage {
    /// See [`Ask`].
    Ask(Ask),
    /// See [`AskAnswer`].
    AskAnswer(AskAnswer),
    /// See [`Seal`].
    Seal(Seal),
    /// See [`SealAnswer`].
    SealAnswer(SealAnswer),
    /// See [`Pull`].
    Pull(Pull),
    /// See [`Pulled`].
    Pulled(Pulled),
    /// See [`struct@Copy`].
    Copy(Copy),
    /// See [`CopyAck`].
    CopyAck(CopyAck),
}

impl ShardMessage {
    /// The stamp that every one of them carries.
    pub fn stamp(&self) -> ShardStamp {
        match self {
            Self::Ask(message) => message.stamp,
            Self::AskAnswer(message) => message.stamp,
            Self::Seal(message) => message.stamp,
            Self::SealAnswer(message) => message.stamp,
            Self::Pull(message) => message.stamp,
            Self::Pulled(message) => message.stamp,
            Self::Copy(message) => message.stamp,
            Self::CopyAck(message) => message.stamp,
        }
    }

    /// Bytes of the bodies that it carries.
    pub fn body_bytes(&self) -> usize {
        match self {
            Self::Copy(copy) => copy.entries.iter().map(CopyEntry::body_bytes).sum(),
            Self::Pulled(pulled) => pulled.entries.iter().map(|numbered| numbered.entry.body.len()).sum(),
            _ => 0,
        }
    }
}
