#![no_main]
//! Runs the `log_suffix` decoder on bytes that the fuzzer makes up.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kennel_fuzz::log_suffix(bytes);
});
