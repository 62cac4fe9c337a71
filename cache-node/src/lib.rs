//! The Kennel cache node: one process per host that journals, owns shards, uploads and serves reads.
//!
//! The decisions are in `kennel-core`; this crate is its edges: disk, bucket, gossip, sessions, HTTP.

pub mod bucket;
pub mod config;
mod fabric;
pub mod gossip;
pub mod http;
pub mod inspect;
pub mod journal;
pub mod local;
pub mod metrics;
pub mod node;
pub mod random;
pub mod read;
