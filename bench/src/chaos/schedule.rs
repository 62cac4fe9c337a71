//! What goes wrong in a run, and when: drawn from the seed alone, before anything starts.
//!
//! It knows nothing of processes and networks. Whom an event hits may depend on who owns what when its time comes; what
//! happens and when does not.

use std::fmt;

use serde::Serialize;

use super::proxy::BucketFault;
use crate::random::Random;

/// Nothing goes wrong before: a ring has to form and something has to be shipped.
const QUIET_MILLIS: u64 = 3_000;
/// Nothing begins later than so long before the end.
const LAST_MILLIS: u64 = 2_000;
/// Longest pause of a process.
const PAUSE_MILLIS_MAX: u64 = 60_000;
/// Longest pause of all nodes at once.
const ALL_MILLIS_MAX: u64 = 6_000;
/// Shortest time between two events, and the longest.
const BETWEEN_MILLIS: (u64, u64) = (300, 9_000);

/// A whole run's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// From which all of it follows.
    pub seed: u64,
    /// Nodes of the ring.
    pub nodes: u8,
    /// Whether two shippers ship the same source all the time.
    pub two_shippers: bool,
    /// Whether the last restart is a crash of all nodes rather than a stop in order.
    pub ends_with_crash: bool,
    /// In order of time.
    pub events: Vec<Planned>,
}

/// An event and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Since the start of the load.
    pub at_millis: u64,
    /// What happens.
    #[serde(flatten)]
    pub event: Event,
    /// After so long it is undone; 0 for what needs no undoing.
    pub for_millis: u64,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// SIGKILL, and a new process later.
    Kill {
        /// Whom.
        whom: Whom,
    },
    /// SIGSTOP, and SIGCONT later.
    Pause {
        /// Whom.
        whom: Whom,
    },
    /// Every node once: SIGTERM, a new process, and on to the next when it is ready.
    RollingRestart,
    /// The same, and the new process is of the newer program. Nodes of both work together meanwhile.
    RollingUpgrade,
    /// Frames between two nodes vanish.
    Cut {
        /// One side.
        from: u8,
        /// The other.
        to: u8,
        /// Whether they vanish in the other direction too.
        both_ways: bool,
    },
    /// Frames between a node and all others vanish.
    Isolate {
        /// Which.
        node: u8,
        /// Whether the node still hears the others.
        hears: bool,
        /// Whether bucket, shippers and readers lose it as well.
        from_all: bool,
    },
    /// A node's frames suffer.
    Link {
        /// Which.
        node: u8,
        /// How.
        trouble: LinkTrouble,
    },
    /// The bucket misbehaves.
    Bucket {
        /// For which node; for all if none is named.
        node: Option<u8>,
        /// How.
        fault: BucketFault,
    },
    /// A node's file system is filled to the last byte.
    FullDisk {
        /// Which.
        node: u8,
    },
    /// A node's disk takes so many bytes a second.
    SlowDisk {
        /// Which.
        node: u8,
        /// How many.
        bytes_per_second: u64,
    },
    /// SIGKILL of every shipper that runs.
    KillShippers,
    /// SIGSTOP of every shipper that runs.
    PauseShippers,
}

/// Which nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The owner of this shard when the time comes.
    OwnerOf(u16),
    /// This one.
    Node(u8),
    /// All.
    All,
}

/// What happens to frames that leave or reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkTrouble {
    /// Some are lost.
    Loss {
        /// So many of a hundred.
        percent: u8,
    },
    /// They come late, some before others.
    Delay {
        /// By so long, give or take as much again.
        millis: u16,
    },
    /// The link carries little, and queues.
    Narrow {
        /// So much.
        kilobits_per_second: u32,
    },
}

