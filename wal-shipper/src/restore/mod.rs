//! `wal-shipper restore`: writes what the ring holds into an Iggy server.
//!
//! | file | what it does |
//! |---|---|
//! | `plan` | which topics and partitions, by name |
//! | `origin` | reads a partition from the ring, page by page |
//! | `target` | the seam to the server that is written to |
//! | `iggy` | that server, over Iggy's SDK |
//! | `batches` | cuts messages into what one request takes |
//! | `copy` | one partition: where to go on, sending, comparing |
//! | `command` | all partitions, and what is told of them |
//! | `expiry` | how long the target keeps messages, once they are there |
//! | `report` | the table and the JSON |
//!
//! It keeps no state: what the target holds says where to go on. A send that was not answered is not sent again before the
//! target has said whether it has it.

mod batches;
mod command;
mod copy;
mod expiry;
mod iggy;
mod origin;
mod plan;
mod report;
mod target;

pub use batches::{BATCH_BYTES_TARGET, batches};
pub use command::restore;
pub use copy::{Copied, CopyError, copy, same};
pub use origin::{Origin, Page};
pub use plan::{TopicPlan, plan};
pub use report::{PartitionRestored, RestoreReport};
pub use target::{Place, Target, TargetError, TargetMessage, Topics};

#[cfg(test)]
mod tests;
