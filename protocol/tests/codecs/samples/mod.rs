//! Valid values of every sent or stored type, drawn from a seed: the same seed draws the same values for ever, or the
//! golden files would change.

use bytes::Bytes;
use kennel_protocol::batch::{BatchBuilder, MessageParts, inspect_chunk};
use kennel_protocol::catalog::{Catalog, PartitionEntry, StreamEntry, TopicEntry};
use kennel_protocol::entry::{Entry, EntryHead, HoleReason, IntegritySum, MessageIdentity, NumberedEntry};
use kennel_protocol::ids::{
    ClusterId, Epoch, Incarnation, JournalId, Lsn, NodeId, Offset, PartitionId, PartitionKey, ProcessId, PutId,
    ShardId, Slot, StreamId, TopicId,
};
use kennel_protocol::journal_record::JournalRecord;
use kennel_protocol::object::{
    CLUSTER_FORMAT, Claim, ClusterIdentity, Copyset, LogHeader, LogPosition, Manifest, OpenRecord, PartitionState,
    SealObject,
};

pub(crate) mod messages;

/// A source of choices: splitmix64.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a usize")
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::try_from(self.number() >> 32).expect("32 bits")
    }

    pub(crate) fn wide(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(crate) fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.coin() { Some(draw(self)) } else { None }
    }

    pub(crate) fn list<T>(&mut self, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| draw(self)).collect()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Bytes {
        (0..length).map(|_| self.byte()).collect()
    }

    pub(crate) fn text(&mut self) -> String {
        (0..=self.below(11)).map(|_| char::from(b'a' + u8::try_from(self.below(26)).expect("a letter"))).collect()
    }

    pub(crate) fn offset(&mut self) -> Offset {
        Offset(self.below(1 << 48))
    }

    pub(crate) fn epoch(&mut self) -> Epoch {
        Epoch(1 + self.below(1 << 32))
    }

    pub(crate) fn shard(&mut self) -> ShardId {
        ShardId(self.short() % 64)
    }

    pub(crate) fn partition(&mut self) -> PartitionKey {
        PartitionKey {
            stream: StreamId(self.word()),
            topic: TopicId(self.word()),
            partition: PartitionId(self.word()),
            incarnation: Incarnation(self.number()),
        }
    }

    pub(crate) fn identity(&mut self) -> MessageIdentity {
        MessageIdentity { offset: self.offset(), base_timestamp: self.number(), checksum: self.number() }
    }

    pub(crate) fn reason(&mut self) -> HoleReason {
        let all = [HoleReason::SourceRetention, HoleReason::ImportStart, HoleReason::Trimmed, HoleReason::Lost];
        all[self.index(all.len())]
    }
}

/// A batch of a few messages.
pub(crate) fn batch(draw: &mut Draw, partition: PartitionId, base: Offset) -> Bytes {
    let mut builder = BatchBuilder::new(partition, base, 1_700_000_000_000_000 + draw.below(1_000_000));
    for _ in 0..=draw.below(3) {
        let length = draw.index(40);
        let (payload, user_headers) = (draw.bytes(length), draw.bytes(length / 3));
        let (id, timestamp_delta) = (draw.wide(), draw.word());
        builder = builder.message(MessageParts { id, timestamp_delta, payload: &payload, user_headers: &user_headers });
    }
    builder.build()
}

/// A chunk of one or two batches from `base` on.
pub(crate) fn chunk(draw: &mut Draw, partition: PartitionKey, base: Offset) -> Entry {
    let first = batch(draw, partition.partition, base);
    let mut body = first.to_vec();
    if draw.coin() {
        let head = inspect_chunk(partition, &first).expect("a valid batch");
        body.extend_from_slice(&batch(draw, partition.partition, head.end));
    }
    let body = Bytes::from(body);
    let head = inspect_chunk(partition, &body).expect("valid batches");
    Entry { head: EntryHead { previous: draw.maybe(Draw::identity), cut: draw.word() % 3, ..head }, body }
}

pub(crate) fn entry(draw: &mut Draw) -> Entry {
    let (partition, base) = (draw.partition(), draw.offset());
    match draw.below(6) {
        0 => Entry::bodiless(EntryHead::hole(partition, base, base.plus(draw.below(100)), draw.reason())),
        1 => Entry::bodiless(EntryHead::trim(partition, base, base.plus(draw.below(100)))),
        2 => Entry::bodiless(EntryHead::cut(partition, base, draw.word())),
        _ => chunk(draw, partition, base),
    }
}

pub(crate) fn claim(draw: &mut Draw) -> Claim {
    let copies = (0..=draw.below(4)).map(|_| (JournalId(draw.wide()), NodeId(draw.number()))).collect();
    Claim {
        shard: draw.shard(),
        epoch: draw.epoch(),
        node: NodeId(draw.number()),
        process: ProcessId(draw.wide()),
        copyset: Copyset::majority(copies),
    }
}

