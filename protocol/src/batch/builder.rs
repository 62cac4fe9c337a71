//! Makes batches as an Iggy server writes them: for generators, simulations and tests.

use bytes::Bytes;

use crate::batch::header::{PRODUCER_PRESENT, batch_at, batch_hasher, frame_at};
use crate::batch::{BATCH_HEADER_BYTES, MESSAGE_HEADER_BYTES};
use crate::checksum::checksum;
use crate::ids::{Offset, PartitionId};
use crate::limits::{BATCH_BYTES_MAX, MESSAGE_PAYLOAD_BYTES_MAX, MESSAGE_USER_HEADERS_BYTES_MAX};
use crate::raw::u32_at;

/// One message to be put into a batch.
#[derive(Debug, Clone, Copy)]
pub struct MessageParts<'a> {
    /// Its producer's id for it.
    pub id: u128,
    /// How long after the batch's origin timestamp its producer sent it, microseconds.
    pub timestamp_delta: u32,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its user headers, as Iggy encodes them.
    pub user_headers: &'a [u8],
}

/// The idempotent producer of a batch, as newer servers record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The producer.
    pub id: u64,
    /// Its epoch.
    pub epoch: u16,
    /// The sequence number of the batch's first message.
    pub base_sequence: u32,
}

/// Builds one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    base: Offset,
    delta: u32,
    count: u32,
}

impl BatchBuilder {
    /// An empty batch that begins at `base` and that the broker appended at `base_timestamp`, microseconds since
    /// 1970. Its producers sent at the same time unless [`BatchBuilder::origin_timestamp`] says otherwise.
    pub fn new(partition: PartitionId, base: Offset, base_timestamp: u64) -> Self {
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        put(&mut bytes, batch_at::PARTITION_ID, &u64::from(partition.0).to_le_bytes());
        put(&mut bytes, batch_at::BASE_OFFSET, &base.0.to_le_bytes());
        put(&mut bytes, batch_at::BASE_TIMESTAMP, &base_timestamp.to_le_bytes());
        put(&mut bytes, batch_at::ORIGIN_TIMESTAMP, &base_timestamp.to_le_bytes());
        Self { bytes, base, delta: 0, count: 0 }
    }

    /// The earliest time at which a producer sent, microseconds since 1970.
    #[must_use]
    pub fn origin_timestamp(mut self, origin_timestamp: u64) -> Self {
        put(&mut self.bytes, batch_at::ORIGIN_TIMESTAMP, &origin_timestamp.to_le_bytes());
        self
    }

    /// Records an idempotent producer, as newer servers do.
    #[must_use]
    pub fn producer(mut self, producer: Producer) -> Self {
        put(&mut self.bytes, batch_at::PRODUCER, &[PRODUCER_PRESENT]);
        put(&mut self.bytes, batch_at::PRODUCER_ID, &producer.id.to_le_bytes());
        put(&mut self.bytes, batch_at::PRODUCER_EPOCH, &producer.epoch.to_le_bytes());
        put(&mut self.bytes, batch_at::PRODUCER_SEQUENCE, &producer.base_sequence.to_le_bytes());
        self
    }

    /// Adds a message with nothing but a payload; its id is its offset plus one.
    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        let id = u128::from(self.base.0) + u128::from(self.delta) + 1;
        self.message(MessageParts { id, timestamp_delta: 0, payload, user_headers: &[] })
    }

    /// Adds a message.
    ///
    /// # Panics
    /// If the message or the batch becomes longer than Iggy allows.
    #[must_use]
    pub fn message(mut self, message: MessageParts<'_>) -> Self {
        let MessageParts { id, timestamp_delta, payload, user_headers } = message;
        assert!(payload.len() <= MESSAGE_PAYLOAD_BYTES_MAX, "a payload keeps to Iggy's limit");
        assert!(user_headers.len() <= MESSAGE_USER_HEADERS_BYTES_MAX, "user headers keep to Iggy's limit");
        let length = |part: &[u8]| u32::try_from(part.len()).expect("checked above").to_le_bytes();
        let start = self.bytes.len();
        self.bytes.resize(start + MESSAGE_HEADER_BYTES, 0);
        let frame = &mut self.bytes[start..];
        put(frame, frame_at::ID, &id.to_le_bytes());
        put(frame, frame_at::OFFSET_DELTA, &self.delta.to_le_bytes());
        put(frame, frame_at::TIMESTAMP_DELTA, &timestamp_delta.to_le_bytes());
        put(frame, frame_at::USER_HEADERS_LENGTH, &length(user_headers));
        put(frame, frame_at::PAYLOAD_LENGTH, &length(payload));
        self.bytes.extend_from_slice(payload);
        self.bytes.extend_from_slice(user_headers);
        assert!(self.bytes.len() <= BATCH_BYTES_MAX, "a batch keeps to Iggy's limit");
        let own = checksum(&self.bytes[start + 8..]);
        put(&mut self.bytes[start..], frame_at::CHECKSUM, &own.to_le_bytes());
        self.delta += 1;
        self.count += 1;
        self
    }

    /// Leaves `count` offsets out, as key compaction does.
    #[must_use]
    pub fn skip(mut self, count: u32) -> Self {
        self.delta += count;
        self
    }

    /// The offset that the next message gets.
    pub fn next_offset(&self) -> Offset {
        self.base.plus(self.delta.into())
    }

    /// The finished batch.
    ///
    /// # Panics
    /// If it has no message: Iggy writes no such batch.
    pub fn build(mut self) -> Bytes {
        assert!(self.count > 0, "a batch has at least one message");
        stamp(&mut self.bytes, self.count);
        Bytes::from(self.bytes)
    }
}

