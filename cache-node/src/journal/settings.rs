//! What an operator chooses about the journal, and what follows from it.

use std::path::PathBuf;
use std::time::Duration;

use super::error::JournalError;
use super::layout::{BLOCK, RING_BYTES_MIN, RING_START};

/// The smallest journal: room for a few groups. Real ones have gigabytes.
pub(super) const BYTES_MIN: u64 = RING_START + RING_BYTES_MIN;
/// Below this, padding could make copying forward gain nothing.
const GROUP_BYTES_MIN: usize = 64 << 10;
/// The largest group that recovery is asked to believe, and so the largest append on disk: Iggy's largest batch
/// (64 MiB), the entries that ship with it in one frame, and their heads.
pub(super) const GROUP_BYTES_WALL: u64 = 96 << 20;
/// Records in one group at most: their bookkeeping stays below 2 MiB.
pub(super) const GROUP_RECORDS_MAX: u32 = 65_536;
/// How many full groups may wait for the disk. Two keep it busy; the rest absorbs bursts of one network round trip.
const QUEUE_GROUPS: u64 = 8;

/// What an operator chooses about the journal.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// A regular file (created where absent) or a raw block device.
    pub path: PathBuf,
    /// Size of a new journal in bytes. An existing one keeps the size that it was formatted with.
    pub bytes: u64,
    /// A group is closed at this size, bytes.
    pub group_bytes_max: usize,
    /// How long the first append of a group waits for company while the disk is idle. Zero is right unless syncs are
    /// what the disk is short of.
    pub group_linger: Duration,
    /// Durability `memory`: no file, a new journal id at every start, everything completes at once, `bytes` still
    /// bounds what is live.
    pub memory_only: bool,
}

impl JournalSettings {
    /// The circular part's size in bytes for a file of `bytes`.
    pub(super) fn ring_bytes(bytes: u64) -> u64 {
        bytes.saturating_sub(RING_START) / BLOCK as u64 * BLOCK as u64
    }

    pub(super) fn check(&self) -> Result<(), JournalError> {
        let fail = |reason: String| Err(JournalError::Settings { reason });
        if self.bytes < BYTES_MIN {
            return fail(format!("{} bytes are too few, give it at least {BYTES_MIN}", self.bytes));
        }
        if self.group_bytes_max < GROUP_BYTES_MIN || self.group_bytes_max as u64 > GROUP_BYTES_WALL {
            return fail(format!("group_bytes_max must be between {GROUP_BYTES_MIN} and {GROUP_BYTES_WALL}"));
        }
        Ok(())
    }
}

/// The bounds that follow from the settings and the size of the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) ring_bytes: u64,
    /// A group is closed at this size; never larger than what can be copied forward in one go.
    pub(super) group_bytes_max: usize,
    /// Largest append on disk. An eighth of a small ring, so that one record never pins all of it.
    pub(super) append_bytes_max: u64,
    /// Bytes accepted and not yet durable.
    pub(super) queue_bytes_max: u64,
    /// What `Normal` records may use: a tenth is kept for recovery.
    pub(super) normal_bytes: u64,
    /// What `Recovery` records may use: the room of the largest group and of its
    /// padding is kept to copy pinned records forward.
    pub(super) recovery_bytes: u64,
}

impl Bounds {
    /// Capacity of an ordinary group buffer.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.group_bytes_max.next_multiple_of(BLOCK)
    }

    pub(super) fn new(settings: &JournalSettings, ring_bytes: u64) -> Self {
        let append_bytes_max = (ring_bytes / 8).min(GROUP_BYTES_WALL);
        let copy_room = append_bytes_max + append_bytes_max / 4;
        let recovery_bytes = ring_bytes - copy_room;
        Self {
            ring_bytes,
            group_bytes_max: settings.group_bytes_max.min(usize::try_from(append_bytes_max).unwrap_or(usize::MAX)),
            append_bytes_max,
            queue_bytes_max: (QUEUE_GROUPS * settings.group_bytes_max as u64).max(append_bytes_max),
            normal_bytes: recovery_bytes - ring_bytes / 10,
            recovery_bytes,
        }
    }
}
