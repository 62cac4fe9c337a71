//! Tests of the module above.

use std::time::Duration;

use kennel_protocol::entry::HoleReason;
use proptest::prelude::*;

use super::*;
use crate::read::gather::Limits;
use crate::read::spans::spans;
use crate::read::testing::{chunk, hole, identity, key, trim};

const ALL: Limits = Limits { bytes: u64::MAX, messages: u64::MAX, holes: 1000 };

fn tail(limit: u64) -> Arc<Tail> {
    let tail = Tail::new(ShardId(0), &TailBudget::new(limit));
    tail.begin(Epoch(1), Authority::Owner, &[]);
    tail.settle();
    tail
}

fn read(tail: &Tail, partition: u32, from: u64) -> Gather {
    let mut gather = Gather::new(Offset(from), ALL);
    tail.read(&key(partition), &mut gather);
    gather
}

fn state(partition: u32, end: u64) -> PartitionState {
    PartitionState { partition: key(partition), trim: Offset(0), end: Offset(end), last: None, cut: 0 }
}

#[test]
fn it_reads_back_what_was_appended_without_copying() {
    let tail = tail(u64::MAX);
    let first = chunk(0, 0, &[3, 2]);
    tail.append(&first, None);
    tail.append(&hole(0, 5, 9), None);
    tail.append(&chunk(0, 9, &[1]), None);
    let gather = read(&tail, 0, 0);
    assert_eq!(gather.next(), Offset(10));
    let (pieces, holes) = gather.finish();
    assert_eq!(pieces[0].as_ptr(), first.body.as_ptr());
    assert_eq!((pieces.len(), holes.len(), holes[0].reason), (2, 1, HoleReason::SourceRetention));
    assert_eq!(tail.identity(&key(0), Offset(4)), Some(identity(3, 4)));
    assert_eq!(tail.identity(&key(0), Offset(3)), Some(identity(3, 3)), "inside a batch as well");
    assert_eq!(tail.identity(&key(0), Offset(6)), None, "a hole has no identity");
    assert_eq!(tail.at_timestamp(&key(0), 1), Some(Lookup::Here(Offset(3))));
    assert_eq!(tail.last_batch(&key(0)), Some(Lookup::Here(Offset(9))));
}

/// A body that was let go while its showing waited for the disk is in the bucket: what comes next is read all the same.
#[test]
fn a_body_that_is_nowhere_is_where_memory_begins() {
    let tail = tail(u64::MAX);
    tail.append(&chunk(0, 0, &[2]), None);
    let mut gone = chunk(0, 2, &[3]);
    gone.body = bytes::Bytes::new();
    tail.append(&gone, None);
    tail.append(&chunk(0, 5, &[1]), None);
    assert_eq!(tail.standing(&key(0)).range.map(|range| (range.start, range.committed)), Some((Offset(5), Offset(6))));
    assert_eq!(read(&tail, 0, 5).next(), Offset(6));
}

#[test]
fn what_is_not_stored_stays_whatever_the_budget_says() {
    let tail = tail(1);
    for base in 0..4 {
        tail.append(&chunk(0, base, &[1]), None);
    }
    assert_eq!(tail.standing(&key(0)).range.map(|range| range.start), Some(Offset(0)));
    assert!(tail.budget.is_exceeded());
    tail.stored([(key(0), Offset(3))]);
    assert_eq!(tail.standing(&key(0)).range.map(|range| range.start), Some(Offset(3)));
    tail.stored([(key(0), Offset(4))]);
    assert_eq!(tail.budget.used(), 0);
    assert!(read(&tail, 0, 0).is_empty());
}

