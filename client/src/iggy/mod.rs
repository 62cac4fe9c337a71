//! The client in the read path of Iggy's own SDK.
//!
//! [`CacheTransport`] wraps a client of the SDK: code that is written against its traits (`MessageClient`, `Client`)
//! reads through the ring by changing how it makes its client, and everything but plain polls goes on as before.
//! [`connect`] returns the SDK's `IggyClient` behind a gateway in this process, for what needs that very type:
//! `IggyConsumer` and the like. [`RingReader`] is what both read from. Nothing here changes what the server decides:
//! it is asked whether a topic may be polled, and what it alone can answer, it answers.

mod connect;
mod counts;
mod desk;
mod ring;
mod transport;

pub use connect::{ConnectedClient, IggyConnectError, connect};
pub use counts::CacheCounts;
pub use desk::CacheSettings;
pub use kennel_gateway::EmptyPolls;
pub use ring::RingReader;
pub use transport::CacheTransport;
