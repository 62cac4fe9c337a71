//! Every place where an answer can begin and end, on built batches and on what a real server answered.

use kennel_protocol::batch::{BatchBuilder, slice};
use kennel_protocol::ids::PartitionId;

use super::*;

/// What a real server answered to a poll of ten messages from 195, where batches are a hundred messages long: two slices.
const RECORDED: &[u8] = include_bytes!("../../../tests/fixtures/poll_195_count_10.bin");

fn key() -> PartitionKey {
    "0/0/3@9".parse().expect("a partition")
}

fn wanted(from: u64) -> Wanted {
    Wanted { partition: key(), from: Offset(from), chunk_bytes: 1 << 20, end_seen: Offset(0) }
}

/// Batches that end at these offsets, the first from 0.
fn log(ends: &[u64]) -> Vec<Bytes> {
    let mut next = 0;
    let batch = |end: &u64| {
        let mut batch = BatchBuilder::new(PartitionId(3), Offset(next), 1_000 + next);
        for offset in next..*end {
            batch = batch.payload(format!("message {offset}").as_bytes());
        }
        next = *end;
        batch.build()
    };
    ends.iter().map(batch).collect()
}

/// Answers a poll as Iggy does: from an offset on, so many messages, slicing the batches at both ends.
fn answer(log: &[Bytes], from: u64, count: u32) -> Polled {
    let (mut left, mut run, mut current) = (u64::from(count), Vec::new(), 0);
    for bytes in log {
        let view = batches(bytes).next().expect("a batch").expect("a whole one");
        let (base, end) = (view.first_offset().0, view.end_if_dense().0);
        current = end - 1;
        if end <= from || left == 0 {
            continue;
        }
        let begin = base.max(from);
        let take = left.min(end - begin);
        let take_count = u32::try_from(take).expect("small");
        let sliced = slice(&view, Offset(begin), take_count).expect("it can be sliced").expect("something is left");
        run.extend_from_slice(if take == end - base { bytes } else { &sliced });
        left -= take;
    }
    Polled { current: Offset(current), batches: run.into() }
}

fn read(log: &[Bytes], from: u64, count: u32) -> Meaning {
    let wanted = wanted(from);
    let count = wanted.poll_count(count);
    examine(&wanted, count, &answer(log, wanted.poll_from().0, count)).expect("nothing is damaged")
}

/// Offsets of the chunks, and whether the answer said that nothing comes after them.
fn ranges(meaning: &Meaning) -> (Vec<(u64, u64)>, bool) {
    let Meaning::Chunks { chunks, rest } = meaning else { panic!("{meaning:?}") };
    let ranges = chunks.iter().map(|chunk| (chunk.head.base.0, chunk.head.end.0)).collect();
    (ranges, matches!(rest, SourceRest::Exhausted { .. }))
}

#[test]
fn whole_batches_are_taken_and_what_the_count_cut_is_left() {
    let log = log(&[10, 11, 20, 30]);
    assert_eq!(ranges(&read(&log, 0, 100)), (vec![(0, 30)], true));
    assert_eq!(ranges(&read(&log, 10, 100)), (vec![(10, 30)], true));
    // The last one may be sliced, whether or not it is.
    assert_eq!(ranges(&read(&log, 0, 15)), (vec![(0, 11)], false));
    assert_eq!(ranges(&read(&log, 0, 11)), (vec![(0, 10)], false));
    assert_eq!(ranges(&read(&log, 10, 10)), (vec![(10, 11)], false));
    // The count was reached, but nothing is behind it.
    assert_eq!(ranges(&read(&log, 11, 19)), (vec![(11, 30)], true));
    assert_eq!(read(&log, 11, 9), Meaning::TooFew);
    assert_eq!(read(&log, 0, 3), Meaning::TooFew);
}

#[test]
fn the_first_message_alone_is_a_batch_only_if_the_watch_says_so() {
    // A replica of a cluster that has a batch of ten, of which nothing is committed.
    let early = Polled { current: Offset(0), ..answer(&log(&[10]), 0, 1) };
    let examined = |seen| examine(&Wanted { end_seen: Offset(seen), ..wanted(0) }, 100, &early).expect("it verifies");
    assert_eq!(examined(0), Meaning::Uncommitted);
    assert_eq!(examined(10), Meaning::Uncommitted, "another replica was faster");
    assert_eq!(ranges(&examined(1)), (vec![(0, 1)], true));
    assert_eq!(read(&log(&[1]), 0, 100), Meaning::Uncommitted, "the watch has not seen it");
    assert_eq!(ranges(&read(&log(&[1, 2]), 0, 100)), (vec![(0, 2)], true));
}

