//! The fabric: a node writes blocks straight into memory that a reader has advertised, by RDMA where there is a card.
//!
//! libfabric is looked for when the process runs. Without it, or without a provider that works, everything goes over
//! QUIC, and nothing here is needed. A node's own memory is never exposed: a reader registers landings, tells the node
//! the key of one inside of the session, and the node writes. What is placed is verified by the reader like any other
//! bytes. The crate knows memory, adverts and writes. It knows no session, no block and no shard.
//!
//! ```text
//! lasting             an endpoint that is opened anew when it is of no use any more
//! endpoint            landings and placements, as users see them
//! landing, advert     where peers write, and how they are told
//! placements, plan    what is under way to peers; peers: their addresses
//! driver, open        the endpoint's one thread
//! library             libfabric, looked for and asked what it offers
//! breaker, counters   when to leave it alone, and what happened
//! selftest            what an operator runs first
//! sys                 the binding, and all unsafe code
//! ```

pub mod advert;
mod bell;
pub mod breaker;
pub mod counters;
mod driver;
pub mod endpoint;
pub mod error;
pub mod landing;
pub mod lasting;
pub mod library;
pub mod limits;
mod open;
mod peers;
pub mod placements;
mod plan;
pub mod selftest;
pub mod settings;
mod sys;

pub use advert::LandingAdvert;
pub use breaker::Breaker;
pub use counters::{CounterValues, Counters};
pub use endpoint::Endpoint;
pub use error::{AdvertError, FabricError};
pub use landing::{Arrived, Landing};
pub use lasting::LastingEndpoint;
pub use library::{Library, Provider};
pub use placements::Placed;
pub use selftest::{SelftestReport, selftest};
pub use settings::{EndpointSettings, FabricChoice};
