//! Reads partitions through the Kennel ring.
//!
//! [`Client::connect`] finds the ring; [`Client::fetch`] reads once; [`Client::follow`] reads on and on, across the loss
//! of nodes, without losing or repeating a message. Batches are Iggy's own bytes and are never copied.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kennel_client::{Client, ClientSettings, FetchFrom, PartitionId};
//! use kennel_transport::tls::TlsIdentity;
//!
//! let identity = TlsIdentity::load("ca.pem".as_ref(), "client.pem".as_ref(), "client.key".as_ref())?;
//! let client = Client::connect(ClientSettings::new(vec!["127.0.0.1:7400".parse()?]), &identity).await?;
//! let partition = client.locate("orders", "events", PartitionId(0)).await?.ok_or("no such partition")?;
//! let mut follower = client.follow(partition, FetchFrom::First);
//! loop {
//!     for message in follower.next().await?.messages() {
//!         println!("{} {} bytes", message.offset, message.payload.len());
//!     }
//! }
//! # }
//! ```

mod client;
mod connection;
mod error;
mod fabric;
mod fetched;
mod follow;
#[cfg(feature = "iggy")]
pub mod iggy;
mod local;
mod names;
mod runtime;
mod settings;

pub use client::Client;
pub use error::{ConnectError, FetchError};
pub use fabric::{FabricCounts, FabricSettings};
pub use fetched::{Fetched, Hole, Message};
pub use follow::Follower;
pub use kennel_fabric::{FabricChoice, FabricError};
pub use kennel_protocol::catalog::Catalog;
pub use kennel_protocol::ids::{Epoch, Offset, PartitionId, PartitionKey};
pub use kennel_protocol::wire::{FetchFrom, PartitionReport, Served};
pub use kennel_transport::close::Advice;
pub use names::{ParseNameError, PartitionName};
pub use runtime::{Running, Runtime};
pub use settings::{ClientSettings, FetchRequest};
