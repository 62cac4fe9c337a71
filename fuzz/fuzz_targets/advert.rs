#![no_main]
//! Reads an advert that the fuzzer makes up: where a node would write, as a reader says it. What is accepted is inside of the
//! bounds, and has one encoding.

use kennel_fabric::LandingAdvert;
use kennel_fabric::limits::LANDING_BYTES_MAX;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(advert) = LandingAdvert::decode(bytes) else { return };
    assert!((1..=LANDING_BYTES_MAX).contains(&(advert.bytes as usize)));
    assert!(advert.address.checked_add(advert.bytes.into()).is_some());
    assert_eq!(advert.encode(), bytes);
});