/// Writes length, count and checksum into the header of a batch whose frames are complete.
pub(crate) fn stamp(bytes: &mut [u8], count: u32) {
    let (header, frames) = bytes.split_at_mut(BATCH_HEADER_BYTES);
    stamp_header(header, frames, count);
}

/// As [`stamp`], for frames that lie elsewhere than their header.
pub(crate) fn stamp_header(header: &mut [u8], frames: &[u8], count: u32) {
    let length = (header.len() + frames.len()) as u64;
    put(header, batch_at::BATCH_LENGTH, &length.to_le_bytes());
    put(header, batch_at::MESSAGE_COUNT, &count.to_le_bytes());
    let mut hasher = batch_hasher(header);
    let mut cursor = 0;
    for _ in 0..count {
        let frame = &frames[cursor..];
        hasher.update(&frame[..8]);
        let payload = u32_at(frame, frame_at::PAYLOAD_LENGTH) as usize;
        let user_headers = u32_at(frame, frame_at::USER_HEADERS_LENGTH) as usize;
        cursor += MESSAGE_HEADER_BYTES + payload + user_headers;
    }
    assert_eq!(cursor, frames.len(), "the frames fill the batch");
    put(header, batch_at::BATCH_CHECKSUM, &hasher.value().to_le_bytes());
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchFault, BatchView};

    fn small() -> BatchBuilder {
        BatchBuilder::new(PartitionId(3), Offset(10), 1_000).payload(b"one").payload(b"two")
    }

    #[test]
    fn what_is_built_verifies_and_says_what_was_put_in() {
        let headers = b"\x02\x01\0\0\0k\x02\x01\0\0\0v";
        let parts = MessageParts { id: 77, timestamp_delta: 5, payload: b"three", user_headers: headers };
        let bytes = small().origin_timestamp(900).message(parts).build();
        let view = BatchView::parse(&bytes, 0).expect("a batch");
        let summary = view.verify().expect("a valid batch");
        assert_eq!((summary.first.offset, summary.last.offset, summary.sum.messages), (Offset(10), Offset(12), 3));
        assert_eq!(summary.gap, None);
        let message = view.messages().last().expect("three").expect("valid");
        assert_eq!((message.id(), message.timestamp(), message.origin_timestamp()), (77, 1_000, 905));
        assert_eq!((message.payload(), message.user_headers()), (&b"three"[..], &headers[..]));
    }

    #[test]
    fn a_producer_enters_the_checksum() {
        let producer = Producer { id: 9, epoch: 2, base_sequence: 40 };
        let bytes = small().producer(producer).build();
        BatchView::parse(&bytes, 0).expect("a batch").verify().expect("a valid batch");
        let mut damaged = bytes.to_vec();
        damaged[batch_at::PRODUCER_SEQUENCE] ^= 1;
        let error = BatchView::parse(&damaged, 0).expect("a batch").verify().expect_err("damaged");
        assert!(matches!(error.reason, BatchFault::BatchChecksum { .. }));
    }

    #[test]
    fn offsets_left_out_are_told() {
        let bytes = small().skip(4).payload(b"seven").build();
        let summary = BatchView::parse(&bytes, 0).expect("a batch").verify().expect("a valid batch");
        assert_eq!((summary.gap, summary.last.offset), (Some(Offset(12)), Offset(16)));
    }
}
