//! Answers that nodes write into this process's memory: asked for where a node offers it, and never depended on.
//!
//! Only fetches that wait for nothing carry a landing: one that waits would hold it for seconds. Whatever goes wrong, the
//! same question is answered over the network. A landing of which nobody has said what became of it is given up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kennel_fabric::{Breaker, EndpointSettings, FabricChoice, FabricError, Landing, LastingEndpoint, Library};
use kennel_protocol::ids::NodeId;
use kennel_protocol::wire::{
    AdvertBytes, FabricOffer, FabricRequest, Fetch, FetchInto, Landed, LandingOutcome, Message,
};
use kennel_transport::rpc::{CallError, Caller};

use crate::error::ConnectError;
use crate::fetched::Fetched;

/// Who asks for less is answered over the network: a placement would cost more than the packets that it saves.
const BYTES_MIN: u32 = 16 << 10;

/// How long a node may take to say whether it places. It answers at once; a session does not wait for more.
const OFFER_PATIENCE: Duration = Duration::from_secs(1);

/// How a client takes answers by RDMA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabricSettings {
    /// Whether to fail to connect where this process can have no fabric. Else that is logged, and everything comes over the
    /// network. Whether nodes place is another matter: where they do not, nothing fails.
    pub required: bool,
    /// Which one. The provider must be that of the nodes.
    pub choice: FabricChoice,
    /// Bytes of a landing: fetches that ask for more come over the network.
    pub landing_bytes: usize,
    /// Landings: as many answers can be under way, or held by the reader, at once. Their memory is locked.
    pub landing_count: usize,
}

impl Default for FabricSettings {
    /// For fetches of a MiB, 32 at once.
    fn default() -> Self {
        let EndpointSettings { choice, landing_bytes, landing_count, .. } = EndpointSettings::default();
        Self { required: false, choice, landing_bytes, landing_count }
    }
}

/// What happened since the client connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FabricCounts {
    /// Answers that were placed, and verified.
    pub placed: u64,
    /// Bytes of batches in them.
    pub placed_bytes: u64,
    /// Answers that came inline although there was a landing for them.
    pub inline: u64,
    /// Answers that were said to be placed and did not verify; they were asked for again.
    pub refused: u64,
    /// Landings that were given up.
    pub quarantined: u64,
    /// Landings that are lost until the endpoint is opened anew.
    pub landings_lost: u64,
    /// How often a node was not asked to place for a while.
    pub breaker_opens: u64,
    /// How often the endpoint was opened anew.
    pub reopened: u64,
}

/// What a question was answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    /// This.
    Said(Message),
    /// Batches in a landing, verified.
    Placed(Fetched),
}

/// The landings of a client, and what is known of the nodes that write them.
#[derive(Debug)]
pub(crate) struct Fabric {
    endpoint: LastingEndpoint,
    landing_bytes: u32,
    /// One for each node that was asked: bounded by the nodes that there are.
    breakers: Mutex<HashMap<NodeId, Breaker>>,
    placed: AtomicU64,
    placed_bytes: AtomicU64,
    inline: AtomicU64,
    refused: AtomicU64,
}

impl Fabric {
    /// Opens the fabric where that is wanted.
    ///
    /// # Cancel safety
    /// Safe: what was being opened is closed.
    pub(crate) async fn open(settings: Option<FabricSettings>) -> Result<Option<Self>, ConnectError> {
        let Some(settings) = settings else { return Ok(None) };
        let required = settings.required;
        let opening = tokio::task::spawn_blocking(move || Self::open_now(settings)).await;
        match opening.unwrap_or(Err(FabricError::Closed)) {
            Ok(fabric) => Ok(Some(fabric)),
            Err(error) if required => Err(ConnectError::Fabric(error)),
            Err(error) => {
                let reason = &error as &dyn std::error::Error;
                tracing::warn!(error = reason, "no fabric: all answers come over the network");
                Ok(None)
            }
        }
    }

