//! The bytes of Kennel: what is sent, journaled and stored, and how each is checked.
//!
//! This crate knows layouts, limits and checksums. It knows nothing of sockets, files, clocks or tokio, and it
//! decides nothing: see `kennel-core` for decisions.
//!
//! Every decoder takes bytes that nobody vouches for and answers with a typed error, never with a panic; every
//! length is compared with [`limits`] before anything is allocated for it; bodies are shared and never copied.

pub mod batch;
pub mod catalog;
pub mod checksum;
pub mod entry;
pub mod frame;
pub mod ids;
pub mod journal_record;
pub mod keys;
pub mod limits;
pub mod local;
pub mod object;
pub mod wire;

pub use batch::builder;

mod archive;
mod kind;
mod payload;
mod raw;
