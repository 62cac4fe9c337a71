//! The bytes of every sent or stored type, pinned. A change here is a change of format: raise its version first.
//!
//! `KENNEL_BLESS=1` writes the files anew.
#![expect(clippy::disallowed_methods, reason = "golden files are read from disk")]

use std::path::PathBuf;

use bytes::Bytes;
use kennel_protocol::catalog::Catalog;
use kennel_protocol::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, Payload};
use kennel_protocol::ids::{Offset, PartitionId};
use kennel_protocol::journal_record::JournalRecord;
use kennel_protocol::limits::WIRE_VERSION;
use kennel_protocol::object::{
    Claim, ClusterIdentity, Manifest, OpenRecord, SealObject, SlotObject, decode_slot, encode_log_object,
};
use kennel_protocol::wire::Message;

use crate::samples::{self, Draw};

const SEED: u64 = 1;

/// Compares with the golden file, or writes it where that was asked for, and returns what the file holds.
fn golden(name: &str, bytes: &[u8]) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
    if std::env::var_os("KENNEL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, bytes).expect("a golden file is writable");
    }
    let pinned = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(pinned == bytes, "{name}: the format changed; raise its version, then run with KENNEL_BLESS=1");
    Bytes::from(pinned)
}

fn on_the_wire(frame: &Frame, header: FrameHeader) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&frame.head);
    frame.payload.pieces().iter().for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}

fn off_the_wire(mut bytes: Bytes) -> Frame {
    let header = bytes.split_to(FRAME_HEADER_BYTES);
    let header = FrameHeader::decode(header.as_ref().try_into().expect("48 bytes")).expect("a header");
    let head = bytes.split_to(header.head_bytes as usize);
    Frame::verify(header, head, Payload::from(bytes)).expect("a frame")
}

#[test]
fn frames() {
    for kind in FrameKind::ALL {
        // Enough draws that lists are not all empty and options not all absent.
        for seed in [1, 2, 3] {
            let message = samples::messages::message(kind, &mut Draw::new(seed));
            let name = format!("frame_{}_{seed}", format!("{kind:?}").to_lowercase());
            let frame = message.encode(seed);
            let pinned = golden(&name, &on_the_wire(&frame, frame.header()));
            assert_eq!(Message::decode(off_the_wire(pinned)).expect("a message"), message, "{name}");
        }
    }
}

#[test]
fn frames_that_leave_batches_to_themselves() {
    for kind in FrameKind::ALL.into_iter().filter(|kind| kind.carries_batches()) {
        let message = samples::messages::message(kind, &mut Draw::new(2));
        let name = format!("frame_{}_unhashed", format!("{kind:?}").to_lowercase());
        let frame = message.encode(2);
        let pinned = golden(&name, &on_the_wire(&frame, frame.header_for(WIRE_VERSION)));
        assert_eq!(Message::decode(off_the_wire(pinned)).expect("a message"), message, "{name}");
    }
}

#[test]
fn small_objects() {
    let draw = &mut Draw::new(SEED);
    let claim = samples::claim(draw);
    assert_eq!(Claim::decode(&golden("claim", &claim.encode())), Ok(claim));
    let record = samples::open_record(draw);
    let pinned = golden("open_record", &record.encode());
    assert_eq!(OpenRecord::decode(&pinned), Ok(record.clone()));
    assert_eq!(decode_slot(&pinned), Ok(SlotObject::Open(record)));
    let seal = samples::seal_object(draw);
    let pinned = golden("seal", &seal.encode());
    assert_eq!(SealObject::decode(&pinned), Ok(seal));
    assert_eq!(decode_slot(&pinned), Ok(SlotObject::Seal(seal)));
    let manifest = samples::manifest(draw);
    assert_eq!(Manifest::decode(&golden("manifest", &manifest.encode())), Ok(manifest));
    let cluster = samples::cluster(draw);
    assert_eq!(ClusterIdentity::decode(&golden("cluster", &cluster.encode())), Ok(cluster));
    let catalog = samples::catalog(draw);
    assert_eq!(Catalog::decode(&golden("catalog", &catalog.encode())), Ok(catalog));
}

#[test]
fn log_object() {
    let (header, entries) = samples::log_entries(&mut Draw::new(SEED));
    let encoded = encode_log_object(header, &entries).expect("an object");
    let pinned = golden("log_object", &encoded.to_contiguous());
    assert_eq!(decode_slot(&pinned), Ok(SlotObject::Log(encoded.index)));
}

#[test]
fn journal_records() {
    for seed in 0..8 {
        let record = samples::journal_record(&mut Draw::new(seed));
        assert_eq!(JournalRecord::decode(&golden(&format!("journal_record_{seed}"), &record.encode())), Ok(record));
    }
}

#[test]
fn batch() {
    golden("batch", &samples::batch(&mut Draw::new(SEED), PartitionId(2), Offset(1_000)));
}
