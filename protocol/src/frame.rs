//! The envelope of every message: a fixed header, an rkyv head, a payload of bodies.
//!
//! The header is trusted first: its own checksum is checked before its lengths are believed, and its lengths are
//! compared with [`crate::limits`] before anybody allocates. This file knows no message; [`crate::wire::codec`] does.
//!
//! ```text
//!  0 [u8;4]  magic "KNLF"
//!  4 u16     version               the oldest wire version that reads the frame
//!  6 u16     kind                  a FrameKind, never reused
//!  8 u32     head_bytes            length of the rkyv head
//! 12 u32     payload_bytes         length of the payload
//! 16 u64     correlation           chosen by the asker, echoed in the answer
//! 24 u64     head_checksum         XXH3-64 of the head
//! 32 u64     payload_checksum      XXH3-64 of the payload; since version 5 zero where it is batches
//! 40 u64     header_checksum       XXH3-64 of bytes 0..40
//! 48         head, then payload    all integers little-endian
//! ```

use bytes::Bytes;

use crate::checksum::checksum;
use crate::limits::{FRAME_HEAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, WIRE_VERSION, WIRE_VERSION_MIN};
use crate::raw::{array_at, u16_at, u32_at, u64_at};
use crate::wire::ErrorCode;

pub use crate::kind::FrameKind;
pub use crate::payload::{Payload, PayloadShort};

/// Length of a frame header.
pub const FRAME_HEADER_BYTES: usize = 48;

/// The first four bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"KNLF";

/// Since this wire version payloads of batches are left to the checksums of the batches.
const BATCHES_UNHASHED_SINCE: u16 = 5;

/// Where the header's own checksum stands: over everything before it.
const CHECKSUM_AT: usize = 40;

const _: () = {
    // Fields back to back, no padding, the checksum last.
    assert!(4 + 2 + 2 + 4 + 4 + 8 + 8 + 8 == CHECKSUM_AT);
    assert!(CHECKSUM_AT + 8 == FRAME_HEADER_BYTES);
};

/// The fixed part of a frame. A decoded one is verified and within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The oldest wire version that reads the frame: [`FrameKind::since`], or the one since which its payload is not hashed.
    pub version: u16,
    /// What the frame is.
    pub kind: FrameKind,
    /// Length of the head in bytes.
    pub head_bytes: u32,
    /// Length of the payload in bytes.
    pub payload_bytes: u32,
    /// Chosen by the asker, echoed in the answer.
    pub correlation: u64,
    /// XXH3-64 of the head.
    pub head_checksum: u64,
    /// XXH3-64 of the payload; zero where [`FrameHeader::hashes_payload`] is false.
    pub payload_checksum: u64,
}

impl FrameHeader {
    /// Whether the payload's checksum stands here. Otherwise the payload is batches, which have their own.
    pub fn hashes_payload(&self) -> bool {
        hashes_payload(self.kind, self.version)
    }

    /// The header's bytes, checksum included.
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..6].copy_from_slice(&self.version.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.head_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.correlation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.head_checksum.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let own = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads a header and checks magic, checksum, version, kind and limits, in that order.
    ///
    /// After any error the connection has lost its place and must be closed.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let magic = array_at(bytes, 0);
        if magic != FRAME_MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        if checksum(&bytes[..CHECKSUM_AT]) != u64_at(bytes, CHECKSUM_AT) {
            return Err(FrameError::HeaderChecksum);
        }
        let version = u16_at(bytes, 4);
        if !(WIRE_VERSION_MIN..=WIRE_VERSION).contains(&version) {
            return Err(FrameError::Version { found: version });
        }
        let number = u16_at(bytes, 6);
        let kind = FrameKind::from_number(number).filter(|kind| kind.since() <= version);
        let header = Self {
            version,
            kind: kind.ok_or(FrameError::Kind { found: number })?,
            head_bytes: u32_at(bytes, 8),
            payload_bytes: u32_at(bytes, 12),
            correlation: u64_at(bytes, 16),
            head_checksum: u64_at(bytes, 24),
            payload_checksum: u64_at(bytes, 32),
        };
        header.check_limits()?;
        Ok(header)
    }

    fn check_limits(&self) -> Result<(), FrameError> {
        if self.head_bytes as usize > FRAME_HEAD_BYTES_MAX {
            return Err(FrameError::HeadTooLarge { bytes: self.head_bytes.into() });
        }
        if self.payload_bytes as usize > FRAME_PAYLOAD_BYTES_MAX {
            return Err(FrameError::PayloadTooLarge { bytes: self.payload_bytes.into() });
        }
        Ok(())
    }
}

