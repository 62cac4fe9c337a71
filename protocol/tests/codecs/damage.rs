//! A flipped bit, a lost end or an added byte never passes: every checksummed format refuses it.

use bytes::Bytes;
use kennel_protocol::catalog::Catalog;
use kennel_protocol::frame::{FRAME_HEADER_BYTES, Frame, FrameError, FrameHeader, FrameKind, Payload};
use kennel_protocol::object::{
    Claim, ClusterIdentity, Manifest, ObjectError, OpenRecord, SealObject, SlotObject, decode_slot, encode_log_object,
    verify_block,
};

use crate::samples::{self, Draw};

/// Damages `bytes` at every bit (or every `step`th), cuts them at every length and adds to them: none may pass.
fn check(name: &str, bytes: &[u8], step: usize, refuses: impl Fn(Bytes) -> bool) {
    assert!(!refuses(Bytes::copy_from_slice(bytes)), "{name}: undamaged");
    for bit in (0..bytes.len() * 8).step_by(step) {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(refuses(Bytes::from(damaged)), "{name}: bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(refuses(Bytes::copy_from_slice(&bytes[..length])), "{name}: cut to {length}");
    }
    assert!(refuses(Bytes::from([bytes, &[0]].concat())), "{name}: a byte too many");
}

#[test]
fn small_objects() {
    for seed in 0..4 {
        let draw = &mut Draw::new(seed);
        check("claim", &samples::claim(draw).encode(), 1, |bytes| Claim::decode(&bytes).is_err());
        check("open record", &samples::open_record(draw).encode(), 1, |bytes| OpenRecord::decode(&bytes).is_err());
        check("seal", &samples::seal_object(draw).encode(), 1, |bytes| SealObject::decode(&bytes).is_err());
        check("manifest", &samples::manifest(draw).encode(), 1, |bytes| Manifest::decode(&bytes).is_err());
        check("cluster", &samples::cluster(draw).encode(), 1, |bytes| ClusterIdentity::decode(&bytes).is_err());
        check("catalogue", &samples::catalog(draw).encode(), 3, |bytes| Catalog::decode(&bytes).is_err());
    }
}

#[test]
fn log_objects() {
    let (header, entries) = samples::log_entries(&mut Draw::new(3));
    let encoded = encode_log_object(header, &entries).expect("an object");
    check("log object", &encoded.to_contiguous(), 5, |bytes| check_all(&bytes).is_err());
}

/// What a reader of a whole object does: its ends, its index, every block.
fn check_all(bytes: &Bytes) -> Result<(), ObjectError> {
    let SlotObject::Log(index) = decode_slot(bytes)? else { panic!("a log object") };
    for line in &index.entries {
        let range =
            usize::try_from(line.range().start).expect("small")..usize::try_from(line.range().end).expect("small");
        verify_block(line, &bytes[range])?;
    }
    Ok(())
}

#[test]
fn frames() {
    for kind in [
        FrameKind::Ship,
        FrameKind::View,
        FrameKind::Copy,
        FrameKind::Catalogued,
        FrameKind::CatalogOffer,
        FrameKind::LocalOffer,
        FrameKind::FetchInto,
        FrameKind::Landed,
        FrameKind::LandingsRequest,
        FrameKind::Landings,
        FrameKind::PlacedCopy,
    ] {
        let frame = samples::messages::message(kind, &mut Draw::new(2)).encode(7);
        let mut bytes = frame.header().encode().to_vec();
        bytes.extend_from_slice(&frame.head);
        bytes.extend_from_slice(&frame.payload.into_contiguous());
        check("frame", &bytes, 3, |bytes| parse(bytes).is_none_or(|frame| frame.is_err()));
    }
}

fn parse(mut bytes: Bytes) -> Option<Result<Frame, FrameError>> {
    if bytes.len() < FRAME_HEADER_BYTES {
        return None;
    }
    let header = bytes.split_to(FRAME_HEADER_BYTES);
    Some(FrameHeader::decode(header.as_ref().try_into().expect("48 bytes")).and_then(|header| {
        let head = bytes.split_to(bytes.len().min(header.head_bytes as usize));
        Frame::verify(header, head, Payload::from(bytes))
    }))
}

#[test]
fn an_object_of_another_kind_or_version_says_so() {
    let draw = &mut Draw::new(1);
    let manifest = samples::manifest(draw).encode();
    assert!(matches!(Claim::decode(&manifest), Err(ObjectError::Magic { .. })));
    assert!(matches!(decode_slot(&manifest), Err(ObjectError::NotASlot { .. })));
    let mut newer = manifest.to_vec();
    newer[4] = 2;
    assert!(matches!(Manifest::decode(&newer), Err(ObjectError::Version { found: 2, .. })));
    let mut cluster = samples::cluster(draw);
    cluster.format = 2;
    assert!(matches!(ClusterIdentity::decode(&cluster.encode()), Err(ObjectError::Version { found: 2, .. })));
}

#[test]
fn objects_that_contradict_themselves_are_refused() {
    let draw = &mut Draw::new(1);
    let mut claim = samples::claim(draw);
    claim.copyset.quorum = 0;
    assert!(matches!(Claim::decode(&claim.encode()), Err(ObjectError::Contradiction { .. })));
    claim.copyset.copies.clear();
    assert!(matches!(Claim::decode(&claim.encode()), Err(ObjectError::Contradiction { .. })));
    let mut seal = samples::seal_object(draw);
    seal.by = seal.epoch;
    assert!(matches!(SealObject::decode(&seal.encode()), Err(ObjectError::Contradiction { .. })));
    let mut cluster = samples::cluster(draw);
    cluster.shard_count = 0;
    assert!(matches!(ClusterIdentity::decode(&cluster.encode()), Err(ObjectError::Contradiction { .. })));
}
