//! The bytes of Kennel: what is sent, journaled and stored, and how each is checked.
//!
//! This crate knows layouts, limits and checksums. It knows nothing of sockets, files, clocks or tokio, and it
//! decides nothing: see `kennel-core` for decisions.

pub mod batch;
pub mod checksum;
pub mod entry;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod object;
pub mod wire;

pub use batch::builder;

mod archive;
mod kind;
mod payload;
mod raw;
