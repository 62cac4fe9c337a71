//! Lanes: what a long-lived stream of frames is for, said in its first eight bytes.
//!
//! The opener writes the preamble at once, so that the other side sees the lane before the first frame. This file
//! knows the layout and the priorities; it knows no stream.
//!
//! ```text
//! 0 [u8;2]  magic "KL"
//! 2 u8      version             1
//! 3 u8      purpose             1 hello, 2 control, 3 shard, 4 read, 5 bulk; never reused
//! 4 u16     shard               for purpose 3, else 0; little-endian
//! 6 u16     reserved            0
//! 8         frames
//! ```

use kennel_protocol::ids::ShardId;

/// What a lane is for. Lanes do not wait for each other, and a higher priority is sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The hello and its answer; the first lane of every session and used for nothing else.
    Hello,
    /// Small questions: views, positions, catalogues, and whatever must not wait behind data.
    Control,
    /// The chunks or copies of one shard, in order, and their acknowledgements.
    Shard(ShardId),
    /// Fetches and follows of readers.
    Read,
    /// What may wait: cold blocks, gathering, restore, mirrors.
    Bulk,
}

/// Length of a lane's preamble.
pub const PREAMBLE_BYTES: usize = 8;

const MAGIC: [u8; 2] = *b"KL";
const VERSION: u8 = 1;

const _: () = assert!(MAGIC.len() + 1 + 1 + 2 + 2 == PREAMBLE_BYTES);

/// The first bytes of a lane are not a preamble that this build knows. Fix: the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lane starts with {found:02x?}, which is no preamble of version {VERSION}")]
pub struct PreambleError {
    /// What stood there.
    pub found: [u8; PREAMBLE_BYTES],
}

impl Lane {
    /// The preamble's bytes.
    pub fn encode(self) -> [u8; PREAMBLE_BYTES] {
        let (purpose, shard) = match self {
            Self::Hello => (1, 0),
            Self::Control => (2, 0),
            Self::Shard(shard) => (3, shard.0),
            Self::Read => (4, 0),
            Self::Bulk => (5, 0),
        };
        let [low, high] = shard.to_le_bytes();
        [MAGIC[0], MAGIC[1], VERSION, purpose, low, high, 0, 0]
    }

    /// Reads a preamble. Unused bytes must be zero.
    pub fn decode(bytes: [u8; PREAMBLE_BYTES]) -> Result<Self, PreambleError> {
        let shard = ShardId(u16::from_le_bytes([bytes[4], bytes[5]]));
        let lane = match bytes[3] {
            1 => Self::Hello,
            2 => Self::Control,
            3 => Self::Shard(shard),
            4 => Self::Read,
            5 => Self::Bulk,
            _ => return Err(PreambleError { found: bytes }),
        };
        // Whatever else the bytes say must be what this build would have written.
        if lane.encode() == bytes { Ok(lane) } else { Err(PreambleError { found: bytes }) }
    }

    /// Who goes first when a session has more to send than the network takes; higher is earlier.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Hello | Self::Control => 2,
            Self::Shard(_) | Self::Read => 1,
            Self::Bulk => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preambles_read_back_and_nothing_else_does() {
        for lane in [Lane::Hello, Lane::Control, Lane::Shard(ShardId(513)), Lane::Read, Lane::Bulk] {
            assert_eq!(Lane::decode(lane.encode()), Ok(lane));
        }
        assert_eq!(Lane::Shard(ShardId(513)).encode(), *b"KL\x01\x03\x01\x02\x00\x00");
        for bad in [b"XL\x01\x02\0\0\0\0", b"KL\x02\x02\0\0\0\0", b"KL\x01\x00\0\0\0\0", b"KL\x01\x02\x01\0\0\0"] {
            assert_eq!(Lane::decode(*bad), Err(PreambleError { found: *bad }));
        }
        assert!(Lane::decode(*b"KL\x01\x03\x01\x02\x00\x01").is_err());
    }
}
