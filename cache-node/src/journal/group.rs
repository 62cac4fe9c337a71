//! One group in memory: filled record by record into an aligned buffer, or taken apart again.
//!
//! Knows nothing of threads, files or what is live.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::aligned::AlignedBuffer;
use super::error::JournalError;
use super::layout::{BLOCK, GROUP_HEADER_BYTES, GroupHeader, Place, RECORD_HEADER_BYTES, RecordHeader};
use super::record::{Record, RecordClass, RecordId};
use super::settings::GROUP_RECORDS_MAX;

/// Where an append's outcome goes.
pub(super) type Waiter = oneshot::Sender<Result<(), JournalError>>;

/// Length of a record on disk; `None` if it is too long to be described.
pub(super) fn record_bytes(record: &Record) -> Option<u64> {
    let head_bytes = u32::try_from(record.head.len()).ok()?;
    let body_bytes = u32::try_from(record.body.len()).ok()?;
    Some(RecordHeader { id: 0, head_bytes, body_bytes, class: 0 }.record_bytes())
}

/// Length on disk of a group that holds nothing but records of these lengths together.
pub(super) fn group_bytes(records_bytes: u64) -> u64 {
    (GROUP_HEADER_BYTES as u64).saturating_add(records_bytes).checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

/// A group that still takes records.
pub(super) struct OpenGroup {
    buffer: AlignedBuffer,
    lineage: u128,
    opening: u64,
    sequence: u64,
    seed: u64,
    used: usize,
    records: u32,
    /// Space that was admitted for what is in it.
    pub(super) reserved: u64,
    /// Bytes of the queue's allowance that it gives back once durable.
    pub(super) queued_bytes: u64,
    /// New records, and where in the group they begin.
    pub(super) added: Vec<(RecordId, u32)>,
    /// Records that were copied forward from older groups, likewise.
    pub(super) moved: Vec<(RecordId, u32)>,
    pub(super) waiters: Vec<Waiter>,
}

/// A group as it goes to the disk.
pub(super) struct FilledGroup {
    pub(super) buffer: AlignedBuffer,
    pub(super) header: GroupHeader,
    pub(super) queued_bytes: u64,
    pub(super) moved: Vec<(RecordId, u32)>,
    pub(super) waiters: Vec<Waiter>,
}

impl OpenGroup {
    pub(super) fn new(buffer: AlignedBuffer, lineage: u128, opening: u64, sequence: u64) -> Self {
        Self {
            buffer,
            lineage,
            opening,
            sequence,
            seed: GroupHeader::record_seed(lineage, opening, sequence),
            used: GROUP_HEADER_BYTES,
            records: 0,
            reserved: 0,
            queued_bytes: 0,
            added: Vec::new(),
            moved: Vec::new(),
            waiters: Vec::new(),
        }
    }

    /// Whether `count` records of `bytes` bytes on disk still fit.
    pub(super) fn fits(&self, count: usize, bytes: u64) -> bool {
        (self.used as u64).saturating_add(bytes) <= self.buffer.capacity() as u64
            && self.records as usize + count <= GROUP_RECORDS_MAX as usize
    }

    /// Copies a record in: the only copy that a body sees on its way to the disk. Answers where it begins.
    pub(super) fn push(&mut self, id: RecordId, record: &Record) -> u32 {
        let at = u32::try_from(self.used).expect("a group is shorter than 4 GiB");
        let header = RecordHeader {
            id: id.0,
            head_bytes: u32::try_from(record.head.len()).expect("admission bounds a record's head"),
            body_bytes: u32::try_from(record.body.len()).expect("admission bounds a record's body"),
            class: class_code(record.class),
        };
        let length = RECORD_HEADER_BYTES + record.head.len() + record.body.len();
        let place = &mut self.buffer.bytes_mut()[self.used..][..length];
        let (head, body) = place[RECORD_HEADER_BYTES..].split_at_mut(record.head.len());
        head.copy_from_slice(&record.head);
        body.copy_from_slice(&record.body);
        header.seal(place, self.seed);
        self.used += length;
        self.records += 1;
        at
    }

    /// Seeds the checksums of its records.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Length on disk if it were closed now.
    pub(super) fn bytes(&self) -> u64 {
        self.used.next_multiple_of(BLOCK) as u64
    }

    pub(super) fn close(mut self, place: Place, head: Place, next_record: u64) -> FilledGroup {
        assert_eq!(place.sequence, self.sequence, "groups are closed in the order in which they were opened");
        let bytes = self.bytes();
        let used = self.used;
        let header = GroupHeader {
            lineage: self.lineage,
            opening: self.opening,
            place,
            bytes,
            used: used as u64,
            head,
            next_record,
            records: self.records,
        };
        let buffer = self.buffer.bytes_mut();
        header.encode(buffer);
        // The buffer is used again and again: nothing of an earlier group may stay in the padding.
        buffer[used..used.next_multiple_of(BLOCK)].fill(0);
        let Self { buffer, queued_bytes, moved, waiters, .. } = self;
        FilledGroup { buffer, header, queued_bytes, moved, waiters }
    }
}

impl FilledGroup {
    /// What is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes()[..usize::try_from(self.header.bytes).expect("a group fits memory")]
    }
}

