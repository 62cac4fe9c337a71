//! Batches, entries and logs for the tests of the read path.

use bytes::{Bytes, BytesMut};
use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::{Entry, EntryHead, EntryKind, HoleReason, IntegritySum, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey};

use super::spans::identity_at;

/// A batch of `count` messages from `base` on, of partition 0, appended at `base` milliseconds.
pub(crate) fn batch(base: u64, count: u32) -> Bytes {
    batch_of(0, base, count)
}

fn batch_of(partition: u32, base: u64, count: u32) -> Bytes {
    let mut batch = BatchBuilder::new(PartitionId(partition), Offset(base), base * 1000);
    for offset in base..base + u64::from(count) {
        batch = batch.payload(format!("message {offset}").as_bytes());
    }
    batch.build()
}

/// Batches of these sizes, back to back, from `base` on.
pub(crate) fn run(base: u64, counts: &[u32]) -> Bytes {
    run_of(0, base, counts)
}

fn run_of(partition: u32, base: u64, counts: &[u32]) -> Bytes {
    let mut whole = BytesMut::new();
    let mut next = base;
    for &count in counts {
        whole.extend_from_slice(&batch_of(partition, next, count));
        next += u64::from(count);
    }
    whole.freeze()
}

pub(crate) fn key(partition: u32) -> PartitionKey {
    format!("1/1/{partition}").parse().expect("a partition")
}

/// The identity that [`batch`] gives the message at `offset` in a batch that begins at `base`.
pub(crate) fn identity(base: u64, offset: u64) -> MessageIdentity {
    identity_at(&batch(base, u32::try_from(offset - base + 1).expect("small")), Offset(offset)).expect("it is there")
}

/// A chunk of batches of these sizes.
pub(crate) fn chunk(partition: u32, base: u64, counts: &[u32]) -> Entry {
    let body = run_of(partition, base, counts);
    let head = inspect_chunk(key(partition), &body).expect("a good chunk");
    Entry { head, body }
}

pub(crate) fn hole(partition: u32, base: u64, end: u64) -> Entry {
    declared(partition, EntryKind::Hole(HoleReason::SourceRetention), base, end)
}

pub(crate) fn trim(partition: u32, end: u64) -> Entry {
    declared(partition, EntryKind::Trim, 0, end)
}

fn declared(partition: u32, kind: EntryKind, base: u64, end: u64) -> Entry {
    let head = EntryHead {
        partition: key(partition),
        kind,
        base: Offset(base),
        end: Offset(end),
        previous: None,
        first: None,
        last: None,
        sum: IntegritySum::default(),
        cut: 0,
        body_bytes: 0,
        body_checksum: 0,
    };
    Entry { head, body: Bytes::new() }
}
