//! Every codec: pinned bytes, round trips, damage, and bytes that never were ours.

mod damage;
#[expect(unreachable_pub, reason = "it is the library of the fuzz targets, shared as it stands")]
#[path = "../../../fuzz/src/lib.rs"]
mod decoders;
mod fuzz_smoke;
mod golden;
mod log_objects;
mod round_trips;
mod samples;
