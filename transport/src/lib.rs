//! Sessions between Kennel processes: QUIC and loopback behind one interface.
//!
//! A [`session::Session`] is one authenticated peer; its lanes carry frames in order. This crate knows frames,
//! certificates and sockets. It decides nothing and knows no shard, journal or bucket.
//!
//! ```text
//! rpc, handshake      messages: calls with deadlines, hello and welcome
//! session, frames     lanes of verified frames
//! pipe                bytes, in order
//! quic | loopback     who carries them
//! quiet               descriptors that tell only what is waited for
//! ```

pub mod certs;
pub mod close;
pub mod frames;
pub mod handshake;
pub mod lane;
pub mod loopback;
pub mod quic;
pub mod quiet;
pub mod rpc;
pub mod session;
pub mod tls;

mod intake;
mod pipe;