/// What this machine lets a schedule contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an ability that a machine has or has not")]
pub struct Possible {
    /// Frames between nodes can be dropped.
    pub cuts: bool,
    /// Frames can be lost by chance.
    pub loss: bool,
    /// Frames can be delayed.
    pub delay: bool,
    /// Links can be made narrow.
    pub narrow: bool,
    /// Disks can be filled.
    pub full_disk: bool,
    /// Disks can be slowed down.
    pub slow_disk: bool,
}

/// What the draw needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Fewest nodes and most.
    pub nodes: (u8, u8),
    /// Length of the load.
    pub millis: u64,
    /// Shards of the cluster.
    pub shards: u16,
    /// What can be done here.
    pub possible: Possible,
    /// Whether nodes begin as an older program: then half-way through they are restarted one by one as the newer one.
    pub upgrade: bool,
}

/// Kinds of events. A run mixes some of them: where everything happens at once, nothing goes far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Pause,
    Rolling,
    Network,
    Link,
    Bucket,
    Disk,
    Shipper,
}

const KINDS: [Kind; 8] =
    [Kind::Kill, Kind::Pause, Kind::Rolling, Kind::Network, Kind::Link, Kind::Bucket, Kind::Disk, Kind::Shipper];

impl Schedule {
    /// Draws a run's plan. The same seed and bounds give the same plan.
    pub fn draw(seed: u64, bounds: &Bounds) -> Self {
        let mut draw = Draw { random: Random(seed), bounds, nodes: 0 };
        draw.nodes = narrow(draw.random.between(bounds.nodes.0.into(), bounds.nodes.1.into()));
        let two_shippers = draw.random.percent(40);
        let ends_with_crash = draw.random.percent(50);
        let mix = draw.mix();
        let mut events = Vec::new();
        // Some runs are calmer than others.
        let between_max = draw.random.between(2_500, BETWEEN_MILLIS.1);
        let mut at_millis = QUIET_MILLIS.min(bounds.millis / 4);
        while at_millis + LAST_MILLIS.min(bounds.millis / 4) < bounds.millis {
            let kind = draw.random.choose(&mix);
            let left = bounds.millis - at_millis;
            if let Some((event, for_millis)) = draw.event(kind, left) {
                events.push(Planned { at_millis, event, for_millis: for_millis.min(left) });
            }
            at_millis += draw.random.between(BETWEEN_MILLIS.0, between_max);
        }
        if bounds.upgrade {
            let at_millis = bounds.millis / 2;
            let after = events.partition_point(|planned| planned.at_millis <= at_millis);
            events.insert(after, Planned { at_millis, event: Event::RollingUpgrade, for_millis: 0 });
        }
        Self { seed, nodes: draw.nodes, two_shippers, ends_with_crash, events }
    }
}

struct Draw<'a> {
    random: Random,
    bounds: &'a Bounds,
    nodes: u8,
}

