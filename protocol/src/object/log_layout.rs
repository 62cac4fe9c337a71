//! The fixed ends of a log object: a header that names it and a footer that leads to its index.
//!
//! ```text
//! header, 128 bytes, at the front              footer, 64 bytes, at the very end
//!   0 [u8;4] magic "KNLL"                        0 [u8;4] magic "KNLE"
//!   4 u16    version, 1                          4 u16    version, 1
//!   6 u16    shard                               6 u16    reserved, 0
//!   8 u64    reserved, 0                         8 u64    index_position    bytes from the front
//!  16 u128   cluster                            16 u32    index_bytes
//!  32 u128   process                            20 u32    reserved, 0
//!  48 u128   put                                24 u64    index_checksum    XXH3-64 of the index
//!  64 u64    epoch                              32 u64    header_checksum   the header's bytes 120..128
//!  72 u64    slot                               40 u64    object_bytes      length of the whole object
//!  80 u64    lsn_from                           48 u64    reserved, 0
//!  88 u64    lsn_end, exclusive                 56 u64    footer_checksum   XXH3-64 of bytes 0..56
//!  96 [u8;24] reserved, 0
//! 120 u64    header_checksum   XXH3-64 of bytes 0..120
//! ```
//!
//! Between them: blocks without gaps in the order of the index, then the rkyv index. All integers little-endian.

use crate::checksum::checksum;
use crate::ids::{ClusterId, Epoch, Lsn, ProcessId, PutId, ShardId, Slot};
use crate::limits::{LOG_INDEX_BYTES_MAX, LOG_OBJECT_BYTES_MAX, OBJECT_VERSION};
use crate::object::{LogHeader, ObjectError, ObjectKind};
use crate::raw::{array_at, u16_at, u32_at, u64_at, u128_at};

/// Length of a log object's header.
pub const LOG_HEADER_BYTES: usize = 128;
/// Length of a log object's footer.
pub const LOG_FOOTER_BYTES: usize = 64;
/// The first four bytes of the footer.
pub const LOG_FOOTER_MAGIC: [u8; 4] = *b"KNLE";

const HEADER_CHECKSUM_AT: usize = 120;
const FOOTER_CHECKSUM_AT: usize = 56;
const KIND: ObjectKind = ObjectKind::Log;

const _: () = {
    assert!(4 + 2 + 2 + 8 + 16 + 16 + 16 + 8 + 8 + 8 + 8 + 24 == HEADER_CHECKSUM_AT);
    assert!(HEADER_CHECKSUM_AT + 8 == LOG_HEADER_BYTES);
    assert!(4 + 2 + 2 + 8 + 4 + 4 + 8 + 8 + 8 + 8 == FOOTER_CHECKSUM_AT);
    assert!(FOOTER_CHECKSUM_AT + 8 == LOG_FOOTER_BYTES);
};

