//! Polls against rings in memory.

mod bodies;
mod model;

use bytes::Bytes;
use futures::executor::block_on;
use iggy_binary_protocol::WireIdentifier;
use kennel_protocol::batch::BatchBuilder;
use kennel_protocol::entry::HoleReason;
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey};

use super::*;
use crate::ring::MemoryRing;

fn key() -> PartitionKey {
    "3/1/2@9".parse().expect("a partition")
}

fn poll(start: PollStart, count: u32) -> Poll {
    let (stream, topic) = (WireIdentifier::numeric(3), WireIdentifier::numeric(1));
    Poll { stream, topic, partition: 2, start, count }
}

fn at(offset: u64, count: u32) -> Poll {
    poll(PollStart::Offset(Offset(offset)), count)
}

/// A batch of `count` messages from `base` on, appended at `timestamp`.
fn batch(base: u64, count: u64, timestamp: u64) -> Bytes {
    let batch = BatchBuilder::new(PartitionId(2), Offset(base), timestamp);
    (base..base + count).fold(batch, |batch, offset| batch.payload(format!("message {offset}").as_bytes())).build()
}

/// Offsets 0 to 29 in three batches, appended at 1000, 2000 and 3000.
fn ring() -> MemoryRing {
    let ring = MemoryRing::default();
    ring.append(key(), Bytes::from([batch(0, 10, 1000), batch(10, 10, 2000)].concat()));
    ring.append(key(), batch(20, 10, 3000));
    ring
}

/// The head and the records of a reply as one body, and what it amounts to.
fn served(ring: &MemoryRing, poll: &Poll) -> (Vec<u8>, Served) {
    match block_on(answer(ring, poll)) {
        PollAnswer::Served { head, records, served } => {
            let body = [&head[..], &records.concat()].concat();
            assert_eq!(served.bytes + head.len(), body.len());
            (body, served)
        }
        PollAnswer::Forward(reason) => panic!("{poll:?} is forwarded: {reason}"),
    }
}

fn forwarded(ring: &MemoryRing, poll: &Poll) -> ForwardReason {
    match block_on(answer(ring, poll)) {
        PollAnswer::Forward(reason) => reason,
        PollAnswer::Served { served, .. } => panic!("{poll:?} is served: {served:?}"),
    }
}

#[test]
fn every_start_is_found() {
    let starts = [
        (PollStart::Offset(Offset(12)), 12),
        (PollStart::First, 0),
        (PollStart::Last, 25),
        (PollStart::Next(StoredOffset::At(Offset(6))), 7),
        (PollStart::Next(StoredOffset::Missing), 0),
        (PollStart::Timestamp(0), 0),
        (PollStart::Timestamp(1000), 0),
        (PollStart::Timestamp(1001), 10),
        (PollStart::Timestamp(3000), 20),
    ];
    for (start, first) in starts {
        let (_, served) = served(&ring(), &poll(start, 5));
        let found = served.first.expect("messages").offset;
        assert_eq!((found, served.next, served.reach), (Offset(first), Offset(first + 5), Reach::Count), "{start:?}");
    }
}

#[test]
fn whole_batches_of_a_run_are_one_handle_and_messages_are_never_copied() {
    let run = Bytes::from([batch(0, 10, 1000), batch(10, 10, 2000)].concat());
    let ring = MemoryRing::default();
    ring.append(key(), run.clone());
    let PollAnswer::Served { records, .. } = block_on(answer(&ring, &at(0, 20))) else { panic!("served") };
    assert_eq!(records, std::slice::from_ref(&run));
    assert_eq!(records[0].as_ptr(), run.as_ptr());
    let PollAnswer::Served { records, .. } = block_on(answer(&ring, &at(5, 10))) else { panic!("served") };
    let lengths: Vec<usize> = records.iter().map(Bytes::len).collect();
    assert_eq!((lengths.len(), lengths[0], lengths[2]), (4, 256, 256), "header, frames, header, frames");
    assert!([1, 3].iter().all(|frames| run.as_ptr_range().contains(&records[*frames].as_ptr())));
}

