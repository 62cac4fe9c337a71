//! A world: nodes, shippers, a bucket and a network in one event loop of virtual time.
//!
//! Single-threaded and seeded: the same seed gives the same events in the same order. This file holds the loop; its
//! neighbours hold what the events do.

mod bucket_io;
mod collector;
mod depths;
mod effects;
mod faults;
mod gossip;
mod nodes;
mod script;
mod settle;
mod shipping;

use core::time::Duration;
use std::collections::BTreeMap;

use kennel_core::shard::{BucketRequest, Effects, SessionId};
use kennel_core::time::Instant;
use kennel_protocol::ids::{ClusterId, NodeId, Offset};

use crate::bucket::Bucket;
use crate::event::Event;
use crate::network::Network;
use crate::node::{Node, WAITING_MAX};
use crate::oracle::{Oracle, Violation};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::shipper::Shipper;
use crate::source::Partition;
use crate::stream::Stream;
use crate::trace::Trace;

use depths::Spells;

pub use bucket_io::{Flight, PutFate};

/// More events than this lie ahead only if something multiplies.
const QUEUE_MAX: usize = 100_000;
/// More events than this at one instant mean that a machine turns in circles.
const INSTANT_MAX: u32 = 20_000;

/// One seed's draws, apart by purpose.
#[derive(Debug)]
struct Draws {
    ids: Stream,
    journal: Stream,
    bucket: Stream,
    effects: Stream,
    faults: Stream,
    gossip: Stream,
    source: Stream,
    timers: Stream,
    shippers: Stream,
    depths: Stream,
}

/// A connection between a shipper and a process.
#[derive(Debug, Clone, Copy)]
struct Session {
    shipper: usize,
    node: usize,
    boot: u64,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// What it is made of.
    pub plan: Plan,
    /// The objects.
    pub bucket: Bucket,
    /// What happened.
    pub trace: Trace,
    /// What must hold.
    pub oracle: Oracle,
    seed: u64,
    cluster: ClusterId,
    now: Instant,
    at_once: u32,
    queue: Queue<Event>,
    draws: Draws,
    nodes: Vec<Node>,
    network: Network,
    sources: Vec<Partition>,
    shippers: Vec<Shipper>,
    sessions: BTreeMap<SessionId, Session>,
    sessions_made: u64,
    flights: BTreeMap<u64, Flight>,
    flights_made: u64,
    /// What a scenario decides about bucket requests before chance does.
    put_script: Option<fn(usize, &BucketRequest) -> Option<PutFate>>,
    bucket_down: Vec<bool>,
    spells: Spells,
    pauses: u64,
    storms: u64,
    stormy: bool,
    appends: bool,
    forced: bool,
    claims_at_heal: u64,
    effects: Effects,
    /// Whose effects are being done: what they cause joins the end of the same line.
    draining: Option<usize>,
    violation: Option<Violation>,
}

