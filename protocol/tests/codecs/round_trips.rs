//! What is encoded reads back, and reads back without copying bodies.

use bytes::Bytes;
use kennel_protocol::batch::{Batch, batches, inspect_chunk};
use kennel_protocol::catalog::Catalog;
use kennel_protocol::frame::{Frame, FrameHeader, FrameKind, Payload};
use kennel_protocol::ids::Offset;
use kennel_protocol::journal_record::JournalRecord;
use kennel_protocol::object::{Claim, ClusterIdentity, Manifest, OpenRecord, SealObject};
use kennel_protocol::wire::{Message, Ship, WireDecodeError};
use proptest::prelude::*;

use crate::samples::{self, Draw};

/// The frame as the other side has it: one run of payload.
fn received(frame: &Frame) -> Frame {
    let header = FrameHeader::decode(&frame.header().encode()).expect("a header");
    let payload = Payload::from(Bytes::from(frame.payload.pieces().concat()));
    Frame::verify(header, frame.head.clone(), payload).expect("a frame")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn messages(seed: u64, correlation: u64) {
        for kind in FrameKind::ALL {
            let message = samples::messages::message(kind, &mut Draw::new(seed));
            let frame = message.encode(correlation);
            prop_assert_eq!((frame.kind, frame.correlation), (kind, correlation));
            prop_assert_eq!(message.kind(), kind);
            prop_assert_eq!(frame.check_limits(), Ok(()));
            // From the wire, and looped back in pieces.
            let sent = received(&frame);
            prop_assert_eq!(sent.correlation, correlation);
            prop_assert_eq!(Message::decode(sent).expect("a message"), message.clone());
            prop_assert_eq!(Message::decode(frame).expect("a message"), message);
        }
    }

    #[test]
    fn small_objects(seed: u64) {
        let draw = &mut Draw::new(seed);
        let claim = samples::claim(draw);
        prop_assert_eq!(Claim::decode(&claim.encode()), Ok(claim));
        let record = samples::open_record(draw);
        prop_assert_eq!(OpenRecord::decode(&record.encode()), Ok(record));
        let seal = samples::seal_object(draw);
        prop_assert_eq!(SealObject::decode(&seal.encode()), Ok(seal));
        let manifest = samples::manifest(draw);
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        let cluster = samples::cluster(draw);
        prop_assert_eq!(ClusterIdentity::decode(&cluster.encode()), Ok(cluster));
        let catalog = samples::catalog(draw);
        prop_assert_eq!(Catalog::decode(&catalog.encode()), Ok(catalog));
        let record = samples::journal_record(draw);
        prop_assert_eq!(JournalRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn chunks(seed: u64) {
        let draw = &mut Draw::new(seed);
        let (partition, base) = (draw.partition(), draw.offset());
        let entry = samples::chunk(draw, partition, base);
        prop_assert_eq!(entry.verify_body(), Ok(()));
        prop_assert_eq!(entry.head.check(), Ok(()));
        prop_assert_eq!(entry.head.sum.messages, entry.head.end.0 - base.0);
        let whole: Vec<u8> = batches(&entry.body).flat_map(|batch| batch.expect("a batch").bytes().to_vec()).collect();
        prop_assert_eq!(Bytes::from(whole), entry.body);
    }
}

#[test]
fn bodies_are_slices_of_the_payload() {
    let draw = &mut Draw::new(3);
    let partition = draw.partition();
    let entry = samples::chunk(draw, partition, Offset(4));
    let chunk = kennel_protocol::wire::ShipChunk { head: entry.head, body: entry.body.clone() };
    let ship = Ship { shard: draw.shard(), epoch: draw.epoch(), chunks: vec![chunk.clone(), chunk] };
    let sent = Message::Ship(ship).encode(1);
    assert_eq!(sent.payload.pieces()[0].as_ptr(), entry.body.as_ptr(), "sending copies nothing");
    let frame = received(&sent);
    let start = frame.payload.pieces()[0].as_ptr() as usize;
    let Ok(Message::Ship(ship)) = Message::decode(frame) else { panic!("a ship") };
    let places: Vec<usize> = ship.chunks.iter().map(|chunk| chunk.body.as_ptr() as usize - start).collect();
    assert_eq!(places, [0, entry.body.len()], "receiving copies nothing");
}

#[test]
fn payloads_that_do_not_match_their_heads_are_refused() {
    let partition = "1/2/3".parse().expect("a partition");
    let entry = samples::chunk(&mut Draw::new(5), partition, Offset(0));
    let chunk = kennel_protocol::wire::ShipChunk { head: entry.head, body: entry.body };
    let ship = Ship { shard: Draw::new(1).shard(), epoch: Draw::new(1).epoch(), chunks: vec![chunk] };
    let decode = |change: fn(&mut Frame)| {
        let mut frame = Message::Ship(ship.clone()).encode(0);
        change(&mut frame);
        Message::decode(frame).expect_err("refused")
    };
    let shorter = |frame: &mut Frame| {
        let bytes = frame.payload.clone().into_contiguous();
        frame.payload = Payload::from(bytes.slice(1..));
    };
    let longer = |frame: &mut Frame| {
        let bytes = frame.payload.clone().into_contiguous();
        frame.payload = Payload::from(vec![bytes, Bytes::from_static(b"x")]);
    };
    assert!(matches!(decode(shorter), WireDecodeError::Payload { .. }));
    assert!(matches!(decode(longer), WireDecodeError::Trailing { bytes: 1, .. }));
    assert!(matches!(decode(|frame| frame.head = Bytes::new()), WireDecodeError::Head { .. }));
    assert!(matches!(decode(|frame| frame.kind = FrameKind::Fetch), WireDecodeError::Head { .. }));
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let refused = |message: Message| {
        let error = Message::decode(message.encode(0)).expect_err("refused");
        assert!(matches!(error, WireDecodeError::Bounds { .. }), "{error:?}");
    };
    let draw = &mut Draw::new(9);
    let Message::Hello(mut hello) = samples::messages::message(FrameKind::Hello, draw) else { panic!("a hello") };
    hello.agent = "a".repeat(257);
    refused(Message::Hello(hello.clone()));
    (hello.agent, hello.version_min) = (String::new(), hello.version_max + 1);
    refused(Message::Hello(hello));
    let Message::Fetch(mut fetch) = samples::messages::message(FrameKind::Fetch, draw) else { panic!("a fetch") };
    fetch.bytes_max = u32::MAX;
    refused(Message::Fetch(fetch));
    let Message::View(mut view) = samples::messages::message(FrameKind::View, draw) else { panic!("a view") };
    view.shard_count = 0;
    refused(Message::View(view));
}

#[test]
fn a_batch_is_exactly_one() {
    let partition = "1/2/3".parse().expect("a partition");
    let one = samples::batch(&mut Draw::new(2), Draw::new(2).partition().partition, Offset(7));
    assert_eq!(Batch::parse(one.clone()).expect("a batch").view().header().base_offset, Offset(7));
    let two = Bytes::from([one.clone(), one].concat());
    assert!(Batch::parse(two.clone()).is_err());
    assert!(inspect_chunk(partition, &two).is_err(), "the second batch repeats offsets");
    assert!(inspect_chunk(partition, &Bytes::new()).is_err());
}
