//! The names of things: every id and every mark is a type of its own.
//!
//! All of them are plain numbers on the wire and in the bucket; the types exist so that an offset can never be
//! passed where an epoch is meant. They know nothing about who assigns them.

use core::fmt;
use core::str::FromStr;

use rkyv::{Archive, Deserialize, Serialize};

use crate::checksum::checksum;

/// Text that is not the id it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {expected}")]
pub struct ParseIdError {
    /// What stood there.
    pub text: String,
    /// What was expected, in words.
    pub expected: &'static str,
}

macro_rules! decimal_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $words:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Archive, Serialize, Deserialize)]
        #[rkyv(derive(Debug, PartialEq, Eq))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.parse().map(Self).map_err(|_| ParseIdError { text: text.to_owned(), expected: $words })
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $words:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Archive, Serialize, Deserialize)]
        #[rkyv(derive(Debug, PartialEq, Eq))]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let fail = || ParseIdError { text: text.to_owned(), expected: $words };
                if text.len() != 32 {
                    return Err(fail());
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| fail())
            }
        }
    };
}

decimal_id!(
    /// Iggy's numeric id of a stream. Iggy reuses ids, lowest free first.
    StreamId(u32), "stream id (a number)");
decimal_id!(
    /// Iggy's numeric id of a topic within its stream.
    TopicId(u32), "topic id (a number)");
decimal_id!(
    /// Iggy's numeric id of a partition within its topic.
    PartitionId(u32), "partition id (a number)");
decimal_id!(
    /// Tells a recreated partition from the one that had the same ids before it.
    Incarnation(u64), "incarnation (a number)");
decimal_id!(
    /// A message's number in its partition. Ranges are half-open: `[base, end)`.
    Offset(u64), "offset (a number)");
decimal_id!(
    /// A fixed slot of the partition space: the unit of placement, ownership and parallel uploads.
    ShardId(u16), "shard id (a number)");
decimal_id!(
    /// The number of a claim. Stamped on everything an owner writes or sends; 0 means "no claim yet".
    Epoch(u64), "epoch (a number)");
decimal_id!(
    /// A place in an epoch's log in the bucket. Dense from 0.
    Slot(u64), "slot (a number)");
decimal_id!(
    /// A place in an epoch's order of journal entries. Dense from 0, assigned by the owner.
    Lsn(u64), "log sequence number (a number)");
decimal_id!(
    /// One `cache-node` process of the cluster, by configuration.
    NodeId(u64), "node id (a number)");
random_id!(
    /// One formatted journal. A copy is a journal, not a host (PROTOCOL R5).
    JournalId, "journal id (32 hex digits)");
random_id!(
    /// One start of one process. An epoch belongs to exactly one (PROTOCOL R4).
    ProcessId, "process id (32 hex digits)");
random_id!(
    /// Names the exact bytes of one object in the bucket (PROTOCOL R20).
    PutId, "put id (32 hex digits)");
random_id!(
    /// One Kennel cluster: one bucket prefix.
    ClusterId, "cluster id (32 hex digits)");
random_id!(
    /// One start of one host's system: processes that see the same one may share memory.
    HostId, "host id (32 hex digits)");
random_id!(
    /// One slab: memory that one process of a node shares with readers of its host.
    SlabId, "slab id (32 hex digits)");

impl Offset {
    /// The offset `count` messages later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl Epoch {
    /// The epoch that the next claim gets.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Slot {
    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Lsn {
    /// The sequence number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One Iggy log: numeric ids and the incarnation that tells it from an earlier log of the same ids.
/// The unit of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub struct PartitionKey {
    /// The stream.
    pub stream: StreamId,
    /// The topic in the stream.
    pub topic: TopicId,
    /// The partition in the topic.
    pub partition: PartitionId,
    /// Which life of these ids.
    pub incarnation: Incarnation,
}

impl PartitionKey {
    /// The bytes that placement hashes: four little-endian numbers, 20 bytes, the same in every build.
    pub fn canonical_bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0..4].copy_from_slice(&self.stream.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.topic.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.partition.0.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes
    }

    /// The partition of these canonical bytes: any 20 bytes are one.
    pub fn from_canonical_bytes(bytes: [u8; 20]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self {
            stream: StreamId(number(0)),
            topic: TopicId(number(4)),
            partition: PartitionId(number(8)),
            incarnation: Incarnation(u64::from(number(12)) | u64::from(number(16)) << 32),
        }
    }

    /// The shard of this partition: XXH3-64 of the canonical bytes modulo the cluster's fixed shard count.
    pub fn shard(&self, shard_count: u16) -> ShardId {
        assert!(shard_count > 0, "a cluster has at least one shard");
        let hash = checksum(&self.canonical_bytes());
        let shard = hash % u64::from(shard_count);
        ShardId(u16::try_from(shard).expect("a remainder of a u16 fits a u16"))
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}@{}", self.stream, self.topic, self.partition, self.incarnation)
    }
}

impl FromStr for PartitionKey {
    type Err = ParseIdError;

    /// Reads `stream/topic/partition` with an optional `@incarnation` (0 when absent).
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fail =
            || ParseIdError { text: text.to_owned(), expected: "partition (stream/topic/partition@incarnation)" };
        let (path, incarnation) = text.split_once('@').unwrap_or((text, "0"));
        let mut parts = path.split('/');
        let mut part = || parts.next().and_then(|word| word.parse::<u32>().ok()).ok_or_else(fail);
        let (stream, topic, partition) = (part()?, part()?, part()?);
        if parts.next().is_some() {
            return Err(fail());
        }
        Ok(Self {
            stream: StreamId(stream),
            topic: TopicId(topic),
            partition: PartitionId(partition),
            incarnation: incarnation.parse().map_err(|_| fail())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let key: PartitionKey = "3/1/7@12".parse().expect("a partition");
        assert_eq!(key.to_string(), "3/1/7@12");
        assert_eq!("3/1/7".parse::<PartitionKey>().expect("a partition").incarnation, Incarnation(0));
        assert!("3/1".parse::<PartitionKey>().is_err());
        assert_eq!(PartitionKey::from_canonical_bytes(key.canonical_bytes()), key);
        let far = PartitionKey { incarnation: Incarnation(u64::MAX - 7), ..key };
        assert_eq!(PartitionKey::from_canonical_bytes(far.canonical_bytes()), far);
        let put = PutId(0xabc);
        assert_eq!(put.to_string().parse::<PutId>(), Ok(put));
    }

    #[test]
    fn placement_is_pinned() {
        // Other builds and other languages must agree: these numbers never change.
        let key: PartitionKey = "0/0/0@0".parse().expect("a partition");
        assert_eq!(key.shard(8).0, u16::try_from(checksum(&[0; 20]) % 8).expect("small"));
    }
}
