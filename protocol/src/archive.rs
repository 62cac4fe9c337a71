//! rkyv at one place: how values become bytes, and how bytes that nobody vouches for become values.
//!
//! The features chosen in the workspace (`little_endian`, `unaligned`, 32-bit pointers) make an archive independent of
//! the machine and of where it lies in a buffer, so it is validated and read in place, without a copy for alignment.
//! Archives do not describe themselves: whoever calls this has checked a version number first.

use bytes::Bytes;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator, to_bytes_in};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};

/// Bytes that are not an archive of the type asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a valid archive of the expected type")]
pub(crate) struct ArchiveError;

/// The archive of a value. The same value gives the same bytes in every build.
pub(crate) fn to_archive<T>(value: &T) -> Bytes
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
{
    let bytes = to_bytes_in::<_, Failure>(value, Vec::new());
    Bytes::from(bytes.expect("values below the limits always archive: their offsets fit 31 bits"))
}

/// The value of an archive.
///
/// Validation proves that every list and text lies inside `bytes` without overlap before anything is allocated, so a
/// value is at most a small multiple of `bytes`, whose length the caller has bounded.
pub(crate) fn from_archive<T>(bytes: &[u8]) -> Result<T, ArchiveError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<T, HighDeserializer<Failure>>,
{
    rkyv::from_bytes::<T, Failure>(bytes).map_err(|Failure| ArchiveError)
}
