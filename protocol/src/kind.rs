//! The numbers of the frames. A number is never reused: a gap is a retired kind.

use crate::limits::WIRE_VERSION_MIN;

/// What a frame is: one per message, the messages between the nodes of a shard included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum FrameKind {
    /// First on every connection.
    Hello = 1,
    /// Accepts a hello.
    Welcome = 2,
    /// Refuses anything.
    Error = 3,
    /// Asks for the ring.
    ViewRequest = 4,
    /// The ring.
    View = 5,
    /// Asks for the partitions of a shard.
    PartitionsRequest = 6,
    /// The partitions of a shard.
    Partitions = 7,
    /// Names and policies.
    CatalogPut = 8,
    /// What became of them.
    CatalogAck = 9,
    /// Asks for the catalogue. Since wire version 2.
    CatalogRequest = 10,
    /// The catalogue. Since wire version 2.
    Catalogued = 11,
    /// A catalogue that is to follow the one that stands. Since wire version 2.
    CatalogOffer = 12,
    /// Whether it does. Since wire version 2.
    CatalogVerdict = 13,
    /// A reader asks for the memory that the node shares with its host. Since wire version 3.
    LocalRequest = 14,
    /// Where to get it. Since wire version 3.
    LocalOffer = 15,
    /// Asks an owner where partitions stand.
    PositionsRequest = 16,
    /// Where they stand.
    Positions = 17,
    /// Chunks from a shipper.
    Ship = 18,
    /// Marks and problems, to a shipper.
    ShipAck = 19,
    /// A shipper asks whether the ring has the same messages as its source.
    CompareRequest = 20,
    /// What the ring has at their offsets.
    Compared = 21,
    /// A reader asks whether the node writes answers into its memory. Since wire version 4.
    FabricRequest = 22,
    /// Whether it does. Since wire version 4.
    FabricOffer = 23,
    /// A node asks another for landings that copies may be written into. Since wire version 6.
    LandingsRequest = 24,
    /// The landings. Since wire version 6.
    Landings = 25,
    /// A candidate asks whether it may claim.
    Ask = 32,
    /// A node's answer to that.
    AskAnswer = 33,
    /// A claimant seals a journal.
    Seal = 34,
    /// A journal's promise.
    SealAnswer = 35,
    /// A claimant asks for entries.
    Pull = 36,
    /// The entries.
    Pulled = 37,
    /// The owner's stream to a follower.
    Copy = 38,
    /// A follower's answer.
    CopyAck = 39,
    /// A copy whose bodies lie in a landing. Since wire version 6.
    PlacedCopy = 40,
    /// Asks for batches.
    Fetch = 48,
    /// Batches.
    Fetched = 49,
    /// Asks for batches as they commit.
    Follow = 50,
    /// Batches that committed.
    Followed = 51,
    /// Asks for batches, and says where they may be written. Since wire version 4.
    FetchInto = 52,
    /// Batches, and what became of the place for them. Since wire version 4.
    Landed = 53,
}

impl FrameKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 40] = [
        Self::Hello,
        Self::Welcome,
        Self::Error,
        Self::ViewRequest,
        Self::View,
        Self::PartitionsRequest,
        Self::Partitions,
        Self::CatalogPut,
        Self::CatalogAck,
        Self::CatalogRequest,
        Self::Catalogued,
        Self::CatalogOffer,
        Self::CatalogVerdict,
        Self::LocalRequest,
        Self::LocalOffer,
        Self::PositionsRequest,
        Self::Positions,
        Self::Ship,
        Self::ShipAck,
        Self::CompareRequest,
        Self::Compared,
        Self::FabricRequest,
        Self::FabricOffer,
        Self::LandingsRequest,
        Self::Landings,
        Self::Ask,
        Self::AskAnswer,
        Self::Seal,
        Self::SealAnswer,
        Self::Pull,
        Self::Pulled,
        Self::Copy,
        Self::CopyAck,
        Self::PlacedCopy,
        Self::Fetch,
        Self::Fetched,
        Self::Follow,
        Self::Followed,
        Self::FetchInto,
        Self::Landed,
    ];

    /// The kind's number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The kind of a number, if this build knows it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The oldest wire version that knows the kind: what its frames are stamped with, so that an older peer still reads
    /// all others. It is never sent to a peer that agreed on less.
    pub const fn since(self) -> u16 {
        match self {
            Self::CatalogRequest | Self::Catalogued | Self::CatalogOffer | Self::CatalogVerdict => 2,
            Self::LocalRequest | Self::LocalOffer => 3,
            Self::FabricRequest | Self::FabricOffer | Self::FetchInto | Self::Landed => 4,
            Self::LandingsRequest | Self::Landings | Self::PlacedCopy => 6,
            _ => WIRE_VERSION_MIN,
        }
    }

    /// Whether the payload is batches and nothing else. They carry checksums of their own, over every byte, and whoever
    /// receives them verifies those: since wire version 5 the frame does not repeat them.
    pub const fn carries_batches(self) -> bool {
        matches!(self, Self::Ship | Self::Pulled | Self::Copy | Self::Fetched | Self::Followed | Self::Landed)
    }

    /// Whether the kind is spoken between the nodes of a shard, and by nobody else.
    pub const fn between_nodes(self) -> bool {
        matches!(self.number(), 32..=47)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WIRE_VERSION;

    #[test]
    fn numbers_are_distinct_and_sorted() {
        assert!(FrameKind::ALL.is_sorted_by(|earlier, later| earlier.number() < later.number()));
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(FrameKind::from_number(0), None);
        assert_eq!(FrameKind::from_number(26), None);
        assert!(FrameKind::ALL.iter().all(|kind| (WIRE_VERSION_MIN..=WIRE_VERSION).contains(&kind.since())));
        assert!(FrameKind::CopyAck.between_nodes() && !FrameKind::Fetch.between_nodes());
    }
}