#[test]
fn the_end_is_told_and_what_lies_beyond_is_empty() {
    let (body, beyond) = served(&ring(), &at(31, 5));
    assert_eq!((body.len(), beyond.reach, beyond.first, beyond.next), (16, Reach::End, None, Offset(31)));
    assert_eq!(body[4..12], 29_u64.to_le_bytes());
    let (_, short) = served(&ring(), &at(28, 5));
    assert_eq!((short.messages, short.reach, short.next), (2, Reach::End, Offset(30)));
    let (body, later) = served(&ring(), &poll(PollStart::Timestamp(3001), 5));
    assert_eq!((body.len(), later.reach), (16, Reach::End));
}

#[test]
fn an_empty_partition_is_answered_as_such() {
    let ring = MemoryRing::default();
    ring.append(key(), Bytes::new());
    let starts = [PollStart::First, PollStart::Last, PollStart::Timestamp(5), PollStart::Offset(Offset(7))];
    for start in starts {
        let (body, served) = served(&ring, &poll(start, 5));
        assert_eq!((&body[..4], &body[4..], served.reach), (&[2, 0, 0, 0][..], &[0; 12][..], Reach::End), "{start:?}");
    }
}

#[test]
fn what_retention_removed_is_jumped_and_every_other_hole_is_the_servers() {
    for (reason, jumped) in [
        (HoleReason::SourceRetention, true),
        (HoleReason::ImportStart, false),
        (HoleReason::Trimmed, false),
        (HoleReason::Lost, false),
    ] {
        let ring = MemoryRing::default();
        ring.hole(key(), Offset(10), reason);
        ring.append(key(), batch(10, 10, 2000));
        let polls = [
            at(0, 5),
            at(9, 5),
            poll(PollStart::First, 5),
            poll(PollStart::Timestamp(1), 5),
            poll(PollStart::Last, 11),
        ];
        for poll in &polls {
            if jumped {
                assert_eq!(served(&ring, poll).1.first.expect("messages").offset, Offset(10), "{poll:?}");
            } else {
                assert!(matches!(forwarded(&ring, poll), ForwardReason::Hole { reason: told, .. } if told == reason));
            }
        }
        assert_eq!(served(&ring, &at(12, 3)).1.next, Offset(15), "above the hole nothing is missing");
    }
}

#[test]
fn no_answer_spans_a_hole() {
    let ring = ring();
    ring.hole(key(), Offset(50), HoleReason::SourceRetention);
    ring.append(key(), batch(50, 10, 4000));
    let (_, before) = served(&ring, &at(25, 10));
    assert_eq!((before.messages, before.next, before.reach), (5, Offset(30), Reach::Hole));
    let (_, behind) = served(&ring, &Poll { start: PollStart::Offset(before.next), ..at(0, 10) });
    assert_eq!((behind.first.expect("messages").offset, behind.reach), (Offset(50), Reach::Count));
}

#[test]
fn what_the_ring_cannot_tell_is_the_servers() {
    let ring = ring();
    assert_eq!(forwarded(&ring, &at(0, 0)), ForwardReason::NoCount);
    assert_eq!(forwarded(&ring, &poll(PollStart::Next(StoredOffset::Unasked), 5)), ForwardReason::NoStoredOffset);
    assert_eq!(forwarded(&ring, &Poll { partition: 7, ..at(0, 5) }), ForwardReason::UnknownPartition);
    ring.trim(key(), Offset(10));
    assert_eq!(forwarded(&ring, &at(9, 5)), ForwardReason::Trimmed { first: Offset(10) });
    assert_eq!(forwarded(&ring, &poll(PollStart::First, 5)), ForwardReason::Trimmed { first: Offset(10) });
    assert_eq!(forwarded(&ring, &poll(PollStart::Timestamp(1), 5)), ForwardReason::Trimmed { first: Offset(10) });
    ring.append(key(), batch(30, 10, 2500));
    assert_eq!(
        forwarded(&ring, &poll(PollStart::Timestamp(2600), 20)),
        ForwardReason::TimestampsFall { at: Offset(30) }
    );
    ring.append(key(), batch(45, 5, 5000));
    assert_eq!(forwarded(&ring, &at(38, 5)), ForwardReason::Broken { at: Offset(40) });
}
