//! The bucket: create-if-absent, reads, listing and deletion over `object_store`, with honest answers.
//!
//! What it is for: one place that knows what S3 and its client do to the unwary. A PUT whose answer was lost is
//! `Unknown`, never a failure; a 409 is no verdict; `None` is a *proven* absence; every read has a limit. What it
//! refuses to know: claims, slots, manifests and who owns what. It never resolves an `Unknown`: its callers read back.

mod cluster;
mod connect;
mod counters;
mod create;
mod error;
mod key;
mod listing;
mod observe;
mod probe;
mod read;
mod settings;
mod store;

pub use cluster::{ClusterError, establish_cluster};
pub use counters::{Counters, CountersSnapshot, RequestKind};
pub use create::CreateOutcome;
pub use error::{Advice, BucketError};
pub use listing::{Deleted, ListEntry, Listing};
pub use probe::{ProbeError, ProbeReport};
pub use read::{ObjectHead, Suffix};
pub use settings::{BucketLimits, BucketSettings, BucketTimeouts, Secret};
pub use store::Bucket;
