//! What a take-over carries along: what it found of the past, and what the new owner begins with.

use std::sync::Arc;

use kennel_protocol::ids::{Epoch, Lsn};
use kennel_protocol::object::{Claim, LogPosition, Manifest};

use super::replication::Replication;
use super::table::Table;

/// What the walk found.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// Logs sealed, and where.
    pub(crate) sealed: Vec<LogPosition>,
    /// Claims of epochs that never opened, newest first.
    pub(crate) unopened: Vec<Claim>,
    /// The newest open epoch.
    pub(crate) open: Option<(Epoch, Lsn)>,
    pub(crate) table: Table,
}

/// Everything an owner starts with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) claim: Claim,
    pub(crate) replication: Replication,
    /// The partitions at the end of the older logs.
    pub(crate) table: Table,
    pub(crate) adopted: Lsn,
    pub(crate) answered: (u8, u8),
    pub(crate) manifest: Option<Arc<Manifest>>,
}
