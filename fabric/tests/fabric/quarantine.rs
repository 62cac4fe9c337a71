//! What may still be written is not used again.

use std::time::{Duration, Instant};

use kennel_fabric::{Endpoint, EndpointSettings, FabricError};
use rustix::process::Signal;

use crate::support::{
    Other, block_on, carry, carry_again, each, eventually, is_refused, pair, pattern, recovers, shortly, soon,
};

#[test]
fn a_late_write_finds_its_key_closed() {
    each(64 << 10, |library, settings| {
        let settings = EndpointSettings { landing_count: 8, ..settings };
        let (node, reader) = pair(library, &settings);
        // Other landings of before, so that the connection stands.
        carry(&node, &reader, &pattern(100, 0)).expect("placed");
        for round in 1..=3 {
            let mut landing = reader.landing().expect("some are free");
            let old = landing.advert();
            drop(landing);
            eventually("free again", || reader.counters().values().quarantined >= round && is_full(&reader, 8));
            let mut others: Vec<_> = (0..8).map(|_| reader.landing().expect("free")).collect();
            assert!(others.iter_mut().all(|other| other.advert().key != old.key), "a key was used again");
            let late = block_on(node.place(old, vec![pattern(64 << 10, 9)], shortly()));
            assert!(is_refused(&settings, &late), "{late:?}");
            for other in others {
                assert!(other.filled(64 << 10).expect("it fits") != pattern(64 << 10, 9), "the late write arrived");
            }
        }
        if recovers(&settings) {
            assert_eq!(carry_again(&node, &reader, &pattern(100, 5)), pattern(100, 5));
        }
    });
}

fn is_full(reader: &Endpoint, count: usize) -> bool {
    let taken: Vec<_> = (0..count).map_while(|_| reader.landing().ok()).collect();
    taken.len() == count
}

#[test]
fn landings_that_cannot_be_made_safe_are_lost_and_said_to_be() {
    each(4096, |library, settings| {
        let settings = EndpointSettings { landing_count: 2, ..settings };
        let reader = Endpoint::open(library, &settings).expect("it opened before");
        for round in 1..=4_u64 {
            let mut landing = reader.landing().expect("there are some still");
            let _ = landing.advert();
            drop(landing);
            let done = || {
                let lost = usize::try_from(reader.counters().values().landings_lost).expect("few");
                is_full(&reader, 2 - lost) && reader.counters().values().quarantined == round
            };
            eventually("renewed or lost", || {
                done() && (round < 3 || reader.counters().values().landings_lost == round - 2)
            });
        }
        assert!(matches!(reader.landing(), Err(FabricError::NoLanding { lost: 2 })));
    });
}

/// The write has begun, its sender is stopped in the middle of it, and goes on after the landing was given up.
#[test]
fn a_write_that_goes_on_after_the_deadline_does_not_land_in_the_next_landing() {
    const BYTES: usize = 64 << 20;
    each(BYTES, |library, settings| {
        let provider = settings.choice.provider.clone().expect("named");
        // Where in its middle depends on the machine, so several moments are tried.
        for millis in [10, 25, 50, 100] {
            let settings = EndpointSettings { landing_count: 1, ..settings.clone() };
            let reader = Endpoint::open(library, &settings).expect("it opened before");
            let mut node = Other::node(&provider, BYTES);
            node.says("READY");
            let mut landing = reader.landing().expect("free");
            node.hears(&landing.advert());
            node.says("PLACING");
            std::thread::sleep(Duration::from_millis(millis));
            node.signal(Signal::STOP);
            drop(landing);
            eventually("another landing", || is_full(&reader, 1));
            let mut next = reader.landing().expect("free");
            let _ = next.advert();
            node.signal(Signal::CONT);
            // Time for what goes on. Whatever comes of the first write, further ones are refused.
            std::thread::sleep(Duration::from_millis(400));
            let bytes = next.filled(BYTES).expect("it fits");
            let written = bytes.iter().filter(|byte| **byte != 0).count();
            println!("stopped after {millis} ms: {written} bytes of it in the next landing");
            assert_eq!(written, 0, "a late write arrived in another landing");
        }
    });
}

#[test]
fn a_peer_that_does_nothing_costs_the_deadline_and_no_more() {
    const BYTES: usize = 32 << 20;
    each(BYTES, |library, settings| {
        let provider = settings.choice.provider.clone().expect("named");
        let node = Endpoint::open(library, &EndpointSettings { landing_count: 1, ..settings }).expect("opened before");
        let mut reader = Other::reader(&provider, BYTES);
        let (first, second) = (reader.advert(), reader.advert());
        block_on(node.place(first.clone(), vec![pattern(1000, 0)], soon())).expect("it lives");
        reader.signal(Signal::STOP);
        let (started, body) = (Instant::now(), pattern(BYTES, 1));
        let late = block_on(node.place(first, vec![body.clone()], started + Duration::from_millis(200)));
        assert!(matches!(late, Err(FabricError::Deadline)), "{late:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(node.counters().values().quarantined, 1);
        assert!(!body.is_unique(), "the transfer still has the bytes");
        reader.signal(Signal::CONT);
        let again = block_on(node.place(second, vec![pattern(1000, 2)], soon()));
        println!("after it went on: {again:?}");
        drop(node);
        assert!(body.is_unique(), "closing lets go of everything");
    });
}
