//! The client: finds nodes, asks them, and asks again.
//!
//! Whom to ask and when is decided by [`kennel_core::routing`]; this file holds the connections and the clock.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kennel_core::routing::{Attempt, Routes, Setback, Step};
use kennel_core::time;
use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::{NodeId, PartitionKey, ShardId};
use kennel_protocol::wire::{
    CatalogRequest, Catalogued, ErrorCode, Fetch, FetchFrom, LocalOffer, LocalRequest, Message, PartitionReport,
    PartitionsRequest, ViewRequest, WireError,
};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::rpc::CallError;
use kennel_transport::session::{Connector, Session};
use kennel_transport::tls::TlsIdentity;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Connections, random_id};
use crate::error::{ConnectError, FetchError, NodeError, is_transient};
use crate::fabric::{Answer, Fabric, FabricCounts};
use crate::fetched::Fetched;
use crate::follow::Follower;
use crate::local::{self, Local};
use crate::runtime::Runtime;
use crate::settings::{ClientSettings, FetchRequest};

/// A reader of the ring. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// Where it does its work; `None` in a process that runs tokio.
    runtime: Option<Runtime>,
}

pub(crate) struct Inner {
    settings: ClientSettings,
    connections: Connections,
    /// The memory of the node that was met first, if it is on this host and shares it.
    local: Local,
    /// Where nodes write answers, if that is on.
    fabric: Option<Fabric>,
    routes: Mutex<Routes>,
    /// The newest catalogue seen.
    catalog: Mutex<Option<Arc<Catalog>>>,
    origin: Instant,
    seeds: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Which lane a question goes over.
#[derive(Clone, Copy)]
enum Over {
    Reads,
    Control,
}

/// What was met last on the way to an answer.
enum Met {
    Node(Option<NodeError>),
    Wire(WireError),
}

impl Client {
    /// Connects over QUIC to the first node that answers, and learns the ring from it.
    ///
    /// # Cancel safety
    /// Safe: what was opened is closed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(settings: ClientSettings, identity: &TlsIdentity) -> Result<Self, ConnectError> {
        let endpoint = QuicEndpoint::bind_any(identity, QuicSettings::default()).map_err(ConnectError::Bind)?;
        Self::connect_over(settings, Arc::new(endpoint.connector())).await
    }

    /// As [`Self::connect`], over any transport.
    ///
    /// # Cancel safety
    /// Safe: what was opened is closed.
    pub async fn connect_over(settings: ClientSettings, connector: Arc<dyn Connector>) -> Result<Self, ConnectError> {
        let fabric = Fabric::open(settings.fabric.clone()).await?;
        let provider = fabric.as_ref().map(|fabric| fabric.provider().to_owned());
        let connections = Connections::new(connector, settings.cluster, settings.connect_timeout, provider);
        let seeds = u64::try_from(random_id() >> 64).unwrap_or_default();
        let inner = Inner {
            connections,
            local: Local::default(),
            fabric,
            routes: Mutex::new(Routes::default()),
            catalog: Mutex::new(None),
            origin: Instant::now(),
            seeds: AtomicU64::new(seeds),
            settings,
        };
        let mut failed = None;
        for address in &inner.settings.addresses {
            match inner.learn_from(*address).await {
                Ok(node) => {
                    inner.routes().set_home(node);
                    let address = *address;
                    let inner = Arc::new(inner);
                    if inner.settings.local {
                        let keeper = tokio::spawn(local::keep(Arc::downgrade(&inner), node, address));
                        inner.local.kept_by(keeper.abort_handle());
                    }
                    return Ok(Self { inner, runtime: None });
                }
                Err(error) => failed = Some(error),
            }
        }
        let tried = inner.settings.addresses.len();
        Err(failed.map_or(ConnectError::NoAddress, |source| ConnectError::Unreachable { tried, source }))
    }

    /// As [`Self::connect`], for processes that do not run tokio: everything happens on `runtime`, and any executor may
    /// poll what the client returns.
    ///
    /// # Cancel safety
    /// Safe: what was opened is closed.
    pub async fn connect_detached(
        settings: ClientSettings,
        identity: &TlsIdentity,
        runtime: Runtime,
    ) -> Result<Self, ConnectError> {
        let identity = identity.clone();
        let connecting = runtime.run(async move { Self::connect(settings, &identity).await });
        Ok(connecting.await?.detached(runtime))
    }

