//! What a world is made of and what may go wrong in it, drawn from the seed.
//!
//! Every fault is switched on or off per seed, and its rate is drawn: worlds with few kinds of faults find what worlds
//! with all of them hide.

mod depths;

use core::time::Duration;

use kennel_core::shard::{Sizes, Timing};

pub use depths::Depths;

use crate::mutants::Broken;
use crate::stream::Stream;

/// One world.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How many journals a claim names.
    pub copies: u8,
    /// With fewer copies an acknowledgement waits for the bucket.
    pub min_copies: u8,
    /// The machines' policies of time.
    pub timing: Timing,
    /// The machines' policies of size.
    pub sizes: Sizes,
    /// Which node is first on the ring.
    pub rotation: usize,
    /// A journal forgets everything at every start (durability `memory`).
    pub forgetful: bool,
    /// An operator forces take-overs: acknowledged data may be lost, but never silently.
    pub loss_allowed: bool,
    /// A journal takes no more from shippers past this many bytes.
    pub journal_bytes_max: usize,
    /// What may go wrong.
    pub weather: Weather,
    /// What seldom goes wrong.
    pub depths: Depths,
    /// What is written.
    pub workload: Workload,
    /// How long things go wrong.
    pub storm: Duration,
    /// What is broken on purpose.
    pub broken: Broken,
}

/// What may go wrong. Chances are per mille.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Shortest way of a message.
    pub delay_min: Duration,
    /// Longest usual way of a message.
    pub delay_max: Duration,
    /// Messages lost.
    pub loss: u64,
    /// Messages that arrive twice.
    pub duplicate: u64,
    /// Messages that take up to a hundred times as long.
    pub straggle: u64,
    /// Longest sync of a journal.
    pub sync_max: Duration,
    /// Syncs that take up to a hundred times as long.
    pub sync_stall: u64,
    /// A node whose syncs take up to a hundred times as long.
    pub slow_disk: Option<usize>,
    /// Longest usual bucket request.
    pub bucket_max: Duration,
    /// Bucket requests that fail without effect.
    pub bucket_fail: u64,
    /// Creates that land although the answer is lost.
    pub bucket_lost_answer: u64,
    /// Creates that answer `Exists` for themselves or although nothing stands there.
    pub bucket_false_exists: u64,
    /// Creates that answer `Unknown` and may land much later.
    pub bucket_stuck: u64,
    /// A process crashes between two effects.
    pub crash_at_effect: u64,
    /// A process pauses between two effects.
    pub pause_at_effect: u64,
    /// Processes that claim and are struck in the middle of their take-over, or soon after.
    pub ambush: u64,
    /// Clocks run at different speeds.
    pub clocks: bool,
    /// Gossip hears of nodes through others, not only directly.
    pub gossip_relays: bool,
    /// A gossip round misses a live node.
    pub gossip_misses: u64,
    /// Mean time between drawn faults.
    pub fault_every: Duration,
    /// Which faults are drawn.
    pub faults: Vec<FaultKind>,
}

/// A fault that strikes at a drawn time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A process dies and comes back.
    Crash,
    /// All processes die at once and come back one by one.
    CrashAll,
    /// A process stops as by SIGSTOP and wakes up.
    Pause,
    /// A group is cut off from the others.
    Split,
    /// One direction of one link is cut.
    OneWay,
    /// The bucket answers nobody, or one node not.
    Outage,
    /// A node comes back with an empty journal.
    LoseDisk,
    /// A node is stopped in good order and started again.
    Stop,
    /// A node is told of a membership that is not so.
    Flap,
    /// A collector moves the start of the log and deletes what lies below.
    Collect,
    /// A process's clock jumps forward, by an hour at most.
    Leap,
    /// The bucket refuses most requests for a while.
    Throttle,
    /// The bucket takes long for a while.
    Sluggish,
    /// Claims can neither be read nor created for a while.
    ClaimsAway,
    /// A bit of a record flips: the journal that finds it at its start takes another id.
    Rot,
    /// A node believes in a wrong membership for a while.
    Delude,
    /// A shipper's process stops as by SIGSTOP, and goes on with what it had in hand.
    PauseShipper,
    /// Another shard fills the journal that this one shares with it.
    Neighbour,
    /// The source loses its newest messages and gives their offsets to others.
    Rollback,
    /// The source's topic is deleted and created again.
    Recreate,
}

