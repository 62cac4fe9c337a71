//! What the fuzz targets do with bytes: decode them and, if they are accepted, check that what was decoded is what it
//! would encode to. Each answers whether the bytes were accepted; a panic is a finding.
//!
//! Where a checksum would turn every input away, the decoder is also run with the checksum put right, so that what
//! lies behind it is reached. The protocol's own tests run all of these on damaged samples.

use bytes::Bytes;
use kennel_protocol::batch::{batches, inspect_chunk, peek, slice};
use kennel_protocol::catalog::Catalog;
use kennel_protocol::checksum::{checksum, checksum_pieces};
use kennel_protocol::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, Payload};
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey};
use kennel_protocol::journal_record::JournalRecord;
use kennel_protocol::keys::{CatalogKey, ClaimKey, LogKey, ManifestKey, RegistryKey, RunKey};
use kennel_protocol::local::{Entrance, Grant, LOCAL_MESSAGE_BYTES, WAKE_BYTES, Wake, WakeRequest};
use kennel_protocol::object::{
    Claim, ClusterIdentity, EncodedObject, LOG_FOOTER_BYTES, LOG_HEADER_BYTES, LogFooter, LogHeader, LogIndex,
    Manifest, ObjectKind, OpenRecord, SealObject, SlotObject, decode_slot, decode_slot_suffix, verify_block,
};
use kennel_protocol::wire::Message;

/// One decoder: whether it accepts the bytes.
pub type Decoder = fn(&[u8]) -> bool;

/// Every decoder by the name of its fuzz target.
pub const DECODERS: [(&str, Decoder); 12] = [
    ("frame", frame),
    ("message", message),
    ("batch", batch),
    ("slot", slot),
    ("log_suffix", log_suffix),
    ("log_index", log_index),
    ("claim", claim),
    ("manifest", manifest),
    ("catalog", catalog),
    ("journal_record", journal_record),
    ("key", key),
    ("local", local),
];

/// A frame as it travels.
pub fn on_the_wire(frame: &Frame) -> Bytes {
    let mut bytes = frame.header().encode().to_vec();
    bytes.extend_from_slice(&frame.head);
    frame.payload.pieces().iter().for_each(|piece| bytes.extend_from_slice(piece));
    Bytes::from(bytes)
}

/// A frame without its checksums: kind, length of the head, head, payload. What [`message`] takes.
pub fn pack(frame: &Frame) -> Bytes {
    let head_bytes = u32::try_from(frame.head.len()).expect("a sample is small");
    let mut bytes = frame.kind.number().to_le_bytes().to_vec();
    bytes.extend_from_slice(&head_bytes.to_le_bytes());
    bytes.extend_from_slice(&frame.head);
    frame.payload.pieces().iter().for_each(|piece| bytes.extend_from_slice(piece));
    Bytes::from(bytes)
}

/// The header of a log object, the place of its index, and the index. What [`log_index`] takes.
pub fn index_of(encoded: &EncodedObject) -> Bytes {
    let [header, .., index, _footer] = &encoded.pieces[..] else { panic!("an object has at least three pieces") };
    let position = encoded.index.blocks_end().to_le_bytes();
    Bytes::from([&header[..], &position, &index[..]].concat())
}

/// A frame off the wire, and the message in it.
pub fn frame(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else { return false };
    let Ok(header) = FrameHeader::decode(header) else { return false };
    assert_eq!(&header.encode()[..], &bytes[..FRAME_HEADER_BYTES]);
    let Some((head, payload)) = rest.split_at_checked(header.head_bytes as usize) else { return false };
    let payload = Payload::from(Bytes::copy_from_slice(payload));
    let Ok(frame) = Frame::verify(header, Bytes::copy_from_slice(head), payload) else { return false };
    Message::decode(frame).is_ok()
}

