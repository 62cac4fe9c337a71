//! The cluster's identity: the object that makes a bucket prefix a cluster. Created once, never changed.

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::ClusterId;

/// The format of a new cluster's prefix: which keys and objects it has.
pub const CLUSTER_FORMAT: u16 = 1;

/// What is fixed for ever when a prefix is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ClusterIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// How many shards the partition space has.
    pub shard_count: u16,
    /// Which keys and objects the prefix has: [`CLUSTER_FORMAT`].
    pub format: u16,
}
