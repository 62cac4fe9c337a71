//! Batches and messages read in place: a walk over headers alone, and over frames where asked.

use bytes::Bytes;

use crate::batch::header::frame_at;
use crate::batch::{BATCH_HEADER_BYTES, BatchError, BatchFault, BatchHeader, MESSAGE_HEADER_BYTES};
use crate::entry::MessageIdentity;
use crate::ids::Offset;
use crate::limits::{MESSAGE_PAYLOAD_BYTES_MAX, MESSAGE_USER_HEADERS_BYTES_MAX};
use crate::raw::{u32_at, u64_at, u128_at};

/// One batch, with its bytes shared. Its length is right; its checksums are not verified by having one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch(Bytes);

impl Batch {
    /// Takes bytes that are exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let view = BatchView::parse(&bytes, 0)?;
        let length = view.bytes.len();
        if length != bytes.len() {
            let reason = BatchFault::BadLength { field: "bytes after the batch", found: (bytes.len() - length) as u64 };
            return Err(BatchError { position: length, reason });
        }
        Ok(Self(bytes))
    }

    /// The batch to read.
    pub fn view(&self) -> BatchView<'_> {
        BatchView::parse(&self.0, 0).expect("a batch was parsed when it was made")
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Walks a run of back-to-back batches by their headers alone. After an error it ends: there is no next header.
pub fn batches(run: &[u8]) -> Batches<'_> {
    Batches { run, position: 0 }
}

/// As [`batches`], with each batch sharing the bytes of the run.
pub fn split(run: &Bytes) -> impl Iterator<Item = Result<Batch, BatchError>> {
    batches(run).map(|view| view.map(|view| Batch(run.slice_ref(view.bytes))))
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    run: &'a [u8],
    position: usize,
}

impl Batches<'_> {
    /// Where the next batch begins, bytes from the start of the run.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position == self.run.len() {
            return None;
        }
        let view = BatchView::parse(self.run, self.position);
        self.position = view.as_ref().map_or(self.run.len(), |view| view.position + view.bytes.len());
        Some(view)
    }
}

/// One batch in a run, read in place.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BatchView<'a> {
    /// The batch at `position` of a run; bytes after it are left alone. Reads nothing but the header.
    pub fn parse(run: &'a [u8], position: usize) -> Result<Self, BatchError> {
        let fail = |reason| BatchError { position, reason };
        let rest = run.get(position..).ok_or(fail(BatchFault::Empty))?;
        let header = BatchHeader::decode(rest).map_err(fail)?;
        let length = usize::try_from(header.batch_length).expect("a length below the limit is a usize");
        let truncated = BatchFault::Truncated { needed: header.batch_length, available: rest.len() as u64 };
        let bytes = rest.get(..length).ok_or(fail(truncated))?;
        Ok(Self { header, bytes, position })
    }

    /// The numbers of its header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where it begins in the run, bytes.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes 52..256 of the header: a producer section in newer servers, else zero.
    pub fn opaque(&self) -> &'a [u8] {
        &self.bytes[super::header::batch_at::PRODUCER..BATCH_HEADER_BYTES]
    }

    /// The offset of its first message, from the first frame's delta.
    pub fn first_offset(&self) -> Offset {
        let delta = u32_at(self.bytes, BATCH_HEADER_BYTES + frame_at::OFFSET_DELTA);
        self.header.base_offset.plus(delta.into())
    }

    /// The offset after its last message, provided that offsets are dense in it: true of everything that Iggy
    /// writes, untrue after key compaction. Reads no frame but the first.
    pub fn end_if_dense(&self) -> Offset {
        self.first_offset().plus(self.header.message_count.into())
    }

    /// Whether it begins with its own base: a slice of a poll that starts inside a batch does not (PROTOCOL R14).
    pub fn is_whole(&self) -> bool {
        self.first_offset() == self.header.base_offset
    }

    /// Its messages, in order. After an error the iterator ends.
    pub fn messages(&self) -> Messages<'a> {
        Messages { batch: *self, cursor: BATCH_HEADER_BYTES, left: self.header.message_count }
    }
}

