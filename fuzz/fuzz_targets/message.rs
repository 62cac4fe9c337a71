#![no_main]
//! Runs the `message` decoder on bytes that the fuzzer makes up.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kennel_fuzz::message(bytes);
});
