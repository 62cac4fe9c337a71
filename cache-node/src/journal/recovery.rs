//! Reads a log back after whatever happened to it, and tells a torn tail from damage.
//!
//! A group is written only after the one before it is durable. So after a crash exactly one group can be incomplete,
//! and nothing whole lies behind it: it is cut. A group that does not verify although a later one exists, or although
//! the superblock says that it was durable, is damage: what verifies is kept, the place is remembered as a hole.
//!
//! One thing cannot be told apart: the very last group rotting before a crash looks like a torn one.

use std::collections::BTreeMap;
use std::io;

use super::aligned::AlignedBuffer;
use super::group::{ParsedGroup, parse};
use super::layout::{BLOCK, GroupHeader, HOLES_MAX, Hole, Place, Superblock};
use super::record::{Record, RecordId};
use super::ring::Ring;

/// How much is read at once: long enough for the disk's full rate.
const WINDOW_BYTES: usize = 8 << 20;

/// What a log holds.
#[derive(Default)]
pub(super) struct Scan {
    /// Groups at or after the head, oldest first; damaged ones with something left in them too.
    pub(super) groups: Vec<Place>,
    /// Records of these groups, each with the newest group that holds it.
    pub(super) records: BTreeMap<RecordId, (u64, Record)>,
    pub(super) head: Place,
    pub(super) end: Place,
    pub(super) next_record: u64,
    pub(super) holes: Vec<Hole>,
    /// New damage, in words.
    pub(super) damage: Option<String>,
    /// Bytes of the incomplete last group that were cut; 0 if not even its header is there.
    pub(super) torn_bytes: u64,
}

/// Reads the log from the superblock's start to its end.
pub(super) fn scan(ring: &Ring, superblock: &Superblock) -> io::Result<Scan> {
    let limit = superblock.start.position + ring.bytes();
    let window = Window { ring, limit, buffer: AlignedBuffer::new(WINDOW_BYTES), from: 0, length: 0 };
    let scan = Scan { head: superblock.start, next_record: superblock.next_record, ..Scan::default() };
    let mut scanner = Scanner { superblock, limit, window, scan };
    let mut at = superblock.start;
    while let Some(next) = scanner.step(at)? {
        at = next;
    }
    let mut scan = scanner.scan;
    scan.end = at;
    let head = scan.head;
    scan.groups.retain(|place| *place >= head);
    scan.records.retain(|_, (group, _)| *group >= head.sequence);
    scan.holes.retain(|hole| hole.from >= head);
    Ok(scan)
}

struct Scanner<'a> {
    superblock: &'a Superblock,
    limit: u64,
    window: Window<'a>,
    scan: Scan,
}

impl Scanner<'_> {
    /// Takes in the group at `at` and says where the next one starts; `None` at the log's end.
    fn step(&mut self, at: Place) -> io::Result<Option<Place>> {
        if at.position >= self.limit {
            return Ok(None);
        }
        let header = self.header(at.position)?.filter(|header| header.place == at);
        let parsed = match header {
            Some(header) => parse(&header, self.window.bytes(at.position, header.bytes)?),
            None => ParsedGroup { records: Vec::new(), whole: false },
        };
        let known = self.superblock.holes.iter().find(|hole| hole.from == at).copied();
        if let (Some(header), true, None) = (header, parsed.whole, known) {
            self.scan.head = self.scan.head.max(header.head);
            self.scan.next_record = self.scan.next_record.max(header.next_record);
            self.keep(at, parsed);
            return Ok(Some(at.after(header.bytes)));
        }
        let salvaged = u32::try_from(parsed.records.len()).expect("a group's records are bounded");
        if let Some(hole) = known.filter(|hole| hole.salvaged <= salvaged) {
            self.scan.holes.push(hole);
            self.keep(at, parsed);
            return Ok(Some(hole.resume));
        }
        let Some(resume) = self.resume_behind(at, known)? else {
            self.scan.torn_bytes = header.map_or(0, |header| header.bytes);
            return Ok(None);
        };
        self.report(at, resume, salvaged);
        self.keep(at, parsed);
        Ok(Some(resume))
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
        Ok((at.sequence < self.superblock.end.sequence).then_some(self.superblock.end))
    }

    fn keep(&mut self, at: Place, parsed: ParsedGroup) {
        self.scan.groups.push(at);
        for (id, record) in parsed.records {
            self.scan.next_record = self.scan.next_record.max(id.0 + 1);
            self.scan.records.insert(id, (at.sequence, record));
        }
    }

    fn report(&mut self, from: Place, resume: Place, salvaged: u32) {
        if self.scan.holes.len() < HOLES_MAX {
            self.scan.holes.push(Hole { from, resume, salvaged });
        }
        let first = || {
            let (groups, offset) = (resume.sequence - from.sequence, from.position % self.window.ring.bytes());
            format!("{groups} group(s) from number {} at ring offset {offset} do not verify", from.sequence)
        };
        self.scan.damage.get_or_insert_with(first);
    }

    fn header(&mut self, position: u64) -> io::Result<Option<GroupHeader>> {
        let lineage = self.superblock.lineage;
        let limit = self.limit;
        let header = GroupHeader::decode(self.window.bytes(position, BLOCK as u64)?, lineage);
        // What claims to reach into the log's own start was never written like that.
        Ok(header.filter(|header| position + header.bytes <= limit))
    }
}

/// A stretch of the ring in memory, moved forward in long reads.
struct Window<'a> {
    ring: &'a Ring,
    limit: u64,
    buffer: AlignedBuffer,
    from: u64,
    length: u64,
}

impl Window<'_> {
    fn bytes(&mut self, position: u64, length: u64) -> io::Result<&[u8]> {
        assert!(position + length <= self.limit, "nobody reads beyond one lap");
        if position < self.from || position + length > self.from + self.length {
            let wanted = length.max(WINDOW_BYTES as u64).min(self.limit - position);
            let wanted_bytes = usize::try_from(wanted).expect("a group fits memory");
            if self.buffer.capacity() < wanted_bytes {
                self.buffer = AlignedBuffer::new(wanted_bytes);
            }
            self.length = 0;
            self.ring.read(position, &mut self.buffer.bytes_mut()[..wanted_bytes])?;
            (self.from, self.length) = (position, wanted);
        }
        let start = usize::try_from(position - self.from).expect("it lies inside the window");
        Ok(&self.buffer.bytes()[start..][..usize::try_from(length).expect("it lies inside the window")])
    }
}
