//! What a shard machine is told once, at its start.

use core::time::Duration;

use kennel_protocol::ids::{ClusterId, JournalId, NodeId, ProcessId, ShardId};

use super::flaw::Flaws;

/// Identity and policy of one shard on one node. No `Default`: every value is somebody's decision.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Whose bucket.
    pub cluster: ClusterId,
    /// Which shard.
    pub shard: ShardId,
    /// This node.
    pub node: NodeId,
    /// This start of this process (PROTOCOL R4).
    pub process: ProcessId,
    /// This node's journal (PROTOCOL R5).
    pub journal: JournalId,
    /// How many journals a claim names, never more than there are live nodes.
    pub copies: u8,
    /// With fewer copies than this an acknowledgement waits for the bucket (PROTOCOL R7).
    pub min_copies: u8,
    /// Policies of time.
    pub timing: Timing,
    /// Policies of size.
    pub sizes: Sizes,
    /// The rule that is broken on purpose; none but in the simulator.
    pub flaws: Flaws,
}

/// How long things may take. For liveness only.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often an owner speaks to its followers.
    pub heartbeat: Duration,
    /// How long silence lasts before an owner counts as gone.
    pub owner_timeout: Duration,
    /// How much later than the one before it the next candidate tries.
    pub claim_stagger: Duration,
    /// How long one round of questions, seals or pulls waits before it is sent again.
    pub round: Duration,
    /// How long a claimant tries to open before it gives up.
    pub open_timeout: Duration,
    /// How long a create of a slot may be silent, on top of the time for its bytes, before the same bytes are sent a
    /// second time.
    pub create_patience: Duration,
    /// First delay after a failed attempt; doubles, with jitter.
    pub backoff_min: Duration,
    /// Largest delay after failed attempts.
    pub backoff_max: Duration,
    /// How long the oldest unpublished entry waits for company in its object.
    pub flush_interval: Duration,
    /// The same where there is little to publish.
    pub flush_interval_idle: Duration,
    /// How long a better placement must have stood before an owner hands over or changes its copy set.
    pub move_after: Duration,
}

/// How large things may get.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// An object is closed early at this many bytes, but no sooner than a flush interval after the one before.
    pub object_bytes_max: u64,
    /// An object is closed at once at this many bytes, whatever the interval. Under load objects grow up to here, so
    /// that the number of PUTs does not.
    pub object_bytes_loaded_max: u64,
    /// Below this many bytes an object waits for `flush_interval_idle`.
    pub object_bytes_idle: u64,
    /// An object is closed at this many entries.
    pub object_entries_max: usize,
    /// How many uploads fly at once.
    pub uploads_max: usize,
    /// Past this many bytes in flying uploads no further one starts.
    pub uploads_bytes_max: u64,
    /// Bodies that wait for the bucket in memory, bytes. What is more lies in the journal only and is read back when it
    /// is needed. Where the journal keeps no bytes (durability `memory`): no bound.
    pub resident_bytes_max: u64,
    /// Past this many bytes that wait for the bucket, ships are refused (DESIGN 2.7).
    pub unstored_bytes_max: u64,
    /// The same for how many entries wait: each costs memory for its head, wherever its body lies.
    pub unstored_entries_max: u64,
    /// Most bytes of bodies in one `Copy`.
    pub copy_bytes_max: u64,
    /// Most bytes of bodies in one `Pulled`.
    pub pulled_bytes_max: u64,
    /// Most entries in one `Copy` or `Pulled`.
    pub copy_entries_max: usize,
    /// Most bytes on the way to one follower.
    pub copy_window_bytes: u64,
    /// How many slots a claimant reads ahead.
    pub walk_window: u64,
}