/// One message as it travels. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the frame is.
    pub kind: FrameKind,
    /// Chosen by the asker, echoed in the answer.
    pub correlation: u64,
    /// The rkyv head.
    pub head: Bytes,
    /// The bodies.
    pub payload: Payload,
}

impl Frame {
    /// The header to send before the head and the payload's pieces, to any peer that knows the kind. Hashes both.
    ///
    /// # Panics
    /// As [`Frame::header_for`].
    pub fn header(&self) -> FrameHeader {
        self.header_for(self.kind.since())
    }

    /// The header for a peer with whom hello and welcome agreed on `version`. Hashes the head, and the payload unless that
    /// version leaves it to the batches in it.
    ///
    /// Ask [`Frame::check_limits`] first where the frame was made from something unbounded.
    ///
    /// # Panics
    /// If the head or the payload is longer than 4 GiB, which only a bug in the sender makes possible.
    pub fn header_for(&self, version: u16) -> FrameHeader {
        let hashed = hashes_payload(self.kind, version);
        FrameHeader {
            version: if hashed { self.kind.since() } else { BATCHES_UNHASHED_SINCE },
            kind: self.kind,
            head_bytes: u32::try_from(self.head.len()).expect("a head is bounded by its sender"),
            payload_bytes: u32::try_from(self.payload.len()).expect("a payload is bounded by its sender"),
            correlation: self.correlation,
            head_checksum: checksum(&self.head),
            payload_checksum: if hashed { self.payload.checksum() } else { 0 },
        }
    }

    /// Whether the other side would take a frame of this size: a sender asks before it sends.
    pub fn check_limits(&self) -> Result<(), FrameError> {
        if self.head.len() > FRAME_HEAD_BYTES_MAX {
            return Err(FrameError::HeadTooLarge { bytes: self.head.len() as u64 });
        }
        if self.payload.len() > FRAME_PAYLOAD_BYTES_MAX {
            return Err(FrameError::PayloadTooLarge { bytes: self.payload.len() as u64 });
        }
        Ok(())
    }

    /// Length of the whole frame as it travels, bytes.
    pub fn len(&self) -> usize {
        FRAME_HEADER_BYTES + self.head.len() + self.payload.len()
    }

    /// Never: a frame has at least its header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Puts together what a transport read, after comparing lengths and checksums with the header. Batches that the header
    /// does not hash are for the receiver to verify.
    pub fn verify(header: FrameHeader, head: Bytes, payload: Payload) -> Result<Self, FrameError> {
        if head.len() != header.head_bytes as usize {
            return Err(FrameError::HeadLength { expected: header.head_bytes, found: head.len() });
        }
        if payload.len() != header.payload_bytes as usize {
            return Err(FrameError::PayloadLength { expected: header.payload_bytes, found: payload.len() });
        }
        if checksum(&head) != header.head_checksum {
            return Err(FrameError::HeadChecksum { kind: header.kind });
        }
        let payload_checksum = if header.hashes_payload() { payload.checksum() } else { 0 };
        if payload_checksum != header.payload_checksum {
            return Err(FrameError::PayloadChecksum { kind: header.kind });
        }
        Ok(Self { kind: header.kind, correlation: header.correlation, head, payload })
    }
}

