#![no_main]
//! Runs the `journal_record` decoder on bytes that the fuzzer makes up.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kennel_fuzz::journal_record(bytes);
});
