//! An endpoint that lasts, and bytes that are looked at before they count.

use std::time::{Duration, Instant};

use kennel_fabric::{Endpoint, EndpointSettings, LastingEndpoint};

use crate::support::{block_on, carry_again, each, eventually, is_refused, pair, pattern, recovers, shortly, soon};

#[test]
fn an_endpoint_whose_landings_are_lost_is_opened_anew() {
    each(4096, |library, settings| {
        let settings = EndpointSettings { landing_count: 2, ..settings };
        let reader = LastingEndpoint::open(library.clone(), settings.clone()).expect("it opened before");
        let node = Endpoint::open(library, &settings).expect("it opened before");
        let landing = || reader.landing().expect("free");
        let mut kept = landing();
        let placed = block_on(node.place(kept.advert(), vec![pattern(4096, 1)], soon())).expect("placed");
        eventually("lost, and opened anew", || {
            // Given up, again and again: nobody says whether it was written.
            drop(reader.landing().map(|mut landing| landing.advert()));
            reader.reopened() == 1
        });
        assert!(reader.counters().quarantined >= 2, "what the first one counted stays: {:?}", reader.counters());
        assert_eq!(reader.counters().landings_lost, 0, "none of the second one's");
        assert_eq!(kept.filled(placed.len).expect("it fits"), pattern(4096, 1), "what was taken before stays good");
        let mut again = landing();
        let placed = block_on(node.place(again.advert(), vec![pattern(999, 2)], soon())).expect("placed");
        assert_eq!(again.filled(placed.len).expect("it fits"), pattern(999, 2));
    });
}

#[test]
fn it_is_not_opened_anew_again_and_again() {
    each(4096, |library, settings| {
        let settings = EndpointSettings { landing_count: 1, ..settings };
        let reader = LastingEndpoint::open(library.clone(), settings).expect("it opened before");
        let began = Instant::now();
        eventually("opened anew, and asked for more since", || {
            drop(reader.landing().map(|mut landing| landing.advert()));
            reader.reopened() > 0 && began.elapsed() > Duration::from_millis(900)
        });
        // There is a second between the first and the next one, and more before those that follow.
        let (reopened, most) = (reader.reopened(), 1 + began.elapsed().as_secs());
        assert!(reopened <= most, "{reopened} times in {:?}", began.elapsed());
    });
}

#[test]
fn what_arrived_and_was_not_kept_is_not_used_again_under_its_key() {
    each(4096, |library, settings| {
        let settings = EndpointSettings { landing_count: 1, ..settings };
        let (node, reader) = pair(library, &settings);
        let mut landing = reader.landing().expect("free");
        let advert = landing.advert();
        let placed = block_on(node.place(advert.clone(), vec![pattern(100, 1)], soon())).expect("placed");
        let arrived = landing.arrived(placed.len).expect("it fits");
        assert_eq!(arrived.as_ref(), pattern(100, 1));
        drop(arrived);
        eventually("another key", || reader.landing().is_ok());
        assert_eq!(reader.counters().values().quarantined, 1);
        let late = block_on(node.place(advert, vec![pattern(100, 2)], shortly()));
        assert!(is_refused(&settings, &late), "{late:?}");
        if recovers(&settings) {
            assert_eq!(carry_again(&node, &reader, &pattern(50, 3)), pattern(50, 3));
        }
    });
}
