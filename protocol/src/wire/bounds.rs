//! What every message must keep to, whoever sent it: list and text lengths, and entries that do not contradict
//! themselves. Whether a message makes sense at this moment is not asked here.

use bytes::Bytes;

use crate::entry::{EntryHead, EntryHeadError};
use crate::limits::{
    ADVERT_BYTES_MAX, COMPARISONS_PER_FRAME_MAX, ENTRIES_PER_FRAME_MAX, ERROR_TEXT_BYTES_MAX, FETCH_BYTES_MAX,
    FRAME_PAYLOAD_BYTES_MAX, HOLES_PER_FETCH_MAX, LABEL_BYTES_MAX, LANDINGS_MAX, NODES_MAX, PARTITIONS_PER_FRAME_MAX,
    RECORD_BYTES_MAX, SHARD_COUNT_MAX, SOCKET_PATH_BYTES_MAX,
};
use crate::wire::{
    Ask, AskAnswer, CatalogAck, CatalogOffer, CatalogPut, CatalogRequest, CatalogVerdict, Catalogued, CompareRequest,
    Compared, Copy, CopyAck, CopySource, FabricOffer, FabricRequest, Fetch, FetchInto, Fetched, Follow, Hello, Landed,
    LandingOutcome, Landings, LandingsRequest, LocalOffer, LocalRequest, Partitions, PartitionsRequest, PlacedCopy,
    Positions, PositionsRequest, Pull, Pulled, Seal, SealAnswer, Ship, ShipAck, View, ViewRequest, Welcome, WireError,
};

/// A message that breaks a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// A number, a list or a text is larger than allowed.
    #[error("{what} is {found}, at most {max} is allowed")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The number of shards is 0 or the versions are the wrong way round.
    #[error("{what} is out of range")]
    OutOfRange {
        /// What.
        what: &'static str,
    },
    /// An entry contradicts itself.
    #[error("an entry contradicts itself")]
    Entry(#[source] EntryHeadError),
}

/// A message that can check itself.
pub(crate) trait Bounded {
    /// Whether it keeps to the limits.
    fn check_bounds(&self) -> Result<(), BoundsError> {
        Ok(())
    }
}

/// Messages of numbers alone: validation has proved their bytes, and any number is one that may be said.
macro_rules! bounded_by_their_type {
    ($($message:ty),+) => { $(impl Bounded for $message {})+ };
}

bounded_by_their_type!(
    ViewRequest,
    PartitionsRequest,
    CatalogAck,
    CatalogRequest,
    CatalogVerdict,
    LocalRequest,
    Ask,
    AskAnswer,
    Seal,
    SealAnswer,
    Pull,
    CopyAck
);

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), BoundsError> {
    if found > max { Err(BoundsError::TooMany { what, found, max }) } else { Ok(()) }
}

fn shard_count_in_range(shard_count: u16) -> Result<(), BoundsError> {
    if (1..=SHARD_COUNT_MAX).contains(&shard_count) {
        Ok(())
    } else {
        Err(BoundsError::OutOfRange { what: "the shard count" })
    }
}

fn entries<'a>(heads: impl ExactSizeIterator<Item = &'a EntryHead>) -> Result<(), BoundsError> {
    at_most("the number of entries", heads.len(), ENTRIES_PER_FRAME_MAX)?;
    for head in heads {
        head.check().map_err(BoundsError::Entry)?;
    }
    Ok(())
}

impl Bounded for Hello {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        if self.version_min > self.version_max {
            return Err(BoundsError::OutOfRange { what: "the version window" });
        }
        at_most("the agent's length", self.agent.len(), LABEL_BYTES_MAX)
    }
}

impl Bounded for Welcome {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        shard_count_in_range(self.shard_count)
    }
}

impl Bounded for WireError {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the text's length", self.message.len(), ERROR_TEXT_BYTES_MAX)
    }
}

impl Bounded for View {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        shard_count_in_range(self.shard_count)?;
        at_most("the number of nodes", self.nodes.len(), NODES_MAX)?;
        at_most("the number of shards", self.shards.len(), self.shard_count.into())?;
        for node in &self.nodes {
            at_most("the address's length", node.address.len(), LABEL_BYTES_MAX)?;
            at_most("the zone's length", node.zone.len(), LABEL_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl Bounded for Partitions {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of partitions", self.partitions.len(), PARTITIONS_PER_FRAME_MAX)
    }
}

impl Bounded for PositionsRequest {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of partitions", self.partitions.len(), PARTITIONS_PER_FRAME_MAX)
    }
}

impl Bounded for Positions {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of marks", self.marks.len(), PARTITIONS_PER_FRAME_MAX)
    }
}

impl Bounded for Ship {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        entries(self.chunks.iter().map(|chunk| &chunk.head))
    }
}

impl Bounded for ShipAck {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of marks", self.marks.len(), PARTITIONS_PER_FRAME_MAX)?;
        at_most("the number of problems", self.problems.len(), PARTITIONS_PER_FRAME_MAX)
    }
}

impl Bounded for CompareRequest {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of messages", self.messages.len(), COMPARISONS_PER_FRAME_MAX)
    }
}

impl Bounded for Compared {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of messages", self.ring.len(), COMPARISONS_PER_FRAME_MAX)
    }
}

impl Bounded for Pulled {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        entries(self.entries.iter().map(|numbered| &numbered.entry.head))
    }
}

impl Bounded for Copy {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of entries", self.entries.len(), ENTRIES_PER_FRAME_MAX)?;
        for entry in &self.entries {
            if let CopySource::Inline(inline) = &entry.source {
                inline.head.check().map_err(BoundsError::Entry)?;
            }
        }
        Ok(())
    }
}

