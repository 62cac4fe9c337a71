//! Messages to frames and back.
//!
//! A head is an rkyv archive, validated in place before anything is read from it; bodies are slices of the payload
//! and are never copied. What a decoded message says is within [`crate::limits`]; whether it makes sense here and
//! now is for decisions to find out. Bodies are not verified here: [`crate::entry::Entry::verify_body`] does that.

use rkyv::Archive;
use rkyv::Deserialize;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;

use crate::archive::{from_archive, to_archive};
use crate::frame::{Frame, FrameKind, Payload, PayloadShort};
use crate::wire::bounds::{Bounded, BoundsError};
use crate::wire::heads::Split;
use crate::wire::{ErrorCode, Message, ShardMessage};

/// Why a frame is not the message that its kind says. The sender is wrong: answer with [`WireDecodeError::code`] and
/// close the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireDecodeError {
    /// The head is not a valid archive of the kind's message.
    #[error("the head of a {kind:?} frame is malformed; both sides must run compatible builds")]
    Head {
        /// What the frame is.
        kind: FrameKind,
    },
    /// The payload ends before a body that the head announces.
    #[error("the payload of a {kind:?} frame does not match its head")]
    Payload {
        /// What the frame is.
        kind: FrameKind,
        /// Which body was cut.
        #[source]
        source: PayloadShort,
    },
    /// The payload goes on after the last body that the head announces.
    #[error("a {kind:?} frame has {bytes} bytes after its last body; the sender must announce every body")]
    Trailing {
        /// What the frame is.
        kind: FrameKind,
        /// How many.
        bytes: usize,
    },
    /// Something in the head is larger than allowed or contradicts itself.
    #[error("a {kind:?} frame breaks a limit of the protocol")]
    Bounds {
        /// What the frame is.
        kind: FrameKind,
        /// Which limit.
        #[source]
        source: BoundsError,
    },
}

impl WireDecodeError {
    /// The stable number to tell the sender.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::Malformed
    }
}

