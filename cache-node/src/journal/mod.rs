//! The node's one write-ahead log: all shards and partitions together, group-committed.
//!
//! One circular, preallocated file, written in groups. A group is whole or absent after a crash, and is written only
//! after the one before it is durable; from that one rule recovery tells a torn tail from damage (`recovery`).
//! `docs/formats/journal.md` draws the bytes.
//!
//! ```text
//! append ──queue──▶ journal-fill ──groups──▶ journal-disk ──▶ file ◀── journal-ahead
//!                   copies, checksums         writes, syncs,           writes zeros where
//!                   (small: writes too)       completes                nothing ever was
//! ```
//!
//! It refuses to know what a record means: heads and bodies are opaque, and whoever appended a record says when it is
//! no longer needed. A freed record may come back after a crash, so replay must be idempotent.

mod aligned;
mod damage;
mod error;
mod file;
mod fill;
mod foreign;
mod format;
mod group;
mod inspect;
mod layout;
mod memory;
mod open;
mod prewrite;
mod read_back;
mod record;
mod recovery;
mod ring;
mod settings;
mod shared;
mod space;
mod spare;
mod window;
mod write;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use kennel_protocol::ids::JournalId;

pub use damage::{Damage, DamagedPlace};
pub use error::{AppendError, JournalError};
pub use file::IoMode;
pub use format::{Formatted, format};
pub use inspect::{InspectedRecord, Inspection, inspect, inspect_image};
pub use open::Recovered;
pub use record::{Appended, Record, RecordClass, RecordId, RecoveredRecord};
pub use settings::JournalSettings;
pub use space::JournalUsage;

use memory::MemoryJournal;
use ring::Ring;
use shared::{Shared, Threads};

/// A handle on the journal; clones are cheap and equal.
///
/// When the last handle is dropped, everything that was appended is still written, and the threads are joined.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: JournalId,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Log { shared: Arc<Shared>, ring: Ring, threads: Threads },
    Memory(MemoryJournal),
}

impl Journal {
    /// Opens the journal at the settings' path, formats it where there is none, and reads back what is live.
    ///
    /// Blocks for as long as reading the live part takes (after a crash: reading the whole file).
    ///
    /// # Errors
    /// [`JournalError::InUse`] if another process has it open, [`JournalError::Unreadable`] if the file is not a
    /// journal or both of its superblocks are bad, [`JournalError::Settings`], [`JournalError::Io`].
    pub fn open(settings: &JournalSettings) -> Result<(Self, Recovered), JournalError> {
        open::open(settings)
    }

    /// Queues records, all of them or none: after a crash an append is whole or absent.
    ///
    /// Never blocks. Appends become durable, and complete, in the order of the calls.
    ///
    /// # Errors
    /// [`AppendError::Full`] and [`AppendError::Busy`] are back-pressure: the caller keeps the records and tries
    /// later. Everything else is final.
    pub fn append(&self, records: Vec<Record>) -> Result<Appended, AppendError> {
        match &self.inner.backing {
            Backing::Log { shared, .. } => shared.append(records),
            Backing::Memory(memory) => memory.append(&records),
        }
    }

    /// Says that the records are no longer needed. Unknown and already freed ids are ignored.
    ///
    /// Space is reusable once every record of the oldest groups is free. A freed record may be recovered again after
    /// a crash.
    pub fn free(&self, ids: impl IntoIterator<Item = RecordId>) {
        match &self.inner.backing {
            Backing::Log { shared, .. } => shared.free(ids),
            Backing::Memory(memory) => memory.free(ids),
        }
    }

    /// Reads the bodies of durable records back, verified, in the order asked for; `None` where a record was freed. One
    /// that is still on its way to the disk is waited for. Records that lie together are read together.
    ///
    /// Blocks on the disk: not for a thread that has other work.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`]: the disk fails, or a record that was durable does not verify any more. The journal
    /// stops with it; the next start finds out what is lost.
    pub fn read(&self, ids: &[RecordId]) -> Result<Vec<Option<Bytes>>, JournalError> {
        match &self.inner.backing {
            Backing::Log { shared, ring, .. } => read_back::read(shared, ring, ids),
            Backing::Memory(_) => Ok(vec![None; ids.len()]),
        }
    }

    /// Whether bodies can be read back: not with durability `memory`.
    pub fn keeps_bodies(&self) -> bool {
        matches!(self.inner.backing, Backing::Log { .. })
    }

    /// How full it is.
    pub fn usage(&self) -> JournalUsage {
        match &self.inner.backing {
            Backing::Log { shared, .. } => shared.usage(),
            Backing::Memory(memory) => memory.usage(),
        }
    }

    /// Which journal this is (PROTOCOL R5).
    pub fn journal_id(&self) -> JournalId {
        self.inner.id
    }

    /// Refuses new appends, writes and syncs what is queued, marks the log as cleanly closed and joins the threads.
    /// Other handles get [`AppendError::Closed`] from then on. Blocks; closing again is harmless.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`] with the reason if a write or sync had failed.
    pub fn close(self) -> Result<(), JournalError> {
        match &self.inner.backing {
            Backing::Log { shared, threads, .. } => threads.stop(shared),
            Backing::Memory(memory) => {
                memory.close();
                Ok(())
            }
        }
    }

    fn over_log(id: JournalId, shared: Arc<Shared>, ring: Ring, threads: Threads) -> Self {
        Self { inner: Arc::new(Inner { id, backing: Backing::Log { shared, ring, threads } }) }
    }

    fn over_memory(id: JournalId, memory: MemoryJournal) -> Self {
        Self { inner: Arc::new(Inner { id, backing: Backing::Memory(memory) }) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Backing::Log { shared, threads, .. } = &self.backing
            && let Err(error) = threads.stop(shared)
        {
            tracing::error!(journal = %self.id, %error, "the journal was dropped after a failure");
        }
    }
}