impl LogHeader {
    /// The header's bytes, checksum included.
    pub fn encode(&self) -> [u8; LOG_HEADER_BYTES] {
        let mut bytes = [0; LOG_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&KIND.magic());
        bytes[4..6].copy_from_slice(&OBJECT_VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.cluster.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.process.0.to_le_bytes());
        bytes[48..64].copy_from_slice(&self.put.0.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.slot.0.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.lsn_from.0.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.lsn_end.0.to_le_bytes());
        let own = checksum(&bytes[..HEADER_CHECKSUM_AT]);
        bytes[HEADER_CHECKSUM_AT..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads a header and checks it: enough to tell whose an object is from its first 128 bytes.
    pub fn decode(bytes: &[u8; LOG_HEADER_BYTES]) -> Result<Self, ObjectError> {
        let magic = array_at(bytes, 0);
        if magic != KIND.magic() {
            return Err(ObjectError::Magic { expected: KIND, found: magic });
        }
        check_version(bytes)?;
        if checksum(&bytes[..HEADER_CHECKSUM_AT]) != u64_at(bytes, HEADER_CHECKSUM_AT) {
            return Err(ObjectError::Checksum { kind: KIND });
        }
        if bytes[8..16] != [0; 8] || bytes[96..HEADER_CHECKSUM_AT] != [0; 24] {
            return Err(ObjectError::Reserved { kind: KIND });
        }
        Ok(Self {
            shard: ShardId(u16_at(bytes, 6)),
            cluster: ClusterId(u128_at(bytes, 16)),
            process: ProcessId(u128_at(bytes, 32)),
            put: PutId(u128_at(bytes, 48)),
            epoch: Epoch(u64_at(bytes, 64)),
            slot: Slot(u64_at(bytes, 72)),
            lsn_from: Lsn(u64_at(bytes, 80)),
            lsn_end: Lsn(u64_at(bytes, 88)),
        })
    }

    /// The checksum that the footer repeats.
    pub(crate) fn own_checksum(&self) -> u64 {
        u64_at(&self.encode(), HEADER_CHECKSUM_AT)
    }
}

/// The last bytes of a log object. A decoded one is verified, and its index lies inside the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFooter {
    /// Where the index begins, bytes from the front.
    pub index_position: u64,
    /// Length of the index.
    pub index_bytes: u32,
    /// XXH3-64 of the index.
    pub index_checksum: u64,
    /// The header's own checksum.
    pub header_checksum: u64,
    /// Length of the whole object.
    pub object_bytes: u64,
}

impl LogFooter {
    /// The footer's bytes, checksum included.
    pub fn encode(&self) -> [u8; LOG_FOOTER_BYTES] {
        let mut bytes = [0; LOG_FOOTER_BYTES];
        bytes[0..4].copy_from_slice(&LOG_FOOTER_MAGIC);
        bytes[4..6].copy_from_slice(&OBJECT_VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index_position.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.index_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index_checksum.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.header_checksum.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.object_bytes.to_le_bytes());
        let own = checksum(&bytes[..FOOTER_CHECKSUM_AT]);
        bytes[FOOTER_CHECKSUM_AT..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads a footer and checks it and the place that it gives for the index.
    pub fn decode(bytes: &[u8; LOG_FOOTER_BYTES]) -> Result<Self, ObjectError> {
        let magic = array_at(bytes, 0);
        if magic != LOG_FOOTER_MAGIC {
            return Err(ObjectError::Magic { expected: KIND, found: magic });
        }
        check_version(bytes)?;
        if checksum(&bytes[..FOOTER_CHECKSUM_AT]) != u64_at(bytes, FOOTER_CHECKSUM_AT) {
            return Err(ObjectError::Checksum { kind: KIND });
        }
        if bytes[6..8] != [0; 2] || bytes[20..24] != [0; 4] || bytes[48..FOOTER_CHECKSUM_AT] != [0; 8] {
            return Err(ObjectError::Reserved { kind: KIND });
        }
        let footer = Self {
            index_position: u64_at(bytes, 8),
            index_bytes: u32_at(bytes, 16),
            index_checksum: u64_at(bytes, 24),
            header_checksum: u64_at(bytes, 32),
            object_bytes: u64_at(bytes, 40),
        };
        footer.check_place()?;
        Ok(footer)
    }

    /// Where the index lies, bytes from the front.
    pub fn index_range(&self) -> core::ops::Range<u64> {
        self.index_position..self.index_position + u64::from(self.index_bytes)
    }

    fn check_place(&self) -> Result<(), ObjectError> {
        let fail = |what| Err(ObjectError::Contradiction { kind: KIND, what });
        if self.index_bytes as usize > LOG_INDEX_BYTES_MAX || self.object_bytes > LOG_OBJECT_BYTES_MAX as u64 {
            return fail("its index or the whole of it is longer than allowed");
        }
        let index_end = self.index_position.checked_add(self.index_bytes.into());
        let ends_before_footer = index_end.and_then(|end| end.checked_add(LOG_FOOTER_BYTES as u64));
        if self.index_position < LOG_HEADER_BYTES as u64 || ends_before_footer != Some(self.object_bytes) {
            return fail("its index does not lie between the blocks and the footer");
        }
        Ok(())
    }
}

fn check_version(bytes: &[u8]) -> Result<(), ObjectError> {
    match u16_at(bytes, 4) {
        OBJECT_VERSION => Ok(()),
        found => Err(ObjectError::Version { kind: KIND, found }),
    }
}
