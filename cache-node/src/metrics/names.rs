//! The names of all metrics: `kennel_<part>_<noun>_<unit>`.

/// Whether the node serves: 1 or 0.
pub const NODE_READY: &str = "kennel_node_ready_bool";
/// Since the process started.
pub const NODE_UPTIME: &str = "kennel_node_uptime_seconds";
/// Open sessions.
pub const NODE_SESSIONS: &str = "kennel_node_sessions_count";
/// Live nodes as this node sees them.
pub const MEMBERSHIP_NODES: &str = "kennel_membership_nodes_count";
/// Changes of the settled membership.
pub const MEMBERSHIP_CHANGES: &str = "kennel_membership_changes_total";
/// The newest epoch of a shard.
pub const SHARD_EPOCH: &str = "kennel_shard_epoch_number";
/// What this node is to a shard: 1 at the label that holds.
pub const SHARD_ROLE: &str = "kennel_shard_role_bool";
/// Entries journaled here and not known to be on a quorum.
pub const SHARD_UNCOMMITTED: &str = "kennel_shard_uncommitted_entries";
/// Entries on a quorum and not in the bucket.
pub const SHARD_UNSTORED_ENTRIES: &str = "kennel_shard_unstored_entries";
/// Bytes that wait for the bucket.
pub const SHARD_UNSTORED_BYTES: &str = "kennel_shard_unstored_bytes";
/// How many of the bytes that wait for the bucket are in memory, by shard.
pub const SHARD_RESIDENT_BYTES: &str = "kennel_shard_resident_bytes";
/// Partitions of a shard.
pub const SHARD_PARTITIONS: &str = "kennel_shard_partitions_count";
/// Partitions that stopped because their source differs.
pub const DIVERGED: &str = "kennel_diverged_partitions";
/// Differences that were found between a source and the shards owned here.
pub const DIVERGENCES: &str = "kennel_divergences_total";
/// Objects that this process wrote.
pub const SHARD_OBJECTS: &str = "kennel_shard_objects_total";
/// Journal bytes in use.
pub const JOURNAL_USED: &str = "kennel_journal_used_bytes";
/// Journal bytes that chunks may use.
pub const JOURNAL_CAPACITY: &str = "kennel_journal_capacity_bytes";
/// Dead journal bytes behind an older live record.
pub const JOURNAL_PINNED: &str = "kennel_journal_pinned_bytes";
/// Accepted bytes that wait for the disk.
pub const JOURNAL_QUEUED: &str = "kennel_journal_queued_bytes";
/// Journal records that were durable and did not verify at the start.
pub const JOURNAL_DAMAGED: &str = "kennel_journal_damaged_records_total";
/// From an append to its durability.
pub const JOURNAL_APPEND: &str = "kennel_journal_append_seconds";
/// Requests to the bucket.
pub const BUCKET_REQUESTS: &str = "kennel_bucket_requests_total";
/// Body bytes to and from the bucket.
pub const BUCKET_BYTES: &str = "kennel_bucket_body_bytes_total";
/// What the requests cost at list price.
pub const BUCKET_COST: &str = "kennel_bucket_cost_usd";
/// Whether the last request was answered: 1 or 0.
pub const BUCKET_REACHABLE: &str = "kennel_bucket_reachable_bool";
/// From the close of an object to its place in the log.
pub const BUCKET_PUBLISH: &str = "kennel_bucket_publish_seconds";
/// Sizes of published objects.
pub const BUCKET_OBJECT: &str = "kennel_bucket_object_bytes";
/// Look-ups of cold blocks.
pub const CACHE_LOOKUPS: &str = "kennel_cache_lookups_total";
/// Bytes of the memory cache.
pub const CACHE_MEMORY: &str = "kennel_cache_memory_bytes";
/// Bytes of newest batches in memory.
pub const TAIL_USED: &str = "kennel_tail_used_bytes";
/// From a chunk's arrival to its acknowledgement.
pub const SHIP_ACK: &str = "kennel_ship_ack_seconds";
/// Chunk bytes accepted from shippers.
pub const SHIP_BYTES: &str = "kennel_ship_accepted_bytes_total";
/// Chunks refused, by reason.
pub const SHIP_REFUSALS: &str = "kennel_ship_refusals_total";
/// From a fetch to its answer.
pub const FETCH_ANSWER: &str = "kennel_fetch_answer_seconds";
/// Bytes served to readers.
pub const FETCH_BYTES: &str = "kennel_fetch_served_bytes_total";
/// Open sessions of the gateway.
pub const GATEWAY_SESSIONS: &str = "kennel_gateway_sessions_count";
/// Clients that the gateway turned away.
pub const GATEWAY_REFUSED: &str = "kennel_gateway_refused_total";
/// Whether the Iggy server behind the gateway can be reached: 1 or 0.
pub const GATEWAY_ORIGIN: &str = "kennel_gateway_origin_reachable_bool";
/// Polls answered from the ring.
pub const GATEWAY_SERVED: &str = "kennel_gateway_polls_served_total";
/// Polls answered from the ring while the server was away.
pub const GATEWAY_SERVED_ALONE: &str = "kennel_gateway_polls_without_origin_total";
/// Messages in answers from the ring.
pub const GATEWAY_MESSAGES: &str = "kennel_gateway_served_messages_total";
/// Their bytes.
pub const GATEWAY_BYTES: &str = "kennel_gateway_served_bytes_total";
/// Polls that the server answered, by reason.
pub const GATEWAY_FORWARDED: &str = "kennel_gateway_polls_forwarded_total";
/// Requests that are no polls.
pub const GATEWAY_PASSED: &str = "kennel_gateway_requests_passed_total";
/// What the server said when it was asked whether a session may poll.
pub const GATEWAY_VERDICTS: &str = "kennel_gateway_verdicts_total";
/// Comparisons in which server and ring held different messages.
pub const GATEWAY_MISMATCHES: &str = "kennel_gateway_mismatches_total";
/// From a poll to its answer.
pub const GATEWAY_POLL: &str = kennel_gateway::POLL_SECONDS;