impl World {
    /// A world in which everything is about to start.
    pub fn new(plan: Plan, seed: u64, trace: Trace) -> Self {
        let stream = |salt| Stream::new(seed, salt);
        let mut draws = Draws {
            ids: stream(1),
            journal: stream(2),
            bucket: stream(3),
            effects: stream(4),
            faults: stream(5),
            gossip: stream(6),
            source: stream(7),
            timers: stream(8),
            shippers: stream(9),
            depths: stream(10),
        };
        let cluster = ClusterId(draws.ids.id());
        let network = Network::new(plan.nodes + plan.workload.shippers, seed);
        let mut world = Self {
            bucket: Bucket::broken(plan.broken),
            trace,
            oracle: Oracle::default(),
            seed,
            cluster,
            now: Instant::from_micros(1_000_000),
            at_once: 0,
            queue: Queue::new(),
            draws,
            nodes: Vec::new(),
            network,
            sources: Vec::new(),
            shippers: Vec::new(),
            sessions: BTreeMap::new(),
            sessions_made: 0,
            flights: BTreeMap::new(),
            flights_made: 0,
            put_script: None,
            bucket_down: vec![false; plan.nodes],
            spells: Spells::default(),
            pauses: 0,
            storms: 0,
            stormy: true,
            appends: true,
            forced: false,
            claims_at_heal: 0,
            effects: Effects::new(),
            draining: None,
            violation: None,
            plan,
        };
        world.populate();
        world
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Lets time pass until then, or until a rule is broken.
    pub fn run_until_time(&mut self, end: Instant) {
        while self.violation.is_none() && self.queue.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Lets the next thing happen.
    fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.at_once = if at > self.now { 0 } else { self.at_once + 1 };
        self.now = self.now.max(at);
        let bounded = self.at_once < INSTANT_MAX && self.queue.len() < QUEUE_MAX;
        let what = || format!("{} events at this instant, {} ahead", self.at_once, self.queue.len());
        let verdict = Violation::unless(bounded, "time_moves_on", what);
        self.judge(verdict);
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.hold_if_paused(event) else { return };
        match event {
            Event::Peer { from, to, message } => self.peer(from, to, message),
            Event::FromShipper { session, says } => self.shipper_said(session, says),
            Event::ToShipper { session, says } => self.node_said(session, says),
            Event::Synced { node, boot, sequence } => self.synced(node, boot, sequence),
            Event::Loaded { node, boot, epoch, from, end } => self.loaded(node, boot, epoch, (from, end)),
            Event::Timer { node, boot, at } => self.timer(node, boot, at),
            Event::Apply { flight } => self.apply(flight),
            Event::Answer { flight } => self.answer(flight),
            Event::Gossip { node } => self.gossip(node),
            Event::Placement { node, boot, placement } => self.place(node, boot, placement),
            Event::Shipper { shipper } => self.shipper_acts(shipper),
            Event::Append => self.append(),
            Event::Fault => self.fault(),
            Event::Resume { node, pause } => self.resume(node, pause),
            Event::Start { node } => self.start(node),
            Event::Kill { node, boot } => self.kill(node, boot),
            Event::Ambush { node, boot } => self.strike(node, boot),
            Event::Mend { links, storm } => self.mend(&links, storm),
            Event::BucketBack { node } => self.bucket_back(node),
            Event::NeighbourFrees { node } => self.neighbour_frees(node),
            Event::CollectorLooks { collection } => self.collector_looks(collection),
            Event::CollectorDeletes { collection } => self.collector_deletes(collection),
        }
    }

    /// What happens to a paused process waits until it wakes up.
    fn hold_if_paused(&mut self, event: Event) -> Option<Event> {
        let Some(node) = self.concerns(&event).filter(|node| self.nodes[*node].paused.is_some()) else {
            return Some(event);
        };
        if let Event::Synced { boot, sequence, .. } = event
            && self.nodes[node].is_boot(boot)
        {
            // The kernel finishes what it was given.
            self.nodes[node].journal.synced(sequence);
        }
        let from_outside = matches!(event, Event::Peer { .. } | Event::FromShipper { .. });
        if !(from_outside && self.nodes[node].waiting.len() >= WAITING_MAX) {
            self.nodes[node].waiting.push_back(event);
        }
        None
    }

    /// The node whose process an event is for.
    fn concerns(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Peer { to, .. } => Some(*to),
            Event::FromShipper { session, .. } => self.sessions.get(session).map(|session| session.node),
            Event::Synced { node, .. }
            | Event::Loaded { node, .. }
            | Event::Timer { node, .. }
            | Event::Placement { node, .. } => Some(*node),
            Event::Answer { flight } => self.flights.get(flight).map(|flight| flight.node),
            _ => None,
        }
    }

    /// Notes the first broken rule.
    fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict
            && self.violation.is_none()
        {
            self.trace.line(self.now, || format!("VIOLATION {}: {}", violation.rule, violation.what));
            self.violation = Some(violation);
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    fn populate(&mut self) {
        let workload = self.plan.workload.clone();
        for number in 0..workload.partitions {
            let number = u32::try_from(number).expect("few partitions");
            let origin =
                if workload.imports && self.draws.source.chance(600) { self.draws.source.between(1, 3000) } else { 0 };
            self.sources.push(Partition::new(number, Offset(origin), workload.message_bytes));
        }
        for shipper in 0..workload.shippers {
            let lagging = workload.lagging_twin && shipper == 1;
            let stream = Stream::new(self.draws.shippers.number(), shipper as u64);
            self.shippers.push(Shipper::new(workload.partitions, lagging, stream));
            self.after(Duration::from_millis(20), Event::Shipper { shipper });
        }
        for node in 0..self.plan.nodes {
            let journal = self.format_journal();
            self.nodes.push(Node::new(journal));
            let delay = self.draws.faults.duration(Duration::ZERO, Duration::from_millis(300));
            self.after(delay, Event::Start { node });
            self.after(delay, Event::Gossip { node });
        }
        self.after(Duration::from_millis(50), Event::Append);
        self.after(self.plan.weather.fault_every, Event::Fault);
    }
}

/// The id of the node at a place.
pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

/// The place of a node.
pub(crate) fn node_index(node: NodeId) -> usize {
    usize::try_from(node.0.saturating_sub(1)).expect("a world has few nodes")
}
