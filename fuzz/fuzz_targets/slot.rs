#![no_main]
//! Runs the `slot` decoder on bytes that the fuzzer makes up.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kennel_fuzz::slot(bytes);
});