/// A record that verifies, where it lies in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordView<'a> {
    pub(super) id: RecordId,
    /// Where it begins, bytes from the start of the group.
    pub(super) offset: usize,
    pub(super) class: RecordClass,
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

impl RecordView<'_> {
    /// Length on disk.
    pub(super) fn bytes(&self) -> u64 {
        (RECORD_HEADER_BYTES + self.head.len() + self.body.len()) as u64
    }

    /// The record, copied out.
    pub(super) fn to_record(self) -> Record {
        let (head, body) = (Bytes::copy_from_slice(self.head), Bytes::copy_from_slice(self.body));
        Record { head, body, class: self.class }
    }
}

/// The records of a group that verify.
pub(super) struct ParsedGroup<'a> {
    pub(super) records: Vec<RecordView<'a>>,
    /// Whether all of them did.
    pub(super) whole: bool,
}

/// Takes a group apart. `bytes` starts with the group's header; nothing is copied.
pub(super) fn parse<'a>(header: &GroupHeader, bytes: &'a [u8]) -> ParsedGroup<'a> {
    let seed = header.seed();
    let used = usize::try_from(header.used).expect("a group fits memory");
    let mut offset = GROUP_HEADER_BYTES;
    let mut parsed = ParsedGroup { records: Vec::new(), whole: true };
    for _ in 0..header.records {
        let Some((record, verifies)) = RecordHeader::decode(&bytes[offset..used], seed) else {
            parsed.whole = false;
            return parsed;
        };
        let length = usize::try_from(record.record_bytes()).expect("it lies inside the group");
        match class_of(record.class) {
            Some(class) if verifies => {
                let content = &bytes[offset..][RECORD_HEADER_BYTES..length];
                let (head, body) = content.split_at(record.head_bytes as usize);
                parsed.records.push(RecordView { id: RecordId(record.id), offset, class, head, body });
            }
            _ => parsed.whole = false,
        }
        offset += length;
    }
    parsed.whole &= offset == used;
    parsed
}

fn class_code(class: RecordClass) -> u8 {
    match class {
        RecordClass::Normal => 0,
        RecordClass::Recovery => 1,
    }
}

fn class_of(code: u8) -> Option<RecordClass> {
    match code {
        0 => Some(RecordClass::Normal),
        1 => Some(RecordClass::Recovery),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let bytes = |most| prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
        (bytes(100), bytes(9000), any::<bool>()).prop_map(|(head, body, recovery)| Record {
            head,
            body,
            class: if recovery { RecordClass::Recovery } else { RecordClass::Normal },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_group_reads_back_and_a_flipped_bit_costs_at_most_the_records_it_hits(
            records in prop::collection::vec(record(), 1..20), flip: prop::sample::Index,
        ) {
            let mut group = OpenGroup::new(AlignedBuffer::new(1 << 18), 5, 6, 7);
            for (id, record) in (0..).zip(&records) {
                group.push(RecordId(id), record);
            }
            let place = Place { position: 0, sequence: 7 };
            let filled = group.close(place, place, 99);
            let header = GroupHeader::decode(filled.bytes(), 5).expect("a header");
            let parsed = parse(&header, filled.bytes());
            prop_assert!(parsed.whole);
            let copied = |view: &RecordView<'_>| (view.id, view.to_record());
            let expected: Vec<_> = (0..).map(RecordId).zip(records.iter().cloned()).collect();
            prop_assert_eq!(parsed.records.iter().map(copied).collect::<Vec<_>>(), expected.clone());
            for view in &parsed.records {
                let content = &filled.bytes()[view.offset + RECORD_HEADER_BYTES..];
                prop_assert!(content.starts_with(view.head), "it lies where it says");
            }

            let mut bytes = filled.bytes().to_vec();
            let hit = GROUP_HEADER_BYTES + flip.index(usize::try_from(header.used).expect("small") - GROUP_HEADER_BYTES);
            bytes[hit] ^= 1;
            let parsed = parse(&header, &bytes);
            prop_assert!(!parsed.whole);
            prop_assert!(parsed.records.iter().all(|found| expected.contains(&copied(found))));
        }
    }
}
