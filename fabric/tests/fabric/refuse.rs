//! What must be refused is, and the fabric works on.

use kennel_fabric::{AdvertError, FabricError, LandingAdvert, selftest};

use crate::support::{block_on, carry_again, each, is_refused, pair, pattern, recovers, shortly, soon};

const BYTES: usize = 64 << 10;

/// Changes an advert, and sees that what is placed with it is refused and nothing of the landing was written.
fn refused(change: impl Fn(LandingAdvert) -> LandingAdvert) {
    each(BYTES, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let mut landing = reader.landing().expect("free");
        let good = landing.advert();
        block_on(node.place(good.clone(), vec![pattern(BYTES, 1)], soon())).expect("a good advert");
        let result = block_on(node.place(change(good), vec![pattern(4096, 2)], shortly()));
        println!("{result:?}");
        assert!(is_refused(&settings, &result), "{result:?}");
        assert!(landing.filled(BYTES).expect("it fits") == pattern(BYTES, 1), "it was written");
        if recovers(&settings) {
            assert_eq!(carry_again(&node, &reader, &pattern(777, 3)), pattern(777, 3));
        }
    });
}

#[test]
fn another_key_opens_nothing() {
    refused(|advert| LandingAdvert { key: advert.key ^ 1, ..advert });
    refused(|advert| LandingAdvert { key: 0, ..advert });
}

#[test]
fn a_landing_ends_where_it_ends() {
    refused(|advert| LandingAdvert { address: advert.address + BYTES as u64 - 4095, ..advert });
    refused(|advert| LandingAdvert { address: advert.address.wrapping_sub(1), ..advert });
}

#[test]
fn addresses_that_are_none_never_reach_the_library() {
    each(BYTES, |library, settings| {
        let (node, reader) = pair(library, &settings);
        let mut landing = reader.landing().expect("free");
        let good = landing.advert();
        for fabric_address in [vec![1], vec![0xff; 200], [&good.fabric_address[..], b"\0x"].concat()] {
            let advert = LandingAdvert { fabric_address, ..good.clone() };
            let result = block_on(node.place(advert, vec![pattern(10, 0)], soon()));
            assert!(matches!(result, Err(FabricError::Advert(AdvertError::Provider))), "{result:?}");
        }
    });
}

#[test]
fn the_selftest_tells_what_is_refused() {
    each(BYTES, |_, settings| {
        let report = selftest(&settings.choice).expect("it runs");
        println!("{report}");
        assert!(report.passed(), "{report}");
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["refusals"].as_array().expect("a list").len(), 3);
        assert_eq!(json["speeds"][2]["bytes"], 1 << 20);
    });
}

#[test]
fn providers_that_are_not_known_are_not_tried() {
    let Some(library) = crate::support::library() else { return };
    for provider in ["net", "udp;ofi_rxd", "tcp;ofi_rxm;ofi_hook", ""] {
        let settings = crate::support::settings(provider, BYTES);
        let result = kennel_fabric::Endpoint::open(&library, &settings);
        assert!(matches!(result, Err(FabricError::ProviderUnknown(_))), "{provider}");
    }
    let providers = library.providers().expect("a list");
    println!("{providers:#?}");
    assert!(providers.iter().all(|provider| provider.name != "net"));
}
