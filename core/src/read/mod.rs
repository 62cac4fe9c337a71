//! Read planning: where the bytes of a range lie, and what a reader is told.
//!
//! Pure look-ups and decisions. Nothing here knows how a block is fetched, cached or sent.

mod index;
mod objects;
mod partition;
mod plan;

pub use index::{IndexError, ShardIndex};
pub use objects::{BlockPlace, FetchUnit, ObjectName, UNIT_BYTES};
pub use partition::{BlockRead, ColdPlan, ColdStep, HoleRange, PartitionIndex};
pub use plan::{Authority, IndexRange, ReadPlan, ReaderPosition, Standing, TailRange, plan};
