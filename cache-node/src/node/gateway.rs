//! The node's own gateway: what Iggy's clients poll is read as any reader's fetch, and names come from the catalogue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iggy_binary_protocol::WireIdentifier;
use kennel_gateway::Gateway;
use kennel_gateway::ring::{Ring, RingError, RingHole, RingRead, find};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey};
use kennel_protocol::wire::{ErrorCode, Fetch, FetchFrom, WireError};
use tokio::time::timeout;

use super::answers::{Answers, Batches};
use super::catalog_book::{CatalogBook, StandingCatalog};
use super::error::NodeError;
use crate::config::Settings;

/// Bytes of one read: a poll of a hundred messages of 1 KiB is one read, a longer one is several.
const READ_BYTES_MAX: u32 = 4 << 20;

/// How long a poll of a name that is not known waits for a newer catalogue: the owner answers from memory, and the server
/// behind the gateway would answer too.
const NAMES_PATIENCE: Duration = Duration::from_millis(100);

/// Starts the gateway, if it is wanted.
pub(super) async fn start(
    settings: &Settings,
    answers: Arc<Answers>,
    catalog: CatalogBook,
) -> Result<Option<Gateway>, NodeError> {
    let Some(settings) = settings.gateway.clone() else { return Ok(None) };
    let ring = Arc::new(NodeRing { answers, catalog });
    Gateway::start(settings, ring).await.map(Some).map_err(NodeError::Gateway)
}

/// The ring as this node sees it.
#[derive(Debug)]
struct NodeRing {
    answers: Arc<Answers>,
    catalog: CatalogBook,
}

#[async_trait]
impl Ring for NodeRing {
    async fn locate(
        &self,
        stream: &WireIdentifier,
        topic: &WireIdentifier,
        partition: u32,
    ) -> Result<Option<PartitionKey>, RingError> {
        let look = |standing: Arc<StandingCatalog>| find(&standing.catalog, stream, topic, partition);
        if let Some(known) = self.catalog.standing().and_then(look) {
            return Ok(Some(known));
        }
        // A node looks for newer names only while somebody asks it: the first to ask would be told that there are none.
        let newer = timeout(NAMES_PATIENCE, self.catalog.fresh()).await;
        Ok(newer.ok().and_then(Result::ok).flatten().and_then(look))
    }

    async fn read(&self, partition: PartitionKey, from: FetchFrom, messages_max: u32) -> Result<RingRead, RingError> {
        let fetch = Fetch {
            partition,
            from,
            bytes_max: READ_BYTES_MAX,
            messages_max,
            wait_millis: 0,
            epoch: Epoch(0),
            last: None,
            forwarded: false,
        };
        let answer = self.answers.fetch(fetch).await.map_err(|error| refused(partition, error))?;
        Ok(match answer {
            Batches::Here(pieces) => RingRead {
                holes: holes(&pieces.holes),
                first: pieces.trim,
                committed: pieces.committed,
                batches: pieces.batches,
            },
            Batches::There(fetched) => RingRead {
                holes: holes(&fetched.holes),
                first: fetched.trim,
                committed: fetched.committed,
                batches: if fetched.batches.is_empty() { Vec::new() } else { vec![fetched.batches] },
            },
        })
    }
}

/// Why the node gave nothing, as a reader is told it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
struct Refusal(WireError);

fn holes(declared: &[(Offset, Offset, kennel_protocol::entry::HoleReason)]) -> Vec<RingHole> {
    declared.iter().map(|(from, to, reason)| RingHole { from: *from, to: *to, reason: *reason }).collect()
}

fn refused(partition: PartitionKey, error: WireError) -> RingError {
    match (error.code, error.offset) {
        (ErrorCode::OffsetTrimmed, Some(first)) => RingError::Trimmed { first },
        (ErrorCode::UnknownPartition, _) => RingError::Unknown(partition),
        (ErrorCode::Diverged | ErrorCode::Corrupt, _) => RingError::Unfit(partition, Refusal(error).into()),
        _ => RingError::Unavailable(Refusal(error).into()),
    }
}
