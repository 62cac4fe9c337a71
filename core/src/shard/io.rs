//! What goes into a shard machine and what comes out of it.
//!
//! Effects are three lists. `copies` promise nothing and may leave at once. Everything in `then` waits until everything
//! in `persist` is durable: that is the rule by which an acknowledgement can never outrun the disk. The driver
//! keeps the order of `handle` calls for `persist` and for what is local in `then` ([`Then::is_local`]), and tells shippers
//! of commits in the same order ([`Then::tells_of_commits`]). What else goes elsewhere and waits for no persist of its own
//! call leaves at once: a slow disk must not hold up what others have made durable.

use std::sync::Arc;

use bytes::Bytes;
use kennel_protocol::entry::{Entry, NumberedEntry};
use kennel_protocol::ids::{Epoch, JournalId, Lsn, NodeId, Offset, PartitionKey, ShardId, Slot};
use kennel_protocol::object::{Claim, LogHeader, Manifest, OpenRecord, SealObject, SlotObject};
use kennel_protocol::wire::{Copy, Positions, PositionsRequest, ShardMessage, Ship, ShipAck};

use super::divergence::Divergence;
use super::note::Note;

/// A shipper's connection, numbered by the driver from 1 on: 0 is no shipper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Ties a bucket request to its result. Never reused by one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u64);

/// Ties a list of persists to the word that they are durable. Rises by one per list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// Who is alive and how this shard's candidates rank, after the change has settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Live nodes and the journals they hold, in id order.
    pub members: Vec<(NodeId, JournalId)>,
    /// The live nodes in the ring's order for this shard, best first.
    pub candidates: Vec<NodeId>,
}

impl Placement {
    /// The node that holds a journal, if it is alive.
    pub fn holder(&self, journal: JournalId) -> Option<NodeId> {
        self.members.iter().find(|(_, held)| *held == journal).map(|(node, _)| *node)
    }

    /// The journal that a live node holds.
    pub fn journal_of(&self, node: NodeId) -> Option<JournalId> {
        self.members.iter().find(|(member, _)| *member == node).map(|(_, journal)| *journal)
    }
}

/// What a journal still held of a shard when the process started.
#[derive(Debug, Clone, Default)]
pub struct RecoveredShard {
    /// The newest epoch that this journal promised to (PROTOCOL R9).
    pub sealed: Epoch,
    /// Per epoch the entries that verify, in order of their numbers, dense. Their bodies may be away: in the journal.
    pub runs: Vec<(Epoch, Vec<NumberedEntry>)>,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The settled placement changed.
    Placement(Arc<Placement>),
    /// A node of the shard said something. Bodies were verified by the edge.
    Peer {
        /// Which node.
        from: NodeId,
        /// What it said.
        message: ShardMessage,
    },
    /// A shipper sent chunks. Bodies were verified by the edge.
    Ship {
        /// Which connection.
        session: SessionId,
        /// The chunks.
        ship: Ship,
    },
    /// A shipper asks where partitions stand.
    Positions {
        /// Which connection.
        session: SessionId,
        /// Ties the answer to the question.
        correlation: u64,
        /// Which partitions.
        request: PositionsRequest,
    },
    /// Everything in the `persist` list of this number is durable. A journal that fails poisons the node instead.
    Persisted(PersistId),
    /// A source has another message at an offset than the ring, as a comparison outside of the machine found (PROTOCOL R15).
    Diverged(PartitionKey, Divergence),
    /// Whether the journal takes more entries from shippers.
    JournalRoom(bool),
    /// Bodies that were asked for with [`Then::Load`], as far as the journal still has them. Always comes back.
    Loaded {
        /// Whose order.
        epoch: Epoch,
        /// First entry asked for.
        from: Lsn,
        /// The bodies, verified.
        bodies: Vec<(Lsn, Bytes)>,
    },
    /// A bucket request came back.
    Bucket(BucketId, BucketResult),
    /// The time asked for has come.
    Timeout,
    /// An operator accepts the loss of what unreachable journals alone hold (PROTOCOL R2).
    Force,
    /// Publish what there is, hand over, own nothing more.
    Stop,
}

/// What became of a create-if-absent. Failed is not Unknown (DESIGN 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The object stands, with these bytes.
    Done,
    /// Something may stand there, perhaps this very object. Read back.
    Exists,
    /// Nothing was written.
    Failed,
    /// It may have been written. Read back.
    Unknown,
}

