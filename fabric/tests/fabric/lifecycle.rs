//! Futures that are dropped, endpoints that are closed, and what is left then.

use std::time::{Duration, Instant};

use kennel_fabric::{Endpoint, FabricError};

use crate::support::{block_on, carry, each, eventually, pair, pattern, recovers, shortly, soon};

#[test]
fn a_placement_that_nobody_waits_for_ends_by_itself() {
    each(4 << 20, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let bodies: Vec<_> = (0..4).map(|salt| pattern(4 << 20, salt)).collect();
        let mut landings = Vec::new();
        for body in &bodies {
            let mut landing = reader.landing().expect("free");
            let advert = landing.advert();
            block_on(async {
                let mut place = std::pin::pin!(node.place(advert, vec![body.clone()], soon()));
                let polled = tokio::time::timeout(Duration::ZERO, &mut place).await;
                assert!(polled.is_err() || polled.is_ok_and(|placed| placed.is_ok()));
            });
            landings.push(landing);
        }
        eventually("all placed", || node.counters().values().placed == 4);
        for (landing, body) in landings.into_iter().zip(&bodies) {
            assert!(landing.filled(4 << 20).expect("it fits") == *body);
            eventually("let go of", || body.is_unique());
        }
    });
}

#[test]
fn closing_answers_everybody_and_bytes_stay() {
    each(8 << 20, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let kept = carry(&node, &reader, &pattern(5000, 1)).expect("placed");
        let mut landing = reader.landing().expect("free");
        let advert = landing.advert();
        let counters = reader.counters().clone();
        drop(reader);
        assert!(landing.filled(10).is_ok(), "memory outlives the endpoint");
        assert_eq!(kept, pattern(5000, 1));
        drop(kept);
        assert_eq!(counters.values().quarantined, 0);
        if !recovers(&settings) {
            return;
        }
        let started = Instant::now();
        let patience = started + Duration::from_millis(500);
        let result = block_on(node.place(advert, vec![pattern(8 << 20, 2)], patience));
        assert!(matches!(result, Err(FabricError::Transfer { .. } | FabricError::Deadline)), "{result:?}");
        assert!(started.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn a_reader_that_closes_ends_what_is_under_way_to_it_in_time() {
    each(8 << 20, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let mut landing = reader.landing().expect("free");
        let body = pattern(8 << 20, 1);
        let advert = landing.advert();
        std::thread::scope(|scope| {
            let node = &node;
            let placing: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| block_on(node.place(advert.clone(), vec![body.clone()], shortly()))))
                .collect();
            if recovers(&settings) {
                drop(reader);
            }
            for placing in placing {
                let result = placing.join().expect("no panic");
                println!("{result:?}");
            }
        });
        drop(node);
        assert!(body.is_unique(), "closing lets go of everything");
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

#[test]
fn a_hundred_endpoints_leave_no_descriptor_open() {
    each(4096, |library, settings| {
        let round = || {
            let (node, reader) = pair(library, &settings);
            carry(&node, &reader, &pattern(100, 0)).expect("placed");
        };
        round();
        let before = descriptors();
        for _ in 0..100 {
            round();
        }
        // Other tests of this process open and close some meanwhile.
        eventually("closed", || descriptors() <= before + 20);
        drop(Endpoint::open(library, &settings).expect("it opens still"));
    });
}
