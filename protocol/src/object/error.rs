//! What can be wrong with an object, in terms of whoever reads it.

use core::fmt;

use crate::ids::PutId;
use crate::limits::OBJECT_VERSION;

/// What an object is. Its first four bytes say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// See [`crate::object::Claim`].
    Claim,
    /// See [`crate::object::OpenRecord`].
    OpenRecord,
    /// See [`crate::object::SealObject`].
    Seal,
    /// See [`crate::object::LogIndex`].
    Log,
    /// See [`crate::object::Manifest`].
    Manifest,
    /// See [`crate::catalog::Catalog`].
    Catalog,
    /// See [`crate::object::ClusterIdentity`].
    Cluster,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Claim, Self::OpenRecord, Self::Seal, Self::Log, Self::Manifest, Self::Catalog, Self::Cluster];

    /// The first four bytes of every object of this kind.
    pub const fn magic(self) -> [u8; 4] {
        match self {
            Self::Claim => *b"KNLC",
            Self::OpenRecord => *b"KNLO",
            Self::Seal => *b"KNLS",
            Self::Log => *b"KNLL",
            Self::Manifest => *b"KNLM",
            Self::Catalog => *b"KNLT",
            Self::Cluster => *b"KNLI",
        }
    }

    /// The kind that begins with these bytes.
    pub fn from_magic(magic: [u8; 4]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.magic() == magic)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "claim",
            Self::OpenRecord => "open record",
            Self::Seal => "seal",
            Self::Log => "log object",
            Self::Manifest => "manifest",
            Self::Catalog => "catalogue",
            Self::Cluster => "cluster identity",
        })
    }
}

/// Bytes of the bucket that are not the object they should be.
///
/// Read again once: a cache or the way here may have damaged them. If it stays so, stop and tell an operator. Only
/// [`ObjectError::Version`] is answered by an upgrade instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The bytes end too early.
    #[error("{needed} bytes are needed and {available} are there; read the rest")]
    Truncated {
        /// Length of what should stand there.
        needed: u64,
        /// How much stands there.
        available: u64,
    },
    /// The object is another one, or none of ours.
    #[error("this is not a {expected}: it begins with {found:02x?}; check the prefix, or read again")]
    Magic {
        /// What was asked for.
        expected: ObjectKind,
        /// What stood there.
        found: [u8; 4],
    },
    /// A slot holds neither log object, open record nor seal.
    #[error("this is no object of a log: it begins with {found:02x?}; check the prefix, or read again")]
    NotASlot {
        /// What stood there.
        found: [u8; 4],
    },
    /// Another build wrote it.
    #[error("this {kind} has format version {found} and this build reads {OBJECT_VERSION}; upgrade this side")]
    Version {
        /// What the object is.
        kind: ObjectKind,
        /// Its version.
        found: u16,
    },
    /// The length is not what the object says, or beyond the limit.
    #[error("this {kind} has {found} bytes where {expected} are right; read again")]
    Length {
        /// What the object is.
        kind: ObjectKind,
        /// What is right.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// Damaged.
    #[error("this {kind} is damaged: its checksum does not match; read again")]
    Checksum {
        /// What the object is.
        kind: ObjectKind,
    },
    /// Reserved bytes are set. Undamaged, so a build that this one does not know wrote it.
    #[error("this {kind} sets bytes that this build does not know; upgrade this side")]
    Reserved {
        /// What the object is.
        kind: ObjectKind,
    },
    /// The checksum is right and the body is not: a bug in the writer.
    #[error("the body of this {kind} is malformed though undamaged; stop and keep the object")]
    Body {
        /// What the object is.
        kind: ObjectKind,
    },
    /// The parts of the object contradict each other.
    #[error("this {kind} contradicts itself: {what}; stop and keep the object")]
    Contradiction {
        /// What the object is.
        kind: ObjectKind,
        /// Where.
        what: &'static str,
    },
    /// The put id in the envelope is not the one in the body.
    #[error("this {kind} names itself {envelope} outside and {body} inside; stop and keep the object")]
    PutMismatch {
        /// What the object is.
        kind: ObjectKind,
        /// Outside.
        envelope: PutId,
        /// Inside.
        body: PutId,
    },
    /// A block is damaged. Read it again, from another place if there is one.
    #[error("the block at {position} is damaged: its checksum does not match; read again")]
    BlockChecksum {
        /// Where it begins in the object, bytes.
        position: u64,
    },
    /// A block was read with another length than the index says.
    #[error("the block at {position} has {found} bytes where the index says {expected}; read again")]
    BlockLength {
        /// Where it begins in the object, bytes.
        position: u64,
        /// By the index.
        expected: u32,
        /// As read.
        found: usize,
    },
}
