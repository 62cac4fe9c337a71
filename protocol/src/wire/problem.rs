//! Why one partition of a shipment did not move.

use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::MessageIdentity;
use crate::ids::Offset;

/// Why one partition did not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum ShipProblem {
    /// The chunk starts above, or cuts across, what the owner accepts next: ship again from there.
    Expected(Offset),
    /// The source holds another message at this offset than the ring (PROTOCOL R15). Stop the partition.
    Diverged {
        /// What the ring holds.
        ring: MessageIdentity,
        /// What the source holds.
        source: MessageIdentity,
    },
    /// The chunk's bytes do not verify. Read the source again; stop the partition if it stays so.
    Corrupt,
}