#[test]
fn what_stands_before_comes_from_the_same_answer() {
    let log = log(&[10, 11, 20]);
    let whole = read(&log, 0, 100);
    let Meaning::Chunks { chunks, .. } = &whole else { panic!("{whole:?}") };
    assert_eq!(chunks[0].head.previous, None);
    for from in [10, 11] {
        let Meaning::Chunks { chunks, rest } = read(&log, from, 100) else { panic!("{from}") };
        assert_eq!(chunks[0].head.previous.map(|message| message.offset.0), Some(from - 1));
        assert!(matches!(rest, SourceRest::Exhausted { end: Offset(20), last: Some(last) } if last.offset.0 == 19));
    }
    // At its end, the source still tells its last message.
    let Meaning::Chunks { chunks, rest } = read(&log, 20, 100) else { panic!("it is at its end") };
    assert!(chunks.is_empty());
    assert!(matches!(rest, SourceRest::Exhausted { end: Offset(20), last: Some(last) } if last.offset.0 == 19));
    assert_eq!(read(&log, 25, 100), Meaning::Ended { current: Offset(19) });
    assert_eq!(read(&[], 0, 100), Meaning::Ended { current: Offset(0) });
}

#[test]
fn inside_a_batch_the_whole_batch_is_wanted() {
    let log = log(&[10, 20]);
    assert_eq!(read(&log, 5, 100), Meaning::Inside { base: Offset(0) });
    assert_eq!(read(&log, 19, 100), Meaning::Inside { base: Offset(10) });
    let chunk = whole_batch(&wanted(19), &answer(&log, 10, 50)).expect("it verifies").expect("it holds 19");
    assert_eq!((chunk.head.base, chunk.head.end), (Offset(10), Offset(20)));
    assert_eq!(whole_batch(&wanted(19), &answer(&log, 0, 10)), Ok(None));
}

/// Iggy jumps forward without a word where retention was quicker (R16).
#[test]
fn what_retention_took_is_a_hole() {
    let log = log(&[10, 20, 30]);
    let kept = &log[1..];
    let Meaning::Chunks { chunks, .. } = read(kept, 4, 100) else { panic!("there is more") };
    assert_eq!(chunks[0].head, EntryHead::hole(key(), Offset(4), Offset(10), HoleReason::SourceRetention));
    assert_eq!((chunks[1].head.base, chunks[1].head.previous), (Offset(10), None));
    let Meaning::Chunks { chunks, .. } = read(kept, 0, 100) else { panic!("there is more") };
    assert_eq!(chunks[0].head, EntryHead::hole(key(), Offset(0), Offset(10), HoleReason::ImportStart));
    // The message before is gone, the wanted one is not.
    assert_eq!(ranges(&read(kept, 10, 100)), (vec![(10, 30)], true));
}

#[test]
fn long_answers_become_several_chunks() {
    let log = log(&[10, 20, 30, 31, 32]);
    let wanted = Wanted { chunk_bytes: log[0].len() + 10, ..wanted(0) };
    let meaning = examine(&wanted, 100, &answer(&log, 0, 100)).expect("it verifies");
    let (found, _) = ranges(&meaning);
    assert_eq!(found, [(0, 10), (10, 20), (20, 30), (30, 32)]);
    let Meaning::Chunks { chunks, .. } = meaning else { panic!("{found:?}") };
    let linked = chunks.windows(2).all(|pair| pair[1].head.previous == pair[0].head.last);
    assert!(linked, "each carries what stands before it");
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let log = log(&[10, 20]);
    let whole = answer(&log, 9, 100);
    for at in (0..whole.batches.len()).step_by(7) {
        let mut bytes = whole.batches.to_vec();
        bytes[at] ^= 0x40;
        let damaged = Polled { batches: bytes.into(), ..whole };
        assert!(examine(&wanted(10), 100, &damaged).is_err(), "a flipped bit at {at} was not seen");
    }
}

#[test]
fn a_recorded_answer_is_understood() {
    let body = Bytes::from_static(RECORDED);
    let current = u64::from_le_bytes(*body[4..].first_chunk().expect("a head"));
    let polled = Polled { current: Offset(current), batches: body.slice(16..) };
    let partition = "0/0/0".parse().expect("a partition");
    let wanted = |from| Wanted { partition, from: Offset(from), chunk_bytes: 1 << 20, end_seen: Offset(0) };
    // 195 lies inside the batch of a hundred from 100 on.
    assert_eq!(examine(&wanted(196), 10, &polled), Ok(Meaning::Inside { base: Offset(100) }));
    // As if 195 to 199 had been a batch of its own: only its slice is left out, and the other may be cut.
    let second = batches(&polled.batches).nth(1).expect("two").expect("whole");
    assert_eq!((second.first_offset(), second.header().message_count), (Offset(200), 5));
    let tail = Polled { batches: polled.batches.slice(second.position()..), ..polled };
    assert_eq!(examine(&Wanted { from: Offset(200), ..wanted(0) }, 5, &tail), Ok(Meaning::TooFew));
    assert_eq!(last_message(&tail).expect("it verifies").map(|last| last.offset), Some(Offset(204)));
}