impl Message {
    /// What the message is on the wire.
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::Hello,
            Self::Welcome(_) => FrameKind::Welcome,
            Self::Error(_) => FrameKind::Error,
            Self::ViewRequest(_) => FrameKind::ViewRequest,
            Self::View(_) => FrameKind::View,
            Self::PositionsRequest(_) => FrameKind::PositionsRequest,
            Self::Positions(_) => FrameKind::Positions,
            Self::Ship(_) => FrameKind::Ship,
            Self::ShipAck(_) => FrameKind::ShipAck,
            Self::CompareRequest(_) => FrameKind::CompareRequest,
            Self::Compared(_) => FrameKind::Compared,
            Self::Shard(message) => message.kind(),
            Self::Fetch(_) => FrameKind::Fetch,
            Self::Fetched(_) => FrameKind::Fetched,
            Self::Follow(_) => FrameKind::Follow,
            Self::Followed(_) => FrameKind::Followed,
            Self::PartitionsRequest(_) => FrameKind::PartitionsRequest,
            Self::Partitions(_) => FrameKind::Partitions,
            Self::CatalogPut(_) => FrameKind::CatalogPut,
            Self::CatalogAck(_) => FrameKind::CatalogAck,
            Self::CatalogRequest(_) => FrameKind::CatalogRequest,
            Self::Catalogued(_) => FrameKind::Catalogued,
            Self::CatalogOffer(_) => FrameKind::CatalogOffer,
            Self::CatalogVerdict(_) => FrameKind::CatalogVerdict,
            Self::LocalRequest(_) => FrameKind::LocalRequest,
            Self::LocalOffer(_) => FrameKind::LocalOffer,
            Self::FabricRequest(_) => FrameKind::FabricRequest,
            Self::FabricOffer(_) => FrameKind::FabricOffer,
            Self::FetchInto(_) => FrameKind::FetchInto,
            Self::Landed(_) => FrameKind::Landed,
            Self::LandingsRequest(_) => FrameKind::LandingsRequest,
            Self::Landings(_) => FrameKind::Landings,
            Self::PlacedCopy(_) => FrameKind::PlacedCopy,
        }
    }

    /// The message as a frame. Bodies are shared with the message, not copied.
    pub fn encode(&self, correlation: u64) -> Frame {
        let writer = Writer { kind: self.kind(), correlation };
        match self {
            Self::Hello(message) => writer.plain(message),
            Self::Welcome(message) => writer.plain(message),
            Self::Error(message) => writer.plain(message),
            Self::ViewRequest(message) => writer.plain(message),
            Self::View(message) => writer.plain(message),
            Self::PositionsRequest(message) => writer.plain(message),
            Self::Positions(message) => writer.plain(message),
            Self::Ship(message) => writer.split(message),
            Self::ShipAck(message) => writer.plain(message),
            Self::CompareRequest(message) => writer.plain(message),
            Self::Compared(message) => writer.plain(message),
            Self::Shard(message) => message.encode(writer),
            Self::Fetch(message) => writer.plain(message),
            Self::Fetched(message) | Self::Followed(message) => writer.split(message),
            Self::Follow(message) => writer.plain(message),
            Self::PartitionsRequest(message) => writer.plain(message),
            Self::Partitions(message) => writer.plain(message),
            Self::CatalogPut(message) => writer.split(message),
            Self::CatalogAck(message) => writer.plain(message),
            Self::CatalogRequest(message) => writer.plain(message),
            Self::Catalogued(message) => writer.split(message),
            Self::CatalogOffer(message) => writer.split(message),
            Self::CatalogVerdict(message) => writer.plain(message),
            Self::LocalRequest(message) => writer.plain(message),
            Self::LocalOffer(message) => writer.plain(message),
            Self::FabricRequest(message) => writer.plain(message),
            Self::FabricOffer(message) => writer.plain(message),
            Self::FetchInto(message) => writer.plain(message),
            Self::Landed(message) => writer.split(message),
            Self::LandingsRequest(message) => writer.plain(message),
            Self::Landings(message) => writer.plain(message),
            Self::PlacedCopy(message) => writer.plain(message),
        }
    }

    /// The message of a frame. Bodies are slices of the frame's payload.
    pub fn decode(frame: Frame) -> Result<Self, WireDecodeError> {
        let reader = Reader { frame };
        Ok(match reader.frame.kind {
            FrameKind::Hello => Self::Hello(reader.plain()?),
            FrameKind::Welcome => Self::Welcome(reader.plain()?),
            FrameKind::Error => Self::Error(reader.plain()?),
            FrameKind::ViewRequest => Self::ViewRequest(reader.plain()?),
            FrameKind::View => Self::View(reader.plain()?),
            FrameKind::PartitionsRequest => Self::PartitionsRequest(reader.plain()?),
            FrameKind::Partitions => Self::Partitions(reader.plain()?),
            FrameKind::CatalogPut => Self::CatalogPut(reader.split()?),
            FrameKind::CatalogAck => Self::CatalogAck(reader.plain()?),
            FrameKind::CatalogRequest => Self::CatalogRequest(reader.plain()?),
            FrameKind::Catalogued => Self::Catalogued(reader.split()?),
            FrameKind::CatalogOffer => Self::CatalogOffer(reader.split()?),
            FrameKind::CatalogVerdict => Self::CatalogVerdict(reader.plain()?),
            FrameKind::LocalRequest => Self::LocalRequest(reader.plain()?),
            FrameKind::LocalOffer => Self::LocalOffer(reader.plain()?),
            FrameKind::FabricRequest => Self::FabricRequest(reader.plain()?),
            FrameKind::FabricOffer => Self::FabricOffer(reader.plain()?),
            FrameKind::FetchInto => Self::FetchInto(reader.plain()?),
            FrameKind::Landed => Self::Landed(reader.split()?),
            FrameKind::LandingsRequest => Self::LandingsRequest(reader.plain()?),
            FrameKind::Landings => Self::Landings(reader.plain()?),
            FrameKind::PlacedCopy => Self::PlacedCopy(reader.plain()?),
            FrameKind::PositionsRequest => Self::PositionsRequest(reader.plain()?),
            FrameKind::Positions => Self::Positions(reader.plain()?),
            FrameKind::Ship => Self::Ship(reader.split()?),
            FrameKind::ShipAck => Self::ShipAck(reader.plain()?),
            FrameKind::CompareRequest => Self::CompareRequest(reader.plain()?),
            FrameKind::Compared => Self::Compared(reader.plain()?),
            FrameKind::Ask => Self::Shard(ShardMessage::Ask(reader.plain()?)),
            FrameKind::AskAnswer => Self::Shard(ShardMessage::AskAnswer(reader.plain()?)),
            FrameKind::Seal => Self::Shard(ShardMessage::Seal(reader.plain()?)),
            FrameKind::SealAnswer => Self::Shard(ShardMessage::SealAnswer(reader.plain()?)),
            FrameKind::Pull => Self::Shard(ShardMessage::Pull(reader.plain()?)),
            FrameKind::Pulled => Self::Shard(ShardMessage::Pulled(reader.split()?)),
            FrameKind::Copy => Self::Shard(ShardMessage::Copy(reader.split()?)),
            FrameKind::CopyAck => Self::Shard(ShardMessage::CopyAck(reader.plain()?)),
            FrameKind::Fetch => Self::Fetch(reader.plain()?),
            FrameKind::Fetched => Self::Fetched(reader.split()?),
            FrameKind::Follow => Self::Follow(reader.plain()?),
            FrameKind::Followed => Self::Followed(reader.split()?),
        })
    }
}

