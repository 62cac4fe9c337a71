//! Batches, entries and logs for the tests of the read path.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::NumberedEntry;
use kennel_protocol::entry::{Entry, EntryHead, EntryKind, HoleReason, IntegritySum, MessageIdentity};
use kennel_protocol::ids::{ClusterId, Epoch, Lsn, Offset, PartitionId, PartitionKey, ProcessId, PutId, ShardId, Slot};
use kennel_protocol::object::{
    LogHeader, LogPosition, Manifest, OpenRecord, PartitionState, SealObject, SlotObject, decode_slot,
    encode_log_object,
};

use super::spans::identity_at;
use super::store::{LogStore, StoreError};
use super::stow::{Stow, StowPlace};

/// A journal: gives back what was put in, under the place that it got.
#[derive(Debug, Default)]
pub(crate) struct MemoryStow {
    bodies: Mutex<Vec<Option<Bytes>>>,
}

impl MemoryStow {
    pub(crate) fn put(&self, body: &Bytes) -> StowPlace {
        let mut bodies = self.bodies.lock().expect("a test panics elsewhere");
        bodies.push(Some(body.clone()));
        StowPlace(bodies.len() as u64 - 1)
    }

    /// Forgets everything, as a journal does with what is stored.
    pub(crate) fn free(&self) {
        self.bodies.lock().expect("a test panics elsewhere").fill(None);
    }
}

#[async_trait]
impl Stow for MemoryStow {
    async fn bodies(&self, places: &[StowPlace]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let bodies = self.bodies.lock().expect("a test panics elsewhere");
        Ok(places.iter().map(|place| bodies[usize::try_from(place.0).expect("small")].clone()).collect())
    }
}

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

/// The log of shard 0, in memory, with faults on request.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    slots: Mutex<BTreeMap<LogPosition, Bytes>>,
    manifest: Mutex<Option<Manifest>>,
    puts: AtomicU64,
    /// Ranges read so far.
    pub(crate) ranges: AtomicU64,
    /// Slots asked for so far.
    pub(crate) slot_reads: AtomicU64,
    /// How many of the next ranges come back with a flipped bit.
    pub(crate) flips: AtomicU64,
    /// How long a range takes.
    pub(crate) delay: Mutex<Duration>,
}

impl MemoryLog {
    /// A log whose first epoch was opened without partitions.
    pub(crate) fn opened() -> Arc<Self> {
        let log = Arc::new(Self::default());
        log.open(1, &[]);
        log
    }

    fn put(&self) -> PutId {
        PutId(u128::from(self.puts.fetch_add(1, Ordering::Relaxed)) + 1)
    }

    fn push(&self, epoch: u64, bytes: Bytes) -> SlotObject {
        let mut slots = self.slots.lock().expect("no test panics here");
        let slot = slots.keys().filter(|at| at.epoch.0 == epoch).count() as u64;
        let object = decode_slot(&bytes).expect("what was just encoded");
        slots.insert(LogPosition { epoch: Epoch(epoch), slot: Slot(slot) }, bytes);
        object
    }

    pub(crate) fn open(&self, epoch: u64, partitions: &[PartitionState]) -> SlotObject {
        let record = OpenRecord {
            shard: ShardId(0),
            epoch: Epoch(epoch),
            process: ProcessId(1),
            put: self.put(),
            gathered: Epoch(epoch - 1),
            adopted: Lsn(0),
            answered: (1, 1),
            partitions: partitions.to_vec(),
        };
        self.push(epoch, record.encode())
    }

    /// Stores entries in the next slot of an epoch.
    pub(crate) fn store(&self, epoch: u64, entries: &[Entry]) -> SlotObject {
        let slot = self.len(epoch);
        let header = LogHeader {
            cluster: ClusterId(1),
            shard: ShardId(0),
            epoch: Epoch(epoch),
            slot: Slot(slot),
            process: ProcessId(1),
            put: self.put(),
            lsn_from: Lsn(0),
            lsn_end: Lsn(entries.len() as u64),
        };
        let numbered =
            entries.iter().zip(0..).map(|(entry, lsn)| NumberedEntry { lsn: Lsn(lsn), entry: entry.clone() });
        let object = encode_log_object(header, &numbered.collect::<Vec<_>>()).expect("good entries");
        self.push(epoch, object.to_contiguous())
    }

    pub(crate) fn seal(&self, epoch: u64) -> SlotObject {
        let seal = SealObject {
            shard: ShardId(0),
            epoch: Epoch(epoch),
            slot: Slot(self.len(epoch)),
            by: Epoch(epoch + 1),
            process: ProcessId(2),
            put: self.put(),
        };
        self.push(epoch, seal.encode())
    }

    /// Ends an epoch that never opened.
    pub(crate) fn seal_unopened(&self, epoch: u64) -> SlotObject {
        assert_eq!(self.len(epoch), 0, "it never opened");
        self.seal(epoch)
    }

    pub(crate) fn set_manifest(&self, manifest: Manifest) {
        self.slots.lock().expect("no test panics here").retain(|at, _| *at >= manifest.log_start);
        *self.manifest.lock().expect("no test panics here") = Some(manifest);
    }

    pub(crate) fn len(&self, epoch: u64) -> u64 {
        self.slots.lock().expect("no test panics here").keys().filter(|at| at.epoch.0 == epoch).count() as u64
    }

    pub(crate) fn bytes(&self, at: LogPosition) -> Option<Bytes> {
        self.slots.lock().expect("no test panics here").get(&at).cloned()
    }
}

#[async_trait]
impl LogStore for MemoryLog {
    async fn slot(&self, _: ShardId, at: LogPosition) -> Result<Option<SlotObject>, StoreError> {
        self.slot_reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.bytes(at).map(|bytes| decode_slot(&bytes).expect("a good object")))
    }

    async fn range(&self, _: ShardId, at: LogPosition, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        let delay = *self.delay.lock().expect("no test panics here");
        tokio::time::sleep(delay).await;
        let place = |at: u64| usize::try_from(at).expect("small");
        let Some(bytes) = self.bytes(at) else { return Ok(None) };
        let mut bytes = bytes[place(range.start)..place(range.end)].to_vec();
        let flipped = self.flips.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |flips| flips.checked_sub(1));
        if flipped.is_ok() {
            bytes[0] ^= 1;
        }
        Ok(Some(bytes.into()))
    }

    async fn manifest(&self, _: ShardId) -> Result<Option<Manifest>, StoreError> {
        Ok(self.manifest.lock().expect("no test panics here").clone())
    }
}