impl Draw<'_> {
    /// Two to five kinds that this machine can do.
    fn mix(&mut self) -> Vec<Kind> {
        let Possible { cuts, loss, delay, narrow, full_disk, slow_disk } = self.bounds.possible;
        let can = |kind: &Kind| match kind {
            Kind::Network => cuts,
            Kind::Link => loss || delay || narrow,
            Kind::Disk => full_disk || slow_disk,
            Kind::Kill | Kind::Pause | Kind::Rolling | Kind::Bucket | Kind::Shipper => true,
        };
        let mut kinds: Vec<_> = KINDS.into_iter().filter(can).collect();
        let wanted = self.random.between(2, 5);
        while kinds.len() as u64 > wanted {
            let at = self.random.below(kinds.len() as u64);
            kinds.remove(usize::try_from(at).expect("below a length"));
        }
        kinds
    }

    fn event(&mut self, kind: Kind, left_millis: u64) -> Option<(Event, u64)> {
        let drawn = match kind {
            Kind::Kill => (Event::Kill { whom: self.whom() }, self.random.below(5_000)),
            Kind::Pause => {
                let whom = self.whom();
                // While everybody sleeps nothing can go wrong.
                let longest = if whom == Whom::All { ALL_MILLIS_MAX } else { left_millis };
                (Event::Pause { whom }, self.long(longest))
            }
            Kind::Rolling => (Event::RollingRestart, 0),
            Kind::Network => (self.network(), self.long(left_millis.min(20_000))),
            Kind::Link => (Event::Link { node: self.node(), trouble: self.trouble()? }, self.long(20_000)),
            Kind::Bucket => {
                let node = self.random.percent(50).then(|| self.node());
                (Event::Bucket { node, fault: self.bucket_fault() }, self.long(left_millis.min(20_000)))
            }
            Kind::Disk => (self.disk()?, self.long(15_000)),
            Kind::Shipper if self.random.percent(60) => (Event::KillShippers, 0),
            Kind::Shipper => (Event::PauseShippers, self.long(10_000)),
        };
        Some(drawn)
    }

    fn node(&mut self) -> u8 {
        narrow(self.random.between(1, self.nodes.into()))
    }

    /// Owners are where it hurts.
    fn whom(&mut self) -> Whom {
        let shard = self.random.below(self.bounds.shards.into());
        match self.random.below(10) {
            0 => Whom::All,
            1..=6 => Whom::OwnerOf(u16::try_from(shard).expect("below a shard count")),
            _ => Whom::Node(self.node()),
        }
    }

    /// A second to as long as may be; short ones are as frequent as long ones in proportion.
    fn long(&mut self, millis_max: u64) -> u64 {
        let millis_max = millis_max.clamp(1_000, PAUSE_MILLIS_MAX);
        let doublings = (millis_max / 1_000).ilog2();
        let scale = 1_000 << self.random.below(u64::from(doublings) + 1);
        self.random.between(scale, scale * 2).min(millis_max)
    }

    fn network(&mut self) -> Event {
        let from = self.node();
        if self.random.percent(40) || self.nodes < 2 {
            let (hears, from_all) = (self.random.percent(30), self.random.percent(60));
            return Event::Isolate { node: from, hears, from_all };
        }
        let step = narrow(self.random.between(1, u64::from(self.nodes) - 1));
        let to = (from - 1 + step) % self.nodes + 1;
        Event::Cut { from, to, both_ways: self.random.percent(50) }
    }

    fn trouble(&mut self) -> Option<LinkTrouble> {
        let Possible { loss, delay, narrow: slow, .. } = self.bounds.possible;
        let percent = narrow(self.random.choose(&[1, 5, 10, 30]));
        let millis = u16::try_from(self.random.choose(&[5, 20, 80])).expect("small");
        let kilobits_per_second = u32::try_from(self.random.choose(&[1_000, 4_000, 16_000])).expect("small");
        let all = [
            loss.then_some(LinkTrouble::Loss { percent }),
            delay.then_some(LinkTrouble::Delay { millis }),
            slow.then_some(LinkTrouble::Narrow { kilobits_per_second }),
        ];
        let all: Vec<_> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| self.random.choose(&all))
    }

    fn disk(&mut self) -> Option<Event> {
        let Possible { full_disk, slow_disk, .. } = self.bounds.possible;
        let node = self.node();
        let bytes_per_second = self.random.choose(&[256 << 10, 1 << 20, 4 << 20]);
        let all = [full_disk.then_some(Event::FullDisk { node }), {
            slow_disk.then_some(Event::SlowDisk { node, bytes_per_second })
        }];
        let all: Vec<_> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| self.random.choose(&all))
    }

    fn bucket_fault(&mut self) -> BucketFault {
        let percent = narrow(self.random.choose(&[5, 20, 50, 100]));
        match self.random.below(10) {
            0 => BucketFault::Slow { millis: u32::try_from(self.random.between(50, 5_000)).expect("small") },
            1 => BucketFault::Narrow { kilobytes_per_second: self.random.choose(&[64, 512, 4_096]) },
            2 => BucketFault::ResetBefore { percent },
            3 | 4 => BucketFault::LostAnswer { percent },
            5 => BucketFault::Refuse { status: self.random.choose(&[409, 500, 503]), percent },
            6 => BucketFault::Late { millis: u32::try_from(self.random.between(500, 8_000)).expect("small"), percent },
            7 => BucketFault::StuckPuts { percent: narrow(self.random.choose(&[1, 10])) },
            _ => BucketFault::Blackhole,
        }
    }
}