/// Whether a payload is hashed by the frame, by what it is and the wire version.
fn hashes_payload(kind: FrameKind, version: u16) -> bool {
    version < BATCHES_UNHASHED_SINCE || !kind.carries_batches()
}

/// Why bytes are not a frame. Whoever receives one closes the connection and connects again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The other side speaks another protocol. Fix: the address.
    #[error("these bytes are not a Kennel frame: they start with {found:02x?}; check the address and port")]
    Magic {
        /// What stood there.
        found: [u8; 4],
    },
    /// The header was damaged on its way. Retry on a new connection.
    #[error("the frame header is damaged: its checksum does not match; connect again")]
    HeaderChecksum,
    /// The other side speaks a version that this build does not. Fix: upgrade one side.
    #[error("wire version {found} is not spoken here ({WIRE_VERSION_MIN} to {WIRE_VERSION}); upgrade the older side")]
    Version {
        /// The frame's version.
        found: u16,
    },
    /// The other side sends a kind that this build, or the frame's own version, does not know. Fix: upgrade this side.
    #[error("frame kind {found} is unknown to this build, or to the frame's version; upgrade this side")]
    Kind {
        /// The frame's kind.
        found: u16,
    },
    /// The head is longer than allowed. Fix: the sender must send less at once.
    #[error("a frame head of {bytes} bytes is longer than {FRAME_HEAD_BYTES_MAX}; send less at once")]
    HeadTooLarge {
        /// The claimed length.
        bytes: u64,
    },
    /// The payload is longer than allowed. Fix: the sender must send less at once.
    #[error("a frame payload of {bytes} bytes is longer than {FRAME_PAYLOAD_BYTES_MAX}; send less at once")]
    PayloadTooLarge {
        /// The claimed length.
        bytes: u64,
    },
    /// The transport read another length than the header says. A bug in the transport, or a cut connection.
    #[error("the frame head has {found} bytes where its header says {expected}; connect again")]
    HeadLength {
        /// By the header.
        expected: u32,
        /// As read.
        found: usize,
    },
    /// The transport read another length than the header says. A bug in the transport, or a cut connection.
    #[error("the frame payload has {found} bytes where its header says {expected}; connect again")]
    PayloadLength {
        /// By the header.
        expected: u32,
        /// As read.
        found: usize,
    },
    /// The head was damaged on its way. Retry on a new connection.
    #[error("the head of a {kind:?} frame is damaged: its checksum does not match; connect again")]
    HeadChecksum {
        /// What the frame is.
        kind: FrameKind,
    },
    /// The payload was damaged on its way. Retry on a new connection.
    #[error("the payload of a {kind:?} frame is damaged: its checksum does not match; connect again")]
    PayloadChecksum {
        /// What the frame is.
        kind: FrameKind,
    },
}

