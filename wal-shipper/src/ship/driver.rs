//! The shipper machine's driver: one task that owns it, feeds it inputs and starts its effects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use kennel_core::shipper::{
    Effect, Effects, Input, PartitionNews, Shipper, ShipperConfig, ShipperStatus, SourceAnswer, SourceState,
};
use kennel_core::time::Instant;
use kennel_protocol::catalog::{Catalog, Scope, merge};
use kennel_protocol::ids::{NodeId, Offset, PartitionKey};
use kennel_protocol::wire::{CompareRequest, Message, PositionsRequest, View, ViewRequest};
use tokio::sync::mpsc;

use super::agree::{AgreeError, agree};
use super::held_back::HeldBack;
use super::link::{Link, ask};
use super::reads::{Readers, Reads};
use super::ring::{Ring, RingError};
use crate::source::FoundPartition;

/// Inputs that wait for the machine. Senders wait when it is full; the machine never waits for them.
const EVENTS_MAX: usize = 4096;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);
/// How often the catalogue is offered before shipping goes on without it, and how long it pauses between.
const CATALOG_TRIES: u32 = 20;
const CATALOG_PAUSE: Duration = Duration::from_millis(250);
/// How long a finished import waits for its names to be taken.
const CATALOG_GRACE: Duration = Duration::from_secs(3);
/// How long an owner may read what a source is compared with: some reads of a bucket.
const COMPARE_WAIT: Duration = Duration::from_secs(10);

/// Told how shipping goes; must not block.
pub trait Watcher: Send {
    /// Several times a second.
    fn progress(&mut self, status: &ShipperStatus);
    /// Whenever there is something to tell about a partition.
    fn news(&mut self, partition: PartitionKey, news: &PartitionNews);
    /// As often as [`Watcher::progress`], for who wants to know more.
    fn look(&mut self, _shipper: &Shipper) {}
}

/// What became of a whole run.
#[derive(Debug, Default)]
pub struct ShipReport {
    /// Final sums.
    pub status: ShipperStatus,
    /// Declared holes, each once.
    pub holes: BTreeSet<(PartitionKey, Offset, Offset)>,
    /// Everything else that was told about partitions, the first of each kind.
    pub news: BTreeMap<PartitionKey, Vec<PartitionNews>>,
    /// Bytes after the last whole batch, by partition.
    pub torn_bytes: BTreeMap<PartitionKey, u64>,
    /// Whether the ring has the names.
    pub catalog_put: bool,
    /// Whether everything settled, rather than that it was told to stop.
    pub finished: bool,
}

/// Why shipping could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// No node welcomed us.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The session broke before it could be used. Retry.
    #[error("the first session broke before it could be used")]
    Session(#[source] kennel_transport::close::SessionError),
}

/// What wakes the driver.
#[derive(Debug)]
pub(crate) enum Event {
    Input(Input),
    Read {
        partition: PartitionKey,
        torn_bytes: u64,
        answer: SourceAnswer,
    },
    LinkUp(Box<Link>),
    LinkFailed(NodeId),
    LinkLost {
        node: NodeId,
        number: u64,
    },
    /// Whether the ring took the catalogue; the last word on it.
    CatalogOffered(bool),
}

/// Ships partitions until the machine is done or `stop` resolves.
///
/// # Cancel safety
/// Safe: what was not acknowledged is shipped again by the next run.
pub async fn ship(
    ring: Ring,
    patience: Duration,
    config: ShipperConfig,
    found: &[FoundPartition],
    catalog: &Catalog,
    watcher: &mut dyn Watcher,
    stop: impl Future<Output = ()>,
) -> Result<ShipReport, ShipError> {
    let (events, mut inbox) = channel();
    let readers = Box::new(Readers::new(found, events.clone()));
    let mut driver = Driver::begin_session(ring, patience, config, readers, events, watcher).await?;
    driver.offer_catalog(catalog);
    driver.begin(found);
    driver.run(&mut inbox, stop).await;
    Ok(driver.report)
}