    fn open_now(settings: FabricSettings) -> Result<Self, FabricError> {
        let library = Library::load(settings.choice.library.as_deref())?;
        let endpoint = EndpointSettings {
            choice: settings.choice,
            landing_bytes: settings.landing_bytes,
            landing_count: settings.landing_count,
            // Readers write to nobody.
            send_bytes: 1,
            send_count: 0,
            always_copy: false,
        };
        let landing_bytes = u32::try_from(endpoint.landing_bytes).unwrap_or(u32::MAX);
        Ok(Self {
            endpoint: LastingEndpoint::open(library, endpoint)?,
            landing_bytes,
            breakers: Mutex::default(),
            placed: AtomicU64::new(0),
            placed_bytes: AtomicU64::new(0),
            inline: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Who moves the bytes.
    pub(crate) fn provider(&self) -> &str {
        &self.endpoint.provider().name
    }

    pub(crate) fn counts(&self) -> FabricCounts {
        let counters = self.endpoint.counters();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FabricCounts {
            placed: load(&self.placed),
            placed_bytes: load(&self.placed_bytes),
            inline: load(&self.inline),
            refused: load(&self.refused),
            quarantined: counters.quarantined,
            landings_lost: counters.landings_lost,
            breaker_opens: counters.breaker_opens,
            reopened: self.endpoint.reopened(),
        }
    }

    /// Fetches into a landing, from a node that offers to place. `None` where the network is to be asked: there is no
    /// landing for it, or what came was not what it should be.
    ///
    /// # Cancel safety
    /// Safe: the landing is given up.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        lane: &Caller,
        fetch: &Fetch,
        deadline: tokio::time::Instant,
    ) -> Option<Result<Answer, CallError>> {
        let mut landing = self.landing(node, fetch)?;
        let advert = AdvertBytes(landing.advert().encode());
        let answer = lane.call(Message::FetchInto(FetchInto { fetch: *fetch, advert }), deadline).await;
        match answer {
            Ok(Message::Landed(landed)) => self.landed(node, fetch, landing, landed).map(Ok),
            // An error says that nothing was written, and so does a question that was not sent.
            Err(error) if !error.is_unknown() => {
                landing.unused();
                Some(Err(error))
            }
            unclear => {
                drop(landing);
                self.failed(node);
                Some(unclear.map(Answer::Said))
            }
        }
    }

    /// A landing for the answer, if it is worth one and the node may have it.
    fn landing(&self, node: NodeId, fetch: &Fetch) -> Option<Landing> {
        let fits = (BYTES_MIN..=self.landing_bytes).contains(&fetch.bytes_max);
        if fetch.wait_millis > 0 || !fits {
            return None;
        }
        let landing = self.endpoint.landing().ok()?;
        self.breakers().entry(node).or_default().allows(Instant::now()).then_some(landing)
    }

    /// Takes what a node says of a landing.
    fn landed(&self, node: NodeId, fetch: &Fetch, landing: Landing, landed: Landed) -> Option<Answer> {
        let Landed { fetched, outcome } = landed;
        match outcome {
            LandingOutcome::Placed(bytes) => {
                let arrived = landing.arrived(bytes as usize).map_err(|error| error.to_string());
                let verified = match arrived {
                    Ok(_) if fetched.partition != fetch.partition => Err("another partition".to_owned()),
                    Ok(arrived) => Fetched::verify_placed(fetched, arrived),
                    Err(reason) => Err(reason),
                };
                match verified {
                    Ok(fetched) => {
                        self.placed.fetch_add(1, Ordering::Relaxed);
                        self.placed_bytes.fetch_add(bytes.into(), Ordering::Relaxed);
                        self.breakers().entry(node).or_default().succeeded();
                        Some(Answer::Placed(fetched))
                    }
                    Err(reason) => {
                        tracing::warn!(%node, reason, "what a node has placed does not verify; asking over the network");
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        self.failed(node);
                        None
                    }
                }
            }
            LandingOutcome::Untouched => {
                landing.unused();
                self.inline.fetch_add(1, Ordering::Relaxed);
                Some(Answer::Said(Message::Fetched(fetched)))
            }
            LandingOutcome::Unknown => {
                drop(landing);
                self.inline.fetch_add(1, Ordering::Relaxed);
                self.failed(node);
                Some(Answer::Said(Message::Fetched(fetched)))
            }
        }
    }

    fn failed(&self, node: NodeId) {
        if self.breakers().entry(node).or_default().failed(Instant::now()) {
            self.endpoint.breaker_opened();
        }
    }

    /// Every change is one of one breaker: a panic elsewhere cannot have left it half done.
    fn breakers(&self) -> MutexGuard<'_, HashMap<NodeId, Breaker>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a node places by this provider: asked once, right after hello. A node that does not say does not.
///
/// # Cancel safety
/// Safe: it only asks.
pub(crate) async fn is_offered(control: &Caller, provider: &str, deadline: tokio::time::Instant) -> bool {
    let deadline = deadline.min(tokio::time::Instant::now() + OFFER_PATIENCE);
    let request = FabricRequest { provider: provider.to_owned() };
    match control.call(Message::FabricRequest(request), deadline).await {
        Ok(Message::FabricOffer(FabricOffer { provider: Some(offered) })) => offered == provider,
        _ => false,
    }
}