/// What a bucket request came back with.
#[derive(Debug, Clone)]
pub enum BucketResult {
    /// Answers `FindClaim` and `ReadClaim`.
    Claim(Option<Claim>),
    /// Answers `ReadSlot`.
    Slot(Option<Arc<SlotObject>>),
    /// Answers `NewestManifest`.
    Manifest(Option<Arc<Manifest>>),
    /// Answers the creates.
    Created(CreateOutcome),
    /// A read did not answer. Says nothing about the object.
    Unreachable,
    /// A read found something that is not what it must be: damaged, or of a version this build cannot read.
    Unreadable(String),
}

/// What a slot is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotBody {
    /// The open record.
    Open(OpenRecord),
    /// A log object over these entries, encoded the same way every time (PROTOCOL R20).
    Log {
        /// Its identity.
        header: LogHeader,
        /// What it holds, in LSN order.
        entries: Vec<NumberedEntry>,
    },
    /// The end of the log.
    Seal(SealObject),
}

/// Something to do with the bucket.
#[derive(Debug, Clone)]
pub enum BucketRequest {
    /// Read claims upward from this epoch (exclusive) until one is absent; answer the newest found, if any. From epoch 0
    /// the driver may list once instead (PROTOCOL R3).
    FindClaim {
        /// The newest epoch known.
        above: Epoch,
    },
    /// Read one claim.
    ReadClaim {
        /// Which.
        epoch: Epoch,
    },
    /// Create a claim if absent.
    CreateClaim(Claim),
    /// Read one slot, bodies aside.
    ReadSlot {
        /// Whose log.
        epoch: Epoch,
        /// Which slot.
        slot: Slot,
    },
    /// Create a slot if absent.
    CreateSlot {
        /// Whose log.
        epoch: Epoch,
        /// Which slot.
        slot: Slot,
        /// What it is to hold. A retry passes the same handle.
        body: Arc<SlotBody>,
    },
    /// Read the newest manifest of the newest epoch.
    NewestManifest,
    /// Create a manifest if absent.
    CreateManifest(Arc<Manifest>),
    /// Delete collected slots `[from, end)` of an epoch's log, but never a seal.
    DeleteSlots {
        /// Whose log.
        epoch: Epoch,
        /// First slot.
        from: Slot,
        /// End of the slots, exclusive.
        end: Slot,
    },
}

/// A record for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// An entry of an epoch.
    Entry {
        /// Whose order.
        epoch: Epoch,
        /// Its place.
        lsn: Lsn,
        /// The entry; the driver writes head and body.
        entry: Entry,
        /// May use the space kept for recovery (PROTOCOL R10).
        recovery: bool,
    },
    /// An entry of an epoch whose bytes this journal holds under another (PROTOCOL R10).
    Adopted {
        /// Whose order.
        epoch: Epoch,
        /// Its place.
        lsn: Lsn,
        /// Under which epoch the bytes lie.
        source_epoch: Epoch,
        /// At which place.
        source_lsn: Lsn,
    },
    /// The promise to refuse everything below this epoch (PROTOCOL R9).
    Sealed(Epoch),
}

/// What this node is to the shard, for the view and for readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleChange {
    /// Owns the shard: open, taking chunks.
    Owner {
        /// In this epoch.
        epoch: Epoch,
    },
    /// Does not, whatever it was before; the newest epoch it knows.
    NotOwner {
        /// The newest epoch known.
        epoch: Epoch,
        /// Its owner, if known.
        owner: Option<NodeId>,
    },
    /// Will do nothing more for this shard until an operator has looked.
    Halted,
}

/// What happens once everything persisted is durable.
#[derive(Debug, Clone)]
pub enum Then {
    /// To another node.
    Send {
        /// Which.
        to: NodeId,
        /// What.
        message: ShardMessage,
    },
    /// To a shipper.
    Ack {
        /// Which connection.
        session: SessionId,
        /// What.
        ack: ShipAck,
    },
    /// To a shipper that asked.
    Positions {
        /// Which connection.
        session: SessionId,
        /// As in the question.
        correlation: u64,
        /// The answer; refused with `None` where this node is not the open owner.
        answer: Option<Positions>,
    },
    /// To the bucket.
    Bucket {
        /// Comes back with the result.
        id: BucketId,
        /// What to do.
        request: BucketRequest,
    },
    /// These entries are committed: readers may see them. In order, once each per epoch; after a take-over entries can
    /// come again under the new epoch. Bodies may be away: in the journal.
    Committed {
        /// Whose order.
        epoch: Epoch,
        /// The entries.
        entries: Vec<NumberedEntry>,
    },
    /// Entries of the epoch below this number were committed and stored, and this copy was never given them. Readers here
    /// get them from the bucket; where partitions end, this node does not know until more is committed in them.
    Skipped {
        /// Whose order.
        epoch: Epoch,
        /// End of what will never be shown here, exclusive.
        below: Lsn,
    },
    /// These slots of the own log are stored, in slot order.
    SlotStored {
        /// Whose log.
        epoch: Epoch,
        /// Which slot.
        slot: Slot,
        /// The new ends of the partitions it holds.
        ends: Vec<(PartitionKey, Offset)>,
    },
    /// A follower heard that these ends of partitions are in the bucket: its readers' memory may let go of what is below.
    Stored {
        /// The new ends.
        ends: Vec<(PartitionKey, Offset)>,
    },
    /// Read bodies back from the journal; [`Input::Loaded`] brings them. Every entry of the range is durable here.
    Load {
        /// Whose order.
        epoch: Epoch,
        /// First entry.
        from: Lsn,
        /// End, exclusive.
        end: Lsn,
    },
    /// The journal may forget this shard's entries of an epoch below a number.
    Free {
        /// Whose order.
        epoch: Epoch,
        /// End of what may be forgotten, exclusive.
        below: Lsn,
    },
    /// What this node is to the shard changed.
    Role(RoleChange),
    /// Something that people should read. Never needed for correctness.
    Note(Note),
}

