//! The decisions of Kennel: pure state machines.
//!
//! No I/O, no clock, no runtime, no operating-system randomness, no iteration over hash maps: time is an argument,
//! randomness a seed, I/O an effect. The same inputs give the same outputs, in a test, in the simulator and in a node.

pub mod membership;
pub mod partitions;
pub mod read;
pub mod ring;
pub mod routing;
pub mod shard;
pub mod shipper;
pub mod time;
