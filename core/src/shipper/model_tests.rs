//! The shipper against a model of owners: losses, duplicates, reordering, new epochs that forget, refusals.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kennel_protocol::entry::{EntryHead, EntryKind, HoleReason, MessageIdentity};
use kennel_protocol::ids::{Epoch, NodeId, Offset, PartitionKey, ShardId};
use kennel_protocol::wire::{
    CompareRequest, Compared, NodeAddress, PartitionMarks, Positions, PositionsRequest, ShardView, Ship, ShipAck,
    ShipChunk, ShipProblem, ShipRefusal, View,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;

mod divergence;
mod living;

const SHARDS: u16 = 4;
const NODES: u64 = 3;
const MESSAGE_BYTES: u64 = 100;

fn key(number: u32) -> PartitionKey {
    format!("1/1/{number}").parse().expect("a partition")
}

fn identity(partition: PartitionKey, offset: u64) -> MessageIdentity {
    let checksum = u64::from(partition.partition.0) << 32 | offset;
    MessageIdentity { offset: Offset(offset), base_timestamp: offset / 7, checksum }
}

fn before(partition: PartitionKey, base: u64, start: u64) -> Option<MessageIdentity> {
    (base > start).then(|| identity(partition, base - 1))
}

/// One partition of the source: batches of seven messages.
#[derive(Debug, Clone, Copy)]
struct Log {
    start: u64,
    end: u64,
    damaged_at: Option<u64>,
}

impl Log {
    fn read(&self, read: &SourceRead) -> SourceAnswer {
        let end = self.damaged_at.unwrap_or(self.end);
        let mut chunks = Vec::new();
        let mut base = read.from.0;
        let mut bytes = 0;
        while base < end && bytes < u64::from(read.bytes_max) {
            let stop = (base + 21).min(end);
            let mut head = EntryHead::hole(read.partition, Offset(base), Offset(stop), HoleReason::Lost);
            head.kind = EntryKind::Chunk;
            head.previous = before(read.partition, base, self.start);
            head.first = Some(identity(read.partition, base));
            head.last = Some(identity(read.partition, stop - 1));
            bytes += (stop - base) * MESSAGE_BYTES;
            let body = Bytes::from(vec![0; usize::try_from((stop - base) * MESSAGE_BYTES).expect("small")]);
            chunks.push(ShipChunk { head, body });
            base = stop;
        }
        let rest = if base < end {
            SourceRest::More
        } else if self.damaged_at.is_some() {
            let damage = SourceDamage { place: "file".into(), position: 9, reason: "flipped bit".into() };
            SourceRest::Damaged(damage)
        } else {
            SourceRest::Exhausted { end: Offset(end), last: before(read.partition, end, self.start) }
        };
        SourceAnswer { ticket: read.ticket, chunks, rest }
    }
}

/// A shard's owner: appends like the real one, forgets like the worst one.
#[derive(Debug)]
struct Owner {
    node: NodeId,
    epoch: Epoch,
    marks: BTreeMap<PartitionKey, PartitionMarks>,
}

impl Owner {
    fn mark(&mut self, partition: PartitionKey) -> &mut PartitionMarks {
        let zero = PartitionMarks { partition, next: Offset(0), committed: Offset(0), stored: Offset(0), last: None };
        self.marks.entry(partition).or_insert(zero)
    }

    fn append(&mut self, chunk: &ShipChunk) -> Option<ShipProblem> {
        let head = &chunk.head;
        let mark = self.mark(head.partition);
        if head.end <= mark.next {
            return None;
        }
        if head.base != mark.next {
            return Some(ShipProblem::Expected(mark.next));
        }
        if let (Some(ring), Some(source)) = (mark.last, head.previous)
            && ring != source
        {
            return Some(ShipProblem::Diverged { ring, source });
        }
        mark.next = head.end;
        mark.last = head.last;
        None
    }

    fn ack(&mut self, shard: ShardId, partitions: impl Iterator<Item = PartitionKey>) -> ShipAck {
        let marks = partitions.map(|partition| *self.mark(partition)).collect();
        ShipAck { shard, epoch: self.epoch, marks, problems: Vec::new(), refusal: None }
    }
}

enum Event {
    ToShipper(Input),
    ToOwner(NodeId, Ship),
    Ask(NodeId, PositionsRequest),
    Compare(NodeId, CompareRequest),
}

/// What may go wrong, in percent.
#[derive(Clone, Copy)]
struct Faults {
    lost: u32,
    doubled: u32,
    refused: u32,
    new_epoch: u32,
}

struct World {
    now: Instant,
    random: Pcg64Mcg,
    shipper: Shipper,
    source: BTreeMap<PartitionKey, Log>,
    owners: BTreeMap<ShardId, Owner>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    faults: Faults,
    /// From this offset on the ring has another history.
    forked_at: u64,
    news: Vec<(PartitionKey, PartitionNews)>,
    frames: u64,
    held_max: u64,
    done: bool,
    /// When owners commit and store next.
    tick: Instant,
    /// Owners tell marks whenever they move, and not only who asks.
    owners_speak: bool,
}

impl World {
    fn new(seed: u64, faults: Faults, config: ShipperConfig, source: BTreeMap<PartitionKey, Log>) -> Self {
        let owner =
            |shard: u16| Owner { node: NodeId(u64::from(shard) % NODES), epoch: Epoch(1), marks: BTreeMap::new() };
        Self {
            now: Instant::from_micros(1),
            random: Pcg64Mcg::seed_from_u64(seed),
            shipper: Shipper::new(config, seed),
            source,
            owners: (0..SHARDS).map(|shard| (ShardId(shard), owner(shard))).collect(),
            events: BTreeMap::new(),
            sequence: 0,
            faults,
            forked_at: u64::MAX,
            news: Vec::new(),
            frames: 0,
            held_max: 0,
            done: false,
            tick: Instant::from_micros(1),
            owners_speak: true,
        }
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.random.next_u32() % 100 < chance
    }

    fn soon(&mut self, event: Event) {
        // Different delays reorder: only in storms.
        let spread = if self.faults.lost == 0 { 1 } else { 5_000 };
        let delay = 500 + u64::from(self.random.next_u32() % spread);
        self.sequence += 1;
        self.events.insert((self.now + Duration::from_micros(delay), self.sequence), event);
    }

    /// Over the network: later, perhaps twice, perhaps never.
    fn network(&mut self, event: impl Fn() -> Event) {
        if !self.percent(self.faults.lost) {
            self.soon(event());
        }
        if self.percent(self.faults.doubled) {
            self.soon(event());
        }
    }

    fn feed(&mut self, input: Input) {
        let mut effects = Effects::default();
        self.shipper.handle(self.now, input, &mut effects);
        self.held_max = self.held_max.max(self.shipper.status().bytes_held);
        for effect in effects.then {
            match effect {
                Effect::AskView { .. } => {
                    let view = self.view();
                    self.network(|| Event::ToShipper(Input::View(view.clone())));
                }
                Effect::Connect { node, .. } => {
                    let up = !self.percent(self.faults.lost);
                    let input = if up { Input::SessionUp(node) } else { Input::SessionLost(node) };
                    self.soon(Event::ToShipper(input));
                }
                Effect::AskPositions { node, request } => self.network(|| Event::Ask(node, request.clone())),
                Effect::Compare { node, request } => self.network(|| Event::Compare(node, request.clone())),
                Effect::ReadSource(read) => {
                    // What a source has no more it has nothing of.
                    let nothing = Log { start: 0, end: 0, damaged_at: None };
                    let answer = self.source.get(&read.partition).unwrap_or(&nothing).read(&read);
                    self.soon(Event::ToShipper(Input::SourceRead(answer)));
                }
                Effect::Send { node, ship } => {
                    self.frames += 1;
                    self.network(|| Event::ToOwner(node, ship.clone()));
                }
                Effect::Report { partition, news } => self.news.push((partition, news)),
                Effect::Done => self.done = true,
            }
        }
    }

    fn view(&self) -> View {
        let node = |node| NodeAddress { node: NodeId(node), address: format!("10.0.0.{node}:1"), zone: String::new() };
        let shard = |(shard, owner): (&ShardId, &Owner)| ShardView {
            shard: *shard,
            epoch: owner.epoch,
            owner: Some(owner.node),
        };
        View {
            shard_count: SHARDS,
            nodes: (0..NODES).map(node).collect(),
            shards: self.owners.iter().map(shard).collect(),
        }
    }

    fn ask(&mut self, node: NodeId, request: &PositionsRequest) {
        let owner = self.owners.get_mut(&request.shard).expect("a shard of the cluster");
        let input = if owner.node == node {
            let marks = request.partitions.iter().map(|partition| *owner.mark(*partition)).collect();
            let positions = Positions { shard: request.shard, epoch: owner.epoch, marks };
            Input::Positions { from: node, positions }
        } else {
            Input::PositionsFailed { from: node, shard: request.shard }
        };
        self.network(|| Event::ToShipper(input.clone()));
    }

    fn compare(&mut self, node: NodeId, request: &CompareRequest) {
        let forked = self.forked_at;
        let owner = self.owners.get_mut(&request.shard).expect("a shard of the cluster");
        let input = if owner.node == node {
            let ring = request.messages.iter().map(|(partition, source)| {
                let held = identity(*partition, source.offset.0);
                let checksum = held.checksum ^ u64::from(held.offset.0 >= forked);
                let last = owner.marks.get(partition).and_then(|marks| marks.last);
                let last = last.filter(|last| last.offset == source.offset);
                (*partition, Some(last.unwrap_or(MessageIdentity { checksum, ..held })))
            });
            Input::Compared { from: node, compared: Compared { shard: request.shard, ring: ring.collect() } }
        } else {
            Input::CompareFailed { shard: request.shard }
        };
        self.network(|| Event::ToShipper(input.clone()));
    }

    fn ship(&mut self, node: NodeId, ship: &Ship) {
        let refused = self.percent(self.faults.refused);
        let owner = self.owners.get_mut(&ship.shard).expect("a shard of the cluster");
        let mut ack = owner.ack(ship.shard, ship.chunks.iter().map(|chunk| chunk.head.partition));
        if owner.node != node {
            ack = ShipAck { epoch: Epoch(0), marks: Vec::new(), refusal: Some(ShipRefusal::NotOwner), ..ack };
        } else if refused {
            ack = ShipAck { marks: Vec::new(), refusal: Some(ShipRefusal::JournalFull), ..ack };
        } else {
            for chunk in &ship.chunks {
                if let Some(problem) = owner.append(chunk) {
                    ack.problems.push((chunk.head.partition, problem));
                }
            }
        }
        self.network(|| Event::ToShipper(Input::ShipAck { from: node, ack: ack.clone() }));
    }

    /// Commits, stores, tells; and now and then a new epoch forgets what was not stored.
    fn advance_owners(&mut self) {
        for shard in (0..SHARDS).map(ShardId) {
            let (moves, node) = (self.percent(self.faults.new_epoch), u64::from(self.random.next_u32()) % NODES);
            let owner = self.owners.get_mut(&shard).expect("a shard of the cluster");
            for mark in owner.marks.values_mut() {
                mark.stored = mark.committed;
                mark.committed = mark.next;
            }
            if moves {
                owner.node = NodeId(node);
                owner.epoch = owner.epoch.next();
                for mark in owner.marks.values_mut() {
                    mark.next = mark.stored;
                    mark.committed = mark.stored;
                    mark.last = mark.stored.0.checked_sub(1).map(|offset| identity(mark.partition, offset));
                    let start = self.source.get(&mark.partition).map_or(0, |log| log.start);
                    mark.last = mark.last.filter(|last| last.offset.0 >= start);
                }
            }
            let partitions: Vec<PartitionKey> = owner.marks.keys().copied().collect();
            let (from, ack) = (owner.node, owner.ack(shard, partitions.into_iter()));
            if self.owners_speak {
                self.network(|| Event::ToShipper(Input::ShipAck { from, ack: ack.clone() }));
            }
        }
    }

    fn run(&mut self) {
        self.begin();
        let limit = self.now + Duration::from_mins(10);
        while !self.done {
            assert!(self.now < limit, "no end after ten minutes: {:?}", self.shipper.status());
            self.step();
        }
    }

    fn begin(&mut self) {
        self.feed(Input::Start);
        for (partition, log) in self.source.clone() {
            self.feed(Input::Source(SourceState { partition, start: Offset(log.start), end: None }));
        }
        self.feed(Input::SourcesListed);
        self.tick = self.now;
    }

    /// The next thing that happens.
    fn step(&mut self) {
        let event = self.events.keys().next().copied();
        let wake = self.shipper.poll_timeout().unwrap_or(self.tick);
        let next = event.map_or(self.tick, |(at, _)| at.min(self.tick)).min(wake.max(self.now));
        if let Some(entry) = event.filter(|(at, _)| *at == next) {
            self.now = next;
            match self.events.remove(&entry).expect("it was just seen") {
                Event::ToShipper(input) => self.feed(input),
                Event::ToOwner(node, ship) => self.ship(node, &ship),
                Event::Ask(node, request) => self.ask(node, &request),
                Event::Compare(node, request) => self.compare(node, &request),
            }
        } else if next == self.tick {
            self.now = next;
            self.advance_owners();
            self.tick = self.now + Duration::from_millis(20);
        } else {
            self.now = next;
            self.feed(Input::Timeout);
        }
    }

    fn assert_whole(&mut self) {
        for (partition, log) in &self.source {
            let owner = self.owners.get_mut(&partition.shard(SHARDS)).expect("a shard of the cluster");
            let end = log.damaged_at.unwrap_or(log.end);
            assert_eq!(owner.mark(*partition).next, Offset(end), "{partition} ends elsewhere");
        }
    }
}

const CALM: Faults = Faults { lost: 0, doubled: 0, refused: 0, new_epoch: 0 };
const STORM: Faults = Faults { lost: 4, doubled: 5, refused: 4, new_epoch: 3 };

fn small() -> ShipperConfig {
    ShipperConfig {
        bytes_in_flight_max: 320_000,
        shard_bytes_in_flight_max: 160_000,
        partition_bytes_in_flight_max: 24_000,
        read_bytes: 4_000,
        ship_bytes_target: 8_000,
        positions_max: 5,
        until: Until::Stored,
        ..ShipperConfig::default()
    }
}

fn logs(count: u32, random: &mut Pcg64Mcg) -> BTreeMap<PartitionKey, Log> {
    let mut log = || {
        let start = if random.next_u32().is_multiple_of(4) { u64::from(random.next_u32() % 50) } else { 0 };
        Log { start, end: start + u64::from(random.next_u32() % 400), damaged_at: None }
    };
    (0..count).map(|number| (key(number), log())).collect()
}

fn check(seed: u64, faults: Faults) -> World {
    let source = logs(24, &mut Pcg64Mcg::seed_from_u64(seed));
    let mut world = World::new(seed, faults, small(), source);
    world.run();
    world.assert_whole();
    assert_eq!(world.shipper.status().stopped, 0, "nothing diverged: {:?}", world.news);
    // A read's last chunk may reach over what was reserved, and every chunk costs.
    assert!(world.held_max <= 320_000 + 8 * (2_100 + 3 * 4_096), "{} bytes held", world.held_max);
    world
}

#[test]
fn a_calm_ring_gets_everything_once() {
    let world = check(1, CALM);
    let status = world.shipper.status();
    let messages: u64 = world.source.values().map(|log| log.end - log.start).sum();
    assert_eq!(status.messages_stored, messages);
    assert_eq!(status.bytes_sent, messages * MESSAGE_BYTES, "nothing was sent twice");
}

#[test]
fn storms_lose_nothing() {
    for seed in 0..200 {
        check(seed, STORM);
    }
}

#[test]
fn one_seed_has_one_history() {
    let [one, two] = [7, 7].map(|seed| check(seed, STORM));
    assert_eq!((one.now, one.frames, one.shipper.status()), (two.now, two.frames, two.shipper.status()));
}

#[test]
fn many_partitions_share_frames_and_budgets() {
    let log = Log { start: 0, end: 21, damaged_at: None };
    let source = (0..10_000).map(|number| (key(number), log)).collect();
    let config = ShipperConfig { reads_max: 64, until: Until::Committed, ..ShipperConfig::default() };
    let mut world = World::new(3, CALM, config, source);
    world.run();
    world.assert_whole();
    assert!(world.frames < 5_000, "{} frames for 10,000 chunks", world.frames);
}

#[test]
fn damage_stops_one_partition_after_what_is_before_it() {
    let mut source: BTreeMap<_, _> =
        (0..5).map(|number| (key(number), Log { start: 0, end: 100, damaged_at: None })).collect();
    source.get_mut(&key(2)).expect("the third").damaged_at = Some(70);
    let mut world = World::new(4, CALM, small(), source);
    world.run();
    world.assert_whole();
    let stopped: Vec<_> = world.news.iter().filter(|(_, news)| matches!(news, PartitionNews::Stopped(_))).collect();
    assert!(matches!(
        stopped.as_slice(),
        [(partition, PartitionNews::Stopped(PartitionProblem::Damaged(_)))] if *partition == key(2)
    ));
    assert_eq!(world.shipper.status().stopped, 1);
}

/// Plants what the ring already holds of partition 0, then ships the source.
fn with_ring_at(next: u64, last: Option<MessageIdentity>, log: Log) -> World {
    let mut world = World::new(5, CALM, small(), BTreeMap::from([(key(0), log)]));
    plant(&mut world, next, last);
    world.run();
    world
}

fn plant(world: &mut World, next: u64, last: Option<MessageIdentity>) {
    let owner = world.owners.get_mut(&key(0).shard(SHARDS)).expect("a shard of the cluster");
    let next = Offset(next);
    *owner.mark(key(0)) = PartitionMarks { partition: key(0), next, committed: next, stored: next, last };
}

#[test]
fn the_ring_is_the_cursor() {
    let mut world = with_ring_at(42, Some(identity(key(0), 41)), Log { start: 0, end: 63, damaged_at: None });
    world.assert_whole();
    assert_eq!(world.shipper.status().bytes_sent, 21 * MESSAGE_BYTES, "what is there is skipped");
}

#[test]
fn a_source_that_starts_later_declares_a_hole() {
    let log = Log { start: 2_000, end: 2_007, damaged_at: None };
    let mut world = with_ring_at(500, Some(identity(key(0), 499)), log);
    world.assert_whole();
    let hole = PartitionNews::Hole { from: Offset(500), to: Offset(2_000), reason: HoleReason::SourceRetention };
    assert_eq!(world.news, vec![(key(0), hole)]);
    let world = with_ring_at(0, None, log);
    let hole = PartitionNews::Hole { from: Offset(0), to: Offset(2_000), reason: HoleReason::ImportStart };
    assert_eq!(world.news, vec![(key(0), hole)]);
}

#[test]
fn another_history_stops_and_a_shorter_one_is_waited_for() {
    let log = Log { start: 0, end: 63, damaged_at: None };
    let other = MessageIdentity { checksum: 1, ..identity(key(0), 41) };
    let world = with_ring_at(42, Some(other), log);
    assert!(matches!(world.news[0].1, PartitionNews::Stopped(PartitionProblem::Diverged { .. })), "{:?}", world.news);
    // The same when there is nothing left to ship.
    let world = with_ring_at(63, Some(MessageIdentity { checksum: 1, ..identity(key(0), 62) }), log);
    assert!(matches!(world.news[0].1, PartitionNews::Stopped(PartitionProblem::Diverged { .. })), "{:?}", world.news);
    let world = with_ring_at(70, Some(identity(key(0), 69)), log);
    assert_eq!(world.news, vec![(key(0), PartitionNews::Behind { end: Offset(63), next: Offset(70), same: true })]);
    assert_eq!(world.shipper.status().stopped, 0);
}
