//! Reads of the source on tokio's blocking threads. The machine bounds how many are under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kennel_core::shipper::{SourceAnswer, SourceRead, SourceRest};
use kennel_protocol::ids::PartitionKey;
use tokio::sync::mpsc;

use super::driver::Event;
use crate::source::{FoundPartition, PartitionReader};

/// Whoever reads a source for the driver.
pub(crate) trait Reads: Send {
    /// Starts a read; its answer comes as an event, once.
    fn start(&self, read: SourceRead);
    /// The source has a partition no more.
    fn forget(&self, partition: PartitionKey);
}

/// A reader per partition. Two reads of one partition (after a rewind) take turns.
#[derive(Debug)]
pub(super) struct Readers {
    readers: BTreeMap<PartitionKey, Arc<Mutex<PartitionReader>>>,
    events: mpsc::Sender<Event>,
}

impl Readers {
    pub(super) fn new(found: &[FoundPartition], events: mpsc::Sender<Event>) -> Self {
        let reader = |found: &FoundPartition| (found.key, Arc::new(Mutex::new(PartitionReader::new(found.clone()))));
        Self { readers: found.iter().map(reader).collect(), events }
    }
}

impl Reads for Readers {
    fn forget(&self, _partition: PartitionKey) {
        // What an import found stays what it found.
    }

    fn start(&self, read: SourceRead) {
        let reader = Arc::clone(self.readers.get(&read.partition).expect("only named partitions are read"));
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let answer = {
                // A panic in another read leaves a place that is either whole or gone.
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader.read(read.from, usize::try_from(read.bytes_max).unwrap_or(usize::MAX))
            };
            if answer.torn_bytes > 0 && matches!(answer.rest, SourceRest::Exhausted { .. }) {
                let partition = read.partition;
                tracing::info!(%partition, bytes = answer.torn_bytes, "a torn end was left out");
            }
            let torn = answer.torn_bytes;
            let answer = SourceAnswer { ticket: read.ticket, chunks: answer.chunks, rest: answer.rest };
            let event = Event::Read { partition: read.partition, torn_bytes: torn, answer };
            // A closed channel means that the driver is done.
            let _ = events.blocking_send(event);
        });
    }
}
