//! Reads one partition in offset order out of its segment files: verified chunks of whole batches, declared holes, and
//! the difference between an end, a torn end and damage.
//!
//! Memory: one window of the size asked for, or one batch if that is longer. Nothing stays open between reads, so ten
//! thousand partitions cost no descriptors.

use std::io;
use std::path::Path;

use bytes::Bytes;
use kennel_core::shipper::{SourceDamage, SourceRest};
use kennel_protocol::batch::{BatchFault, batches, inspect_chunk};
use kennel_protocol::entry::{EntryHead, HoleReason, MessageIdentity};
use kennel_protocol::ids::Offset;
use kennel_protocol::wire::ShipChunk;

use super::index_hint;
use super::scan::{FoundPartition, ScanError};
use super::segment_file::{Run, SegmentFile};

/// Retention may take a file between the listing and its opening; it does so more often only on a directory that is
/// being emptied.
const RESCANS_MAX: u32 = 4;

/// What one read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRead {
    /// At most one chunk, after at most a few holes.
    pub chunks: Vec<ShipChunk>,
    /// What comes after.
    pub rest: SourceRest,
    /// Bytes after the last whole batch of the last segment: a crash tore them, the server will write over them.
    pub torn_bytes: u64,
}

/// Reads one partition. Remembers where the last read ended; any other offset is looked for.
#[derive(Debug)]
pub struct PartitionReader {
    found: FoundPartition,
    place: Option<Place>,
}

/// Where the next batch stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Index into the listed segments.
    segment: usize,
    /// In its file, bytes.
    position: u64,
    /// The batch's base offset.
    next: Offset,
    /// The message before it, if the source has it.
    previous: Option<MessageIdentity>,
}

/// Where an offset was found.
enum Sought {
    At(Place),
    /// The files end below the offset.
    Behind {
        end: Offset,
        last: Option<MessageIdentity>,
    },
}

/// What follows the end of a file.
enum After {
    /// The place moved on, over this hole if there is one.
    More(Option<Box<ShipChunk>>),
    Nothing,
}

/// Why a read stopped.
enum Fault {
    /// A listed file is gone, or shorter than it was: list again.
    Vanished,
    Damage(SourceDamage),
}

impl PartitionReader {
    /// A reader of a partition as it was found.
    pub fn new(found: FoundPartition) -> Self {
        Self { found, place: None }
    }

    /// The partition as it was last listed.
    pub fn found(&self) -> &FoundPartition {
        &self.found
    }

    /// Reads about `bytes_max` bytes of whole batches from offset `from` on. Blocks on the disk.
    ///
    /// If `from` lies inside a batch, that whole batch is returned: its base is below `from`.
    pub fn read(&mut self, from: Offset, bytes_max: usize) -> SourceRead {
        let mut fault = Fault::Vanished;
        for _ in 0..RESCANS_MAX {
            match self.try_read(from, bytes_max) {
                Ok(read) => return read,
                Err(Fault::Vanished) => {
                    self.place = None;
                    if let Err(damage) = self.rescan() {
                        fault = damage;
                        break;
                    }
                }
                Err(damage @ Fault::Damage(_)) => {
                    fault = damage;
                    break;
                }
            }
        }
        let damage = match fault {
            Fault::Damage(damage) => damage,
            Fault::Vanished => {
                let place = self.found.directory.display().to_string();
                SourceDamage { place, position: 0, reason: "files vanish faster than they can be listed".into() }
            }
        };
        SourceRead { chunks: Vec::new(), rest: SourceRest::Damaged(damage), torn_bytes: 0 }
    }