/// Readers of this host that share the node's memory.
pub const LOCAL_READERS: &str = "kennel_local_readers_count";
/// Local connections turned away.
pub const LOCAL_REFUSED: &str = "kennel_local_refused_total";
/// Records written for readers of this host.
pub const LOCAL_RECORDS: &str = "kennel_local_records_total";
/// Their bytes.
pub const LOCAL_BYTES: &str = "kennel_local_written_bytes_total";
/// Readers of this host woken.
pub const LOCAL_WAKES: &str = "kennel_local_wakes_total";

/// Answers written into readers' memory.
pub const FABRIC_PLACED: &str = "kennel_fabric_placed_total";
/// Their bytes.
pub const FABRIC_BYTES: &str = "kennel_fabric_placed_bytes_total";
/// Answers that went over QUIC although the reader had offered a landing.
pub const FABRIC_INLINE: &str = "kennel_fabric_inline_total";
/// Copies written into followers' memory.
pub const FABRIC_COPIES_PLACED: &str = "kennel_fabric_copies_placed_total";
/// Their bytes.
pub const FABRIC_COPIES_BYTES: &str = "kennel_fabric_copies_placed_bytes_total";
/// Copies that owners have written into this node's memory.
pub const FABRIC_COPIES_LANDED: &str = "kennel_fabric_copies_landed_total";
/// Copies that did not verify.
pub const FABRIC_COPIES_REFUSED: &str = "kennel_fabric_copies_refused_total";
/// Placements that failed or were late.
pub const FABRIC_FAILED: &str = "kennel_fabric_failed_total";
/// Transfers that had not ended at their deadline.
pub const FABRIC_QUARANTINED: &str = "kennel_fabric_quarantined_total";
/// Openings of a breaker.
pub const FABRIC_BREAKER: &str = "kennel_fabric_breaker_opens_total";
/// Endpoints opened anew.
pub const FABRIC_REOPENED: &str = "kennel_fabric_reopened_total";
