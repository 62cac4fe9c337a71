//! What lies in the bucket. Everything is created only if absent and never changed; see the keys for where.

pub mod claim;
pub mod manifest;
pub mod slot;

pub use claim::{Claim, Copyset};
pub use manifest::{LogPosition, Manifest};
pub use slot::{IndexEntry, LogHeader, LogIndex, OpenRecord, PartitionState, SealObject, SlotObject};
