//! Bodies that lie in the journal only, brought back for the machines and for readers.
//!
//! Each has places of its own, so that readers of old data never hold up an upload. It decides nothing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kennel_protocol::ids::Lsn;
use tokio::sync::Semaphore;

use crate::journal::{Journal, JournalError, RecordId};
use crate::read::{StoreError, Stow, StowPlace};

/// Reads of the journal at one time, for machines and for readers each. Two keep a disk busy beside the log's own writes.
const READS_MAX: usize = 2;

/// The journal as the place of bodies.
#[derive(Debug, Clone)]
pub(super) struct Stowed {
    journal: Journal,
    for_machines: Arc<Semaphore>,
    for_readers: Arc<Semaphore>,
}

/// How readers name a record.
pub(super) fn stow_place(record: RecordId) -> StowPlace {
    StowPlace(record.0)
}

impl Stowed {
    pub(super) fn new(journal: Journal) -> Self {
        let places = || Arc::new(Semaphore::new(READS_MAX));
        Self { journal, for_machines: places(), for_readers: places() }
    }

    /// Bodies for a machine. What was freed meanwhile is left out.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub(super) async fn load(&self, records: Vec<(Lsn, RecordId)>) -> Result<Vec<(Lsn, Bytes)>, JournalError> {
        let ids = records.iter().map(|(_, id)| *id).collect();
        let bodies = self.read(&self.for_machines, ids).await?;
        Ok(records.into_iter().zip(bodies).filter_map(|((lsn, _), body)| Some((lsn, body?))).collect())
    }

    async fn read(&self, places: &Arc<Semaphore>, ids: Vec<RecordId>) -> Result<Vec<Option<Bytes>>, JournalError> {
        // Never closed; without a place the read would only be less patient.
        let place = Arc::clone(places).acquire_owned().await;
        let journal = self.journal.clone();
        let read = tokio::task::spawn_blocking(move || {
            let bodies = journal.read(&ids);
            drop(place);
            bodies
        });
        read.await.unwrap_or(Err(JournalError::Closed))
    }
}

#[async_trait]
impl Stow for Stowed {
    async fn bodies(&self, places: &[StowPlace]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let ids = places.iter().map(|place| RecordId(place.0)).collect();
        let bodies = self.read(&self.for_readers, ids).await;
        bodies.map_err(|error| StoreError::Journal { reason: error.to_string() })
    }
}
