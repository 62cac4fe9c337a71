//! Puts groups on the disk: writes one, syncs, completes it, and only then takes the next.
//!
//! That order is what recovery rests on: a whole group proves that all before it were durable. Two threads come here, never at
//! the same time: the disk's own, so that the next group fills while one is written; and the filling one with a small group
//! for an idle disk, which a switch to another thread would only delay.

use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::group::FilledGroup;
use super::layout::{Place, Superblock};
use super::prewrite::Prewritten;
use super::ring::Ring;
use super::shared::Shared;

/// The superblock follows the head at least this many times per lap, so that recovery reads little that is dead.
const SUPERBLOCKS_PER_LAP: u64 = 8;

/// A healthy disk writes the largest group in a tenth of this.
const SLOW_DISK: Duration = Duration::from_secs(1);

/// What groups are written with, behind a lock that is held over one group.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<Writer>>);

/// What whoever writes owns meanwhile.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) ring: Ring,
    pub(super) prewritten: Arc<Prewritten>,
    /// What is on disk.
    pub(super) superblock: Superblock,
    /// All groups below are durable.
    pub(super) end: Place,
    pub(super) next_record: u64,
}

impl Disk {
    pub(super) fn new(writer: Writer) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// The disk's thread: runs until the filling thread is gone.
    pub(super) fn run(self, groups: Receiver<FilledGroup>) {
        for group in groups {
            self.take(group);
        }
        self.writer().finish();
    }

    /// Writes a group, or refuses it where the journal has stopped. Groups must come in order.
    pub(super) fn take(&self, group: FilledGroup) {
        self.writer().take(group);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic under the lock is a bug that the thread's end already turned into poison.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// The first failure poisons the journal: what the disk holds after a failed sync is unknown, and a second sync that
    /// succeeds would prove nothing.
    fn take(&mut self, group: FilledGroup) {
        if self.shared.poison().is_none() {
            if let Err(error) = self.write(&group) {
                self.shared.set_poison(error);
            } else {
                self.end = group.header.place.after(group.header.bytes);
                self.next_record = group.header.next_record;
                return self.shared.complete(group);
            }
        }
        self.refuse(group);
    }

    fn write(&mut self, group: &FilledGroup) -> Result<(), JournalError> {
        let end = group.header.place.position + group.header.bytes;
        let head = self.shared.head();
        let start = self.superblock.start.position;
        let overruns = end - start > self.ring.bytes();
        if overruns || head.position - start > self.ring.bytes() / SUPERBLOCKS_PER_LAP {
            self.write_superblock(head, false).map_err(JournalError::poisoned("write the superblock"))?;
        }
        let start = self.superblock.start.position;
        assert!(end - start <= self.ring.bytes(), "nothing is overwritten that recovery would read");
        let position = group.header.place.position;
        let started = Instant::now();
        let written = {
            let _turn = self.prewritten.turn(self.ring.write_end(position, group.bytes().len()));
            self.ring.write_durably(position, group.bytes())
        };
        written.map_err(JournalError::poisoned("write and sync a group"))?;
        let taken = started.elapsed();
        if taken > SLOW_DISK {
            // Appends wait meanwhile, and callers are told `Busy`; that is all that can be done about a slow disk here.
            tracing::warn!(?taken, bytes = group.header.bytes, "the journal's disk was slow to write a group");
        }
        Ok(())
    }

    fn write_superblock(&mut self, head: Place, clean: bool) -> io::Result<()> {
        let mut superblock = self.superblock.clone();
        superblock.generation += 1;
        // The head may be the very group that is to be written next, never one behind it.
        superblock.start = head.min(self.end);
        superblock.end = self.end;
        superblock.next_record = self.next_record;
        superblock.clean = clean;
        superblock.holes.retain(|hole| hole.from >= superblock.start);
        self.ring.write_superblock(&superblock)?;
        self.superblock = superblock;
        Ok(())
    }

    fn refuse(&self, group: FilledGroup) {
        let error = self.shared.poison().unwrap_or(JournalError::Closed);
        for waiter in group.waiters {
            // A caller that went away does not need to know.
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// The filling thread has ended: properly, because of poison, or because it panicked.
    fn finish(&mut self) {
        let closing = self.shared.state().closing;
        if self.shared.poison().is_some() {
            return;
        }
        if !closing {
            let ended = io::Error::other("the thread that fills groups ended early");
            self.shared.set_poison(JournalError::poisoned("fill a group")(ended));
        } else if let Err(error) = self.write_superblock(self.shared.head(), true) {
            self.shared.set_poison(JournalError::poisoned("write the superblock")(error));
        }
    }
}
