//! Everything that processes say to each other.
//!
//! [`Message`] is what decisions see: owned heads and shared bodies. The codec splits it into a checked frame header,
//! an rkyv head and a payload of bodies that is never re-encoded.

mod bounds;
pub mod catalog;
pub mod client;
pub mod codec;
pub mod control;
pub mod fabric;
mod heads;
pub mod local;
mod problem;
pub mod shard;
pub mod ship;

pub use bounds::BoundsError;
pub use catalog::{CatalogAck, CatalogOffer, CatalogPut, CatalogRequest, CatalogVerdict, Catalogued};
pub use client::{Fetch, FetchFrom, Fetched, Follow, Followed, Served};
pub use codec::WireDecodeError;
pub use control::{
    ErrorCode, Hello, NodeAddress, PartitionReport, Partitions, PartitionsRequest, Role, ShardView, View, ViewRequest,
    Welcome, WireError,
};
pub use fabric::{
    AdvertBytes, FabricOffer, FabricRequest, FetchInto, Landed, LandingId, LandingOutcome, Landings, LandingsRequest,
    LentLanding, PlacedCopy,
};
pub use local::{LocalOffer, LocalRequest, LocalSocket, LocalToken};
pub use shard::{
    Ask, AskAnswer, Copy, CopyAck, CopyEntry, CopySource, Pull, Pulled, Seal, SealAnswer, ShardMessage, ShardStamp,
};
pub use ship::{
    CompareRequest, Compared, PartitionMarks, Positions, PositionsRequest, Ship, ShipAck, ShipChunk, ShipProblem,
    ShipRefusal,
};

/// One message of any kind. The kind's number is in the frame header and is never reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// First on every connection, from the side that opened it.
    Hello(Hello),
    /// The answer to a hello that was accepted.
    Welcome(Welcome),
    /// The answer to anything that was not.
    Error(WireError),
    /// Asks any node what the ring looks like.
    ViewRequest(ViewRequest),
    /// The ring, as one node sees it.
    View(View),
    /// Asks an owner where its partitions stand.
    PositionsRequest(PositionsRequest),
    /// Where they stand.
    Positions(Positions),
    /// Chunks from a shipper.
    Ship(Ship),
    /// Marks and problems, to a shipper.
    ShipAck(ShipAck),
    /// A shipper asks whether the ring has the same messages as its source.
    CompareRequest(CompareRequest),
    /// What the ring has at their offsets.
    Compared(Compared),
    /// Between the nodes of a shard.
    Shard(ShardMessage),
    /// Asks for batches.
    Fetch(Fetch),
    /// Batches.
    Fetched(Fetched),
    /// Asks for batches as they commit.
    Follow(Follow),
    /// Batches that committed.
    Followed(Followed),
    /// Asks which partitions a node knows.
    PartitionsRequest(PartitionsRequest),
    /// The partitions a node knows.
    Partitions(Partitions),
    /// Names and policies, from a shipper to the owner of the catalogue's shard (PROTOCOL R29).
    CatalogPut(CatalogPut),
    /// What became of them.
    CatalogAck(CatalogAck),
    /// Asks any node for the catalogue.
    CatalogRequest(CatalogRequest),
    /// The catalogue.
    Catalogued(Catalogued),
    /// A catalogue that is to follow the one that stands, to the owner of its shard (PROTOCOL R29).
    CatalogOffer(CatalogOffer),
    /// Whether it does.
    CatalogVerdict(CatalogVerdict),
    /// A reader asks for the memory that the node shares with its host.
    LocalRequest(LocalRequest),
    /// Where to get it.
    LocalOffer(LocalOffer),
    /// A reader asks whether the node writes answers into its memory.
    FabricRequest(FabricRequest),
    /// Whether it does.
    FabricOffer(FabricOffer),
    /// Asks for batches, and says where they may be written.
    FetchInto(FetchInto),
    /// Batches, and what became of the place for them.
    Landed(Landed),
    /// A node asks another for landings that copies may be written into.
    LandingsRequest(LandingsRequest),
    /// The landings.
    Landings(Landings),
    /// A copy whose bodies lie in a landing.
    PlacedCopy(PlacedCopy),
}
