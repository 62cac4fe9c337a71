//! Writes a new file's space once, before the log gets there.
//!
//! Space that was reserved and never written costs every first write into it a commit of the file system: on ext4 a sync
//! takes half as long again. Postgres writes its log files through for the same reason (`wal_init_zero`). Which parts were
//! never written the file system knows (`SEEK_HOLE`), so nothing about it is kept, and a restart goes on where it was.
//!
//! Appends wait for the same disk. So most of it is written while nothing is appended; beside a log that moves only as
//! much as keeps a lead over it.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::aligned::AlignedBuffer;
use super::file::BlockFile;
use super::layout::{BLOCK, Place, RING_START};
use super::shared::Shared;

/// Written at once while nothing is appended.
const STEP_BYTES: usize = 1 << 20;
/// Written at once while the log moves: groups wait behind it.
const STEP_BYTES_BUSY: usize = 128 << 10;
/// The disk is left alone for this many times as long as the last step took: a quarter of it is used.
const REST: u32 = 3;
/// As above while the log moves: a twentieth. A log that is faster overtakes, and writes such space itself.
const REST_BUSY: u32 = 19;
/// A journal that closes waits for no longer rest.
const REST_MAX: Duration = Duration::from_millis(50);
/// The log counts as moving for so long after it moved.
const MOVING: Duration = Duration::from_secs(1);
/// Written ahead of a log that moves: seconds of a busy node, so that the disk is left to the log most of the time.
const LEAD_BYTES: u64 = 32 << 20;

/// How far the space has been written, shared with the writer of groups: neither writes where the other does.
#[derive(Debug)]
pub(super) struct Prewritten {
    /// Below this offset nothing is left to do; the maximum once all is done.
    below: AtomicU64,
    /// Held over one step, and by a group that goes where steps still come.
    turn: Mutex<()>,
}

impl Prewritten {
    pub(super) fn new() -> Self {
        Self { below: AtomicU64::new(0), turn: Mutex::default() }
    }

    /// For a write that ends at the offset `end`: keeps steps away while it is held, if any can come there.
    pub(super) fn turn(&self, end: u64) -> Option<MutexGuard<'_, ()>> {
        (self.below.load(Ordering::Acquire) < end).then(|| self.lock())
    }

    /// Whether there was a step.
    fn has_begun(&self) -> bool {
        self.below.load(Ordering::Acquire) > 0
    }

    /// Says that no step comes any more.
    pub(super) fn finish(&self) {
        self.below.store(u64::MAX, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // It guards no data.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread owns.
pub(super) struct Prewriter {
    pub(super) shared: Arc<Shared>,
    pub(super) file: Arc<dyn BlockFile>,
    pub(super) prewritten: Arc<Prewritten>,
    /// Length of file that is the journal's.
    pub(super) end: u64,
}

/// Whether the log moves.
struct Movement {
    tail: Place,
    since: Option<Instant>,
}

impl Movement {
    fn look(&mut self, now: Instant, tail: Place) -> bool {
        if tail != self.tail {
            (self.tail, self.since) = (tail, Some(now));
        }
        self.since.is_some_and(|since| now.duration_since(since) < MOVING)
    }
}

impl Prewriter {
    /// Runs until all is written or the journal closes. What fails here fails nobody: a group written into such space is
    /// durable all the same, and a disk that is broken shows there.
    pub(super) fn run(self) {
        if let Err(error) = self.write_through() {
            tracing::warn!(%error, "a new journal's space was not written ahead; its first lap is slower");
        }
        self.prewritten.finish();
    }

    fn write_through(&self) -> io::Result<()> {
        let zeros = AlignedBuffer::new(STEP_BYTES);
        let mut movement = Movement { tail: self.shared.tail(), since: None };
        let mut from = RING_START;
        while !self.shared.is_ending() {
            let began = Instant::now();
            let moves = movement.look(began, self.shared.tail());
            from = self.next(from)?.map_or(self.end, |hole| hole.start);
            if moves && lead(self.end - RING_START, from, movement.tail.position) >= LEAD_BYTES && from < self.end {
                thread::sleep(REST_MAX);
                continue;
            }
            let (step, rest) = if moves { (STEP_BYTES_BUSY, REST_BUSY) } else { (STEP_BYTES, REST) };
            let Some(written) = self.step(from, &zeros.bytes()[..step])? else {
                // What the file system still has to note down is noted before a group waits for it.
                return if self.prewritten.has_begun() { self.file.sync() } else { Ok(()) };
            };
            from = written;
            thread::sleep((began.elapsed() * rest).min(REST_MAX));
        }
        Ok(())
    }

    /// The next part that was never written.
    fn next(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        Ok(self.file.next_hole(from)?.and_then(|hole| whole_blocks(hole, self.end)))
    }

    /// Writes the next part that never was; says up to where nothing is left to do.
    fn step(&self, from: u64, zeros: &[u8]) -> io::Result<Option<u64>> {
        let _turn = self.prewritten.lock();
        let Some(hole) = self.next(from)? else { return Ok(None) };
        let length = usize::try_from(hole.end - hole.start).unwrap_or(usize::MAX).min(zeros.len());
        self.file.write_all_at(&zeros[..length], hole.start)?;
        let written = hole.start + length as u64;
        // Released with the turn still held: who sees it may write there without one.
        self.prewritten.below.store(written, Ordering::Release);
        Ok(Some(written))
    }
}

/// How far a log that ends at `tail` has to go until it comes to an offset of the file.
fn lead(ring: u64, offset: u64, tail: u64) -> u64 {
    (offset - RING_START + ring - tail % ring) % ring
}

/// The part of a hole that is whole blocks of the journal, if there is any.
fn whole_blocks(hole: Range<u64>, end: u64) -> Option<Range<u64>> {
    let block = BLOCK as u64;
    let start = hole.start.next_multiple_of(block);
    let end = hole.end.min(end) / block * block;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_what_lies_between_the_log_and_an_offset_also_around_the_end() {
        assert_eq!(lead(100, RING_START, 0), 0);
        assert_eq!(lead(100, RING_START + 30, 10), 20);
        assert_eq!(lead(100, RING_START + 30, 1_010), 20, "in a later lap");
        assert_eq!(lead(100, RING_START + 10, 30), 80, "the log comes there after its wrap");
    }

    #[test]
    fn a_log_moves_until_it_has_stood_for_a_second() {
        let (start, place) = (Instant::now(), |position| Place { position, ..Place::default() });
        let mut movement = Movement { tail: place(5), since: None };
        assert!(!movement.look(start, place(5)), "nothing was appended yet");
        assert!(movement.look(start, place(6)) && movement.look(start + MOVING / 2, place(6)));
        assert!(!movement.look(start + MOVING, place(6)));
    }
}
