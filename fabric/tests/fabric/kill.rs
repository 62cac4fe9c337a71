//! The other process dies in the middle.

use std::time::{Duration, Instant};

use kennel_fabric::{Endpoint, EndpointSettings};
use rustix::process::Signal;

use crate::support::{Other, block_on, carry, each, eventually, pair, pattern, recovers};

const BYTES: usize = 32 << 20;

#[test]
fn a_reader_that_is_killed_costs_an_error_in_time() {
    each(BYTES, |library, settings| {
        let provider = settings.choice.provider.clone().expect("named");
        let node = Endpoint::open(library, &EndpointSettings { landing_count: 1, ..settings.clone() }).expect("opened");
        let mut reader = Other::reader(&provider, BYTES);
        let advert = reader.advert();
        let body = pattern(BYTES, 1);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            reader.signal(Signal::KILL);
            reader
        });
        let (mut placed, started) = (0, Instant::now());
        let error = loop {
            let patience = Instant::now() + Duration::from_secs(1);
            match block_on(node.place(advert.clone(), vec![body.clone()], patience)) {
                Ok(_) => placed += 1,
                Err(error) => break error,
            }
            assert!(started.elapsed() < Duration::from_secs(10), "it is dead");
        };
        println!("{placed} before, then: {error}; after {:?}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        drop(killer.join().expect("no panic"));
        if !recovers(&settings) {
            return;
        }
        // Others are served on.
        let other = Endpoint::open(library, &EndpointSettings { landing_count: 1, ..settings }).expect("opened");
        assert_eq!(carry(&node, &other, &pattern(1000, 2)).expect("placed"), pattern(1000, 2));
    });
}

#[test]
fn a_node_that_is_killed_leaves_no_landing_that_is_taken_for_whole() {
    each(BYTES, |library, settings| {
        let provider = settings.choice.provider.clone().expect("named");
        let settings = EndpointSettings { landing_count: 1, ..settings };
        let (other, reader) = pair(library, &settings);
        for round in 0..2 {
            let mut node = Other::node(&provider, BYTES);
            node.says("READY");
            let Ok(mut landing) = reader.landing() else { break };
            node.hears(&landing.advert());
            node.says("PLACING");
            std::thread::sleep(Duration::from_millis(5 + 10 * round));
            node.signal(Signal::KILL);
            drop(node);
            drop(landing);
            if round == 0 {
                eventually("another landing", || reader.landing().is_ok());
                let bytes = carry(&other, &reader, &pattern(BYTES, 3)).expect("placed");
                std::thread::sleep(Duration::from_millis(50));
                assert!(bytes == pattern(BYTES, 3), "something of the dead node's");
            }
        }
        assert_eq!(reader.counters().values().quarantined, 2);
    });
}
