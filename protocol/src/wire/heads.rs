//! The archived heads of messages whose bodies travel in the payload: the same fields without the bytes.
//!
//! A body's length and checksum are in its [`EntryHead`]; the payload holds the bodies in the order of the heads.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::{Entry, EntryHead, HoleReason, NumberedEntry};
use crate::frame::{Payload, PayloadShort};
use crate::ids::{Epoch, Lsn, Offset, PartitionKey, ShardId};
use crate::wire::{
    Copy, CopyEntry, CopySource, Fetched, Landed, LandingOutcome, Pulled, Served, ShardStamp, Ship, ShipChunk,
};

/// A message that is split into an archived head and the bodies of the payload.
pub(crate) trait Split: Sized {
    /// What is archived.
    type Head;

    /// Takes the message apart. Bodies are shared, not copied.
    fn split(&self) -> (Self::Head, Payload);

    /// Puts it together again, taking the bodies off the payload in order.
    fn join(head: Self::Head, payload: &mut Payload) -> Result<Self, PayloadShort>;
}

/// See [`Ship`].
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct ShipHead {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) chunks: Vec<EntryHead>,
}

impl Split for Ship {
    type Head = ShipHead;

    fn split(&self) -> (ShipHead, Payload) {
        let chunks = self.chunks.iter().map(|chunk| chunk.head.clone()).collect();
        let bodies = self.chunks.iter().map(|chunk| chunk.body.clone()).collect::<Vec<Bytes>>();
        (ShipHead { shard: self.shard, epoch: self.epoch, chunks }, Payload::from(bodies))
    }

    fn join(head: ShipHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        let mut chunks = Vec::with_capacity(head.chunks.len());
        for chunk in head.chunks {
            let body = payload.take(chunk.body_bytes as usize)?;
            chunks.push(ShipChunk { head: chunk, body });
        }
        Ok(Self { shard: head.shard, epoch: head.epoch, chunks })
    }
}

/// See [`Pulled`].
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct PulledHead {
    pub(crate) stamp: ShardStamp,
    pub(crate) gather: Epoch,
    pub(crate) entries: Vec<(Lsn, EntryHead)>,
}

impl Split for Pulled {
    type Head = PulledHead;

    fn split(&self) -> (PulledHead, Payload) {
        let entries = self.entries.iter().map(|numbered| (numbered.lsn, numbered.entry.head.clone())).collect();
        let bodies = self.entries.iter().map(|numbered| numbered.entry.body.clone()).collect::<Vec<Bytes>>();
        (PulledHead { stamp: self.stamp, gather: self.gather, entries }, Payload::from(bodies))
    }

    fn join(head: PulledHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        let mut entries = Vec::with_capacity(head.entries.len());
        for (lsn, entry) in head.entries {
            let body = payload.take(entry.body_bytes as usize)?;
            entries.push(NumberedEntry { lsn, entry: Entry { head: entry, body } });
        }
        Ok(Self { stamp: head.stamp, gather: head.gather, entries })
    }
}

/// See [`CopySource`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) enum CopySourceHead {
    Inline(EntryHead),
    Adopt(Epoch, Lsn),
}

/// See [`struct@Copy`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct CopyHead {
    pub(crate) stamp: ShardStamp,
    pub(crate) entries: Vec<(Lsn, CopySourceHead)>,
    pub(crate) committed: Lsn,
    pub(crate) stored: Lsn,
    pub(crate) open: bool,
    pub(crate) released: bool,
}

impl Split for Copy {
    type Head = CopyHead;

    fn split(&self) -> (CopyHead, Payload) {
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut bodies = Vec::with_capacity(self.entries.len());
        for CopyEntry { lsn, source } in &self.entries {
            match source {
                CopySource::Inline(entry) => {
                    entries.push((*lsn, CopySourceHead::Inline(entry.head.clone())));
                    bodies.push(entry.body.clone());
                }
                CopySource::Adopt { epoch, lsn: adopted } => {
                    entries.push((*lsn, CopySourceHead::Adopt(*epoch, *adopted)));
                }
            }
        }
        let Self { stamp, committed, stored, open, released, .. } = *self;
        (CopyHead { stamp, entries, committed, stored, open, released }, Payload::from(bodies))
    }

    fn join(head: CopyHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        let mut entries = Vec::with_capacity(head.entries.len());
        for (lsn, source) in head.entries {
            let source = match source {
                CopySourceHead::Inline(entry) => {
                    let body = payload.take(entry.body_bytes as usize)?;
                    CopySource::Inline(Entry { head: entry, body })
                }
                CopySourceHead::Adopt(epoch, adopted) => CopySource::Adopt { epoch, lsn: adopted },
            };
            entries.push(CopyEntry { lsn, source });
        }
        let CopyHead { stamp, committed, stored, open, released, .. } = head;
        Ok(Self { stamp, entries, committed, stored, open, released })
    }
}

/// See [`Fetched`]. The batches are the whole payload.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct FetchedHead {
    pub(crate) partition: PartitionKey,
    pub(crate) epoch: Epoch,
    pub(crate) start: Offset,
    pub(crate) next: Offset,
    pub(crate) trim: Offset,
    pub(crate) stored: Offset,
    pub(crate) committed: Offset,
    pub(crate) holes: Vec<(Offset, Offset, HoleReason)>,
    pub(crate) served: Served,
}

impl Split for Fetched {
    type Head = FetchedHead;

    fn split(&self) -> (FetchedHead, Payload) {
        let Self { partition, epoch, start, next, trim, stored, committed, ref holes, served, ref batches } = *self;
        let holes = holes.clone();
        let head = FetchedHead { partition, epoch, start, next, trim, stored, committed, holes, served };
        (head, Payload::from(batches.clone()))
    }

    fn join(head: FetchedHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        let FetchedHead { partition, epoch, start, next, trim, stored, committed, holes, served } = head;
        let batches = payload.take(payload.len())?;
        Ok(Self { partition, epoch, start, next, trim, stored, committed, holes, served, batches })
    }
}

/// See [`Landed`]. The batches are the whole payload, where they are not in the landing.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct LandedHead {
    pub(crate) fetched: FetchedHead,
    pub(crate) outcome: LandingOutcome,
}

impl Split for Landed {
    type Head = LandedHead;

    fn split(&self) -> (LandedHead, Payload) {
        let (fetched, payload) = self.fetched.split();
        (LandedHead { fetched, outcome: self.outcome }, payload)
    }

    fn join(head: LandedHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        Ok(Self { fetched: Fetched::join(head.fetched, payload)?, outcome: head.outcome })
    }
}
