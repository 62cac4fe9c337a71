//! Cold reads: what has left memory, from the block cache or the bucket.
//!
//! [`ColdIndex`] knows where everything of a shard lies; [`ColdReader`] brings blocks. Both have their own bounds, so
//! that nobody who reads history slows down who reads the tail.

mod index;
mod reader;

pub use index::ColdIndex;
pub(super) use index::REFRESH_INTERVAL;
pub use reader::{ColdCounters, ColdReader, ColdSettings};

use kennel_core::read::IndexError;

use super::flight::FlightBroken;
use super::store::StoreError;

/// Why a cold read has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ColdError {
    /// The bucket does not answer, or an object in it is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is not what the rules allow. Stop and tell an operator.
    #[error("the log in the bucket is broken")]
    Log(#[source] IndexError),
    /// A block is damaged in the bucket itself: read twice, wrong twice. Stop and tell an operator.
    #[error("the block at {position} of epoch {epoch} slot {slot} is damaged in the bucket")]
    Corrupt {
        /// The epoch of the object.
        epoch: kennel_protocol::ids::Epoch,
        /// The slot of the object.
        slot: kennel_protocol::ids::Slot,
        /// Where the block begins.
        position: u32,
    },
    /// An object that the index names is gone: collected meanwhile. Read the log again (PROTOCOL R25).
    #[error("the object of epoch {epoch} slot {slot} is gone")]
    Gone {
        /// The epoch of the object.
        epoch: kennel_protocol::ids::Epoch,
        /// The slot of the object.
        slot: kennel_protocol::ids::Slot,
    },
    /// The node's own machinery broke down. Retry.
    #[error(transparent)]
    Broken(#[from] FlightBroken),
}