/// The messages of one batch.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    batch: BatchView<'a>,
    cursor: usize,
    left: u32,
}

impl<'a> Messages<'a> {
    /// Reads the frame at the cursor and, after the last one, checks that the frames filled the batch.
    fn read(&mut self) -> Result<MessageView<'a>, BatchError> {
        let position = self.batch.position + self.cursor;
        let fail = |field, found| BatchError { position, reason: BatchFault::BadLength { field, found } };
        let rest = &self.batch.bytes[self.cursor..];
        if rest.len() < MESSAGE_HEADER_BYTES {
            return Err(fail("message_count", self.batch.header.message_count.into()));
        }
        let payload_bytes = u32_at(rest, frame_at::PAYLOAD_LENGTH) as usize;
        let user_headers_bytes = u32_at(rest, frame_at::USER_HEADERS_LENGTH) as usize;
        if payload_bytes > MESSAGE_PAYLOAD_BYTES_MAX {
            return Err(fail("payload_length", payload_bytes as u64));
        }
        if user_headers_bytes > MESSAGE_USER_HEADERS_BYTES_MAX {
            return Err(fail("user_headers_length", user_headers_bytes as u64));
        }
        // Both are far below the limits, so the sum cannot overflow.
        let length = MESSAGE_HEADER_BYTES + payload_bytes + user_headers_bytes;
        let frame = rest.get(..length).ok_or(fail("message frame", length as u64))?;
        let delta = u32_at(frame, frame_at::OFFSET_DELTA);
        let offset = self.batch.header.base_offset.0.checked_add(delta.into());
        let overflow = BatchFault::OffsetOrder { offset: Offset(u64::MAX) };
        let offset = offset.filter(|offset| *offset < u64::MAX).ok_or(BatchError { position, reason: overflow })?;
        self.cursor += length;
        self.left -= 1;
        if self.left == 0 && self.cursor != self.batch.bytes.len() {
            let rest = self.batch.bytes.len() - self.cursor;
            return Err(fail("bytes after the last message", rest as u64));
        }
        Ok(MessageView { batch: self.batch.header, offset: Offset(offset), frame, payload_bytes, position })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<MessageView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let message = self.read();
        if message.is_err() {
            self.left = 0;
        }
        Some(message)
    }
}

/// One message in a batch, read in place.
#[derive(Debug, Clone, Copy)]
pub struct MessageView<'a> {
    batch: BatchHeader,
    offset: Offset,
    frame: &'a [u8],
    payload_bytes: usize,
    position: usize,
}

impl<'a> MessageView<'a> {
    /// Its offset.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// When the broker appended its batch, microseconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.batch.base_timestamp
    }

    /// When its producer sent it, microseconds since 1970.
    pub fn origin_timestamp(&self) -> u64 {
        self.batch.origin_timestamp.saturating_add(u32_at(self.frame, frame_at::TIMESTAMP_DELTA).into())
    }

    /// Its producer's id for it.
    pub fn id(&self) -> u128 {
        u128_at(self.frame, frame_at::ID)
    }

    /// Iggy's checksum of it, as its frame says.
    pub fn checksum(&self) -> u64 {
        u64_at(self.frame, frame_at::CHECKSUM)
    }

    /// Its payload.
    pub fn payload(&self) -> &'a [u8] {
        &self.frame[MESSAGE_HEADER_BYTES..MESSAGE_HEADER_BYTES + self.payload_bytes]
    }

    /// Its user headers, as Iggy encodes them.
    pub fn user_headers(&self) -> &'a [u8] {
        &self.frame[MESSAGE_HEADER_BYTES + self.payload_bytes..]
    }

    /// What makes it the same message elsewhere (PROTOCOL R14).
    pub fn identity(&self) -> MessageIdentity {
        MessageIdentity { offset: self.offset, base_timestamp: self.timestamp(), checksum: self.checksum() }
    }

    /// The whole frame.
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// Where the frame begins in the run, bytes.
    pub fn position(&self) -> usize {
        self.position
    }
}
