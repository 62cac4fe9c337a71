//! Iggy's batches as they lie on the wire, in the journal, in the bucket and in a poll reply.
//!
//! Batches are read in place and passed on verbatim; only [`slice()`] and [`BatchBuilder`] make new ones. The walker
//! takes what Iggy 0.11 and 0.12 write, sliced batches of polls included. This module knows Iggy's layout and
//! nothing of what a shard does with it.
//!
//! ```text
//! batch header, 256 bytes                          message frame, 48 bytes + payload + user headers
//!   0 u64 partition_id                               0 u64  checksum   XXH3-64 of frame[8..]
//!   8 u64 base_offset                                8 u128 id
//!  16 u64 base_timestamp    us, broker append       24 u32  offset_delta     offset = base_offset + delta
//!  24 u64 origin_timestamp  us, producer            28 u32  timestamp_delta  origin time = origin_timestamp + delta
//!  32 u64 batch_length      header and frames       32 u32  user_headers_length
//!  40 u64 batch_checksum                            36 u32  payload_length
//!  48 u32 message_count                             40 u64  reserved, 0
//!  52 u8  flags             1: a producer follows   48 payload, then user headers
//!  53 [u8;3] 0
//!  56 u64 producer_id       0 without a producer
//!  64 u16 producer_epoch
//!  66 [u8;2] 0
//!  68 u32 base_sequence
//!  72..256 0                                        all integers little-endian
//! ```
//!
//! `batch_checksum` is the XXH3-64 of `partition_id`, `base_offset`, `base_timestamp`, `origin_timestamp`,
//! `batch_length` and `message_count`; of `flags`, `producer_id`, `producer_epoch` and `base_sequence` if there is a
//! producer; and of the checksums of all frames in order. It covers payloads only through those, so verifying means
//! both. All other header bytes must be zero, since no checksum covers them.
//!
//! A *sliced* batch holds a run of another batch's frames: the same base, a first delta above 0 (or a lower count),
//! and a new length, count and checksum.

pub mod builder;
mod error;
mod header;
mod inspect;
mod slice;
mod view;

pub use builder::{BatchBuilder, MessageParts, Producer};
pub use error::{BatchError, BatchFault};
pub use header::{BATCH_HEADER_BYTES, BatchHeader, MESSAGE_HEADER_BYTES};
pub use inspect::{BatchSummary, ChunkPeek, inspect_chunk, peek};
pub use slice::{SlicedBatch, slice, slice_in_place};
pub use view::{Batch, BatchView, Batches, MessageView, Messages, batches, split};
