//! What goes into the journal and what comes back. Knows nothing of what heads and bodies mean.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::JournalError;

/// One record's name for as long as it lives: dense, rising, never reused for a completed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which part of the journal's space a record may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordClass {
    /// Ordinary work: refused while only the tenth that is kept for recovery is left.
    Normal,
    /// What a take-over or a seal needs in order to free space (PROTOCOL R10): may use that tenth too.
    Recovery,
}

/// One record: a small head and a body, both opaque, copied once on their way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the caller needs to know about the body.
    pub head: Bytes,
    /// The batches, or nothing.
    pub body: Bytes,
    /// Which space it may use.
    pub class: RecordClass,
}

/// A record that was found when the journal was opened. Its body stays on the disk: [`super::Journal::read`] brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredRecord {
    /// Its name.
    pub id: RecordId,
    /// What the caller needs to know about the body.
    pub head: Bytes,
    /// Length of the body in bytes.
    pub body_bytes: u32,
    /// Which space it may use.
    pub class: RecordClass,
}

/// An accepted append: its ids, and where its outcome arrives.
#[derive(Debug)]
pub struct Appended {
    /// The ids of the records, in their order.
    pub ids: Range<RecordId>,
    /// `Ok` once the records are durable. An error, or a closed channel, means that nobody knows: they may be found at
    /// the next start. Dropping the receiver does not cancel the append.
    pub done: oneshot::Receiver<Result<(), JournalError>>,
}

impl Appended {
    /// The ids one by one.
    pub fn each_id(&self) -> impl Iterator<Item = RecordId> + use<> {
        (self.ids.start.0..self.ids.end.0).map(RecordId)
    }
}
