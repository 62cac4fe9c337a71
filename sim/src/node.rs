//! One node: a process that may be down or paused, its machine, and the disk that outlives it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use kennel_core::shard::{BucketResult, InOrder, PersistId, Placement, RoleChange, Shard, Then};
use kennel_core::time::Instant;
use kennel_protocol::ids::{Epoch, ProcessId};
use kennel_protocol::object::Manifest;

use crate::event::Event;
use crate::journal::Journal;
use crate::mutants::{Broken, DriverFlaw};

/// How many events a paused process has waiting; messages beyond are lost, as in a full socket buffer.
pub const WAITING_MAX: usize = 2_000;

/// A host with a disk and perhaps a running process.
#[derive(Debug)]
pub struct Node {
    /// Which start of the process this is.
    pub boot: u64,
    /// Its id.
    pub process: ProcessId,
    /// The process's machine; `None` while it is down.
    pub machine: Option<Shard>,
    /// The disk.
    pub journal: Journal,
    /// How far a sync is under way.
    pub syncing: Option<u64>,
    /// Effects that wait for the disk, in order of the calls.
    pub calls: VecDeque<Call>,
    /// What is held back behind them.
    pub order: InOrder,
    /// Effects that may happen now, in order.
    pub outbox: VecDeque<Output>,
    /// Set while the process is stopped as by SIGSTOP: which pause.
    pub paused: Option<u64>,
    /// What happened to it meanwhile.
    pub waiting: VecDeque<Event>,
    /// When the driver wakes the machine.
    pub timer: Option<Instant>,
    /// The placement last told to the machine.
    pub placement: Arc<Placement>,
    /// The placement that gossip saw last, told after it has settled.
    pub seen: Arc<Placement>,
    /// What the machine is to its shard, as it said.
    pub role: RoleChange,
    /// Whether the journal takes entries from shippers.
    pub room: bool,
    /// Told to stop in good order.
    pub stopping: bool,
    /// What it calls time.
    pub clock: Clock,
    /// The first manifest that the process found: used again only where R22 is broken on purpose.
    pub manifest: Option<Arc<Manifest>>,
    /// Until when it believes that these are the live nodes.
    pub deluded: Option<(Instant, Vec<usize>)>,
    /// Bytes of the journal that belong to other shards.
    pub neighbours: usize,
}

/// One call's effects.
#[derive(Debug)]
pub struct Call {
    /// Durable when the journal is durable up to here.
    pub sequence: u64,
    /// Told to the machine then.
    pub id: PersistId,
    /// Done then.
    pub then: Vec<Then>,
}

/// One thing to do.
#[derive(Debug)]
pub enum Output {
    /// What the machine asked for.
    Then(Then),
    /// Tell the machine that its records are durable.
    Persisted(PersistId),
}

/// A process's own clock: another origin, another speed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    origin: Instant,
    per_mille: u32,
}

impl Clock {
    /// Makes it jump forward.
    pub fn leap(&mut self, by: Duration) {
        self.origin = self.origin + by;
    }

    /// A clock that showed `origin` at `started` and runs `per_mille` thousandths as fast as the world's.
    pub fn new(started: Instant, origin: Instant, per_mille: u32) -> Self {
        Self { started, origin, per_mille }
    }

    /// What it shows.
    pub fn read(&self, now: Instant) -> Instant {
        self.origin + now.since(self.started) * self.per_mille / 1000
    }

    /// When it will show `reading`, a little late rather than early.
    pub fn when(&self, reading: Instant) -> Instant {
        let ahead = reading.since(self.origin) * 1000 / self.per_mille;
        self.started + ahead + Duration::from_micros(1)
    }
}

impl Node {
    /// A host whose process has not started yet.
    pub fn new(journal: Journal) -> Self {
        Self {
            boot: 0,
            process: ProcessId(0),
            machine: None,
            journal,
            syncing: None,
            calls: VecDeque::new(),
            order: InOrder::default(),
            outbox: VecDeque::new(),
            paused: None,
            waiting: VecDeque::new(),
            timer: None,
            placement: Arc::default(),
            seen: Arc::default(),
            role: RoleChange::NotOwner { epoch: Epoch(0), owner: None },
            room: true,
            stopping: false,
            clock: Clock::new(Instant::default(), Instant::default(), 1000),
            manifest: None,
            deluded: None,
            neighbours: 0,
        }
    }

    /// What the process hears of the bucket: what it found there, unless it keeps old manifests on purpose.
    pub fn remembers(&mut self, broken: Broken, found: BucketResult) -> BucketResult {
        match found {
            BucketResult::Manifest(Some(newest)) if broken.breaks(DriverFlaw::CachesManifests) => {
                BucketResult::Manifest(Some(Arc::clone(self.manifest.get_or_insert(newest))))
            }
            found => found,
        }
    }

    /// Whether the process runs and is not paused.
    pub fn runs(&self) -> bool {
        self.machine.is_some() && self.paused.is_none()
    }

    /// Whether the process exists.
    pub fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether an event for a boot still has somebody to go to.
    pub fn is_boot(&self, boot: u64) -> bool {
        self.machine.is_some() && self.boot == boot
    }

    /// Bytes in the journal, of whichever shard.
    pub fn journal_bytes(&self) -> usize {
        self.journal.bytes() + self.neighbours
    }

    /// The epoch that this node says it owns.
    pub fn owns(&self) -> Option<Epoch> {
        match self.role {
            RoleChange::Owner { epoch } if self.is_up() => Some(epoch),
            _ => None,
        }
    }

    /// The process is gone with everything in its memory.
    pub fn forget(&mut self) {
        self.machine = None;
        self.syncing = None;
        self.calls.clear();
        self.order = InOrder::default();
        self.outbox.clear();
        self.paused = None;
        self.waiting.clear();
        self.timer = None;
        self.placement = Arc::default();
        self.seen = Arc::default();
        self.role = RoleChange::NotOwner { epoch: Epoch(0), owner: None };
        self.room = true;
        self.stopping = false;
        self.manifest = None;
    }
}