impl Bounded for Fetch {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the bytes asked for", self.bytes_max as usize, FETCH_BYTES_MAX)
    }
}

impl Bounded for Follow {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the bytes asked for", self.bytes_max as usize, FETCH_BYTES_MAX)
    }
}

impl Bounded for Fetched {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of holes", self.holes.len(), HOLES_PER_FETCH_MAX)?;
        if self.holes.iter().any(|(from, to, _)| from > to) {
            return Err(BoundsError::OutOfRange { what: "a hole" });
        }
        Ok(())
    }
}

impl Bounded for FabricRequest {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the provider's length", self.provider.len(), LABEL_BYTES_MAX)
    }
}

impl Bounded for FabricOffer {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the provider's length", self.provider.as_ref().map_or(0, String::len), LABEL_BYTES_MAX)
    }
}

impl Bounded for FetchInto {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        self.fetch.check_bounds()?;
        at_most("the advert's length", self.advert.0.len(), ADVERT_BYTES_MAX)
    }
}

impl Bounded for Landed {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        self.fetched.check_bounds()?;
        let LandingOutcome::Placed(bytes) = self.outcome else { return Ok(()) };
        if bytes == 0 || !self.fetched.batches.is_empty() {
            return Err(BoundsError::OutOfRange { what: "what was placed" });
        }
        at_most("the bytes placed", bytes as usize, FRAME_PAYLOAD_BYTES_MAX)
    }
}

impl Bounded for LandingsRequest {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the provider's length", self.provider.len(), LABEL_BYTES_MAX)?;
        at_most("the number of landings wanted", self.wanted.into(), LANDINGS_MAX)?;
        at_most("the number of landings given back", self.unused.len(), LANDINGS_MAX)?;
        at_most("the number of landings given up", self.given_up.len(), LANDINGS_MAX)
    }
}

impl Bounded for Landings {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of landings lent", self.lent.len(), LANDINGS_MAX)?;
        self.lent.iter().try_for_each(|lent| at_most("the advert's length", lent.advert.0.len(), ADVERT_BYTES_MAX))
    }
}

impl Bounded for PlacedCopy {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the number of entries", self.entry_count(), ENTRIES_PER_FRAME_MAX)?;
        self.inline().try_for_each(|head| head.check().map_err(BoundsError::Entry))?;
        at_most("the bytes placed", self.body_bytes(), FRAME_PAYLOAD_BYTES_MAX)
    }
}

impl Bounded for LocalOffer {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        let path = self.socket.as_ref().map_or(0, |socket| socket.path.len());
        at_most("the socket path's length", path, SOCKET_PATH_BYTES_MAX)
    }
}

impl Bounded for CatalogPut {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the catalogue's length", self.catalog.len(), RECORD_BYTES_MAX)
    }
}

impl Bounded for Catalogued {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the catalogue's length", self.catalog.as_ref().map_or(0, Bytes::len), RECORD_BYTES_MAX)
    }
}

impl Bounded for CatalogOffer {
    fn check_bounds(&self) -> Result<(), BoundsError> {
        at_most("the catalogue's length", self.catalog.len(), RECORD_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Offset};
    use crate::wire::{AdvertBytes, FetchFrom, Served};

    #[test]
    fn adverts_and_providers_are_bounded() {
        let partition = "1/2/3".parse().expect("a partition");
        let (from, epoch) = (FetchFrom::First, Epoch(0));
        let fetch = Fetch {
            partition,
            from,
            bytes_max: 1,
            messages_max: 1,
            wait_millis: 0,
            epoch,
            last: None,
            forwarded: false,
        };
        let into = |fetch, bytes| FetchInto { fetch, advert: AdvertBytes(vec![7; bytes]) }.check_bounds();
        assert_eq!(into(fetch, ADVERT_BYTES_MAX), Ok(()));
        assert!(matches!(into(fetch, ADVERT_BYTES_MAX + 1), Err(BoundsError::TooMany { .. })));
        assert!(into(Fetch { bytes_max: u32::MAX, ..fetch }, 1).is_err(), "the fetch in it is bounded, too");
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        assert!(FabricRequest { provider: long.clone() }.check_bounds().is_err());
        assert!(FabricOffer { provider: Some(long) }.check_bounds().is_err());
        assert_eq!(FabricOffer { provider: None }.check_bounds(), Ok(()));
    }

    #[test]
    fn what_is_placed_does_not_come_inline_as_well() {
        let at = Offset(1);
        let fetched = Fetched {
            partition: "1/2/3".parse().expect("a partition"),
            epoch: Epoch(1),
            start: at,
            next: at,
            trim: at,
            stored: at,
            committed: at,
            holes: Vec::new(),
            served: Served::Tail,
            batches: Bytes::new(),
        };
        let landed = |outcome, batches| Landed { fetched: Fetched { batches, ..fetched.clone() }, outcome };
        let inline = Bytes::from_static(b"batches");
        assert_eq!(landed(LandingOutcome::Placed(9), Bytes::new()).check_bounds(), Ok(()));
        assert!(landed(LandingOutcome::Placed(9), inline.clone()).check_bounds().is_err());
        assert!(landed(LandingOutcome::Placed(0), Bytes::new()).check_bounds().is_err());
        assert!(landed(LandingOutcome::Placed(u32::MAX), Bytes::new()).check_bounds().is_err());
        assert_eq!(landed(LandingOutcome::Untouched, inline.clone()).check_bounds(), Ok(()));
        assert_eq!(landed(LandingOutcome::Unknown, inline).check_bounds(), Ok(()));
    }
}
