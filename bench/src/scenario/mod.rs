//! `bench run`: a scenario against a ring, measured in rounds, with everything compared that was read.
//!
//! | file | what it is |
//! |---|---|
//! | `file` | scenarios as people write them, and those that come with the program |
//! | `omb` | workloads of the `OpenMessaging` Benchmark, read as scenarios |
//! | `target` | the ring: processes here, nodes in this process, somebody else's |
//! | `pace` | work by the clock |
//! | `producers` | the load |
//! | `readers` | who reads |
//! | `ledger` | what was shipped, for comparing |
//! | `raw` | a round trip over bare quinn |
//! | `record` | times and amounts, by round and by second |
//! | `outcome` | the result as a file |
//! | `environment` | where it was found |
//! | `table` | the result on a terminal |
//! | `page`, `chart` | the result as one HTML page |
//! | `scale` | a scenario again and again, with more cores and with more nodes |
//! | `compare` | two results, and what differs beyond noise |
//!
//! Load is open-loop wherever a scenario gives a rate: messages and reads are due by the clock, and a time counts from when
//! its work was due. So a stall is paid for by all that it held up, not by the one operation that was under way.

mod chart;
mod compare;
mod environment;
mod file;
mod ledger;
mod omb;
mod outcome;
mod pace;
mod page;
mod producers;
pub(crate) mod raw;
mod readers;
mod record;
mod run;
mod scale;
mod table;
mod target;

pub(crate) use environment::Environment;
pub(crate) use file::FabricSection;
pub(crate) use outcome::median;
pub(crate) use table::time;

pub use compare::{CompareArgs, compare};
pub use file::Scenario;
pub use outcome::Outcome;
pub use raw::{RawServerArgs, raw_server};
pub use run::{RunArgs, run};
pub use scale::{ScaleArgs, scale};
pub use target::TargetArgs;