/// Ships a source that lives on: its reads, its partitions and what becomes of them are others' business, who speak
/// through `events`. Ends when `stop` resolves.
///
/// # Cancel safety
/// Safe: what was not acknowledged is shipped again by the next run.
pub(crate) async fn ship_events(
    ring: Ring,
    patience: Duration,
    config: ShipperConfig,
    readers: Box<dyn Reads>,
    (events, mut inbox): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    watcher: &mut dyn Watcher,
    stop: impl Future<Output = ()>,
) -> Result<ShipReport, ShipError> {
    let mut driver = Driver::begin_session(ring, patience, config, readers, events, watcher).await?;
    driver.catalog_open = false;
    driver.begin(&[]);
    driver.run(&mut inbox, stop).await;
    Ok(driver.report)
}

/// What the driver is woken through.
pub(crate) fn channel() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(EVENTS_MAX)
}

struct Driver<'a> {
    shipper: Shipper,
    answer_timeout: Duration,
    ring: Ring,
    origin: tokio::time::Instant,
    links: BTreeMap<NodeId, Link>,
    next_link: u64,
    addresses: BTreeMap<NodeId, SocketAddr>,
    readers: Box<dyn Reads>,
    events: mpsc::Sender<Event>,
    watcher: &'a mut dyn Watcher,
    report: ShipReport,
    held_back: HeldBack,
    /// The catalogue was offered and there is no answer yet.
    catalog_open: bool,
    done: bool,
}

impl<'a> Driver<'a> {
    async fn begin_session(
        ring: Ring,
        patience: Duration,
        config: ShipperConfig,
        readers: Box<dyn Reads>,
        events: mpsc::Sender<Event>,
        watcher: &'a mut dyn Watcher,
    ) -> Result<Self, ShipError> {
        let (session, welcome) = ring.first_node(patience).await?;
        let link = Link::open(welcome.clone(), 0, session, events.clone()).await.map_err(ShipError::Session)?;
        // Shippers of one host need not pause in step.
        let seed = u64::from(std::process::id());
        let mut driver = Self {
            shipper: Shipper::new(config, seed),
            answer_timeout: config.answer_timeout,
            ring: ring.of_cluster(welcome.cluster),
            origin: tokio::time::Instant::now(),
            links: BTreeMap::new(),
            next_link: 1,
            addresses: BTreeMap::new(),
            readers,
            events,
            watcher,
            report: ShipReport::default(),
            held_back: HeldBack::default(),
            catalog_open: true,
            done: false,
        };
        driver.link_up(link);
        Ok(driver)
    }

    fn begin(&mut self, found: &[FoundPartition]) {
        self.feed(Input::Start);
        for partition in found {
            // Where it ends, only reading says: the last segment may be torn.
            self.feed(Input::Source(SourceState { partition: partition.key, start: partition.start(), end: None }));
        }
        self.feed(Input::SourcesListed);
    }

