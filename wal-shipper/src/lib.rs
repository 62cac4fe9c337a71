//! Ships what an Iggy server has written to the Kennel ring.
//!
//! The decisions are in `kennel_core::shipper`; this crate is its edges: segment files, sessions, the command line. It
//! keeps no state: the ring is the cursor.

pub mod barrier;
pub mod cli;
pub mod config;
pub mod import;
pub mod inspect;
pub mod live;
pub mod progress;
pub mod recreate;
pub mod report;
pub mod restore;
pub mod run;
pub mod ship;
pub mod source;
