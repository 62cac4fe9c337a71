//! A gateway: a listener that speaks Iggy's own protocol, so that any Iggy SDK reads through the ring.
//!
//! Polls that the ring can answer faithfully are answered here, byte for byte as the server would; everything else
//! passes to the Iggy server behind it. This crate knows Iggy's frames and a ring to read from. It knows no
//! shard, no node and no bucket.

pub mod poll;
pub mod ring;
