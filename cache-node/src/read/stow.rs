//! Where bodies lie that are in no memory and not in the bucket yet: the journal, seen by readers.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::store::StoreError;

/// A body's place there. Never names another body later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StowPlace(pub u64);

/// Brings bodies back.
#[async_trait]
pub trait Stow: fmt::Debug + Send + Sync + 'static {
    /// The bodies in the order asked for, verified; `None` where it was let go: the bucket has it by then.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn bodies(&self, places: &[StowPlace]) -> Result<Vec<Option<Bytes>>, StoreError>;
}