impl Then {
    /// Whether it changes what this node itself shows and is: that happens in the order of the calls, also where a call
    /// with nothing to persist follows one that still waits for the disk. Entries that are shown after later ones would
    /// leave a gap in the readers' memory.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Committed { .. }
            | Self::Skipped { .. }
            | Self::SlotStored { .. }
            | Self::Stored { .. }
            | Self::Role(_)
            | Self::Note(_) => true,
            // A full journal waits for frees: they may wait for nothing.
            Self::Free { .. }
            | Self::Send { .. }
            | Self::Ack { .. }
            | Self::Positions { .. }
            | Self::Bucket { .. }
            | Self::Load { .. } => false,
        }
    }

    /// Whether it tells a shipper what is committed: never before this node's own readers can see it. A shipper's program
    /// may read here what it was just told of.
    pub fn tells_of_commits(&self) -> bool {
        matches!(self, Self::Ack { .. } | Self::Positions { .. })
    }
}

/// What to do, in order. See the module's documentation for what waits for what.
#[derive(Debug, Default)]
pub struct Effects {
    /// Entries on their way to followers: they promise nothing, so they need not wait for the own disk.
    pub copies: Vec<(NodeId, Copy)>,
    /// Comes back in [`Input::Persisted`] if `persist` is not empty.
    pub persist_id: Option<PersistId>,
    /// For the journal, in order.
    pub persist: Vec<Persist>,
    /// Everything else, after `persist` is durable.
    pub then: Vec<Then>,
}

impl Effects {
    /// No effects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.persist.is_empty() && self.then.is_empty()
    }

    /// Bytes of bodies to journal.
    pub fn persist_bytes(&self) -> usize {
        self.persist
            .iter()
            .map(|persist| match persist {
                Persist::Entry { entry, .. } => entry.body.len(),
                Persist::Adopted { .. } | Persist::Sealed(_) => 0,
            })
            .sum()
    }

    pub(crate) fn then(&mut self, then: Then) {
        self.then.push(then);
    }

    /// Asks for bodies. A range that is on its way already is dropped when the call ends.
    pub(crate) fn load(&mut self, epoch: Epoch, range: core::ops::Range<Lsn>) {
        self.then.push(Then::Load { epoch, from: range.start, end: range.end });
    }

    pub(crate) fn send(&mut self, to: NodeId, message: ShardMessage) {
        self.then.push(Then::Send { to, message });
    }
}

/// What operators and tests may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStatus {
    /// Which shard.
    pub shard: ShardId,
    /// `owner`, `follower`, `candidate`, `claimant`, `idle`, `halted`.
    pub role: &'static str,
    /// The newest epoch known.
    pub epoch: Epoch,
    /// Its owner, if known.
    pub owner: Option<NodeId>,
    /// The nodes whose journals the claim names.
    pub copies: Vec<NodeId>,
    /// End of the entries held.
    pub tail: Lsn,
    /// End of what is committed, as far as known.
    pub committed: Lsn,
    /// End of what is stored, as far as known.
    pub stored: Lsn,
    /// Bytes that wait for the bucket.
    pub unstored_bytes: u64,
    /// How many of them are in memory; the rest lies in the journal only.
    pub resident_bytes: u64,
    /// How many reads of the journal are on their way.
    pub reads_flying: usize,
    /// How many partitions the owner knows.
    pub partitions: usize,
    /// How many of them have a source that differs.
    pub diverged_partitions: usize,
    /// The first of those, in key order.
    pub diverged: Vec<(PartitionKey, Divergence)>,
    /// The next slot of the own log.
    pub slot: Slot,
    /// Why it waits or halted, for people.
    pub note: Option<String>,
}
