//! What every small object begins with: a magic of its own kind, a version, a length and one checksum over it all.
//!
//! ```text
//!  0 [u8;4]  magic          one per kind of object
//!  4 u16     version        1
//!  6 u16     reserved, 0
//!  8 u32     body_bytes     length of the rkyv body
//! 12 u32     reserved, 0
//! 16 u128    put            the object's put id; 0 where the object has none
//! 32 u64     checksum       XXH3-64 of bytes 0..32 and the body
//! 40         body           all integers little-endian
//! ```

use bytes::Bytes;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};

use crate::archive::{from_archive, to_archive};
use crate::checksum::checksum_pieces;
use crate::ids::PutId;
use crate::limits::{OBJECT_VERSION, RECORD_BYTES_MAX};
use crate::object::{ObjectError, ObjectKind};
use crate::raw::{array_at, u16_at, u32_at, u64_at, u128_at};

/// Length of the envelope's fixed part.
pub const ENVELOPE_BYTES: usize = 40;

/// Where the checksum stands: over everything before it and the body.
const CHECKSUM_AT: usize = 32;

const _: () = {
    assert!(4 + 2 + 2 + 4 + 4 + 16 == CHECKSUM_AT);
    assert!(CHECKSUM_AT + 8 == ENVELOPE_BYTES);
};

/// Puts a value into an envelope.
pub(crate) fn seal<T>(kind: ObjectKind, put: PutId, value: &T) -> Bytes
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
{
    let body = to_archive(value);
    let body_bytes = u32::try_from(body.len()).expect("an object's body is bounded by its writer");
    let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + body.len());
    bytes.extend_from_slice(&kind.magic());
    bytes.extend_from_slice(&OBJECT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&body_bytes.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&put.0.to_le_bytes());
    let own = checksum_pieces([&bytes[..], &body[..]]);
    bytes.extend_from_slice(&own.to_le_bytes());
    bytes.extend_from_slice(&body);
    Bytes::from(bytes)
}

/// Takes a value out of its envelope, after checking everything about it, and the put id that it names.
pub(crate) fn open<T>(kind: ObjectKind, bytes: &[u8]) -> Result<(PutId, T), ObjectError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<T, HighDeserializer<Failure>>,
{
    if bytes.len() < ENVELOPE_BYTES {
        return Err(ObjectError::Truncated { needed: ENVELOPE_BYTES as u64, available: bytes.len() as u64 });
    }
    let magic = array_at(bytes, 0);
    if magic != kind.magic() {
        return Err(ObjectError::Magic { expected: kind, found: magic });
    }
    let version = u16_at(bytes, 4);
    if version != OBJECT_VERSION {
        return Err(ObjectError::Version { kind, found: version });
    }
    let body_bytes = u32_at(bytes, 8) as usize;
    if body_bytes > RECORD_BYTES_MAX {
        return Err(ObjectError::Length { kind, expected: RECORD_BYTES_MAX as u64, found: body_bytes as u64 });
    }
    if bytes.len() != ENVELOPE_BYTES + body_bytes {
        let expected = (ENVELOPE_BYTES + body_bytes) as u64;
        return Err(ObjectError::Length { kind, expected, found: bytes.len() as u64 });
    }
    let body = &bytes[ENVELOPE_BYTES..];
    if checksum_pieces([&bytes[..CHECKSUM_AT], body]) != u64_at(bytes, CHECKSUM_AT) {
        return Err(ObjectError::Checksum { kind });
    }
    if bytes[6..8] != [0; 2] || bytes[12..16] != [0; 4] {
        return Err(ObjectError::Reserved { kind });
    }
    let value = from_archive(body).map_err(|_| ObjectError::Body { kind })?;
    Ok((PutId(u128_at(bytes, 16)), value))
}
