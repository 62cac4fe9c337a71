//! What a node keeps in memory for a partition that was written to once and is stored: bytes that are really held, as the
//! allocator counts them. What the allocator itself takes beside them is not counted.
//!
//! Of three nodes each has every partition in its memory tail, and a third of them in an owner's table and in the index of
//! the bucket: together 133 bytes, where they were some 270 in hash tables and B-trees.

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use cache_node::read::{Tail, TailBudget};
use kennel_core::read::{Authority, ShardIndex};
use kennel_core::shard::{
    BucketRequest, BucketResult, CreateOutcome, Effects, Flaws, Input, Placement, RecoveredShard, SessionId, Shard,
    ShardConfig, Sizes, Then, Timing,
};
use kennel_core::time::Instant;
use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::{Entry, NumberedEntry};
use kennel_protocol::ids::{
    ClusterId, Epoch, Incarnation, JournalId, Lsn, NodeId, Offset, PartitionId, PartitionKey, ProcessId, PutId,
    ShardId, Slot, StreamId, TopicId,
};
use kennel_protocol::object::{LogHeader, LogPosition, OpenRecord, SlotObject, encode_log_object};
use kennel_protocol::wire::{Ship, ShipChunk};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Of one shard: as many as a hundred thousand are of eight.
const PARTITIONS: u32 = 12_500;

/// How many of them one object holds.
const AT_ONCE: usize = 500;

/// What was measured, and a twentieth of it. A key takes 24 bytes of each.
const TAIL_BYTES_MAX: usize = 58;
const INDEX_BYTES_MAX: usize = 117;
const OWNER_BYTES_MAX: usize = 130;

const SHARD: ShardId = ShardId(0);
const NODE: NodeId = NodeId(1);

/// The keys of a shard, in an order that is not theirs: which shard a partition is of, its hash says.
fn keys() -> Vec<PartitionKey> {
    let key = |number: u32| PartitionKey {
        stream: StreamId(1),
        topic: TopicId(number % 7),
        partition: PartitionId(number),
        incarnation: Incarnation(0),
    };
    (0..PARTITIONS).map(|number| key(number * 7919 % PARTITIONS)).collect()
}

/// A chunk of one message, the first of its partition.
fn chunk(key: PartitionKey) -> Entry {
    let body = BatchBuilder::new(key.partition, Offset(0), 1).payload(b"one message").build();
    let head = inspect_chunk(key, &body).expect("a good chunk");
    Entry { head, body }
}

/// Bytes that stay for each partition of what is made.
fn held<T>(make: impl FnOnce(&[PartitionKey]) -> T) -> (usize, T) {
    let keys = keys();
    let region = Region::new(ALLOCATOR);
    let made = make(&keys);
    let change = region.change();
    ((change.bytes_allocated - change.bytes_deallocated) / keys.len(), made)
}

/// One test, for the allocator counts for the whole process.
#[test]
fn an_idle_partition_takes_little() {
    let (tail, _tail) = held(tail_of);
    let (index, _index) = held(index_of);
    let (owner, _owner) = held(owner_of);
    println!("for an idle partition: {tail} in the tail, {index} in the index, {owner} with its owner");
    println!("for each of three nodes: {}", tail + (index + owner) / 3);
    assert!(tail <= TAIL_BYTES_MAX, "{tail} in the tail");
    assert!(index <= INDEX_BYTES_MAX, "{index} in the index");
    assert!(owner <= OWNER_BYTES_MAX, "{owner} with its owner");
}

/// A follower's memory, of which everything is stored and was let go.
fn tail_of(keys: &[PartitionKey]) -> Arc<Tail> {
    let tail = Tail::new(SHARD, &TailBudget::new(0));
    tail.begin(Epoch(1), Authority::Follower, &[]);
    for keys in keys.chunks(AT_ONCE) {
        for key in keys {
            tail.append(&chunk(*key), None);
        }
        tail.stored(keys.iter().map(|key| (*key, Offset(1))));
    }
    tail
}

/// The index of a log that holds one block of each partition.
fn index_of(keys: &[PartitionKey]) -> ShardIndex {
    let mut index = ShardIndex::new(SHARD);
    index.feed(&SlotObject::Open(opened())).expect("a first record");
    let mut lsn = 0;
    for (number, keys) in keys.chunks(AT_ONCE).enumerate() {
        let numbered = |key: &PartitionKey| {
            lsn += 1;
            NumberedEntry { lsn: Lsn(lsn - 1), entry: chunk(*key) }
        };
        let lsn_from = Lsn((number * AT_ONCE) as u64);
        let entries: Vec<_> = keys.iter().map(numbered).collect();
        let header = LogHeader {
            cluster: ClusterId(1),
            shard: SHARD,
            epoch: Epoch(1),
            slot: Slot(number as u64 + 1),
            process: ProcessId(1),
            put: PutId(number as u128),
            lsn_from,
            lsn_end: Lsn(lsn_from.0 + entries.len() as u64),
        };
        let object = encode_log_object(header, &entries).expect("a small object");
        index.feed(&SlotObject::Log(object.index)).expect("it continues the log");
    }
    assert_eq!(index.next(), LogPosition { epoch: Epoch(1), slot: Slot(u64::from(PARTITIONS) / AT_ONCE as u64 + 1) });
    index
}

