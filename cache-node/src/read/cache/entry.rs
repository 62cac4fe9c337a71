//! What the cache stores: keys and blocks, and how they lie on its disk.
//!
//! ```text
//! key:    0 u128 put id     16 u64 position                       all integers little-endian
//! block:  0 u64  checksum    8 u32 length     12 the block
//! ```

use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;
use foyer::{Code, Error, ErrorKind, Result};
use kennel_protocol::limits::LOG_OBJECT_BYTES_MAX;

/// Names a block for ever: the exact bytes of an object, and a place in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey {
    pub(super) put: u128,
    pub(super) position: u64,
}

/// A verified block with the checksum that it was verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedBlock {
    pub(super) bytes: Bytes,
    pub(super) checksum: u64,
}

/// Bookkeeping per entry in memory, roughly: record, indices, handle.
const ENTRY_BYTES: usize = 160;

impl CachedBlock {
    /// Its share of the memory half.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}+{}", self.put, self.position)
    }
}

impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        writer.write_all(&self.put.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&self.position.to_le_bytes()).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let put = u128::from_le_bytes(array(reader)?);
        Ok(Self { put, position: u64::from_le_bytes(array(reader)?) })
    }

    fn estimated_size(&self) -> usize {
        24
    }
}

impl Code for CachedBlock {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        let length = u32::try_from(self.bytes.len()).expect("a block's length is a u32 in its index");
        writer.write_all(&self.checksum.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&length.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&self.bytes).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let checksum = u64::from_le_bytes(array(reader)?);
        let length = u32::from_le_bytes(array(reader)?) as usize;
        if length > LOG_OBJECT_BYTES_MAX {
            return Err(Error::new(ErrorKind::Parse, "a cached block claims to be longer than any object"));
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).map_err(Error::io_error)?;
        Ok(Self { bytes: bytes.into(), checksum })
    }

    fn estimated_size(&self) -> usize {
        12 + self.bytes.len()
    }
}

fn array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(Error::io_error)?;
    Ok(bytes)
}
