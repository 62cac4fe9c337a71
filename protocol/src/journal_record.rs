//! What one record of a node's journal says. The body of an entry lies beside the head, in the same record.
//!
//! A head is a version, four bytes in all, and an rkyv archive. It carries no checksum and no length: the journal's
//! own record frame has both, over head and body together.
//!
//! ```text
//! 0 u16  version, 1
//! 2 u16  reserved, 0
//! 4      rkyv archive of the record          all integers little-endian
//! ```

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::archive::{from_archive, to_archive};
use crate::entry::{EntryHead, EntryHeadError};
use crate::ids::{Epoch, Lsn, ShardId};
use crate::limits::{JOURNAL_RECORD_HEAD_BYTES_MAX, JOURNAL_RECORD_VERSION};
use crate::raw::u16_at;

const PREFIX_BYTES: usize = 4;

/// One record of a journal, body aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalRecord {
    /// An entry of an epoch; its body is the record's body.
    Entry {
        /// Which shard.
        shard: ShardId,
        /// Whose order.
        epoch: Epoch,
        /// Its place in it.
        lsn: Lsn,
        /// What stands there.
        head: EntryHead,
    },
    /// An entry that this journal already holds under an older epoch (PROTOCOL R10).
    Adopted {
        /// Which shard.
        shard: ShardId,
        /// Whose order.
        epoch: Epoch,
        /// Its place in it.
        lsn: Lsn,
        /// The epoch under which the journal holds it.
        source_epoch: Epoch,
        /// Its place there.
        source_lsn: Lsn,
    },
    /// The promise to refuse every epoch below this one (PROTOCOL R9).
    Sealed {
        /// Which shard.
        shard: ShardId,
        /// The lowest epoch that is not refused.
        epoch: Epoch,
    },
}

/// What is archived. Tuples, so that the archive's generated types need no documented fields.
#[derive(Archive, Serialize, Deserialize)]
enum RecordHead {
    Entry(ShardId, Epoch, Lsn, EntryHead),
    Adopted(ShardId, Epoch, Lsn, Epoch, Lsn),
    Sealed(ShardId, Epoch),
}

/// Bytes that are not the head of a journal record, though the journal's checksum vouched for them.
///
/// Another build wrote them, or this one has a bug: stop the node and keep its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalRecordError {
    /// Longer than any record's head.
    #[error("a journal record's head of {bytes} bytes is longer than {JOURNAL_RECORD_HEAD_BYTES_MAX}")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Another build wrote it.
    #[error("the journal has record version {found} and this build reads {JOURNAL_RECORD_VERSION}; use a newer build")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Not a record at all.
    #[error("a journal record's head is malformed though undamaged; keep the journal")]
    Malformed,
    /// The entry contradicts itself.
    #[error("a journal record's entry contradicts itself; keep the journal")]
    Entry(#[source] EntryHeadError),
}

impl JournalRecord {
    /// The record's head as bytes, at most [`JOURNAL_RECORD_HEAD_BYTES_MAX`] of them.
    pub fn encode(&self) -> Bytes {
        let archived = to_archive(&match *self {
            Self::Entry { shard, epoch, lsn, ref head } => RecordHead::Entry(shard, epoch, lsn, head.clone()),
            Self::Adopted { shard, epoch, lsn, source_epoch, source_lsn } => {
                RecordHead::Adopted(shard, epoch, lsn, source_epoch, source_lsn)
            }
            Self::Sealed { shard, epoch } => RecordHead::Sealed(shard, epoch),
        });
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + archived.len());
        bytes.extend_from_slice(&JOURNAL_RECORD_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&archived);
        assert!(bytes.len() <= JOURNAL_RECORD_HEAD_BYTES_MAX, "a record's head has a fixed size");
        Bytes::from(bytes)
    }

    /// The record that these bytes are the head of.
    pub fn decode(bytes: &[u8]) -> Result<Self, JournalRecordError> {
        if bytes.len() > JOURNAL_RECORD_HEAD_BYTES_MAX {
            return Err(JournalRecordError::TooLong { bytes: bytes.len() });
        }
        if bytes.len() < PREFIX_BYTES {
            return Err(JournalRecordError::Malformed);
        }
        let found = u16_at(bytes, 0);
        if found != JOURNAL_RECORD_VERSION {
            return Err(JournalRecordError::Version { found });
        }
        if u16_at(bytes, 2) != 0 {
            return Err(JournalRecordError::Malformed);
        }
        match from_archive(&bytes[PREFIX_BYTES..]).map_err(|_| JournalRecordError::Malformed)? {
            RecordHead::Entry(shard, epoch, lsn, head) => {
                head.check().map_err(JournalRecordError::Entry)?;
                Ok(Self::Entry { shard, epoch, lsn, head })
            }
            RecordHead::Adopted(shard, epoch, lsn, source_epoch, source_lsn) => {
                Ok(Self::Adopted { shard, epoch, lsn, source_epoch, source_lsn })
            }
            RecordHead::Sealed(shard, epoch) => Ok(Self::Sealed { shard, epoch }),
        }
    }

    /// Which shard it is of.
    pub fn shard(&self) -> ShardId {
        match *self {
            Self::Entry { shard, .. } | Self::Adopted { shard, .. } | Self::Sealed { shard, .. } => shard,
        }
    }

    /// The epoch that it is of, or up to which it refuses.
    pub fn epoch(&self) -> Epoch {
        match *self {
            Self::Entry { epoch, .. } | Self::Adopted { epoch, .. } | Self::Sealed { epoch, .. } => epoch,
        }
    }
}
