//! Sources that live on while they are shipped: partitions appear, grow, shrink and go away.

use super::*;

/// Never done.
fn endless() -> ShipperConfig {
    ShipperConfig { until: Until::Stopped, ..small() }
}

impl World {
    /// What the source offers of a partition has changed.
    fn announce(&mut self, partition: PartitionKey) {
        let log = self.source[&partition];
        let state = SourceState { partition, start: Offset(log.start), end: Some(Offset(log.end)) };
        self.feed(Input::Source(state));
    }

    fn vanish(&mut self, partition: PartitionKey) {
        self.source.remove(&partition);
        self.feed(Input::SourceGone(partition));
    }

    /// Something happens to the source.
    fn live(&mut self, next_key: &mut u32) {
        let keys: Vec<PartitionKey> = self.source.keys().copied().collect();
        let chosen = (!keys.is_empty()).then(|| keys[self.random.next_u32() as usize % keys.len()]);
        match (self.random.next_u32() % 8, chosen) {
            (0, _) | (_, None) => {
                let partition = key(*next_key);
                *next_key += 1;
                self.source.insert(partition, Log { start: 0, end: 0, damaged_at: None });
                self.announce(partition);
            }
            (1, Some(partition)) => self.vanish(partition),
            (_, Some(partition)) => {
                let more = u64::from(self.random.next_u32() % 60);
                self.source.get_mut(&partition).expect("it was just listed").end += more;
                self.announce(partition);
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }
}

#[test]
fn what_appears_and_grows_is_shipped_and_what_vanishes_is_let_go() {
    for seed in 0..60 {
        let faults = if seed == 0 { CALM } else { STORM };
        let mut world = World::new(seed, faults, endless(), logs(6, &mut Pcg64Mcg::seed_from_u64(seed)));
        world.begin();
        let mut next_key = 100;
        for _ in 0..300 {
            world.live(&mut next_key);
            world.run_for(Duration::from_millis(5));
        }
        world.faults = CALM;
        world.run_for(Duration::from_mins(1));
        world.assert_whole();
        let status = world.shipper.status();
        assert_eq!((status.partitions, status.stopped), (world.source.len(), 0), "seed {seed}: {:?}", world.news);
        assert_eq!(status.bytes_held, 0, "seed {seed}: what vanished is still held");
        for position in world.shipper.positions() {
            let end = Some(Offset(world.source[&position.partition].end));
            assert_eq!((position.next, Some(position.stored)), (end, end), "seed {seed}: {position:?}");
        }
    }
}

/// A ring that another shipper filled tells marks only to whom asks.
#[test]
fn where_others_shipped_is_learnt_until_it_is_stored() {
    let log = Log { start: 0, end: 42, damaged_at: None };
    let mut world = World::new(2, CALM, endless(), BTreeMap::from([(key(0), log)]));
    plant(&mut world, 42, Some(identity(key(0), 41)));
    world.owners.get_mut(&key(0).shard(SHARDS)).expect("a shard").mark(key(0)).stored = Offset(7);
    world.begin();
    world.run_for(Duration::from_secs(5));
    let stored = world.shipper.positions().next().expect("one partition").stored;
    assert_eq!(stored, Offset(42));
    assert_eq!(world.frames, 0);
}

/// A lane in which nothing is under way hears of a new owner when it has something to ask.
#[test]
fn a_quiet_source_that_falls_is_compared_with_whoever_owns_it_then() {
    let log = Log { start: 0, end: 63, damaged_at: None };
    let mut world = World::new(4, CALM, endless(), BTreeMap::from([(key(0), log)]));
    world.begin();
    world.run_for(Duration::from_secs(1));
    let owner = world.owners.get_mut(&key(0).shard(SHARDS)).expect("a shard");
    owner.node = NodeId((owner.node.0 + 1) % NODES);
    owner.epoch = owner.epoch.next();
    // It has nothing new to say, and so says nothing.
    world.owners_speak = false;
    world.source.get_mut(&key(0)).expect("it is there").end = 56;
    world.forked_at = 50;
    world.announce(key(0));
    world.run_for(Duration::from_secs(5));
    assert!(
        matches!(&world.news[..], [(_, PartitionNews::Stopped(PartitionProblem::Diverged { .. }))]),
        "{:?}",
        world.news
    );
}

/// F21, R15: a live source says at once that it ends earlier than it did, and is compared then and whenever it grows.
#[test]
fn a_source_that_fell_is_compared_before_it_overtakes_the_ring() {
    let log = Log { start: 0, end: 63, damaged_at: None };
    let mut world = World::new(3, CALM, endless(), BTreeMap::from([(key(0), log)]));
    world.begin();
    world.run_for(Duration::from_secs(1));
    assert!(world.news.is_empty(), "{:?}", world.news);
    world.source.get_mut(&key(0)).expect("it is there").end = 49;
    world.announce(key(0));
    world.run_for(Duration::from_secs(1));
    let behind = PartitionNews::Behind { end: Offset(49), next: Offset(63), same: true };
    assert_eq!(world.news, [(key(0), behind)]);
    // Issued again: the same offsets hold other messages now.
    world.source.get_mut(&key(0)).expect("it is there").end = 56;
    world.forked_at = 50;
    world.announce(key(0));
    world.run_for(Duration::from_secs(1));
    let [_, (_, PartitionNews::Stopped(PartitionProblem::Diverged { ring, .. }))] = &world.news[..] else {
        panic!("{:?}", world.news);
    };
    assert_eq!(ring.offset, Offset(55));
    assert_eq!(world.shipper.status().stopped, 1);
    world.vanish(key(0));
    assert_eq!((world.shipper.status().stopped, world.shipper.status().partitions), (0, 0));
}
