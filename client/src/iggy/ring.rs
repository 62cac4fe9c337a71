//! A client of the ring as what polls are answered from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use iggy_binary_protocol::WireIdentifier;
use kennel_gateway::ring::{Ring, RingError, RingHole, RingRead, find};
use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::PartitionKey;
use kennel_protocol::limits::FETCH_BYTES_MAX;
use kennel_protocol::wire::FetchFrom;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::FetchError;
use crate::fetched::Fetched;
use crate::settings::FetchRequest;

/// How long a read may look for an answer: long enough for one from the bucket and for a second node, short enough for a
/// poll that the server can answer instead.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the server answers everything after the ring could not be reached: every poll would wait in vain.
const PAUSE: Duration = Duration::from_secs(2);

/// How old a catalogue may be: nodes ask each other as often.
const CATALOG_AGE: Duration = Duration::from_millis(250);

/// Reads the ring for polls of Iggy's SDK. Where the ring gives no answer in a second, polls go to the server.
#[derive(Debug)]
pub struct RingReader {
    client: Client,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    catalog: Option<(Instant, Arc<Catalog>)>,
    silent_until: Option<Instant>,
}

impl RingReader {
    /// Reads through a client, which may be a detached one.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The newest catalogue but for [`CATALOG_AGE`]; `None` if the ring has none.
    async fn catalog(&self) -> Result<Option<Arc<Catalog>>, RingError> {
        let now = Instant::now();
        let known = self.known().catalog.clone();
        if let Some((_, catalog)) = known.filter(|(at, _)| now < *at + CATALOG_AGE) {
            return Ok(Some(catalog));
        }
        self.heard()?;
        let catalog = self.client.catalog(Some(PATIENCE)).await.map_err(|error| self.missed(error))?;
        self.known().catalog = catalog.clone().map(|catalog| (now, catalog));
        Ok(catalog)
    }

    /// Whether the ring is worth asking.
    fn heard(&self) -> Result<(), RingError> {
        match self.known().silent_until.filter(|until| Instant::now() < *until) {
            Some(_) => Err(RingError::Unavailable("the ring did not answer lately".into())),
            None => Ok(()),
        }
    }

    fn missed(&self, error: FetchError) -> RingError {
        match error {
            FetchError::Trimmed { first, .. } => RingError::Trimmed { first },
            FetchError::UnknownPartition(partition) => RingError::Unknown(partition),
            FetchError::Rewound { partition, .. }
            | FetchError::Diverged { partition, .. }
            | FetchError::Corrupt { partition, .. } => RingError::Unfit(partition, Box::new(error)),
            FetchError::Unavailable { .. } | FetchError::Unreachable(_) | FetchError::Refused { .. } => {
                self.known().silent_until = Some(Instant::now() + PAUSE);
                RingError::Unavailable(Box::new(error))
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Ring for RingReader {
    async fn locate(
        &self,
        stream: &WireIdentifier,
        topic: &WireIdentifier,
        partition: u32,
    ) -> Result<Option<PartitionKey>, RingError> {
        let catalog = self.catalog().await?;
        Ok(catalog.and_then(|catalog| find(&catalog, stream, topic, partition)))
    }

    async fn read(&self, partition: PartitionKey, from: FetchFrom, messages_max: u32) -> Result<RingRead, RingError> {
        self.heard()?;
        let bytes_max = u32::try_from(FETCH_BYTES_MAX).expect("the limit fits");
        let request = FetchRequest { bytes_max, messages_max, ..FetchRequest::new(partition, from) }.within(PATIENCE);
        let fetched = self.client.fetch(request).await.map_err(|error| self.missed(error))?;
        Ok(read_of(&fetched))
    }
}

fn read_of(fetched: &Fetched) -> RingRead {
    let bytes = fetched.batch_bytes();
    let holes = fetched.holes.iter().map(|hole| RingHole { from: hole.from, to: hole.to, reason: hole.reason });
    RingRead {
        batches: if bytes.is_empty() { Vec::new() } else { vec![bytes.clone()] },
        holes: holes.collect(),
        first: fetched.trim,
        committed: fetched.committed,
    }
}
