//! The small objects as bytes: claim, open record, seal, manifest, cluster identity.
//!
//! Each is an rkyv body in the [`crate::object::envelope`]. Lists are checked against [`crate::limits`] after
//! the body was validated; who may write what, and when, is for decisions.

use bytes::Bytes;

use crate::ids::PutId;
use crate::limits::{COPIES_MAX, PARTITIONS_PER_SHARD_MAX, SHARD_COUNT_MAX};
use crate::object::{
    CLUSTER_FORMAT, Claim, ClusterIdentity, Manifest, ObjectError, ObjectKind, OpenRecord, SealObject, envelope,
};

/// The put id of objects that need none: their key and content are unique.
const NO_PUT: PutId = PutId(0);

fn contradiction(kind: ObjectKind, what: &'static str) -> ObjectError {
    ObjectError::Contradiction { kind, what }
}

fn same_put(kind: ObjectKind, envelope: PutId, body: PutId) -> Result<(), ObjectError> {
    if envelope == body { Ok(()) } else { Err(ObjectError::PutMismatch { kind, envelope, body }) }
}

fn partitions_in_range(kind: ObjectKind, count: usize) -> Result<(), ObjectError> {
    if count > PARTITIONS_PER_SHARD_MAX {
        return Err(contradiction(kind, "more partitions than a shard may have"));
    }
    Ok(())
}

impl Claim {
    /// The claim's bytes. Two claimants never write the same ones: epoch and process differ.
    pub fn encode(&self) -> Bytes {
        envelope::seal(ObjectKind::Claim, NO_PUT, self)
    }

    /// The claim in these bytes. Whether its epoch is the one of its key, the caller compares.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let kind = ObjectKind::Claim;
        let (put, claim) = envelope::open::<Self>(kind, bytes)?;
        same_put(kind, put, NO_PUT)?;
        let copies = claim.copyset.copies.len();
        if copies == 0 || copies > COPIES_MAX {
            return Err(contradiction(kind, "it names no copy or too many"));
        }
        let quorum = usize::from(claim.copyset.quorum);
        if quorum > copies || quorum * 2 <= copies {
            return Err(contradiction(kind, "its quorum is not a majority of its copies"));
        }
        Ok(claim)
    }
}

impl OpenRecord {
    /// The open record's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(ObjectKind::OpenRecord, self.put, self)
    }

    /// The open record in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let kind = ObjectKind::OpenRecord;
        let (put, record) = envelope::open::<Self>(kind, bytes)?;
        same_put(kind, put, record.put)?;
        partitions_in_range(kind, record.partitions.len())?;
        Ok(record)
    }
}

impl SealObject {
    /// The seal's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(ObjectKind::Seal, self.put, self)
    }

    /// The seal in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let kind = ObjectKind::Seal;
        let (put, seal) = envelope::open::<Self>(kind, bytes)?;
        same_put(kind, put, seal.put)?;
        if seal.by <= seal.epoch {
            return Err(contradiction(kind, "a seal is set by a later epoch"));
        }
        Ok(seal)
    }
}

impl Manifest {
    /// The manifest's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(ObjectKind::Manifest, NO_PUT, self)
    }

    /// The manifest in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let kind = ObjectKind::Manifest;
        let (put, manifest) = envelope::open::<Self>(kind, bytes)?;
        same_put(kind, put, NO_PUT)?;
        partitions_in_range(kind, manifest.partitions.len())?;
        Ok(manifest)
    }
}

impl ClusterIdentity {
    /// The identity's bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(ObjectKind::Cluster, NO_PUT, self)
    }

    /// The identity in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let kind = ObjectKind::Cluster;
        let (put, identity) = envelope::open::<Self>(kind, bytes)?;
        same_put(kind, put, NO_PUT)?;
        if identity.format != CLUSTER_FORMAT {
            return Err(ObjectError::Version { kind, found: identity.format });
        }
        if !(1..=SHARD_COUNT_MAX).contains(&identity.shard_count) {
            return Err(contradiction(kind, "its shard count is out of range"));
        }
        Ok(identity)
    }
}
