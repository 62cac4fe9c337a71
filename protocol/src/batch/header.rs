//! The fixed parts: a batch's header and the places of a message frame's fields.

use crate::batch::BatchFault;
use crate::checksum::RunningChecksum;
use crate::ids::Offset;
use crate::limits::BATCH_BYTES_MAX;
use crate::raw::{u32_at, u64_at};

/// Length of a batch header.
pub const BATCH_HEADER_BYTES: usize = 256;
/// Length of a message frame without its payload and user headers.
pub const MESSAGE_HEADER_BYTES: usize = 48;

/// Where the fields stand in a batch header.
pub(crate) mod batch_at {
    pub(crate) const PARTITION_ID: usize = 0;
    pub(crate) const BASE_OFFSET: usize = 8;
    pub(crate) const BASE_TIMESTAMP: usize = 16;
    pub(crate) const ORIGIN_TIMESTAMP: usize = 24;
    pub(crate) const BATCH_LENGTH: usize = 32;
    pub(crate) const BATCH_CHECKSUM: usize = 40;
    pub(crate) const MESSAGE_COUNT: usize = 48;
    pub(crate) const PRODUCER: usize = 52;
    pub(crate) const PRODUCER_ID: usize = 56;
    pub(crate) const PRODUCER_EPOCH: usize = 64;
    pub(crate) const PRODUCER_SEQUENCE: usize = 68;
    pub(crate) const RESERVED: usize = 72;
}

/// Where the fields stand in a message frame.
pub(crate) mod frame_at {
    pub(crate) const CHECKSUM: usize = 0;
    pub(crate) const ID: usize = 8;
    pub(crate) const OFFSET_DELTA: usize = 24;
    pub(crate) const TIMESTAMP_DELTA: usize = 28;
    pub(crate) const USER_HEADERS_LENGTH: usize = 32;
    pub(crate) const PAYLOAD_LENGTH: usize = 36;
}

const _: () = {
    assert!(batch_at::MESSAGE_COUNT + 4 == batch_at::PRODUCER);
    assert!(batch_at::PRODUCER_SEQUENCE + 4 == batch_at::RESERVED);
    assert!(batch_at::RESERVED <= BATCH_HEADER_BYTES);
    assert!(frame_at::PAYLOAD_LENGTH + 4 + 8 == MESSAGE_HEADER_BYTES);
};

/// The value of the flags byte that says that a producer follows.
pub(crate) const PRODUCER_PRESENT: u8 = 1;

/// The numbers of a batch header. A decoded one has a possible length and count; nothing else is checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The numeric partition id.
    pub partition_id: u64,
    /// Offset that the frames' deltas are added to.
    pub base_offset: Offset,
    /// When the broker appended the batch, microseconds since 1970. The timestamp of all its messages.
    pub base_timestamp: u64,
    /// The earliest time of a producer in the batch, microseconds since 1970.
    pub origin_timestamp: u64,
    /// Length of header and frames in bytes.
    pub batch_length: u64,
    /// Iggy's checksum over the header and the frames' checksums.
    pub batch_checksum: u64,
    /// How many messages.
    pub message_count: u32,
}

impl BatchHeader {
    /// Reads a header and checks that its length and count are possible.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchFault> {
        if bytes.len() < BATCH_HEADER_BYTES {
            return Err(BatchFault::Truncated { needed: BATCH_HEADER_BYTES as u64, available: bytes.len() as u64 });
        }
        let header = Self {
            partition_id: u64_at(bytes, batch_at::PARTITION_ID),
            base_offset: Offset(u64_at(bytes, batch_at::BASE_OFFSET)),
            base_timestamp: u64_at(bytes, batch_at::BASE_TIMESTAMP),
            origin_timestamp: u64_at(bytes, batch_at::ORIGIN_TIMESTAMP),
            batch_length: u64_at(bytes, batch_at::BATCH_LENGTH),
            batch_checksum: u64_at(bytes, batch_at::BATCH_CHECKSUM),
            message_count: u32_at(bytes, batch_at::MESSAGE_COUNT),
        };
        header.check_lengths()?;
        Ok(header)
    }

    fn check_lengths(&self) -> Result<(), BatchFault> {
        let smallest = (BATCH_HEADER_BYTES + MESSAGE_HEADER_BYTES) as u64;
        if !(smallest..=BATCH_BYTES_MAX as u64).contains(&self.batch_length) {
            return Err(BatchFault::BadLength { field: "batch_length", found: self.batch_length });
        }
        let frames = (self.batch_length - BATCH_HEADER_BYTES as u64) / MESSAGE_HEADER_BYTES as u64;
        if self.message_count == 0 || u64::from(self.message_count) > frames {
            return Err(BatchFault::BadLength { field: "message_count", found: self.message_count.into() });
        }
        Ok(())
    }
}

/// Begins the batch checksum with everything that Iggy hashes of a header; the frames' checksums follow.
pub(crate) fn batch_hasher(header: &[u8]) -> RunningChecksum {
    let mut hasher = RunningChecksum::new();
    hasher.update(&header[..batch_at::BATCH_CHECKSUM]);
    hasher.update(&header[batch_at::MESSAGE_COUNT..batch_at::PRODUCER]);
    // Left out where there is no producer, so batches of older servers keep their checksums.
    if header[batch_at::PRODUCER] == PRODUCER_PRESENT {
        hasher.update(&header[batch_at::PRODUCER..=batch_at::PRODUCER]);
        hasher.update(&header[batch_at::PRODUCER_ID..batch_at::PRODUCER_EPOCH + 2]);
        hasher.update(&header[batch_at::PRODUCER_SEQUENCE..batch_at::RESERVED]);
    }
    hasher
}

/// Whether all bytes that no checksum covers are zero, as every Iggy writes them.
pub(crate) fn reserved_is_zero(header: &[u8]) -> bool {
    let zero = |range: core::ops::Range<usize>| header[range].iter().all(|byte| *byte == 0);
    let producer = match header[batch_at::PRODUCER] {
        0 => zero(batch_at::PRODUCER..batch_at::RESERVED),
        PRODUCER_PRESENT => {
            zero(batch_at::PRODUCER + 1..batch_at::PRODUCER_ID)
                && zero(batch_at::PRODUCER_EPOCH + 2..batch_at::PRODUCER_SEQUENCE)
        }
        _ => false,
    };
    producer && zero(batch_at::RESERVED..BATCH_HEADER_BYTES)
}