#[test]
fn past_the_budget_bodies_that_lie_elsewhere_go_and_keep_their_place() {
    let tail = tail(1);
    for base in 0..4 {
        tail.append(&chunk(0, base, &[1]), Some(StowPlace(base)));
    }
    assert_eq!(tail.standing(&key(0)).range.map(|range| range.start), Some(Offset(0)));
    assert!(tail.holds_no_bodies(&key(0)));
    let mut gather = Gather::new(Offset(2), ALL);
    let stowed = tail.read(&key(0), &mut gather);
    assert!(gather.is_empty());
    assert_eq!(stowed.iter().map(|chunk| chunk.place.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(tail.identity(&key(0), Offset(3)), Some(identity(3, 3)), "the last of a chunk is known all the same");
    tail.stored([(key(0), Offset(3))]);
    assert_eq!(tail.standing(&key(0)).range.map(|range| range.start), Some(Offset(3)));
    tail.stored([(key(0), Offset(4))]);
    assert_eq!(tail.budget.used(), 0);
}

#[tokio::test]
async fn a_follower_that_hears_nobody_says_no_longer_where_a_partition_ends() {
    let tail = Tail::new(ShardId(0), &TailBudget::new(u64::MAX));
    tail.begin(Epoch(1), Authority::Follower, &[]);
    tail.append(&chunk(0, 0, &[2]), None);
    let waits = tail.wait(key(0), Offset(2), Epoch(1));
    tokio::pin!(waits);
    assert!(futures::poll!(&mut waits).is_pending());
    tail.hears_owner(false);
    waits.await;
    assert_eq!(tail.standing(&key(0)).authority, Authority::Observer);
    assert!(!read(&tail, 0, 0).is_empty(), "what it has is served all the same");
    tail.hears_owner(true);
    assert_eq!(tail.standing(&key(0)).authority, Authority::Follower);
    tail.retire(Epoch(2));
    tail.hears_owner(true);
    assert_eq!(tail.standing(&key(0)).authority, Authority::Observer, "it left the copy set");
}

#[test]
fn the_oldest_goes_first_across_shards() {
    let budget = TailBudget::new(3000);
    let tails = [Tail::new(ShardId(0), &budget), Tail::new(ShardId(1), &budget)];
    for round in 0..8 {
        for tail in &tails {
            tail.append(&chunk(0, round, &[1]), None);
            tail.stored([(key(0), Offset(round + 1))]);
        }
    }
    assert!(budget.used() <= 3000);
    let start = |tail: &Tail| tail.standing(&key(0)).range.expect("known").start.0;
    assert!(start(&tails[0]) > 0 && start(&tails[0]).abs_diff(start(&tails[1])) <= 1);
}

#[test]
fn a_new_epoch_drops_what_its_open_record_does_not_cover() {
    let tail = tail(u64::MAX);
    for base in [0, 2, 4] {
        tail.append(&chunk(0, base, &[2]), None);
    }
    tail.append(&chunk(1, 0, &[1]), None);
    tail.begin(Epoch(2), Authority::Follower, &[state(0, 4), state(2, 9)]);
    let standing = tail.standing(&key(0));
    assert_eq!((standing.epoch, standing.settled), (Epoch(2), false));
    let range = standing.range.expect("stated");
    assert_eq!((range.start, range.committed), (Offset(0), Offset(4)));
    assert!(tail.standing(&key(1)).range.is_none());
    assert_eq!(tail.standing(&key(2)).range.map(|range| range.committed), Some(Offset(9)));
    tail.append(&chunk(0, 4, &[1]), None);
    assert_eq!(read(&tail, 0, 0).next(), Offset(5));
    // An end inside a piece means another history: nothing of it may be served.
    tail.begin(Epoch(3), Authority::Follower, &[state(0, 1)]);
    let range = tail.standing(&key(0)).range.expect("stated");
    assert_eq!((range.start, range.committed), (Offset(1), Offset(1)));
    tail.retire(Epoch(4));
    assert_eq!(tail.budget.used(), 0);
}

#[test]
fn trimmed_pieces_leave_no_trace() {
    let tail = tail(u64::MAX);
    for base in 0..1000 {
        tail.append(&chunk(0, base, &[1]), None);
        tail.append(&trim(0, base), None);
    }
    assert_eq!(tail.standing(&key(0)).range.map(|range| range.trim), Some(Offset(999)));
    assert!(tail.lock().order.len() < 200, "numbers of pieces that went are swept");
    tail.append(&trim(7, 5), None);
    assert_eq!(tail.standing(&key(7)).range, None, "a trim alone does not tell where a partition ends");
}

#[test]
#[should_panic(expected = "overlap")]
fn committed_entries_never_contradict_each_other() {
    let tail = tail(u64::MAX);
    tail.append(&chunk(0, 0, &[3]), None);
    tail.append(&chunk(0, 2, &[3]), None);
}

#[tokio::test]
async fn a_waiter_is_woken_and_leaves_nothing_behind() {
    let tail = tail(u64::MAX);
    let waiting = tokio::spawn({
        let tail = Arc::clone(&tail);
        async move { tail.wait(key(0), Offset(0), Epoch(1)).await }
    });
    let impatient = tokio::time::timeout(Duration::from_millis(20), tail.wait(key(1), Offset(0), Epoch(1)));
    assert!(impatient.await.is_err());
    assert_eq!(tail.lock().waiters.len(), 1, "the impatient one is gone, the other waits");
    tail.append(&chunk(0, 0, &[1]), None);
    waiting.await.expect("woken");
    assert_eq!(tail.lock().waiters.len(), 0);
    tail.wait(key(0), Offset(0), Epoch(1)).await;
    tail.wait(key(0), Offset(99), Epoch(0)).await;
}

proptest! {
    /// Whatever is let go and however the reads are cut, the offsets read are those appended, in order, once.
    #[test]
    fn reads_cover_what_is_in_memory(
        runs in prop::collection::vec((any::<bool>(), 1u32..5), 1..30),
        stored in 0u64..40,
        bytes_max in 1u64..2000,
        messages_max in 1u64..6,
    ) {
        let tail = tail(2000);
        let mut end = 0;
        for (is_hole, length) in runs {
            let next = end + u64::from(length);
            tail.append(&if is_hole { hole(0, end, next) } else { chunk(0, end, &[length]) }, None);
            end = next;
        }
        tail.stored([(key(0), Offset(stored.min(end)))]);
        let range = tail.standing(&key(0)).range.expect("known");
        let mut at = range.start;
        while at < range.committed {
            let mut gather = Gather::new(at, Limits { bytes: bytes_max, messages: messages_max, holes: 2 });
            tail.read(&key(0), &mut gather);
            let next = gather.next();
            prop_assert!(next > at);
            let (pieces, holes) = gather.finish();
            let batches = pieces.iter().flat_map(|piece| spans(piece).collect::<Vec<_>>());
            let mut ranges: Vec<_> = batches.map(|span| (span.base, span.end)).collect();
            ranges.extend(holes.iter().map(|hole| (hole.from, hole.to)));
            ranges.sort_unstable();
            for (from, to) in ranges {
                prop_assert!(from <= at && at < to);
                at = to;
            }
            prop_assert_eq!(at, next);
        }
    }
}