impl FrameError {
    /// The stable number to tell the sender.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Magic { .. } | Self::Kind { .. } | Self::HeadLength { .. } | Self::PayloadLength { .. } => {
                ErrorCode::Malformed
            }
            Self::HeaderChecksum | Self::HeadChecksum { .. } | Self::PayloadChecksum { .. } => ErrorCode::Checksum,
            Self::Version { .. } => ErrorCode::VersionWindow,
            Self::HeadTooLarge { .. } | Self::PayloadTooLarge { .. } => ErrorCode::FrameTooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            kind: FrameKind::Ship,
            correlation: 7,
            head: Bytes::from_static(b"a head"),
            payload: Payload::from(vec![Bytes::from_static(b"two "), Bytes::from_static(b"pieces")]),
        }
    }

    /// Rewrites a header field and its checksum, as a wrong but undamaged sender would.
    fn restamped(at: usize, field: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = frame().header().encode();
        bytes[at..at + field.len()].copy_from_slice(field);
        let own = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    #[test]
    fn a_frame_survives_the_way() {
        let sent = frame();
        let header = FrameHeader::decode(&sent.header().encode()).expect("a header");
        let payload = Payload::from(Bytes::from_static(b"two pieces"));
        let received = Frame::verify(header, sent.head.clone(), payload).expect("a frame");
        assert_eq!((received.kind, received.correlation, &received.head), (sent.kind, 7, &sent.head));
        assert_eq!(received.payload.checksum(), sent.payload.checksum());
        assert_eq!(sent.len(), 48 + 6 + 10);
    }

    #[test]
    fn batches_are_left_to_their_own_checksums_since_version_5() {
        let sent = frame();
        assert_eq!(sent.header_for(4), sent.header(), "an older peer gets what it always got");
        let header = sent.header_for(5);
        assert_eq!((header.version, header.payload_checksum, header.hashes_payload()), (5, 0, false));
        let header = FrameHeader::decode(&header.encode()).expect("a header");
        let payload = Payload::from(Bytes::from_static(b"two piecez"));
        assert!(Frame::verify(header, sent.head.clone(), payload.clone()).is_ok(), "the receiver verifies batches");
        let stated = FrameHeader { payload_checksum: payload.checksum(), ..header };
        let refused = Frame::verify(stated, sent.head.clone(), payload);
        assert_eq!(refused, Err(FrameError::PayloadChecksum { kind: FrameKind::Ship }), "there is one way to say it");
        let other = Frame { kind: FrameKind::CatalogPut, ..sent };
        assert_eq!(other.header_for(5), other.header(), "what is no batches is hashed");
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        let bytes = frame().header().encode();
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_versions_and_kinds_are_checked_before_use() {
        let too_long = u32::try_from(FRAME_HEAD_BYTES_MAX + 1).expect("small").to_le_bytes();
        let check = |at, field: &[u8]| FrameHeader::decode(&restamped(at, field)).expect_err("refused").code();
        assert_eq!(check(8, &too_long), ErrorCode::FrameTooLarge);
        assert_eq!(check(12, &u32::MAX.to_le_bytes()), ErrorCode::FrameTooLarge);
        assert_eq!(check(4, &0_u16.to_le_bytes()), ErrorCode::VersionWindow);
        assert_eq!(check(4, &(WIRE_VERSION + 1).to_le_bytes()), ErrorCode::VersionWindow);
        assert_eq!(check(6, &0_u16.to_le_bytes()), ErrorCode::Malformed);
        // Wire version 1 has no catalogue requests.
        assert_eq!(check(6, &FrameKind::CatalogRequest.number().to_le_bytes()), ErrorCode::Malformed);
        let [request, since] = [FrameKind::CatalogRequest.number(), FrameKind::CatalogRequest.since()];
        let newer = [since.to_le_bytes(), request.to_le_bytes()].concat();
        assert!(FrameHeader::decode(&restamped(4, &newer)).is_ok());
        assert_eq!(check(0, b"GET "), ErrorCode::Malformed);
    }

    #[test]
    fn damaged_and_short_parts_are_told_apart() {
        let sent = frame();
        let header = sent.header();
        let verify = |head: &'static [u8], payload: &'static [u8]| {
            Frame::verify(header, Bytes::from_static(head), Payload::from(Bytes::from_static(payload)))
        };
        assert!(verify(b"a head", b"two pieces").is_ok());
        assert_eq!(verify(b"b head", b"two pieces"), Err(FrameError::HeadChecksum { kind: FrameKind::Ship }));
        assert_eq!(verify(b"a head", b"two piecez"), Err(FrameError::PayloadChecksum { kind: FrameKind::Ship }));
        assert_eq!(verify(b"a hea", b"two pieces"), Err(FrameError::HeadLength { expected: 6, found: 5 }));
        assert_eq!(verify(b"a head", b"two"), Err(FrameError::PayloadLength { expected: 10, found: 3 }));
    }
}
