//! Answers that a node writes into memory of the reader, and copies into a follower's, by RDMA where there is a card.
//!
//! A reader asks once in a session whether the node has the same provider. Then each of its fetches may carry the advert
//! of one landing, and the answer says what became of that. What an advert means is for the fabric to know: here it is a
//! bounded run of bytes.
//!
//! Nodes lend each other landings ahead, some in each session: a copy then costs one message after its bytes are there,
//! and no question before.

use core::fmt;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::frame::{Payload, PayloadShort};
use crate::wire::heads::{CopyHead, CopySourceHead, Split};
use crate::wire::{Copy, Fetch, Fetched, ShardStamp};

/// A reader asks whether the node places answers by its provider.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct FabricRequest {
    /// The reader's provider: both sides must have the same one.
    pub provider: String,
}

/// Whether it does.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct FabricOffer {
    /// The provider that was asked for; `None` where the node's fabric is off, does not work, or is another's.
    pub provider: Option<String>,
}

/// Asks for batches of one partition, and says where they may be written.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct FetchInto {
    /// What is asked for.
    pub fetch: Fetch,
    /// The landing, for this answer and no other.
    pub advert: AdvertBytes,
}

/// An encoded advert. It holds a key to memory of the reader, so it travels inside of TLS and is not shown in logs.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AdvertBytes(pub Vec<u8>);

impl fmt::Debug for AdvertBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdvertBytes(..)")
    }
}

impl fmt::Debug for ArchivedAdvertBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdvertBytes(..)")
    }
}

/// The answer to a [`FetchInto`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    /// As a fetch is answered. Its batches are empty where they lie in the landing.
    pub fetched: Fetched,
    /// What became of the landing.
    pub outcome: LandingOutcome,
}

/// What became of a landing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum LandingOutcome {
    /// So many bytes of batches lie in it, from its first byte on. The node is done with it.
    Placed(u32),
    /// Nothing was written into it, nor will be. The batches are in the payload.
    Untouched,
    /// An attempt failed or did not end in time: something may have been written, or may still be. The batches are in the
    /// payload, and the reader must not use the landing again under its key.
    Unknown,
}

/// Names a landing that one node has lent another. Never used again by the node that lent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LandingId(pub u64);

/// A node asks another for landings, and says what became of those that it does not use.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LandingsRequest {
    /// Its provider: both sides must have the same one.
    pub provider: String,
    /// How many more it has use for. None: it only gives back.
    pub wanted: u16,
    /// An answer was lost: everything that was lent in this session before is given up.
    pub anew: bool,
    /// Nothing was written into these, nor will be.
    pub unused: Vec<LandingId>,
    /// Something may have been written into these, or may still be: they must not be used again under their keys.
    pub given_up: Vec<LandingId>,
}

/// A landing for one copy of this session.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct LentLanding {
    /// What a [`PlacedCopy`] names it by.
    pub id: LandingId,
    /// Where it is.
    pub advert: AdvertBytes,
}

/// Landings that are lent: as many as were wanted, or fewer.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Landings {
    /// Whether this node has the same provider. If not, asking again in this session is of no use.
    pub offered: bool,
    /// Each for one copy.
    pub lent: Vec<LentLanding>,
}

/// A [`struct@Copy`] whose bodies lie in a landing, in the order of its entries. The owner is done with it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PlacedCopy {
    /// Which landing.
    pub landing: LandingId,
    head: CopyHead,
}

impl PlacedCopy {
    /// Takes a copy apart: what is said of it, and the bodies to be placed. They are shared, not copied.
    pub fn new(copy: &Copy, landing: LandingId) -> (Self, Payload) {
        let (head, bodies) = copy.split();
        (Self { landing, head }, bodies)
    }

    /// Its stamp, as every message between the nodes of a shard has one.
    pub fn stamp(&self) -> ShardStamp {
        self.head.stamp
    }

    /// Bytes of all bodies.
    pub fn body_bytes(&self) -> usize {
        self.inline().fold(0, |sum, head| sum.saturating_add(head.body_bytes as usize))
    }

    /// The copy, with what lay in the landing. Whether these are the bodies that it announces is for
    /// [`crate::entry::Entry::verify_body`] to find out, as for those that came with a message.
    pub fn fill(self, bodies: Bytes) -> Result<Copy, PayloadShort> {
        Copy::join(self.head, &mut Payload::from(bodies))
    }

    /// The heads of the entries that have bodies.
    pub(crate) fn inline(&self) -> impl Iterator<Item = &crate::entry::EntryHead> {
        self.head.entries.iter().filter_map(|(_, source)| match source {
            CopySourceHead::Inline(head) => Some(head),
            CopySourceHead::Adopt(..) => None,
        })
    }

    pub(crate) fn entry_count(&self) -> usize {
        self.head.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::inspect_chunk;
    use crate::builder::BatchBuilder;
    use crate::entry::Entry;
    use crate::ids::{Epoch, Lsn, Offset, PartitionKey, ProcessId, ShardId};
    use crate::wire::{CopyEntry, CopySource};

    fn copy() -> Copy {
        let partition: PartitionKey = "1/2/3".parse().expect("a partition");
        let entry = |base| {
            let body = BatchBuilder::new(partition.partition, Offset(base), 7).payload(b"one").build();
            let entry = Entry { head: inspect_chunk(partition, &body).expect("a valid batch"), body };
            CopyEntry { lsn: Lsn(base), source: CopySource::Inline(entry) }
        };
        let adopted = CopyEntry { lsn: Lsn(1), source: CopySource::Adopt { epoch: Epoch(1), lsn: Lsn(9) } };
        let stamp = ShardStamp { process: ProcessId(1), shard: ShardId(3), epoch: Epoch(2) };
        let entries = vec![entry(0), adopted, entry(2)];
        Copy { stamp, entries, committed: Lsn(0), stored: Lsn(0), open: true, released: false }
    }

    #[test]
    fn a_copy_is_put_together_from_its_landing() {
        let copy = copy();
        let (placed, bodies) = PlacedCopy::new(&copy, LandingId(4));
        assert_eq!((placed.stamp(), placed.body_bytes()), (copy.stamp, bodies.len()));
        assert_eq!(placed.fill(bodies.into_contiguous()), Ok(copy));
    }

    #[test]
    fn a_landing_with_less_than_was_announced_is_no_copy() {
        let (placed, bodies) = PlacedCopy::new(&copy(), LandingId(4));
        let bodies = bodies.into_contiguous();
        assert!(placed.fill(bodies.slice(1..)).is_err());
    }
}
