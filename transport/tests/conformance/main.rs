//! One suite for every backend: what holds over QUIC holds in memory, and the other way round.
//!
//! A case gets both ends of a fresh session and nothing else, so that it cannot tell which backend it runs on.

mod backends;
mod calls;
mod ends;
mod frames;
mod hello;

use std::pin::Pin;
use std::time::Duration;

use backends::{Backend, Loopback, Pair, Quic};

/// No case takes longer, unless something hangs.
const CASE_WAIT: Duration = Duration::from_secs(30);

type Case = fn(Pair) -> Pin<Box<dyn Future<Output = ()>>>;

const CASES: &[(&str, Case)] = &[
    ("frames of all sizes arrive in order", |pair| Box::pin(frames::sizes_in_order(pair))),
    ("many lanes do not mix", |pair| Box::pin(frames::many_lanes(pair))),
    ("both directions flow at once", |pair| Box::pin(frames::both_directions(pair))),
    ("fed frames arrive with one flush", |pair| Box::pin(frames::fed_frames(pair))),
    ("a slow reader stops its writer and nobody else", |pair| Box::pin(frames::slow_reader(pair))),
    ("a cancelled flush goes on later", |pair| Box::pin(frames::cancelled_flush(pair))),
    ("a cancelled read loses nothing", |pair| Box::pin(frames::cancelled_read(pair))),
    ("a cancelled accept loses no lane", |pair| Box::pin(frames::cancelled_accept(pair))),
    ("damage is refused with its code", |pair| Box::pin(frames::damage_refused(pair))),
    ("a claimed giant is refused by its header", |pair| Box::pin(frames::giant_refused(pair))),
    ("a giant is not sent", |pair| Box::pin(frames::giant_not_sent(pair))),
    ("a frame cut short is no frame", |pair| Box::pin(ends::cut_frame(pair))),
    ("a lane given up says why", |pair| Box::pin(ends::lane_given_up(pair))),
    ("a finished lane is drained", |pair| Box::pin(ends::finished_lane(pair))),
    ("close codes arrive", |pair| Box::pin(ends::close_codes(pair))),
    ("the first close counts", |pair| Box::pin(ends::first_close_counts(pair))),
    ("a dropped session wakes all who wait", |pair| Box::pin(ends::dropped_session(pair))),
    ("calls find their answers", |pair| Box::pin(calls::many_at_once(pair))),
    ("both sides call", |pair| Box::pin(calls::both_sides(pair))),
    ("a deadline leaves the call unknown and the lane sound", |pair| Box::pin(calls::deadline(pair))),
    ("refusals are errors", |pair| Box::pin(calls::refusal(pair))),
    ("a broken lane fails all calls as unknown", |pair| Box::pin(calls::broken_lane(pair))),
    ("what nobody asked for comes in order", |pair| Box::pin(calls::unasked(pair))),
    ("kinds of a newer version are not sent to an older peer", |pair| Box::pin(calls::newer_kinds(pair))),
    ("hello and welcome", |pair| Box::pin(hello::accepted(pair))),
    ("an older peer", |pair| Box::pin(hello::an_older_peer(pair))),
    ("versions that do not meet", |pair| Box::pin(hello::versions_apart(pair))),
    ("a reader cannot pretend to be a node", |pair| Box::pin(hello::pretender(pair))),
    ("a silent peer is not waited for", |pair| Box::pin(hello::silent_peer(pair))),
];

async fn run(backend: &dyn Backend) {
    for (name, case) in CASES {
        let finished = tokio::time::timeout(CASE_WAIT, async { case(backend.connect().await).await }).await;
        assert!(finished.is_ok(), "`{name}` hangs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_conforms() {
    run(&Quic::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_conforms() {
    run(&Loopback::new()).await;
}
