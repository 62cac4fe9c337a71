//! The world in a box: runs whole clusters of the core machines from one seed.
//!
//! Nodes with journals, a bucket, a network, shippers and a source live in one event loop of virtual time. Everything
//! that can go wrong is drawn from the seed, and named checks watch every event. It knows no real time, no sockets and
//! no files: the machines under test do not know that the world is a box.

pub mod bucket;
pub mod describe;
pub mod event;
pub mod journal;
pub mod mutants;
pub mod network;
pub mod node;
pub mod oracle;
pub mod paths;
pub mod plan;
pub mod queue;
pub mod run;
pub mod seeds;
pub mod shipper;
pub mod shrink;
pub mod source;
pub mod stream;
pub mod trace;
pub mod world;

#[cfg(test)]
mod scenarios;