fn partition_state(draw: &mut Draw) -> PartitionState {
    PartitionState {
        partition: draw.partition(),
        trim: draw.offset(),
        end: draw.offset(),
        last: draw.maybe(Draw::identity),
        cut: draw.word(),
    }
}

pub(crate) fn open_record(draw: &mut Draw) -> OpenRecord {
    OpenRecord {
        shard: draw.shard(),
        epoch: draw.epoch(),
        process: ProcessId(draw.wide()),
        put: PutId(draw.wide()),
        gathered: draw.epoch(),
        adopted: Lsn(draw.number()),
        answered: (draw.byte(), draw.byte()),
        partitions: draw.list(partition_state),
    }
}

pub(crate) fn seal_object(draw: &mut Draw) -> SealObject {
    let epoch = draw.epoch();
    SealObject {
        shard: draw.shard(),
        epoch,
        slot: Slot(draw.number()),
        by: epoch.next(),
        process: ProcessId(draw.wide()),
        put: PutId(draw.wide()),
    }
}

pub(crate) fn manifest(draw: &mut Draw) -> Manifest {
    Manifest {
        shard: draw.shard(),
        epoch: draw.epoch(),
        number: draw.number(),
        log_start: LogPosition { epoch: draw.epoch(), slot: Slot(draw.number()) },
        log_start_lsn: Lsn(draw.number()),
        partitions: draw.list(partition_state),
        sum: IntegritySum { messages: draw.number(), hash: draw.number() },
    }
}

pub(crate) fn cluster(draw: &mut Draw) -> ClusterIdentity {
    ClusterIdentity { cluster: ClusterId(draw.wide()), shard_count: 1 + draw.short() % 4096, format: CLUSTER_FORMAT }
}

pub(crate) fn catalog(draw: &mut Draw) -> Catalog {
    let partition =
        |draw: &mut Draw, id| PartitionEntry { id: PartitionId(id), incarnation: Incarnation(draw.number()) };
    let topic = |draw: &mut Draw, id| TopicEntry {
        id: TopicId(id),
        name: format!("{}-{id}", draw.text()),
        partitions: (0..draw.word() % 4).map(|id| partition(draw, id)).collect(),
        message_expiry_micros: draw.maybe(Draw::number),
    };
    let stream = |draw: &mut Draw, id| StreamEntry {
        id: StreamId(id),
        name: format!("{}-{id}", draw.text()),
        topics: (0..draw.word() % 4).map(|id| topic(draw, id)).collect(),
    };
    Catalog { revision: draw.number(), streams: (0..draw.word() % 4).map(|id| stream(draw, id)).collect() }
}

pub(crate) fn journal_record(draw: &mut Draw) -> JournalRecord {
    let (shard, epoch, lsn) = (draw.shard(), draw.epoch(), Lsn(draw.number()));
    match draw.below(3) {
        0 => JournalRecord::Sealed { shard, epoch },
        1 => {
            let (source_epoch, source_lsn) = (draw.epoch(), Lsn(draw.number()));
            JournalRecord::Adopted { shard, epoch, lsn, source_epoch, source_lsn }
        }
        _ => JournalRecord::Entry { shard, epoch, lsn, head: entry(draw).head },
    }
}

/// A log object's header and entries: a few partitions, each with contiguous chunks broken by holes, trims and cuts.
pub(crate) fn log_entries(draw: &mut Draw) -> (LogHeader, Vec<NumberedEntry>) {
    let mut partitions: Vec<(PartitionKey, Offset, u32)> =
        (0..3).map(|_| (draw.partition(), draw.offset(), 0)).collect();
    let from = Lsn(draw.below(1 << 40));
    let mut entries = Vec::new();
    let mut lsn = from;
    for _ in 0..draw.below(24) {
        let chosen = draw.index(partitions.len());
        let (partition, end, cut) = &mut partitions[chosen];
        let mut entry = match draw.below(8) {
            0 => Entry::bodiless(EntryHead::hole(*partition, *end, end.plus(1 + draw.below(50)), draw.reason())),
            1 => Entry::bodiless(EntryHead::trim(*partition, Offset(0), *end)),
            2 => Entry::bodiless(EntryHead::cut(*partition, *end, *cut + 1)),
            _ => chunk(draw, *partition, *end),
        };
        *cut = (*cut).max(if entry.body.is_empty() { entry.head.cut } else { 0 });
        entry.head.cut = *cut;
        *end = (*end).max(entry.head.end);
        entries.push(NumberedEntry { lsn, entry });
        lsn = lsn.next();
    }
    let header = LogHeader {
        cluster: ClusterId(draw.wide()),
        shard: draw.shard(),
        epoch: draw.epoch(),
        slot: Slot(draw.number()),
        process: ProcessId(draw.wide()),
        put: PutId(draw.wide()),
        lsn_from: from,
        lsn_end: lsn,
    };
    (header, entries)
}
