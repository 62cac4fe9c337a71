//! What is said over a node's local socket: four messages of fixed length, written by hand.
//!
//! A reader shows its token and is given a slab, with the descriptor beside the bytes. From then on it asks to be woken
//! and is woken, each once; the end of the connection is the end of it all. Nothing here carries a batch.
//!
//! ```text
//! Entrance, reader to node, first        Grant, node to reader, with a descriptor
//!  0 [u8;4]  magic "KNLL"                 0 [u8;4]  magic "KNLL"
//!  4 u16     version  1                   4 u16     version  1
//!  6 [u8;10] 0                            6 u16     0
//! 16 u128    token                        8 u64     bytes of the slab
//!                                        16 u128    slab id
//!
//! WakeRequest, reader to node            Wake, node to reader
//!  0 [u8;20] partition, canonical         0 [u8;20] partition, canonical
//! 20 u32     0                           20 u8      1 committed, 2 ask the node
//! 24 u64     beyond                      21 [u8;3]  0
//! ```
//!
//! All integers are little-endian.

use crate::ids::{Offset, PartitionKey, SlabId};
use crate::wire::LocalToken;

/// Length of an [`Entrance`], a [`Grant`] and a [`WakeRequest`].
pub const LOCAL_MESSAGE_BYTES: usize = 32;
/// Length of a [`Wake`].
pub const WAKE_BYTES: usize = 24;

const MAGIC: [u8; 4] = *b"KNLL";
const VERSION: u16 = 1;

/// A reader shows its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    /// From the offer.
    pub token: LocalToken,
}

/// The node hands out its slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Its length.
    pub bytes: u64,
    /// Its id.
    pub slab: SlabId,
}

/// A reader wants to be woken, once, when a partition's committed end passes an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeRequest {
    /// Which partition.
    pub partition: PartitionKey,
    /// The offset.
    pub beyond: Offset,
}

/// A reader is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake {
    /// Which partition.
    pub partition: PartitionKey,
    /// What for.
    pub reason: WakeReason,
}

/// Why a reader is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// Something was committed, and may lie in the slab.
    Committed,
    /// The node cannot say when something is committed, or its part in the shard changed.
    AskNode,
}

impl Entrance {
    /// Its bytes.
    pub fn encode(&self) -> [u8; LOCAL_MESSAGE_BYTES] {
        message(opening(0), self.token.0.to_le_bytes())
    }

    /// Reads it; `None` if the bytes are none.
    pub fn decode(bytes: &[u8; LOCAL_MESSAGE_BYTES]) -> Option<Self> {
        let (start, token) = halves(bytes);
        (start == opening(0)).then_some(Self { token: LocalToken(u128::from_le_bytes(token)) })
    }
}

impl Grant {
    /// Its bytes.
    pub fn encode(&self) -> [u8; LOCAL_MESSAGE_BYTES] {
        message(opening(self.bytes), self.slab.0.to_le_bytes())
    }

    /// Reads it; `None` if the bytes are none.
    pub fn decode(bytes: &[u8; LOCAL_MESSAGE_BYTES]) -> Option<Self> {
        let (start, slab) = halves(bytes);
        let length = u64_of(&start[8..]);
        (start == opening(length)).then_some(Self { bytes: length, slab: SlabId(u128::from_le_bytes(slab)) })
    }
}

impl WakeRequest {
    /// Its bytes.
    pub fn encode(&self) -> [u8; LOCAL_MESSAGE_BYTES] {
        let mut bytes = [0; LOCAL_MESSAGE_BYTES];
        bytes[..20].copy_from_slice(&self.partition.canonical_bytes());
        bytes[24..].copy_from_slice(&self.beyond.0.to_le_bytes());
        bytes
    }

    /// Reads it; `None` if the bytes are none.
    pub fn decode(bytes: &[u8; LOCAL_MESSAGE_BYTES]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<20>()?;
        let request = Self { partition: PartitionKey::from_canonical_bytes(*key), beyond: Offset(u64_of(&rest[4..])) };
        (rest[..4] == [0; 4]).then_some(request)
    }
}

