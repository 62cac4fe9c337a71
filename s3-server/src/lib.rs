//! A small S3 server for tests and benches: atomic create-if-absent, faults and a latency model.
//!
//! It speaks enough of S3 for an object store's client: GET with ranges, conditional PUT, HEAD, DELETE, bulk delete,
//! paged listing and the creation of buckets, all signed. Objects live in memory, within a limit, and are gone when it stops. It is
//! a place to misbehave on purpose, never a place to keep data.

mod api;
mod faults;
mod latency;
mod server;
mod state;

pub use faults::{Always, Fault, FaultRule, Faults, Operation};
pub use latency::{LatencyModel, RequestRates};
pub use server::{RunningServer, Server, ServerSettings, StartError};
pub use state::{Contents, ObjectSummary};
