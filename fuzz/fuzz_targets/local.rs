#![no_main]
//! Runs the `local` decoder on bytes that the fuzzer makes up.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kennel_fuzz::local(bytes);
});