impl Wake {
    /// Its bytes.
    pub fn encode(&self) -> [u8; WAKE_BYTES] {
        let mut bytes = [0; WAKE_BYTES];
        bytes[..20].copy_from_slice(&self.partition.canonical_bytes());
        bytes[20] = match self.reason {
            WakeReason::Committed => 1,
            WakeReason::AskNode => 2,
        };
        bytes
    }

    /// Reads it; `None` if the bytes are none.
    pub fn decode(bytes: &[u8; WAKE_BYTES]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<20>()?;
        let reason = match rest {
            [1, 0, 0, 0] => WakeReason::Committed,
            [2, 0, 0, 0] => WakeReason::AskNode,
            _ => return None,
        };
        Some(Self { partition: PartitionKey::from_canonical_bytes(*key), reason })
    }
}

fn opening(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn message(start: [u8; 16], rest: [u8; 16]) -> [u8; LOCAL_MESSAGE_BYTES] {
    let mut bytes = [0; LOCAL_MESSAGE_BYTES];
    bytes[..16].copy_from_slice(&start);
    bytes[16..].copy_from_slice(&rest);
    bytes
}

fn halves(bytes: &[u8; LOCAL_MESSAGE_BYTES]) -> ([u8; 16], [u8; 16]) {
    let (mut start, mut rest) = ([0; 16], [0; 16]);
    start.copy_from_slice(&bytes[..16]);
    rest.copy_from_slice(&bytes[16..]);
    (start, rest)
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionKey {
        "1/2/3@4".parse().expect("a partition")
    }

    #[test]
    fn messages_read_back_and_their_bytes_are_pinned() {
        let entrance = Entrance { token: LocalToken(0x0102) };
        assert_eq!(Entrance::decode(&entrance.encode()), Some(entrance));
        assert_eq!(entrance.encode()[..18], *b"KNLL\x01\0\0\0\0\0\0\0\0\0\0\0\x02\x01");
        let grant = Grant { bytes: 0x0304, slab: SlabId(5) };
        assert_eq!(Grant::decode(&grant.encode()), Some(grant));
        assert_eq!(grant.encode()[..17], *b"KNLL\x01\0\0\0\x04\x03\0\0\0\0\0\0\x05");
        let request = WakeRequest { partition: partition(), beyond: Offset(6) };
        assert_eq!(WakeRequest::decode(&request.encode()), Some(request));
        assert_eq!(request.encode()[..25], *b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\x06");
        for reason in [WakeReason::Committed, WakeReason::AskNode] {
            let wake = Wake { partition: partition(), reason };
            assert_eq!(Wake::decode(&wake.encode()), Some(wake));
        }
        assert_eq!(Wake { partition: partition(), reason: WakeReason::AskNode }.encode()[20..], [2, 0, 0, 0]);
    }

    #[test]
    fn damage_where_nothing_may_stand_is_refused() {
        let entrance = Entrance { token: LocalToken(7) }.encode();
        for at in 0..16 {
            let mut damaged = entrance;
            damaged[at] ^= 1;
            assert_eq!(Entrance::decode(&damaged), None, "byte {at}");
        }
        let grant = Grant { bytes: 9, slab: SlabId(7) }.encode();
        for at in 0..8 {
            let mut damaged = grant;
            damaged[at] ^= 1;
            assert_eq!(Grant::decode(&damaged), None, "byte {at}");
        }
        let mut request = WakeRequest { partition: partition(), beyond: Offset(6) }.encode();
        request[21] = 1;
        assert_eq!(WakeRequest::decode(&request), None);
        for (at, value) in [(20, 0), (20, 3), (21, 1), (23, 1)] {
            let mut wake = Wake { partition: partition(), reason: WakeReason::Committed }.encode();
            wake[at] = value;
            assert_eq!(Wake::decode(&wake), None);
        }
    }
}
