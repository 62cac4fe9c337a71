//! What a shard's machine is told of the node's settings, and the limits that nobody configures.

use std::time::Duration;

use kennel_core::shard::{Flaws, ShardConfig, Sizes, Timing};
use kennel_protocol::ids::ShardId;

use super::start::Foundation;
use crate::config::Settings;

/// An object waits for the idle interval below this size.
const OBJECT_BYTES_IDLE: u64 = 64 << 10;

/// Objects grow up to this size under load: at the default interval a shard takes 160 MB/s before it needs more PUTs.
const OBJECT_BYTES_LOADED_MAX: u64 = 64 << 20;

/// A take-over is a dozen requests to a bucket that may be slow: it gets this long, however quick its owner was missed.
const OPEN_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// Bytes of one shard in flying uploads past which no further one starts: two objects of the largest size.
const UPLOADS_BYTES_MAX: u64 = 128 << 20;

/// Bytes of one shard that may wait for the bucket where the journal is in memory.
const UNSTORED_MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Entries of one shard that may wait for the bucket: each keeps an estimated 600 bytes in memory.
const UNSTORED_ENTRIES_MAX: u64 = 2 << 20;

/// Entries of one object. Its index stays far below the format's limit.
const OBJECT_ENTRIES_MAX: usize = 32_768;

/// Bodies in one copy frame. The frames of all shards take turns in a session, and a shard whose frame takes longer than the
/// owner's timeout to come round counts as silent. Three busy nodes on two cores took 61 and 77 MB/s with 1 MiB and 16 on the
/// way, 116 and 102 with these.
const COPY_BYTES_MAX: u64 = 256 << 10;

/// Entries in one copy frame; the wire allows more.
const COPY_ENTRIES_MAX: usize = 1024;

/// Bodies in one answer to a claimant, which asks for the next when it has the last.
const PULLED_BYTES_MAX: u64 = 1 << 20;

/// Bytes on the way to one follower of one shard: 200 MB/s where a sync takes 10 ms.
const COPY_WINDOW_BYTES: u64 = 2 << 20;

/// Slots that a claimant reads ahead: at 30 ms a read, sixteen bring 500 slots a second.
const WALK_WINDOW: u64 = 16;

/// An upload that says nothing for so long is sent a second time. S3 answers in 0.25 s at p99, so that hardly any is; and
/// eight uploads in flight last for 3.2 s at the default interval, so that one stuck for ever does not hold up the rest.
const CREATE_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of bodies that wait for the bucket in memory, over all shards. A journal in memory gives nothing back, so nothing
/// may leave memory for it.
pub(super) fn resident_bytes_max(settings: &Settings, foundation: &Foundation) -> u64 {
    if foundation.journal.keeps_bodies() { settings.limits.resident_bytes_max } else { u64::MAX }
}

/// The settings of one shard's machine.
pub(super) fn shard_config(settings: &Settings, foundation: &Foundation, shard: ShardId) -> ShardConfig {
    let timing = &settings.timing;
    let keeps_bodies = foundation.journal.keeps_bodies();
    let unstored = settings.limits.unstored_bytes_max;
    ShardConfig {
        cluster: foundation.identity.cluster,
        shard,
        node: settings.node.id,
        process: foundation.process,
        journal: foundation.journal.journal_id(),
        copies: settings.cluster.copies,
        min_copies: settings.cluster.min_copies,
        timing: Timing {
            heartbeat: timing.heartbeat,
            owner_timeout: timing.owner_timeout,
            claim_stagger: timing.owner_timeout / 4,
            round: timing.heartbeat * 2,
            open_timeout: (timing.owner_timeout * 10).max(OPEN_TIMEOUT_MIN),
            create_patience: CREATE_PATIENCE,
            backoff_min: timing.heartbeat,
            backoff_max: timing.owner_timeout * 4,
            flush_interval: settings.flush.interval,
            flush_interval_idle: settings.flush.interval_idle,
            move_after: timing.settle * 2,
        },
        sizes: Sizes {
            object_bytes_max: settings.flush.object_bytes_max,
            object_bytes_loaded_max: settings.flush.object_bytes_max.max(OBJECT_BYTES_LOADED_MAX),
            object_bytes_idle: OBJECT_BYTES_IDLE,
            object_entries_max: OBJECT_ENTRIES_MAX,
            uploads_max: settings.flush.uploads_in_flight,
            uploads_bytes_max: UPLOADS_BYTES_MAX,
            resident_bytes_max: resident_bytes_max(settings, foundation),
            unstored_bytes_max: if keeps_bodies { unstored } else { unstored.min(UNSTORED_MEMORY_BYTES_MAX) },
            unstored_entries_max: UNSTORED_ENTRIES_MAX,
            copy_bytes_max: COPY_BYTES_MAX,
            pulled_bytes_max: PULLED_BYTES_MAX,
            copy_entries_max: COPY_ENTRIES_MAX,
            copy_window_bytes: COPY_WINDOW_BYTES,
            walk_window: WALK_WINDOW,
        },
        flaws: Flaws::NONE,
    }
}
