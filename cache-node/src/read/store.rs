//! What cold reads need of the bucket: slots, ranges of slots, manifests.
//!
//! A seam with two sides: the bucket itself, and a log in memory for tests. It decides nothing.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use kennel_protocol::ids::ShardId;
use kennel_protocol::object::manifest::{LogPosition, Manifest};
use kennel_protocol::object::slot::SlotObject;

/// Why the log could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The bucket cannot be reached or is overloaded. Wait and retry.
    #[error("the bucket does not answer: {reason}")]
    Unavailable {
        /// What it or its client said.
        reason: String,
    },
    /// The journal cannot give a body back. The node stops with it; ask another.
    #[error("the journal cannot be read: {reason}")]
    Journal {
        /// What it said.
        reason: String,
    },
    /// An object is damaged or not ours. Stop and tell an operator.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// Which object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The log of every shard, as far as the bucket has it.
#[async_trait]
pub trait LogStore: fmt::Debug + Send + Sync + 'static {
    /// What a slot holds, bodies aside; `None` where it is known to be absent.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn slot(&self, shard: ShardId, at: LogPosition) -> Result<Option<SlotObject>, StoreError>;

    /// Exactly these bytes of a slot's object; `None` where the object is known to be absent.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn range(&self, shard: ShardId, at: LogPosition, range: Range<u64>) -> Result<Option<Bytes>, StoreError>;

    /// The newest manifest of a shard; `None` where there is none.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn manifest(&self, shard: ShardId) -> Result<Option<Manifest>, StoreError>;
}
