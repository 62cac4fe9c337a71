#![no_main]
//! Runs the `catalog` decoder on bytes that the fuzzer makes up.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kennel_fuzz::catalog(bytes);
});