const FAULTS: [FaultKind; 10] = [
    FaultKind::Crash,
    FaultKind::CrashAll,
    FaultKind::Pause,
    FaultKind::Split,
    FaultKind::OneWay,
    FaultKind::Outage,
    FaultKind::LoseDisk,
    FaultKind::Stop,
    FaultKind::Flap,
    FaultKind::Collect,
];

/// What is written.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent switch of the swarm")]
pub struct Workload {
    /// How many partitions there are.
    pub partitions: usize,
    /// How many shippers carry all of them at once.
    pub shippers: usize,
    /// Mean time between appends to the source.
    pub append_every: Duration,
    /// Most messages of one append.
    pub append_max: u64,
    /// Most messages of one chunk.
    pub chunk_max: u64,
    /// Most messages that a shipper has under way per partition.
    pub window: u64,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Polls cut Iggy's batches anywhere.
    pub slices: bool,
    /// Partitions start above offset 0.
    pub imports: bool,
    /// The source's retention removes old messages, shipped or not.
    pub retention: bool,
    /// The second shipper sees the source late.
    pub lagging_twin: bool,
}

impl Plan {
    /// A world in which nothing goes wrong.
    pub fn calm(nodes: usize) -> Self {
        Self {
            nodes,
            copies: 3,
            min_copies: 2,
            timing: timing(1),
            sizes: sizes(),
            rotation: 0,
            forgetful: false,
            loss_allowed: false,
            journal_bytes_max: 1 << 20,
            weather: Weather::calm(),
            depths: Depths::default(),
            workload: Workload::calm(),
            storm: Duration::from_secs(5),
            broken: Broken::Nothing,
        }
    }

    /// The world of a seed of the first vintage: without what [`Depths`] and its faults add.
    pub fn draw_first(seed: u64) -> Self {
        let mut stream = Stream::new(seed, 0x706C_616E);
        let nodes = 3 + stream.index(3);
        let copies = if stream.chance(150) { 1 + stream.below(2) } else { 3 + 2 * stream.below(2) };
        let mut plan = Self::calm(nodes);
        plan.copies = u8::try_from(copies.min(nodes as u64)).expect("few nodes");
        plan.min_copies = if stream.chance(850) { 2 } else { 1 };
        plan.timing = timing(stream.between(1, 3));
        plan.rotation = stream.index(nodes);
        plan.forgetful = stream.chance(80);
        plan.loss_allowed = stream.chance(80);
        if stream.chance(150) {
            plan.journal_bytes_max = usize::try_from(stream.between(4, 32)).expect("small") << 10;
        }
        draw_sizes(&mut plan.sizes, &mut stream);
        if plan.forgetful {
            // Such a journal has nothing to read back.
            plan.sizes.resident_bytes_max = u64::MAX;
        }
        plan.weather = Weather::draw(&mut stream);
        plan.workload = Workload::draw(&mut stream);
        plan.storm = stream.duration(Duration::from_secs(2), Duration::from_secs(12));
        plan
    }
}

impl Weather {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_millis(2),
            loss: 0,
            duplicate: 0,
            straggle: 0,
            sync_max: Duration::from_millis(3),
            sync_stall: 0,
            slow_disk: None,
            bucket_max: Duration::from_millis(40),
            bucket_fail: 0,
            bucket_lost_answer: 0,
            bucket_false_exists: 0,
            bucket_stuck: 0,
            crash_at_effect: 0,
            pause_at_effect: 0,
            ambush: 0,
            clocks: false,
            gossip_relays: true,
            gossip_misses: 0,
            fault_every: Duration::from_secs(1),
            faults: Vec::new(),
        }
    }

    fn draw(stream: &mut Stream) -> Self {
        let mut some = |rate: u64| if stream.chance(400) { stream.between(1, rate) } else { 0 };
        let mut weather = Self {
            loss: some(100),
            duplicate: some(100),
            straggle: some(50),
            sync_stall: some(100),
            bucket_fail: some(200),
            bucket_lost_answer: some(200),
            bucket_false_exists: some(150),
            bucket_stuck: some(60),
            crash_at_effect: some(2),
            pause_at_effect: some(4),
            gossip_misses: some(100),
            ..Self::calm()
        };
        weather.delay_max = stream.scale(Duration::from_millis(1), Duration::from_millis(60));
        weather.sync_max = stream.scale(Duration::from_millis(1), Duration::from_millis(60));
        weather.bucket_max = stream.scale(Duration::from_millis(10), Duration::from_millis(600));
        weather.clocks = stream.chance(300);
        weather.gossip_relays = stream.chance(500);
        weather.fault_every = stream.scale(Duration::from_millis(200), Duration::from_secs(4));
        weather.faults = FAULTS.iter().copied().filter(|_| stream.chance(350)).collect();
        weather
    }
}

