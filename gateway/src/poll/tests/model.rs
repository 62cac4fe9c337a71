//! Random logs and random polls, against a model of the server made from Iggy's own codec.

use iggy_binary_protocol::batch::{BatchIntegrity, BatchRef, decode_batch_slice_with};
use iggy_binary_protocol::responses::messages::PollMessagesResponse;
use kennel_protocol::batch::{BatchView, MessageParts, batches};
use proptest::prelude::*;

use super::*;

/// Lengths of the payloads, batch by batch.
type Shape = Vec<Vec<u8>>;

fn log(shape: &Shape) -> Vec<Bytes> {
    let mut base = 0;
    let batches = (1_u64..).zip(shape).map(|(number, lengths)| {
        let mut batch = BatchBuilder::new(PartitionId(2), Offset(base), 1000 * number).origin_timestamp(900 * number);
        for (offset, length) in (base..).zip(lengths) {
            let payload = vec![*length; usize::from(*length)];
            let headers = b"\x02\x01\0\0\0k\x02\x01\0\0\0v";
            let user_headers = if length % 3 == 0 { &headers[..] } else { &[] };
            let timestamp_delta = u32::from(*length);
            batch = batch.message(MessageParts { id: offset.into(), timestamp_delta, payload: &payload, user_headers });
        }
        base += lengths.len() as u64;
        batch.build()
    });
    batches.collect()
}

/// What the server would send: every batch is asked for its messages in turn, and one that is cut is stamped anew.
fn body(log: &[Bytes], poll: &Poll) -> Vec<u8> {
    let batches: Vec<BatchRef<'_>> = log.iter().map(|batch| decode(batch)).collect();
    let end: u64 = batches.iter().map(|batch| u64::from(batch.message_count())).sum();
    let (from, timestamp) = match poll.start {
        PollStart::Offset(offset) => (offset.0, 0),
        PollStart::First | PollStart::Next(StoredOffset::Missing | StoredOffset::Unasked) => (0, 0),
        PollStart::Last => ((end - 1).saturating_sub(u64::from(poll.count) - 1), 0),
        PollStart::Next(StoredOffset::At(stored)) => (stored.0 + 1, 0),
        PollStart::Timestamp(timestamp) => (0, timestamp),
    };
    let (mut count, mut records) = (0, Vec::new());
    for batch in batches {
        let mut kept = Vec::new();
        let mut messages = 0;
        for record in batch.iter_with_offsets() {
            let offset = batch.header.base_offset + u64::from(record.message.header.offset_delta);
            if count < poll.count && offset >= from && batch.header.base_timestamp >= timestamp {
                kept.extend_from_slice(&batch.blob()[record.start..record.end]);
                (count, messages) = (count + 1, messages + 1);
            }
        }
        if messages > 0 {
            let mut header = batch.header;
            header.message_count = messages;
            header.batch_length = 256 + kept.len() as u64;
            header.batch_checksum = header.checksum_for_blob(&kept);
            let start = records.len();
            records.resize(start + 256, 0);
            header.encode_into(&mut records[start..]);
            records.extend_from_slice(&kept);
        }
    }
    [&2_u32.to_le_bytes()[..], &(end - 1).to_le_bytes(), &count.to_le_bytes(), &records].concat()
}

fn decode(batch: &[u8]) -> BatchRef<'_> {
    decode_batch_slice_with(batch, BatchIntegrity::Verify).expect("a batch by Iggy's own codec")
}

fn starts() -> impl Strategy<Value = PollStart> {
    prop_oneof![
        (0_u64..90).prop_map(|offset| PollStart::Offset(Offset(offset))),
        (0_u64..12_000).prop_map(PollStart::Timestamp),
        Just(PollStart::First),
        Just(PollStart::Last),
        Just(PollStart::Next(StoredOffset::Missing)),
        (0_u64..90).prop_map(|stored| PollStart::Next(StoredOffset::At(Offset(stored)))),
    ]
}

proptest! {
    #[test]
    fn a_poll_is_answered_as_by_the_server(
        shape in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 1..10),
        joined in any::<bool>(),
        bytes_max in prop_oneof![Just(0_usize), 1_usize..4_000],
        start in starts(),
        count in prop_oneof![1_u32..40, Just(u32::MAX)],
    ) {
        let log = log(&shape);
        let ring = MemoryRing::default();
        if joined {
            ring.append(key(), Bytes::from(log.concat()));
        } else {
            for batch in &log {
                ring.append(key(), batch.clone());
            }
        }
        ring.limit(bytes_max);
        let poll = poll(start, count);
        let (found, served) = served(&ring, &poll);
        prop_assert_eq!(&found, &body(&log, &poll));
        for record in batches(&found[16..]) {
            let record = record.expect("a batch");
            record.verify().expect("a valid batch");
            decode(record.bytes());
        }
        PollMessagesResponse::decode(&found).expect("a reply by Iggy's own codec");
        prop_assert_eq!(served.committed.0, shape.iter().map(Vec::len).sum::<usize>() as u64);
    }

    #[test]
    fn polls_one_after_another_bring_every_message_once(
        shape in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 1..10),
        counts in prop::collection::vec(1_u32..9, 1..20),
    ) {
        let log = log(&shape);
        let ring = MemoryRing::default();
        ring.append(key(), Bytes::from(log.concat()));
        let mut counts = counts.into_iter().cycle();
        let (mut next, mut frames) = (Offset(0), Vec::new());
        loop {
            let (body, served) = served(&ring, &at(next.0, counts.next().expect("endless")));
            let views: Vec<_> = batches(&body[16..]).map(|view| view.expect("a batch")).collect();
            let messages = views.iter().flat_map(BatchView::messages);
            frames.extend(messages.map(|message| message.expect("a message").frame().to_vec()));
            if served.messages == 0 {
                break;
            }
            next = served.next;
        }
        let whole = log.concat();
        let views: Vec<_> = batches(&whole).map(|view| view.expect("a batch")).collect();
        let expected = views.iter().flat_map(BatchView::messages).map(|message| message.expect("a message").frame().to_vec());
        prop_assert_eq!(frames, expected.collect::<Vec<_>>());
    }
}