    /// Does everything from here on, on `runtime`, which should be the one that it was connected on.
    #[must_use]
    pub fn detached(self, runtime: Runtime) -> Self {
        Self { runtime: Some(runtime), ..self }
    }

    /// Reads once: batches from where `request` says, or an empty answer when its wait is over.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
        // What lies in memory is there at once, again and again: others of the runtime get their turn, too.
        consume_budget().await;
        if let Some(fetched) = self.inner.local.look(&request) {
            return Ok(fetched);
        }
        let inner = Arc::clone(&self.inner);
        self.work(async move { inner.fetch(request).await }).await
    }

    /// Reads on and on from `from`.
    pub fn follow(&self, partition: PartitionKey, from: FetchFrom) -> Follower {
        Follower::new(self.clone(), partition, from)
    }

    /// Whether it reads from memory that a node on this host shares with it. Where it does not it reads over the network.
    pub fn shares_memory(&self) -> bool {
        self.inner.local.is_attached()
    }

    /// How long ago the node on this host wrote the newest record into the memory that it shares; `None` if there is none.
    pub fn shared_memory_age(&self) -> Option<Duration> {
        self.inner.local.newest_age()
    }

    /// What became of answers that nodes were to write into this process's memory; `None` where there is no fabric.
    pub fn fabric_counts(&self) -> Option<FabricCounts> {
        self.inner.fabric.as_ref().map(Fabric::counts)
    }

    /// Every partition that the ring knows, in key order, as the shards' owners see them.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn partitions(&self) -> Result<Vec<PartitionReport>, FetchError> {
        let inner = Arc::clone(&self.inner);
        self.work(async move { inner.partitions().await }).await
    }

    /// The names of streams, topics and partitions as they stand; `None` if nobody has shipped any. What has not
    /// changed is not sent again. With `patience` it looks for an answer so long, else as long as the client does.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn catalog(&self, patience: Option<Duration>) -> Result<Option<Arc<Catalog>>, FetchError> {
        let inner = Arc::clone(&self.inner);
        self.work(async move { inner.catalog(patience).await }).await
    }

    /// Does some work where the client works.
    async fn work<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match &self.runtime {
            Some(runtime) => runtime.run(work).await,
            None => work.await,
        }
    }
}

struct Question {
    message: Message,
    over: Over,
    wait: Duration,
    /// The settings' if `None`.
    patience: Option<Duration>,
}

impl Inner {
    async fn fetch(&self, mut request: FetchRequest) -> Result<Fetched, FetchError> {
        if !request.wait.is_zero() {
            let started = Instant::now();
            if let Some(fetched) = self.local.wait(&request).await {
                return Ok(fetched);
            }
            request.wait = request.wait.saturating_sub(started.elapsed());
        }
        let partition = request.partition;
        let fetch = Message::Fetch(Fetch {
            partition,
            from: request.from,
            bytes_max: request.bytes_wanted(),
            messages_max: request.messages_max,
            wait_millis: u32::try_from(request.wait.as_millis()).unwrap_or(u32::MAX),
            epoch: request.epoch,
            last: request.last,
            forwarded: false,
        });
        let shard = self.shard_of(&partition);
        let read = |answer: Answer| match answer {
            Answer::Placed(fetched) => Ok(fetched),
            Answer::Said(Message::Fetched(fetched)) if fetched.partition != partition => {
                Err("another partition".to_owned())
            }
            Answer::Said(Message::Fetched(fetched)) => Fetched::verify(fetched),
            Answer::Said(_) => Err("another message than a fetch is answered with".to_owned()),
        };
        let (question, attempt) =
            (Question { message: fetch, over: Over::Reads, wait: request.wait, patience: request.patience }, None);
        let met = match self.ask(shard, attempt, question, read).await {
            Ok(fetched) => return Ok(fetched),
            Err(met) => met,
        };
        Err(met.into_error(partition))
    }

    async fn partitions(&self) -> Result<Vec<PartitionReport>, FetchError> {
        let mut reports = Vec::new();
        let shards = self.routes().shard_count();
        for shard in (0..shards).map(ShardId) {
            let message = Message::PartitionsRequest(PartitionsRequest { shard });
            let question = Question { message, over: Over::Control, wait: Duration::ZERO, patience: None };
            let owner = self.routes().owner(shard);
            let read = |answer| match answer {
                Answer::Said(Message::Partitions(found)) if found.shard == shard => Ok(found.partitions),
                _ => Err("another message than a list of partitions".to_owned()),
            };
            match self.ask(shard, owner, question, read).await {
                Ok(found) => reports.extend(found),
                Err(met) => return Err(met.into_unavailable()),
            }
        }
        reports.sort_unstable_by_key(|report| report.partition);
        Ok(reports)
    }