/// Numbers of this page are small.
fn narrow(number: u64) -> u8 {
    u8::try_from(number).expect("drawn below 256")
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerOf(shard) => write!(f, "the owner of shard {shard}"),
            Self::Node(node) => write!(f, "n{node}"),
            Self::All => f.write_str("all nodes"),
        }
    }
}

impl fmt::Display for LinkTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { percent } => write!(f, "loses {percent}% of the packets that reach it"),
            Self::Delay { millis } => write!(f, "has its packets delayed by {millis} ms and reordered"),
            Self::Narrow { kilobits_per_second } => write!(f, "sends {kilobits_per_second} kbit/s at most"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Possible =
        Possible { cuts: true, loss: true, delay: true, narrow: true, full_disk: true, slow_disk: true };

    fn bounds(possible: Possible) -> Bounds {
        Bounds { nodes: (3, 5), millis: 60_000, shards: 8, possible, upgrade: false }
    }

    #[test]
    fn one_seed_gives_one_schedule_and_others_differ() {
        let bounds = bounds(EVERYTHING);
        for seed in 0..200 {
            let schedule = Schedule::draw(seed, &bounds);
            assert_eq!(schedule, Schedule::draw(seed, &bounds));
            assert_ne!(schedule.events, Schedule::draw(seed + 1, &bounds).events, "seed {seed}");
        }
    }

    #[test]
    fn everything_happens_somewhere_and_in_time() {
        let bounds = bounds(EVERYTHING);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let schedule = Schedule::draw(seed, &bounds);
            assert!((3..=5).contains(&schedule.nodes));
            assert!(schedule.events.len() >= 5, "seed {seed}: {}", schedule.events.len());
            assert!(schedule.events.is_sorted_by_key(|planned| planned.at_millis));
            for planned in &schedule.events {
                assert!(planned.at_millis + planned.for_millis <= bounds.millis);
                let text = serde_json::to_value(planned.event).expect("an event is JSON");
                seen.insert(text["event"].as_str().expect("a name").to_owned());
                if let Event::Cut { from, to, .. } = planned.event {
                    assert!(from != to && (1..=schedule.nodes).contains(&to));
                }
            }
        }
        assert_eq!(seen.len(), 11, "{seen:?}");
    }

    #[test]
    fn an_upgrade_is_half_way_through() {
        let plain = Schedule::draw(5, &bounds(EVERYTHING));
        let mut upgraded = Schedule::draw(5, &Bounds { upgrade: true, ..bounds(EVERYTHING) });
        assert!(upgraded.events.is_sorted_by_key(|planned| planned.at_millis));
        upgraded.events.retain(|planned| planned.event != Event::RollingUpgrade);
        assert_eq!(upgraded, plain);
    }

    #[test]
    fn what_a_machine_cannot_do_is_not_asked_of_it() {
        let nothing =
            Possible { cuts: false, loss: false, delay: false, narrow: false, full_disk: false, slow_disk: false };
        for seed in 0..200 {
            for planned in Schedule::draw(seed, &bounds(nothing)).events {
                let needs = matches!(
                    planned.event,
                    Event::Cut { .. }
                        | Event::Isolate { .. }
                        | Event::Link { .. }
                        | Event::FullDisk { .. }
                        | Event::SlowDisk { .. }
                );
                assert!(!needs, "{planned:?}");
            }
        }
    }
}