fn opened() -> OpenRecord {
    let (process, put, gathered) = (ProcessId(1), PutId(1), Epoch(0));
    OpenRecord {
        shard: SHARD,
        epoch: Epoch(1),
        process,
        put,
        gathered,
        adopted: Lsn(0),
        answered: (1, 1),
        partitions: vec![],
    }
}

/// A shard's machine on the only node, which has taken and stored everything.
fn owner_of(keys: &[PartitionKey]) -> Shard {
    let mut alone = Alone::start();
    while alone.shard.status().role != "owner" {
        alone.pass(Duration::from_millis(100));
    }
    for keys in keys.chunks(AT_ONCE) {
        let chunks = keys.iter().map(|key| chunk(*key));
        let chunks = chunks.map(|Entry { head, body }| ShipChunk { head, body }).collect();
        alone.feed(Input::Ship { session: SessionId(1), ship: Ship { shard: SHARD, epoch: Epoch(1), chunks } });
        alone.pass(Duration::from_secs(1));
    }
    let status = alone.shard.status();
    assert_eq!((status.partitions, status.unstored_bytes), (PARTITIONS as usize, 0), "everything is stored");
    alone.shard
}

/// A machine whose disk and bucket do at once what they are asked.
struct Alone {
    shard: Shard,
    now: Instant,
    inputs: Vec<Input>,
}

impl Alone {
    fn start() -> Self {
        let (now, mut effects) = (Instant::default(), Effects::new());
        let shard = Shard::new(config(), RecoveredShard::default(), 1, now, &mut effects);
        let placement = Placement { members: vec![(NODE, JournalId(1))], candidates: vec![NODE] };
        Self { shard, now, inputs: vec![Input::Placement(Arc::new(placement))] }
    }

    /// Lets time pass, and what is due happen.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.feed(Input::Timeout);
    }

    fn feed(&mut self, input: Input) {
        self.inputs.push(input);
        while !self.inputs.is_empty() {
            for input in std::mem::take(&mut self.inputs) {
                let mut effects = Effects::new();
                self.shard.handle(self.now, input, &mut effects);
                self.inputs.extend(effects.persist_id.map(Input::Persisted));
                self.inputs.extend(effects.then.into_iter().filter_map(result));
            }
        }
    }
}

/// What an empty bucket says that takes everything.
fn result(then: Then) -> Option<Input> {
    let Then::Bucket { id, request } = then else { return None };
    let result = match request {
        BucketRequest::FindClaim { .. } | BucketRequest::ReadClaim { .. } => BucketResult::Claim(None),
        BucketRequest::ReadSlot { .. } => BucketResult::Slot(None),
        BucketRequest::NewestManifest => BucketResult::Manifest(None),
        _ => BucketResult::Created(CreateOutcome::Done),
    };
    Some(Input::Bucket(id, result))
}

fn config() -> ShardConfig {
    let heartbeat = Duration::from_millis(100);
    ShardConfig {
        cluster: ClusterId(1),
        shard: SHARD,
        node: NODE,
        process: ProcessId(1),
        journal: JournalId(1),
        copies: 1,
        min_copies: 1,
        timing: Timing {
            heartbeat,
            owner_timeout: heartbeat * 5,
            claim_stagger: heartbeat,
            round: heartbeat * 2,
            open_timeout: Duration::from_secs(10),
            create_patience: Duration::from_secs(2),
            backoff_min: heartbeat,
            backoff_max: Duration::from_secs(2),
            flush_interval: Duration::from_millis(200),
            flush_interval_idle: Duration::from_millis(800),
            move_after: Duration::from_secs(1),
        },
        sizes: Sizes {
            object_bytes_max: 8 << 20,
            object_bytes_loaded_max: 64 << 20,
            object_bytes_idle: 64 << 10,
            object_entries_max: 32_768,
            uploads_max: 8,
            uploads_bytes_max: 128 << 20,
            resident_bytes_max: u64::MAX,
            unstored_bytes_max: u64::MAX,
            unstored_entries_max: u64::MAX,
            copy_bytes_max: 256 << 10,
            pulled_bytes_max: 1 << 20,
            copy_entries_max: 1024,
            copy_window_bytes: 2 << 20,
            walk_window: 16,
        },
        flaws: Flaws::NONE,
    }
}