    fn try_read(&mut self, from: Offset, bytes_max: usize) -> Result<SourceRead, Fault> {
        let mut chunks = Vec::new();
        let kept = self.place.take().filter(|place| place.next == from);
        let mut place = match kept {
            Some(place) => place,
            None => match self.seek(from)? {
                Sought::At(place) => place,
                Sought::Behind { end, last } => return Ok(exhausted(chunks, end, last, 0)),
            },
        };
        if place.next > from {
            chunks.push(self.hole(from, place.next));
        }
        let mut shipped = false;
        while !shipped {
            let file = self.open(place.segment)?;
            match self.at(place, file.read_run(place.position, bytes_max))? {
                Run::Batches(run) => match self.inspect(place, &run) {
                    Ok(chunk) => {
                        place.position += chunk.body.len() as u64;
                        place.next = chunk.head.end;
                        place.previous = chunk.head.last;
                        chunks.push(chunk);
                        shipped = true;
                    }
                    Err((position, fault)) => return self.judge(chunks, place, &file, position, fault),
                },
                Run::Bad(fault) => return self.judge(chunks, place, &file, place.position, fault),
                Run::End => {}
            }
            if place.position >= file.bytes() {
                match self.after_end(&mut place, file.bytes()) {
                    Ok(After::More(hole)) => chunks.extend(hole.map(|hole| *hole)),
                    Ok(After::Nothing) => return Ok(exhausted(chunks, place.next, last_before(&place), 0)),
                    // What was read is worth more than the news: the next read meets the fault again.
                    Err(_) if shipped => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        self.place = Some(place);
        Ok(SourceRead { chunks, rest: SourceRest::More, torn_bytes: 0 })
    }

    /// Moves on from the end of a file.
    fn after_end(&mut self, place: &mut Place, file_bytes: u64) -> Result<After, Fault> {
        if place.position > file_bytes {
            return Err(Fault::Vanished);
        }
        if place.segment + 1 == self.found.segments.len() {
            let start = self.found.segments[place.segment].start;
            self.rescan()?;
            let again = self.found.segments.binary_search_by_key(&start, |segment| segment.start);
            place.segment = again.map_err(|_| Fault::Vanished)?;
            if self.found.segments[place.segment].bytes > place.position
                && self.found.segments.len() > place.segment + 1
            {
                // It grew and was sealed meanwhile: its own end comes first.
                return Ok(After::More(None));
            }
        }
        let Some(next) = self.found.segments.get(place.segment + 1).map(|segment| segment.start) else {
            return Ok(After::Nothing);
        };
        let hole = self.hole_between(place, next, file_bytes)?;
        *place = Place {
            segment: place.segment + 1,
            position: 0,
            next,
            previous: place.previous.filter(|_| hole.is_none()),
        };
        Ok(After::More(hole.map(Box::new)))
    }

    /// The hole between the end of one segment and the start of the next, if there is one.
    fn hole_between(&self, place: &Place, next: Offset, file_bytes: u64) -> Result<Option<ShipChunk>, Fault> {
        if next == place.next {
            return Ok(None);
        }
        let segment = self.found.segments[place.segment];
        let path = segment.log_path(&self.found.directory);
        let damage =
            |reason| Fault::Damage(SourceDamage { place: path.display().to_string(), position: file_bytes, reason });
        if next < place.next {
            return Err(damage(format!(
                "the segment ends at offset {}, but the next one starts at {next}",
                place.next
            )));
        }
        let indexed = index_hint::last(&segment.index_path(&self.found.directory));
        if let Some(hint) = indexed.filter(|hint| hint.position >= file_bytes) {
            let (offset, position) = (hint.offset, hint.position);
            return Err(damage(format!("the file is cut short: its index has offset {offset} at byte {position}")));
        }
        Ok(Some(self.hole(place.next, next)))
    }

    /// Decides what bytes that do not verify mean: in the last segment, with nothing valid behind them, a torn end;
    /// anywhere else, damage. What was read before them is returned either way.
    fn judge(
        &mut self,
        chunks: Vec<ShipChunk>,
        place: Place,
        file: &SegmentFile,
        position: u64,
        fault: BatchFault,
    ) -> Result<SourceRead, Fault> {
        let listed = self.found.segments[place.segment];
        let path = listed.log_path(&self.found.directory);
        self.rescan()?;
        let last = self.found.segments.last().is_some_and(|segment| segment.start == listed.start);
        let mut reason = fault.to_string();
        if last && could_be_torn(&fault) {
            let key = self.found.key;
            match self.at(place, file.find_batch(place.position + 1, key, place.next))? {
                None => return Ok(exhausted(chunks, place.next, last_before(&place), file.bytes() - place.position)),
                Some(valid) => reason = format!("{reason} (a valid batch follows at byte {valid})"),
            }
        }
        let damage = SourceDamage { place: path.display().to_string(), position, reason };
        Ok(SourceRead { chunks, rest: SourceRest::Damaged(damage), torn_bytes: 0 })
    }

    /// Verifies a run and makes a chunk of it, or of the batches before the first bad one.
    fn inspect(&self, place: Place, run: &Bytes) -> Result<ShipChunk, (u64, BatchFault)> {
        let (head, body) = match inspect_chunk(self.found.key, run) {
            Ok(head) => (head, run.clone()),
            Err(error) => {
                let good = batches(run).map_while(Result::ok).map(|batch| batch.position());
                let good = good.take_while(|start| *start <= error.position).last().unwrap_or(0);
                let body = run.slice(..good);
                match inspect_chunk(self.found.key, &body) {
                    Ok(head) => (head, body),
                    Err(_) => return Err((place.position + error.position as u64, error.reason)),
                }
            }
        };
        if head.base != place.next {
            return Err((place.position, BatchFault::Gap { expected: place.next, found: head.base }));
        }
        Ok(ShipChunk { head: EntryHead { previous: place.previous, ..head }, body })
    }

    /// Finds the batch that holds or starts at an offset, and the message before it.
    fn seek(&mut self, from: Offset) -> Result<Sought, Fault> {
        if self.found.segments.is_empty() {
            self.rescan()?;
        }
        let Some(first) = self.found.segments.first() else {
            return Ok(Sought::Behind { end: Offset(0), last: None });
        };
        if from <= first.start {
            return Ok(Sought::At(Place { segment: 0, position: 0, next: first.start, previous: None }));
        }
        // The batch that holds the message before: its identity travels with the next chunk.
        let before = Offset(from.0 - 1);
        let segment = self.found.segments.partition_point(|segment| segment.start <= before) - 1;
        let mut place = self.start_near(segment, before)?;
        let file = self.open(segment)?;
        loop {
            match self.at(place, file.header(place.position))? {
                Some(Ok(header)) if header.base_offset == place.next => {
                    let here = place;
                    place.next = header.base_offset.plus(header.message_count.into());
                    place.position += header.batch_length;
                    if place.next > from {
                        // The ring ends inside this batch: the caller sees that from its base.
                        return Ok(Sought::At(Place { previous: None, ..here }));
                    }
                    if place.next == from || file.bytes() == place.position {
                        place.previous = self.identity_of(here, &file)?;
                    }
                    if place.next == from {
                        return Ok(Sought::At(place));
                    }
                }
                None => return Ok(self.seek_after(place)),
                // Damaged before the offset: reading from there says how.
                Some(_) => return Ok(Sought::At(Place { previous: None, ..place })),
            }
        }
    }

    /// Where to begin looking in a segment for an offset.
    fn start_near(&self, segment: usize, offset: Offset) -> Result<Place, Fault> {
        let listed = self.found.segments[segment];
        let start = Place { segment, position: 0, next: listed.start, previous: None };
        let Some(hint) = index_hint::find(&listed.index_path(&self.found.directory), offset) else { return Ok(start) };
        let header = self.at(start, self.open(segment)?.header(hint.position))?;
        let believed = matches!(header, Some(Ok(header)) if header.base_offset == hint.offset);
        Ok(if believed { Place { position: hint.position, next: hint.offset, ..start } } else { start })
    }

    /// The offset lies behind the end of its segment: in a hole, or beyond everything.
    fn seek_after(&self, end: Place) -> Sought {
        match self.found.segments.get(end.segment + 1) {
            Some(next) => Sought::At(Place { segment: end.segment + 1, position: 0, next: next.start, previous: None }),
            None => Sought::Behind { end: end.next, last: last_before(&end) },
        }
    }

    /// The last message of the batch at a place. `None` if it does not verify: it is in the ring already, and
    /// shipping what follows does not depend on it.
    fn identity_of(&self, place: Place, file: &SegmentFile) -> Result<Option<MessageIdentity>, Fault> {
        let run = self.at(place, file.read_run(place.position, 1))?;
        let Run::Batches(run) = run else { return Ok(None) };
        let Some(Ok(batch)) = batches(&run).next() else { return Ok(None) };
        let head = inspect_chunk(self.found.key, &run.slice(..batch.bytes().len()));
        Ok(head.ok().and_then(|head| head.last))
    }

    fn open(&self, segment: usize) -> Result<SegmentFile, Fault> {
        let path = self.found.segments[segment].log_path(&self.found.directory);
        SegmentFile::open(&path).map_err(|error| io_fault(&path, 0, &error))
    }

    fn at<T>(&self, place: Place, result: io::Result<T>) -> Result<T, Fault> {
        result.map_err(|error| {
            let path = self.found.segments[place.segment].log_path(&self.found.directory);
            io_fault(&path, place.position, &error)
        })
    }

    fn hole(&self, from: Offset, to: Offset) -> ShipChunk {
        let head = EntryHead::hole(self.found.key, from, to, HoleReason::SourceRetention);
        ShipChunk { head, body: Bytes::new() }
    }

    /// Lists the files again. A purge meanwhile is another partition: this one ends.
    fn rescan(&mut self) -> Result<(), Fault> {
        let damage = |reason: String| {
            Fault::Damage(SourceDamage { place: self.found.directory.display().to_string(), position: 0, reason })
        };
        let found = self.found.rescan().map_err(|error| damage(chain(&error)))?;
        if found.key != self.found.key {
            return Err(damage(
                "the partition was purged while it was read; start again to ship what is there now".into(),
            ));
        }
        if found.segments.is_empty() && !self.found.segments.is_empty() {
            return Err(damage("all segments are gone: the partition was deleted while it was read".into()));
        }
        self.found = found;
        Ok(())
    }
}

fn exhausted(chunks: Vec<ShipChunk>, end: Offset, last: Option<MessageIdentity>, torn_bytes: u64) -> SourceRead {
    SourceRead { chunks, rest: SourceRest::Exhausted { end, last }, torn_bytes }
}

fn last_before(place: &Place) -> Option<MessageIdentity> {
    place.previous.filter(|previous| previous.offset.plus(1) == place.next)
}

/// What a crash in the middle of an append can leave. Offsets that do not continue are written by no crash.
fn could_be_torn(fault: &BatchFault) -> bool {
    !matches!(
        fault,
        BatchFault::Gap { .. }
            | BatchFault::WrongPartition { .. }
            | BatchFault::Sliced { .. }
            | BatchFault::OffsetOrder { .. }
    )
}

fn io_fault(path: &Path, position: u64, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::NotFound {
        return Fault::Vanished;
    }
    Fault::Damage(SourceDamage { place: path.display().to_string(), position, reason: error.to_string() })
}

fn chain(error: &ScanError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
