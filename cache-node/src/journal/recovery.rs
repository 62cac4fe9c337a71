//! Reads a log back after whatever happened to it, and tells a torn tail from damage.
//!
//! A group is written only after the one before it is durable. So after a crash exactly one group can be incomplete,
//! and nothing whole lies behind it: it is cut. A group that does not verify although a later one exists, or although
//! the superblock says that it was durable, is damage: what verifies is kept, the place is remembered as a hole.
//!
//! One thing cannot be told apart: the very last group rotting before a crash looks like a torn one.
//!
//! Memory holds one window of the log, and of the live records the heads and the places; bodies stay where they lie.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;

use super::damage::{Damage, DamagedPlace};
use super::group::{RecordView, parse};
use super::layout::{BLOCK, GroupHeader, HOLES_MAX, Hole, Place, RING_START, Superblock};
use super::record::{RecordClass, RecordId, RecoveredRecord};
use super::ring::Ring;
use super::window::Window;

/// A record that the log holds.
#[derive(Debug)]
pub(super) struct FoundRecord {
    /// The number of the newest group that holds it.
    pub(super) group: u64,
    /// Where it begins there, a position of the log.
    pub(super) position: u64,
    /// The same, from the start of the group.
    pub(super) at: u32,
    /// Its length on disk.
    pub(super) bytes: u64,
    /// Length of its body.
    pub(super) body_bytes: u32,
    pub(super) head: Bytes,
    pub(super) class: RecordClass,
}

/// What a log holds.
#[derive(Default)]
pub(super) struct Scan {
    /// Groups at or after the head, oldest first; damaged ones with something left in them too.
    pub(super) groups: VecDeque<FoundGroup>,
    /// Records of these groups, each with the newest group that holds it.
    pub(super) records: BTreeMap<RecordId, FoundRecord>,
    pub(super) head: Place,
    pub(super) end: Place,
    pub(super) next_record: u64,
    pub(super) holes: Vec<Hole>,
    /// New damage.
    pub(super) damage: Damage,
    /// Bytes of the incomplete last group that were cut; 0 if not even its header is there.
    pub(super) torn_bytes: u64,
}

/// A group, and the records that it held when it was read.
pub(super) struct FoundGroup {
    pub(super) place: Place,
    /// Seeds the checksums of its records.
    pub(super) seed: u64,
    records: Vec<RecordId>,
}

/// Reads the log from the superblock's start to its end.
pub(super) fn scan(ring: &Ring, superblock: &Superblock) -> io::Result<Scan> {
    let limit = superblock.start.position + ring.bytes();
    let window = Window::new(ring, limit);
    let scan = Scan { head: superblock.start, next_record: superblock.next_record, ..Scan::default() };
    let mut scanner = Scanner { superblock, ring_bytes: ring.bytes(), limit, window, scan };
    let mut at = superblock.start;
    while let Some(next) = scanner.step(at)? {
        at = next;
    }
    let mut scan = scanner.scan;
    scan.end = at;
    scan.holes.retain(|hole| hole.from >= scan.head);
    Ok(scan)
}

struct Scanner<'a> {
    superblock: &'a Superblock,
    ring_bytes: u64,
    limit: u64,
    window: Window<'a>,
    scan: Scan,
}

/// What was read at one place.
struct Reading {
    header: Option<GroupHeader>,
    records: Vec<(RecordId, FoundRecord)>,
    whole: bool,
}

