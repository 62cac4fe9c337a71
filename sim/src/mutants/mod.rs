//! Mutation of the protocol: a simulator that misses a deliberate bug proves nothing by finding none.
//!
//! Every mutant breaks one rule in one place; worlds are drawn as ever, and some check of the oracle must say so within
//! a stated number of seeds. It knows neither what the worlds do nor how the checks work.

mod flaw;
mod hunt;
mod list;
mod report;

pub use flaw::{Broken, DriverFlaw};
pub use hunt::{Catch, Hunt, Verdict, hunt_all};
pub use list::{MUTANTS, Mutant};
pub use report::{json, line, summary};