    async fn catalog(&self, patience: Option<Duration>) -> Result<Option<Arc<Catalog>>, FetchError> {
        let known = self.catalog.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let newer_than = known.as_ref().map(|catalog| catalog.revision);
        let message = Message::CatalogRequest(CatalogRequest { newer_than });
        let question = Question { message, over: Over::Control, wait: Duration::ZERO, patience };
        let read = |answer| match answer {
            Answer::Said(Message::Catalogued(Catalogued { revision: Some(revision), catalog: Some(catalog) })) => {
                let catalog = Catalog::decode(&catalog).map_err(|error| error.to_string())?;
                Ok(Some(Catalog { revision, ..catalog }))
            }
            Answer::Said(Message::Catalogued(_)) => Ok(None),
            _ => Err("another message than a catalogue".to_owned()),
        };
        // Every node knows it, the nearest is asked first.
        match self.ask(ShardId(0), None, question, read).await {
            Ok(Some(newer)) => {
                let newer = Arc::new(newer);
                let mut newest = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
                // Whoever asked at the same time may have been told more.
                if newest.as_ref().is_none_or(|newest| newest.revision < newer.revision) {
                    *newest = Some(newer);
                }
                Ok(newest.clone())
            }
            Ok(None) => Ok(known),
            Err(met) => Err(met.into_unavailable()),
        }
    }

    /// Asks one node after another until an answer reads well or the patience is over.
    async fn ask<A>(
        &self,
        shard: ShardId,
        first: Option<NodeId>,
        question: Question,
        read: impl Fn(Answer) -> Result<A, String>,
    ) -> Result<A, Met> {
        let deadline = self.now() + question.wait + question.patience.unwrap_or(self.settings.patience);
        let mut attempt = Attempt::new(shard, deadline, self.seeds.fetch_add(1, Ordering::Relaxed)).preferring(first);
        let mut met = Met::Node(None);
        loop {
            let step = attempt.next(self.now(), &self.routes());
            let node = match step {
                Step::Ask(node) => node,
                Step::WaitForView(until) => {
                    sleep_until(self.instant(until)).await;
                    self.refresh_view().await;
                    continue;
                }
                Step::GiveUp => return Err(met),
            };
            let answer = self.call(node, &question).await;
            let (setback, problem) = match answer.map(&read) {
                Ok(Ok(answer)) => {
                    self.routes().trust(node);
                    return Ok(answer);
                }
                Ok(Err(reason)) => (Setback::Behind, Met::Wire(bad_answer(node, reason))),
                Err(Met::Wire(error)) if !is_transient(error.code) => return Err(Met::Wire(error)),
                Err(Met::Wire(error)) => (setback(&error), Met::Wire(error)),
                Err(Met::Node(error)) => (Setback::Unreachable, Met::Node(error)),
            };
            tracing::debug!(%shard, %node, ?setback, "asking on");
            attempt.met(self.now(), &mut self.routes(), node, setback);
            met = problem;
        }
    }

