//! A gateway: a listener that speaks Iggy's own protocol, so that any Iggy SDK reads through the ring.
//!
//! Polls that the ring can answer faithfully are answered here, byte for byte as the server would; everything else
//! passes to the Iggy server behind it. This crate knows Iggy's frames and a ring to read from. It knows no
//! shard, no node and no bucket.
//!
//! ```text
//! clients ──► gateway ──► session (one per client) ──► origin: the Iggy server
//!                            │  ├── verdicts, written: what may be read, and how far the session has written
//!                            │  └── roster: clients are told of the gateway alone
//!                            └── poll ──► ring
//! frame, wire, tls           bytes
//! ```

pub mod poll;
pub mod ring;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod counters;
mod error;
mod frame;
mod gateway;
mod origin;
mod roster;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod verdicts;
mod wire;
mod written;

pub use counters::{GatewayCounts, POLL_SECONDS};
pub use error::{DialError, GatewayError};
pub use gateway::{Counting, Gateway};
pub use settings::{
    COMPARE_EVERY, EmptyPolls, Endpoint, GatewaySettings, GatewayTls, IDLE, NoEndpoint, OriginTls,
    READS_WITHOUT_ORIGIN, SESSIONS_MAX, VERDICT,
};
pub use verdicts::{Generation, Proofs, Standing, Verdicts};
pub use written::Written;
