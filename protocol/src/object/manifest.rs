//! The manifest: where a shard's log starts and what its partitions amounted to there (PROTOCOL R22, R23).

use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::IntegritySum;
use crate::ids::{Epoch, Lsn, ShardId, Slot};
use crate::object::slot::PartitionState;

/// A slot of a shard's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub struct LogPosition {
    /// Whose log.
    pub epoch: Epoch,
    /// Which slot of it.
    pub slot: Slot,
}

impl LogPosition {
    /// Where every shard's log begins.
    pub const START: Self = Self { epoch: Epoch(1), slot: Slot(0) };
}

/// Numbered record of a shard. Dense within an epoch; the newest of the newest epoch counts.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Manifest {
    /// Which shard.
    pub shard: ShardId,
    /// The epoch of the owner that wrote it.
    pub epoch: Epoch,
    /// Its number in the epoch.
    pub number: u64,
    /// The first slot that still counts.
    pub log_start: LogPosition,
    /// End of the entries of that epoch that lie below `log_start`.
    pub log_start_lsn: Lsn,
    /// Every partition as it stood right before `log_start`.
    pub partitions: Vec<PartitionState>,
    /// The sum over all messages below `log_start`.
    pub sum: IntegritySum,
}
