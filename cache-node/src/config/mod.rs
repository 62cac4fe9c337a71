//! Configuration: layers of text become checked [`Settings`] once, at the start.
//!
//! `configs/cache-node.toml` is the default and is embedded; a file, the environment and flags lie over it. Unknown keys
//! are refused with the nearest known ones. This module reads files and environment; nobody else does.

mod error;
mod fabric;
mod file;
mod gateway;
mod layers;
mod parse;
mod settings;
mod units;

pub use error::ConfigError;
pub use layers::{Layers, Sources};
pub use settings::{
    CacheSettings, ClusterSettings, Durability, FabricSettings, FlushSettings, JournalSettings, LimitSettings,
    ListenSettings, LocalSettings, NodeSettings, Settings, TimingSettings, TlsSettings,
};

/// The commented defaults, as users read them.
pub const DEFAULTS: &str = include_str!("../../../configs/cache-node.toml");

#[cfg(test)]
mod tests;
