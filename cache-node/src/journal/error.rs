//! What can go wrong with the journal, in the caller's terms.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kennel_protocol::ids::JournalId;

/// Why the journal could not be opened, or why it stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The settings cannot work. Fix the configuration.
    #[error("the journal's settings cannot work: {reason}")]
    Settings {
        /// What to change.
        reason: String,
    },
    /// Another process has the journal open. Stop it, or give this one another path.
    #[error("the journal {} is in use by another process: stop it or configure another path", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a journal, is of another version, or lost both superblocks. Only a person may move it away.
    #[error("{} is no journal that can be read ({reason}): move it away to start with an empty one", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The path names something that a journal cannot live on. Fix `journal.path`.
    #[error("{} is a {kind}: name {wanted}", path.display())]
    NotStorage {
        /// What was named.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
        /// What would do.
        wanted: &'static str,
    },
    /// There is no such device, and a file among devices would lie in memory. Attach it, or fix `journal.path`.
    #[error("there is no device {}: attach it or correct journal.path", path.display())]
    NoDevice {
        /// What was named.
        path: PathBuf,
    },
    /// The device holds something that is no journal. Only a person may give it up.
    #[error(
        "the device {} holds something else ({found}): if nobody needs it, run \
         `cache-node journal format --device {} --yes`",
        path.display(), path.display()
    )]
    Foreign {
        /// The device.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The device that is to be formatted holds a journal: what only that one holds would be lost.
    #[error("{} holds the journal {journal}: say `--replace {journal}` if it is to be destroyed", path.display())]
    HoldsJournal {
        /// The device.
        path: PathBuf,
        /// Which journal.
        journal: JournalId,
    },
    /// The system refused an operation while the journal was opened.
    #[error("the journal {} could not {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// A verb and a noun.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write or a sync failed, and nobody can know what the disk holds now: nothing completes any more.
    /// Appends that had not completed may or may not be found at the next start. Replace the disk or free space on
    /// it, then restart the node.
    #[error("the journal stopped for good: it could not {action}; check the disk, then restart the node")]
    Poisoned {
        /// A verb and a noun.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// It was closed before the append was written: it is not on disk.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source: Arc::new(source) }
    }

    pub(super) fn poisoned(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Poisoned { action, source: Arc::new(source) }
    }
}

/// Why an append was not accepted. The records were not queued, and no id was used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The log has no room. Wait until records are freed.
    #[error("the journal is full: {used} of {capacity} bytes are in use")]
    Full {
        /// Bytes in use, dead space between live records included.
        used: u64,
        /// Bytes that this class of record may use.
        capacity: u64,
    },
    /// The disk is behind. Wait until earlier appends complete.
    #[error("the journal's queue is full: {queued} bytes wait for the disk, {limit} may")]
    Busy {
        /// Bytes that wait.
        queued: u64,
        /// Bytes that may wait.
        limit: u64,
    },
    /// The append can never fit. Split it.
    #[error("an append of {bytes} bytes is over the journal's limit of {limit}: split it or enlarge the journal")]
    TooLarge {
        /// Its size on disk.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// There was nothing to append.
    #[error("an append needs at least one record")]
    Empty,
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// The journal stopped for good.
    #[error("the journal takes no more records")]
    Poisoned(#[source] JournalError),
}
