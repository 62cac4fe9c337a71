//! What lies in the bucket. Everything is created only if absent and never changed; see [`crate::keys`] for where.
//!
//! The logical types stand in a file each; `envelope` and `small` turn the small ones into bytes, `log_layout`,
//! `log_encode` and `log_decode` the log objects.

pub mod claim;
pub mod cluster;
pub mod envelope;
mod error;
mod log_decode;
mod log_encode;
mod log_layout;
pub mod manifest;
pub mod slot;
mod small;

pub use claim::{Claim, Copyset};
pub use cluster::{CLUSTER_FORMAT, ClusterIdentity};
pub use error::{ObjectError, ObjectKind};
pub use log_decode::{SlotSuffix, decode_slot, decode_slot_suffix, verify_block};
pub use log_encode::{EncodeLogError, EncodedObject, encode_log_object};
pub use log_layout::{LOG_FOOTER_BYTES, LOG_FOOTER_MAGIC, LOG_HEADER_BYTES, LogFooter};
pub use manifest::{LogPosition, Manifest};
pub use slot::{IndexEntry, LogHeader, LogIndex, OpenRecord, PartitionState, SealObject, SlotObject};