    async fn run(&mut self, inbox: &mut mpsc::Receiver<Event>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        let mut stopping = false;
        let mut patience = None;
        while !self.done || self.waits_for_catalog(stopping, &mut patience) {
            let wake = self.shipper.poll_timeout().map(|at| self.origin + Duration::from_micros(at.micros()));
            // Only a bug leaves nothing to wake for; looking again is then the least harm.
            let wake = wake.unwrap_or_else(|| tokio::time::Instant::now() + TICK);
            tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.feed(Input::Stop);
                }
                _ = tick.tick() => {
                    self.watcher.progress(&self.shipper.status());
                    self.watcher.look(&self.shipper);
                }
                event = inbox.recv() => self.take(event.expect("the driver itself holds a sender")),
                () = tokio::time::sleep_until(wake) => self.feed(Input::Timeout),
            }
        }
        self.report.finished = !stopping;
        self.report.status = self.shipper.status();
        self.watcher.progress(&self.report.status);
        self.watcher.look(&self.shipper);
        for link in self.links.values() {
            link.close();
        }
    }

    /// A short import is done before its names are taken; it waits for them, but not long.
    fn waits_for_catalog(&self, stopping: bool, patience: &mut Option<tokio::time::Instant>) -> bool {
        let until = *patience.get_or_insert_with(|| tokio::time::Instant::now() + CATALOG_GRACE);
        self.catalog_open && !stopping && tokio::time::Instant::now() < until
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Input(Input::View(view)) => self.take_view(view),
            Event::Input(Input::ShipAck { from, ack }) => {
                self.held_back.look(&ack);
                self.feed(Input::ShipAck { from, ack });
            }
            Event::Input(Input::SourceGone(partition)) => {
                self.readers.forget(partition);
                self.report.news.remove(&partition);
                self.report.holes.retain(|(key, ..)| *key != partition);
                self.feed(Input::SourceGone(partition));
            }
            Event::Input(input) => self.feed(input),
            Event::Read { partition, torn_bytes, answer } => {
                if torn_bytes > 0 {
                    self.report.torn_bytes.insert(partition, torn_bytes);
                }
                self.feed(Input::SourceRead(answer));
            }
            Event::LinkUp(link) => self.link_up(*link),
            Event::LinkFailed(node) => self.feed(Input::SessionLost(node)),
            Event::LinkLost { node, number } => {
                // An older session's end says nothing about the one that replaced it.
                if self.links.get(&node).is_some_and(|link| link.number() == number) {
                    self.links.remove(&node);
                    self.feed(Input::SessionLost(node));
                }
            }
            Event::CatalogOffered(taken) => {
                self.report.catalog_put = taken;
                self.catalog_open = false;
            }
        }
    }

    fn take_view(&mut self, view: View) {
        let known = view.nodes.iter().filter_map(|node| Some((node.node, node.address.parse().ok()?)));
        self.addresses.extend(known);
        self.feed(Input::View(view));
    }

    fn link_up(&mut self, link: Link) {
        let node = link.node();
        self.next_link = self.next_link.max(link.number() + 1);
        if let Some(older) = self.links.insert(node, link) {
            older.close();
        }
        self.feed(Input::SessionUp(node));
    }

    fn feed(&mut self, input: Input) {
        let mut effects = Effects::default();
        let now = Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.shipper.handle(now, input, &mut effects);
        for effect in effects.then {
            self.start(effect);
        }
    }

    fn start(&mut self, effect: Effect) {
        match effect {
            Effect::AskView { avoid } => self.ask_view(avoid),
            Effect::Connect { node, address } => self.connect(node, &address),
            Effect::AskPositions { node, request } => self.ask_positions(node, request),
            Effect::Compare { node, request } => self.compare(node, request),
            Effect::ReadSource(read) => self.readers.start(read),
            Effect::Send { node, ship } => {
                // Without a link the machine is about to hear of its loss.
                if let Some(link) = self.links.get_mut(&node) {
                    link.send(ship);
                }
            }
            Effect::Report { partition, news } => self.take_news(partition, news),
            Effect::Done => self.done = true,
        }
    }

    /// Asks a linked node, or the first of the ring's addresses that answers.
    fn ask_view(&self, avoid: Option<NodeId>) {
        let chosen = self.links.values().find(|link| Some(link.node()) != avoid).or(self.links.values().next());
        let control = chosen.map(Link::control);
        let (ring, events, wait) = (self.ring.clone(), self.events.clone(), self.answer_timeout);
        let number = self.next_link;
        tokio::spawn(async move {
            let deadline = tokio::time::Instant::now() + wait;
            let view = match control {
                Some(control) => ask(control, Message::ViewRequest(ViewRequest), deadline).await,
                None => match ring.first_node(Duration::ZERO).await {
                    Ok((session, welcome)) => {
                        let link = Link::open(welcome, number, session, events.clone()).await.ok();
                        let view = match &link {
                            Some(link) => ask(link.control(), Message::ViewRequest(ViewRequest), deadline).await,
                            None => None,
                        };
                        if let Some(link) = link {
                            let _ = events.send(Event::LinkUp(Box::new(link))).await;
                        }
                        view
                    }
                    Err(_) => None,
                },
            };
            let input = match view {
                Some(Message::View(view)) => Input::View(view),
                _ => Input::ViewFailed,
            };
            let _ = events.send(Event::Input(input)).await;
        });
    }

    fn connect(&mut self, node: NodeId, address: &str) {
        let (ring, events) = (self.ring.clone(), self.events.clone());
        let number = self.next_link;
        self.next_link += 1;
        let address: Option<SocketAddr> = address.parse().ok().or_else(|| self.addresses.get(&node).copied());
        tokio::spawn(async move {
            let event = match open_link(&ring, address, node, number, events.clone()).await {
                Some(link) => Event::LinkUp(Box::new(link)),
                None => Event::LinkFailed(node),
            };
            let _ = events.send(event).await;
        });
    }

    fn ask_positions(&self, node: NodeId, request: PositionsRequest) {
        let Some(link) = self.links.get(&node) else { return };
        let (control, events, wait) = (link.control(), self.events.clone(), self.answer_timeout);
        tokio::spawn(async move {
            let shard = request.shard;
            let deadline = tokio::time::Instant::now() + wait;
            let input = match ask(control, Message::PositionsRequest(request), deadline).await {
                Some(Message::Positions(positions)) => Input::Positions { from: node, positions },
                _ => Input::PositionsFailed { from: node, shard },
            };
            let _ = events.send(Event::Input(input)).await;
        });
    }

    fn compare(&self, node: NodeId, request: CompareRequest) {
        let Some(link) = self.links.get(&node) else { return };
        let (control, events) = (link.control(), self.events.clone());
        tokio::spawn(async move {
            let shard = request.shard;
            let deadline = tokio::time::Instant::now() + COMPARE_WAIT;
            let input = match ask(control, Message::CompareRequest(request), deadline).await {
                Some(Message::Compared(compared)) => Input::Compared { from: node, compared },
                _ => Input::CompareFailed { shard },
            };
            let _ = events.send(Event::Input(input)).await;
        });
    }

    fn take_news(&mut self, partition: PartitionKey, news: PartitionNews) {
        if let PartitionNews::Stopped(problem) = &news {
            // A shipper goes on with the others, so this may be the only word for a long time.
            tracing::error!(%partition, %problem, "the partition stopped; the others go on");
        }
        self.watcher.news(partition, &news);
        match news {
            PartitionNews::Hole { from, to, .. } => {
                self.report.holes.insert((partition, from, to));
            }
            news => {
                let told = self.report.news.entry(partition).or_default();
                let kind = core::mem::discriminant(&news);
                if told.iter().all(|before| core::mem::discriminant(before) != kind) {
                    told.push(news);
                }
            }
        }
    }

    /// Offers what was found, until it stands or the tries are over: shipping needs no names. Files show a part of what
    /// there is, so nothing is taken away.
    fn offer_catalog(&self, catalog: &Catalog) {
        let (ring, events, seen) = (self.ring.clone(), self.events.clone(), catalog.clone());
        tokio::spawn(async move {
            for _ in 0..CATALOG_TRIES {
                match agree(&ring, &|standing| merge(standing, &seen, Scope::Partial)).await {
                    Ok(_) => {
                        let _ = events.send(Event::CatalogOffered(true)).await;
                        return;
                    }
                    Err(error @ AgreeError::Merge(_)) => {
                        tracing::warn!(error = chain(&error), "the names are not offered; fix the mapping");
                        break;
                    }
                    Err(error) => tracing::debug!(error = chain(&error), "no agreement on the catalogue yet"),
                }
                tokio::time::sleep(CATALOG_PAUSE).await;
            }
            tracing::warn!("the ring did not take the catalogue: partitions go by their ids");
            let _ = events.send(Event::CatalogOffered(false)).await;
        });
    }
}

async fn open_link(
    ring: &Ring,
    address: Option<SocketAddr>,
    node: NodeId,
    number: u64,
    events: mpsc::Sender<Event>,
) -> Option<Link> {
    match ring.connect(address?, Some(node)).await {
        Ok((session, welcome)) => Link::open(welcome, number, session, events).await.ok(),
        Err(error) => {
            tracing::warn!(%node, error = chain(&error), "no session");
            None
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}
