//! Allocations of a fetch and of a ship, both sides and the transport together, in one process.
//!
//! A copy of a body that nobody meant shows in the bytes, and a box or a buffer per message in the count. What timers and
//! gossip allocate meanwhile is noise: the quietest of some rounds counts.

use std::alloc::System;

use kennel_bench::measure::OneProcess;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Of these the quietest counts.
const ROUNDS: u64 = 8;

/// Fetches and ships of a round.
const STEPS: u64 = 50;

/// Bytes of a body: a hundred messages of 1 KB in a batch.
const BODY: usize = 256 + 100 * (48 + 1_000);

/// What was measured and a tenth of it: 26 allocations of a fetch and 47 of a ship, and of both the bytes of 2.1 bodies (the
/// packets that came, and the frame that was made of them). Bodies are counted in tenths.
const FETCH_ALLOCATIONS_MAX: usize = 30;
const FETCH_BODIES_MAX: usize = 23;
const SHIP_ALLOCATIONS_MAX: usize = 54;
const SHIP_BODIES_MAX: usize = 23;

/// What one step allocates.
#[derive(Debug, Clone, Copy)]
struct Taken {
    allocations: usize,
    bytes: usize,
}

impl Taken {
    fn of(change: Stats) -> Self {
        let steps = usize::try_from(STEPS).expect("few");
        Self { allocations: (change.allocations + change.reallocations) / steps, bytes: change.bytes_allocated / steps }
    }

    fn quieter(self, other: Option<Self>) -> Self {
        other.filter(|other| other.allocations < self.allocations).unwrap_or(self)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_and_a_ship_allocate_no_more_than_was_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut all = OneProcess::start(&directory.path().join("ring")).await.expect("it starts");
    all.build(STEPS * (ROUNDS + 1));
    for _ in 0..STEPS {
        all.ship().await.expect("it is taken");
    }
    for number in 0..STEPS {
        all.fetch(number).await.expect("it is there");
    }
    let (mut fetch, mut ship) = (None, None);
    for _ in 0..ROUNDS {
        let region = Region::new(ALLOCATOR);
        for number in 0..STEPS {
            all.fetch(number).await.expect("it is there");
        }
        fetch = Some(Taken::of(region.change()).quieter(fetch));
        let region = Region::new(ALLOCATOR);
        for _ in 0..STEPS {
            all.ship().await.expect("it is taken");
        }
        ship = Some(Taken::of(region.change()).quieter(ship));
    }
    all.stop().await;
    let (fetch, ship) = (fetch.expect("rounds"), ship.expect("rounds"));
    println!("a fetch: {fetch:?}; a ship: {ship:?}; a body: {BODY} bytes");
    assert!(fetch.allocations <= FETCH_ALLOCATIONS_MAX, "a fetch: {fetch:?}");
    assert!(fetch.bytes <= FETCH_BODIES_MAX * BODY / 10, "a fetch: {fetch:?}, a body: {BODY}");
    assert!(ship.allocations <= SHIP_ALLOCATIONS_MAX, "a ship: {ship:?}");
    assert!(ship.bytes <= SHIP_BODIES_MAX * BODY / 10, "a ship: {ship:?}, a body: {BODY}");
}