impl Workload {
    /// One shipper, three partitions, whole batches.
    pub fn calm() -> Self {
        Self {
            partitions: 3,
            shippers: 1,
            append_every: Duration::from_millis(60),
            append_max: 6,
            chunk_max: 12,
            window: 64,
            message_bytes: 40,
            slices: false,
            imports: false,
            retention: false,
            lagging_twin: false,
        }
    }

    fn draw(stream: &mut Stream) -> Self {
        let shippers = if stream.chance(250) { 2 } else { 1 };
        Self {
            partitions: 1 + stream.index(5),
            shippers,
            append_every: stream.duration(Duration::from_millis(40), Duration::from_millis(250)),
            append_max: stream.between(1, 12),
            chunk_max: stream.between(2, 24),
            window: stream.between(8, 128),
            message_bytes: stream.between(8, 96),
            slices: stream.chance(300),
            imports: stream.chance(200),
            retention: stream.chance(150),
            lagging_twin: shippers == 2 && stream.chance(500),
        }
    }
}

/// Real proportions, shorter: `pace` stretches them.
fn timing(pace: u64) -> Timing {
    let millis = |millis: u64| Duration::from_millis(millis * pace);
    Timing {
        heartbeat: millis(100),
        owner_timeout: millis(500),
        claim_stagger: millis(150),
        round: millis(200),
        open_timeout: millis(3000),
        create_patience: millis(500),
        backoff_min: millis(100),
        backoff_max: millis(2000),
        flush_interval: millis(100),
        flush_interval_idle: millis(200),
        move_after: millis(1000),
    }
}

fn sizes() -> Sizes {
    Sizes {
        object_bytes_max: 4096,
        object_bytes_loaded_max: 4 * 4096,
        object_bytes_idle: 512,
        object_entries_max: 64,
        uploads_max: 4,
        uploads_bytes_max: 64 << 10,
        resident_bytes_max: 64 << 10,
        unstored_bytes_max: 64 << 10,
        unstored_entries_max: 4096,
        copy_bytes_max: 4096,
        pulled_bytes_max: 4096,
        copy_entries_max: 32,
        copy_window_bytes: 16 << 10,
        walk_window: 4,
    }
}

fn draw_sizes(sizes: &mut Sizes, stream: &mut Stream) {
    sizes.object_bytes_max = 512 << stream.below(5);
    sizes.object_bytes_loaded_max = 4 * sizes.object_bytes_max;
    sizes.object_bytes_idle = sizes.object_bytes_max / 8;
    sizes.object_entries_max = 4 + stream.index(60);
    sizes.uploads_max = 1 + stream.index(8);
    sizes.unstored_bytes_max = 4096 << stream.below(6);
    sizes.uploads_bytes_max = 2048 << stream.below(6);
    // Half of the worlds keep everything in memory.
    sizes.resident_bytes_max = if stream.chance(500) { 256 << stream.below(8) } else { u64::MAX };
    sizes.copy_bytes_max = 1024 << stream.below(4);
    sizes.pulled_bytes_max = sizes.copy_bytes_max;
    sizes.copy_entries_max = 2 + stream.index(32);
    sizes.copy_window_bytes = sizes.copy_bytes_max << stream.below(4);
    sizes.walk_window = 1 + stream.below(8);
}