/// A message whose frame is undamaged, whoever made it.
pub fn message(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first_chunk::<2>() else { return false };
    let Some(kind) = FrameKind::from_number(u16::from_le_bytes(*kind)) else { return false };
    let Some((head_bytes, rest)) = rest.split_first_chunk::<4>() else { return false };
    let Some((head, payload)) = rest.split_at_checked(u32::from_le_bytes(*head_bytes) as usize) else { return false };
    let payload = Payload::from(Bytes::copy_from_slice(payload));
    let frame = Frame { kind, correlation: 1, head: Bytes::copy_from_slice(head), payload };
    let Ok(message) = Message::decode(frame) else { return false };
    assert_eq!(Message::decode(message.encode(1)).expect("what was accepted is accepted again"), message);
    true
}

/// A run of batches.
pub fn batch(bytes: &[u8]) -> bool {
    for view in batches(bytes).flatten() {
        let verified = view.verify();
        if let Ok(summary) = verified {
            let whole = slice(&view, Offset(0), u32::MAX).expect("verified").expect("at least one message");
            assert_eq!(&whole[..], view.bytes());
            assert!(summary.first.offset <= summary.last.offset);
        }
        for message in view.messages().flatten() {
            let frame = 48 + message.payload().len() + message.user_headers().len();
            assert_eq!(frame, message.frame().len());
        }
    }
    let partition_id = batches(bytes).flatten().next().map_or(0, |view| view.header().partition_id);
    let partition = PartitionId(u32::try_from(partition_id).unwrap_or(0));
    let zero = "0/0/0".parse::<PartitionKey>().expect("a partition");
    let Ok(head) = inspect_chunk(PartitionKey { partition, ..zero }, &Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let peek = peek(bytes).expect("what is verified can be walked");
    assert_eq!((peek.base, peek.end, peek.messages), (head.base, head.end, head.sum.messages));
    true
}

/// Any object of a log slot: also with the checksum of the small ones put right.
pub fn slot(bytes: &[u8]) -> bool {
    for stamped in restamped(bytes) {
        if let Ok(record) = OpenRecord::decode(&stamped) {
            assert_eq!(OpenRecord::decode(&record.encode()), Ok(record));
        }
        if let Ok(seal) = SealObject::decode(&stamped) {
            assert_eq!(SealObject::decode(&seal.encode()), Ok(seal));
        }
    }
    let bytes = Bytes::copy_from_slice(bytes);
    let decoded = decode_slot(&bytes);
    if let Ok(SlotObject::Log(index)) = &decoded {
        for line in &index.entries {
            let place = |position| usize::try_from(position).expect("inside the object");
            let _verdict = verify_block(line, &bytes[place(line.range().start)..place(line.range().end)]);
        }
    }
    decoded.is_ok()
}

/// The end of a slot's object: once as the whole and once as the end of something longer.
pub fn log_suffix(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    if bytes.len() > LOG_FOOTER_BYTES {
        let _end = decode_slot_suffix(bytes.len() as u64, &bytes.slice(bytes.len() - LOG_FOOTER_BYTES..));
        let _middle = decode_slot_suffix(bytes.len() as u64, &bytes.slice(bytes.len() / 2..));
    }
    let _longer = decode_slot_suffix(bytes.len() as u64 + 1, &bytes);
    decode_slot_suffix(bytes.len() as u64, &bytes).is_ok()
}

/// A header, the place of an index and an archived index, with a footer that vouches for them.
pub fn log_index(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk::<LOG_HEADER_BYTES>() else { return false };
    let Some((position, index)) = rest.split_first_chunk::<8>() else { return false };
    let (Ok(decoded), Ok(index_bytes)) = (LogHeader::decode(header), u32::try_from(index.len())) else { return false };
    assert_eq!(&decoded.encode(), header);
    let index_position = u64::from_le_bytes(*position);
    let footer = LogFooter {
        index_position,
        index_bytes,
        index_checksum: checksum(index),
        header_checksum: checksum(&header[..LOG_HEADER_BYTES - 8]),
        object_bytes: index_position.wrapping_add(index.len() as u64).wrapping_add(LOG_FOOTER_BYTES as u64),
    };
    let Ok(footer) = LogFooter::decode(&footer.encode()) else { return false };
    LogIndex::decode(&footer, index).is_ok_and(|index| index.header == decoded)
}

/// A claim: also with its checksum put right. The cluster's identity is its like.
pub fn claim(bytes: &[u8]) -> bool {
    for stamped in restamped(bytes) {
        if let Ok(claim) = Claim::decode(&stamped) {
            assert_eq!(Claim::decode(&claim.encode()), Ok(claim));
        }
        if let Ok(identity) = ClusterIdentity::decode(&stamped) {
            assert_eq!(ClusterIdentity::decode(&identity.encode()), Ok(identity));
        }
    }
    Claim::decode(bytes).is_ok()
}

/// A manifest: also with its checksum put right.
pub fn manifest(bytes: &[u8]) -> bool {
    for stamped in restamped(bytes) {
        if let Ok(manifest) = Manifest::decode(&stamped) {
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }
    Manifest::decode(bytes).is_ok()
}

/// A catalogue: also with its checksum put right.
pub fn catalog(bytes: &[u8]) -> bool {
    for stamped in restamped(bytes) {
        if let Ok(catalog) = Catalog::decode(&stamped) {
            assert_eq!(Catalog::decode(&catalog.encode()), Ok(catalog));
        }
    }
    Catalog::decode(bytes).is_ok()
}

/// The head of a journal record.
pub fn journal_record(bytes: &[u8]) -> bool {
    let Ok(record) = JournalRecord::decode(bytes) else { return false };
    assert_eq!(JournalRecord::decode(&record.encode()), Ok(record));
    true
}

/// A key of the bucket.
pub fn key(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let parsed = [
        text.parse::<ClaimKey>().map(|key| key.to_string()),
        text.parse::<LogKey>().map(|key| key.to_string()),
        text.parse::<RunKey>().map(|key| key.to_string()),
        text.parse::<ManifestKey>().map(|key| key.to_string()),
        text.parse::<CatalogKey>().map(|key| key.to_string()),
        text.parse::<RegistryKey>().map(|key| key.to_string()),
    ];
    let mut accepted = parsed.into_iter().flatten();
    let printed = accepted.next();
    assert!(accepted.next().is_none(), "a text is the key of one thing");
    assert!(printed.as_deref().is_none_or(|printed| printed == text), "a key has one spelling");
    printed.is_some()
}

/// Any message of a node's local socket.
pub fn local(bytes: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(bytes) = <&[u8; LOCAL_MESSAGE_BYTES]>::try_from(bytes) {
        let entrance = Entrance::decode(bytes).inspect(|message| assert_eq!(&message.encode(), bytes));
        let grant = Grant::decode(bytes).inspect(|message| assert_eq!(&message.encode(), bytes));
        let request = WakeRequest::decode(bytes).inspect(|message| assert_eq!(&message.encode(), bytes));
        accepted |= entrance.is_some() || grant.is_some() || request.is_some();
    }
    if let Ok(bytes) = <&[u8; WAKE_BYTES]>::try_from(bytes) {
        accepted |= Wake::decode(bytes).inspect(|message| assert_eq!(&message.encode(), bytes)).is_some();
    }
    accepted
}

/// A small object with the length and the checksum that its bytes call for, in each kind that a body could be of.
fn restamped(bytes: &[u8]) -> Vec<Vec<u8>> {
    if bytes.len() < 40 {
        return Vec::new();
    }
    let Ok(body_bytes) = u32::try_from(bytes.len() - 40) else { return Vec::new() };
    let stamp = |kind: ObjectKind| {
        let mut stamped = bytes.to_vec();
        stamped[0..4].copy_from_slice(&kind.magic());
        stamped[8..12].copy_from_slice(&body_bytes.to_le_bytes());
        let own = checksum_pieces([&stamped[..32], &stamped[40..]]);
        stamped[32..40].copy_from_slice(&own.to_le_bytes());
        stamped
    };
    ObjectKind::ALL.into_iter().map(stamp).collect()
}