impl Scanner<'_> {
    /// Takes in the group at `at` and says where the next one starts; `None` at the log's end.
    fn step(&mut self, at: Place) -> io::Result<Option<Place>> {
        if at.position >= self.limit {
            return Ok(None);
        }
        let reading = self.read(at)?;
        let known = self.superblock.holes.iter().find(|hole| hole.from == at).copied();
        if let (Some(header), true, None) = (reading.header, reading.whole, known) {
            self.scan.take(at, reading);
            self.scan.next_record = self.scan.next_record.max(header.next_record);
            self.scan.drop_below(header.head);
            return Ok(Some(at.after(header.bytes)));
        }
        let kept = u32::try_from(reading.records.len()).expect("a group's records are bounded");
        if let Some(hole) = known.filter(|hole| hole.salvaged <= kept) {
            self.scan.holes.push(hole);
            self.scan.take(at, reading);
            return Ok(Some(hole.resume));
        }
        let Some(resume) = self.resume_behind(at, known)? else {
            self.scan.torn_bytes = reading.header.map_or(0, |header| header.bytes);
            return Ok(None);
        };
        let first_lost = match (known, reading.header) {
            (Some(hole), _) => hole.salvaged - kept,
            (None, Some(header)) => header.records.saturating_sub(kept),
            (None, None) => 1,
        };
        self.report(at, resume, kept, first_lost);
        self.scan.take(at, reading);
        Ok(Some(resume))
    }

    fn read(&mut self, at: Place) -> io::Result<Reading> {
        let Some(header) = self.header(at.position)?.filter(|header| header.place == at) else {
            return Ok(Reading { header: None, records: Vec::new(), whole: false });
        };
        let length = usize::try_from(header.bytes).expect("a group fits memory");
        let parsed = parse(&header, self.window.bytes(at.position, length)?);
        let found = |view: &RecordView<'_>| (view.id, FoundRecord::new(at, view));
        Ok(Reading { header: Some(header), records: parsed.records.iter().map(found).collect(), whole: parsed.whole })
    }

    /// Where the log goes on behind a group that does not verify; `None` if nothing proves that it was ever durable.
    fn resume_behind(&mut self, at: Place, known: Option<Hole>) -> io::Result<Option<Place>> {
        if let Some(hole) = known {
            return Ok(Some(hole.resume));
        }
        if self.superblock.clean && at >= self.superblock.end {
            return Ok(None);
        }
        let mut position = at.position + BLOCK as u64;
        while position < self.limit {
            if let Some(header) = self.header(position)?
                && header.place.position == position
                && header.place.sequence > at.sequence
            {
                return Ok(Some(header.place));
            }
            position += BLOCK as u64;
        }
        let end = self.superblock.end;
        Ok((at.sequence < end.sequence && at.position < end.position).then_some(end))
    }

    fn report(&mut self, from: Place, resume: Place, kept: u32, first_lost: u32) {
        if self.scan.holes.len() < HOLES_MAX {
            self.scan.holes.push(Hole { from, resume, salvaged: kept });
        }
        let groups = resume.sequence - from.sequence;
        self.scan.damage.add(DamagedPlace {
            offset: RING_START + from.position % self.ring_bytes,
            bytes: resume.position - from.position,
            group: from.sequence,
            groups,
            records_kept: kept,
            // Of the other groups nothing is known, but that none was empty.
            records_lost: u64::from(first_lost) + (groups - 1),
        });
    }

    fn header(&mut self, position: u64) -> io::Result<Option<GroupHeader>> {
        let lineage = self.superblock.lineage;
        let limit = self.limit;
        let header = GroupHeader::decode(self.window.bytes(position, BLOCK)?, lineage);
        // What claims to reach into the log's own start was never written like that.
        Ok(header.filter(|header| position + header.bytes <= limit))
    }
}

impl Scan {
    /// Whether something is damaged that was not known to be.
    pub(super) fn is_damaged(&self) -> bool {
        self.damage.places_count > 0
    }

    fn take(&mut self, place: Place, reading: Reading) {
        // Without a header nothing was salvaged, and nothing will be read back.
        let seed = reading.header.map_or(0, |header| header.seed());
        let records = reading.records;
        let ids = records.iter().map(|(id, _)| *id).collect();
        for (id, record) in records {
            self.next_record = self.next_record.max(id.0 + 1);
            self.records.insert(id, record);
        }
        self.groups.push_back(FoundGroup { place, seed, records: ids });
    }

    /// A later group says what is no longer needed: forgotten at once, so that only what may be live is in memory.
    fn drop_below(&mut self, head: Place) {
        self.head = self.head.max(head);
        while let Some(oldest) = self.groups.pop_front_if(|group| group.place < self.head) {
            for id in oldest.records {
                // What was copied forward lives on in a newer group.
                if self.records.get(&id).is_some_and(|found| found.group == oldest.place.sequence) {
                    self.records.remove(&id);
                }
            }
        }
    }
}

impl FoundRecord {
    pub(super) fn into_recovered(self, id: RecordId) -> RecoveredRecord {
        let Self { body_bytes, head, class, .. } = self;
        RecoveredRecord { id, head, body_bytes, class }
    }

    fn new(group: Place, view: &RecordView<'_>) -> Self {
        let head = Bytes::copy_from_slice(view.head);
        let at = u32::try_from(view.offset).expect("a group is shorter than 4 GiB");
        let position = group.position + u64::from(at);
        let body_bytes = u32::try_from(view.body.len()).expect("a group is shorter than 4 GiB");
        Self { group: group.sequence, position, at, bytes: view.bytes(), body_bytes, head, class: view.class }
    }
}
