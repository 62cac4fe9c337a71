//! What a ring of real processes does when something goes away, in numbers.
//!
//! | file | what it is |
//! |---|---|
//! | `failover` | an owner is killed or paused: first new acknowledgement, longest gap of hot reads |
//! | `outage` | the bucket goes away under load: refusals, hot reads, time to drain |
//! | `fabric` | answers written into a reader's memory beside answers over QUIC |
//! | `same_host` | a reader on the node's own host, out of shared memory and over QUIC |
//! | `bulk` | large fetches with several under way, beside bare quinn |
//! | `one_process` | a node, a shipper and a reader in this process, for profilers and counts |
//! | `ship_cost` | what an acknowledgement costs beside what the disk and the network ask for |
//! | `ship_bulk` | chunks of 1 MiB beside what bare quinn carries and what the disk takes |
//! | `disk` | a file that is written as journals are |
//! | `place` | where nodes run, with which settings, and where the result goes |
//! | `stage` | the processes |
//! | `load` | a steady source that follows the owner of its shard at once |
//! | `hot` | a reader that never stops to read the newest messages at one node |
//! | `figures` | percentiles |
//! | `cores` | which cores nodes have, and which the load |
//! | `usage` | processor and memory of a process |
//!
//! It looks from outside: sockets, signals, `/status`. It judges by bars, and says each number whether a bar is met or not.

mod bulk;
pub(crate) mod cores;
mod disk;
mod fabric;
mod failover;
pub(crate) mod figures;
mod hot;
pub(crate) mod load;
mod one_process;
mod outage;
mod place;
mod same_host;
mod ship_bulk;
mod ship_cost;
pub(crate) mod stage;
pub(crate) mod usage;

pub(crate) use disk::Disk;
pub use fabric::{FabricArgs, fabric};
pub use failover::{FailoverArgs, Kind, failover};
pub use figures::Figures;
pub use one_process::OneProcess;
pub use outage::{OutageArgs, outage};
pub use place::PlaceArgs;
pub(crate) use place::programs;
pub use same_host::{SameHostArgs, same_host};
pub use ship_bulk::{ShipBulkArgs, ship_bulk};
pub(crate) use ship_cost::Shipping;
pub use ship_cost::{ShipCostArgs, ship_cost};