    async fn call(&self, node: NodeId, question: &Question) -> Result<Answer, Met> {
        let address = self.routes().address(node).and_then(|node| node.address.parse().ok());
        let Some(address) = address else { return Err(Met::Node(None)) };
        let connection = self.connections.to(address).await.map_err(|error| Met::Node(Some(error)))?;
        let lane = match question.over {
            Over::Reads => &connection.reads,
            Over::Control => &connection.control,
        };
        let timeout = self.settings.answer_timeout;
        let deadline =
            Instant::now() + question.wait + question.patience.map_or(timeout, |patience| patience.min(timeout));
        let placed = match (&question.message, &self.fabric) {
            (Message::Fetch(fetch), Some(fabric)) if connection.places => fabric.ask(node, lane, fetch, deadline).await,
            _ => None,
        };
        let answer = match placed {
            Some(answer) => answer,
            None => lane.call(question.message.clone(), deadline).await.map(Answer::Said),
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused(error)) => Err(Met::Wire(error)),
            // An older node: nothing was sent, and only a person helps.
            Err(error @ CallError::TooNew { .. }) => Err(Met::Wire(too_old(node, &error))),
            Err(error) => Err(Met::Node(Some(self.broken(address, &connection, error)))),
        }
    }

    /// Asks a node for the memory that it shares, and over which session; `None` if it refuses or does not know the question.
    pub(crate) async fn ask_local(
        &self,
        node: NodeId,
        known_at: SocketAddr,
        request: LocalRequest,
    ) -> Result<Option<(LocalOffer, Arc<dyn Session>)>, NodeError> {
        // It may have come back elsewhere.
        let address = self.routes().address(node).and_then(|node| node.address.parse().ok()).unwrap_or(known_at);
        let connection = self.connections.to(address).await?;
        let deadline = Instant::now() + self.settings.answer_timeout;
        match connection.control.call(Message::LocalRequest(request), deadline).await {
            Ok(Message::LocalOffer(offer)) => Ok(Some((offer, connection.session()))),
            Ok(_) | Err(CallError::Refused(_) | CallError::TooNew { .. }) => Ok(None),
            Err(error) => Err(self.broken(address, &connection, error)),
        }
    }

    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    fn broken(&self, address: SocketAddr, connection: &Arc<Connection>, error: CallError) -> NodeError {
        // A full queue is no fault of the connection; everything else, silence included, asks for a new one.
        if !matches!(error, CallError::QueueFull | CallError::TooLarge(_)) {
            self.connections.forget(address, connection);
        }
        NodeError::Call(error)
    }

    /// Learns the ring from the first node that answers: those known, then those of the settings.
    async fn refresh_view(&self) {
        let known: Vec<SocketAddr> = self.routes().nodes().filter_map(|node| node.address.parse().ok()).collect();
        for address in known.into_iter().chain(self.settings.addresses.iter().copied()) {
            match self.learn_from(address).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(%address, error = &error as &dyn std::error::Error, "no view from here"),
            }
        }
    }

    async fn learn_from(&self, address: SocketAddr) -> Result<NodeId, NodeError> {
        let connection = self.connections.to(address).await?;
        let deadline = Instant::now() + self.settings.connect_timeout;
        match connection.control.call(Message::ViewRequest(ViewRequest), deadline).await {
            Ok(Message::View(view)) => {
                self.routes().learn(&view);
                Ok(connection.welcome.node)
            }
            Ok(_) => Err(NodeError::Unexpected { expected: "a view", found: "another message" }),
            Err(error) => Err(self.broken(address, &connection, error)),
        }
    }

    fn shard_of(&self, partition: &PartitionKey) -> ShardId {
        // A view without shards comes from a node that is still starting; any shard will do until it knows better.
        partition.shard(self.routes().shard_count().max(1))
    }

    fn now(&self) -> time::Instant {
        let since = Instant::now().duration_since(self.origin);
        time::Instant::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: time::Instant) -> Instant {
        self.origin + Duration::from_micros(at.micros())
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    fn into_error(self, partition: PartitionKey) -> FetchError {
        match self {
            Self::Node(error) => FetchError::Unreachable(error),
            Self::Wire(error) => FetchError::from_wire(partition, error),
        }
    }

    fn into_unavailable(self) -> FetchError {
        match self {
            Self::Node(error) => FetchError::Unreachable(error),
            Self::Wire(WireError { code, message, .. }) if is_transient(code) => {
                FetchError::Unavailable { code, message }
            }
            Self::Wire(WireError { code, message, .. }) => FetchError::Refused { code, message },
        }
    }
}

fn setback(error: &WireError) -> Setback {
    match error.code {
        ErrorCode::Moved => Setback::Moved(error.node),
        ErrorCode::Busy | ErrorCode::BucketUnavailable => Setback::Busy,
        _ => Setback::Behind,
    }
}

/// A node that speaks an older wire version than the question needs.
fn too_old(node: NodeId, error: &CallError) -> WireError {
    WireError {
        code: ErrorCode::VersionWindow,
        message: format!("node {node}: {error}"),
        offset: None,
        node: Some(node),
    }
}

/// An answer that does not hold what it must: as if the node had said that it is damaged on the way.
fn bad_answer(node: NodeId, reason: String) -> WireError {
    tracing::warn!(%node, reason, "a node's answer does not verify; asking elsewhere");
    WireError { code: ErrorCode::Checksum, message: reason, offset: None, node: Some(node) }
}