impl ShardMessage {
    /// What the message is on the wire.
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Ask(_) => FrameKind::Ask,
            Self::AskAnswer(_) => FrameKind::AskAnswer,
            Self::Seal(_) => FrameKind::Seal,
            Self::SealAnswer(_) => FrameKind::SealAnswer,
            Self::Pull(_) => FrameKind::Pull,
            Self::Pulled(_) => FrameKind::Pulled,
            Self::Copy(_) => FrameKind::Copy,
            Self::CopyAck(_) => FrameKind::CopyAck,
        }
    }

    fn encode(&self, writer: Writer) -> Frame {
        match self {
            Self::Ask(message) => writer.plain(message),
            Self::AskAnswer(message) => writer.plain(message),
            Self::Seal(message) => writer.plain(message),
            Self::SealAnswer(message) => writer.plain(message),
            Self::Pull(message) => writer.plain(message),
            Self::Pulled(message) => writer.split(message),
            Self::Copy(message) => writer.split(message),
            Self::CopyAck(message) => writer.plain(message),
        }
    }
}

/// Makes the frame of one message.
struct Writer {
    kind: FrameKind,
    correlation: u64,
}

impl Writer {
    /// A message that is all head.
    fn plain<M>(self, message: &M) -> Frame
    where
        M: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
    {
        self.frame(message, Payload::default())
    }

    /// A message with bodies.
    fn split<M: Split>(self, message: &M) -> Frame
    where
        M::Head: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
    {
        let (head, payload) = message.split();
        self.frame(&head, payload)
    }

    fn frame<H>(self, head: &H, payload: Payload) -> Frame
    where
        H: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
    {
        Frame { kind: self.kind, correlation: self.correlation, head: to_archive(head), payload }
    }
}

/// Reads the message of one frame.
struct Reader {
    frame: Frame,
}

impl Reader {
    /// A message that is all head.
    fn plain<M>(self) -> Result<M, WireDecodeError>
    where
        M: Archive + Bounded,
        M::Archived: for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<M, HighDeserializer<Failure>>,
    {
        let message = self.head()?;
        self.finish(message, &self.frame.payload)
    }

    /// A message with bodies.
    fn split<M>(mut self) -> Result<M, WireDecodeError>
    where
        M: Split + Bounded,
        M::Head: Archive,
        <M::Head as Archive>::Archived:
            for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<M::Head, HighDeserializer<Failure>>,
    {
        let head = self.head()?;
        let mut payload = core::mem::take(&mut self.frame.payload);
        let message =
            M::join(head, &mut payload).map_err(|source| WireDecodeError::Payload { kind: self.frame.kind, source })?;
        self.finish(message, &payload)
    }

    fn head<H>(&self) -> Result<H, WireDecodeError>
    where
        H: Archive,
        H::Archived: for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<H, HighDeserializer<Failure>>,
    {
        from_archive(&self.frame.head).map_err(|_| WireDecodeError::Head { kind: self.frame.kind })
    }

    fn finish<M: Bounded>(&self, message: M, rest: &Payload) -> Result<M, WireDecodeError> {
        let kind = self.frame.kind;
        if !rest.is_empty() {
            return Err(WireDecodeError::Trailing { kind, bytes: rest.len() });
        }
        message.check_bounds().map_err(|source| WireDecodeError::Bounds { kind, source })?;
        Ok(message)
    }
}
