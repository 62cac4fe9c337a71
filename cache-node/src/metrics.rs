//! Every metric of the node: names, help texts, label values, and the only functions that record them.
//!
//! Names are `kennel_<part>_<noun>_<unit>`; label values come from closed sets, so the number of series is bounded by
//! shards and never by users. What [`StatusReport`] knows is copied from it when somebody reads `/metrics`; only events
//! that need a distribution are recorded where they happen.

mod names;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::http::{FabricReport, GatewayReport, LocalReport, ShardReport, StatusReport};

pub use names::*;

/// The roles of [`SHARD_ROLE`].
const ROLES: [&str; 6] = ["owner", "follower", "candidate", "claimant", "idle", "halted"];

/// Upper bounds for `_seconds`: from a memory hit to a bucket that hangs.
const SECONDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds for object sizes: from an idle shard's object to the largest allowed.
const OBJECT_BYTES: [f64; 9] =
    [4_096.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 8_388_608.0, 16_777_216.0, 33_554_432.0, 67_108_864.0];

/// Where a fetch was answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The newest batches in memory.
    Tail,
    /// The memory or disk cache.
    Cache,
    /// Another node.
    Peer,
    /// The bucket.
    Bucket,
}

impl Tier {
    fn label(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::Cache => "cache",
            Self::Peer => "peer",
            Self::Bucket => "bucket",
        }
    }
}

/// Why a chunk was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too much is in flight or the journal is full.
    Busy,
    /// It lies above the next offset.
    Gap,
    /// It differs from what is there.
    Diverged,
    /// It is damaged.
    Damaged,
    /// This node does not own the shard.
    Moved,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Gap => "gap",
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
            Self::Moved => "moved",
        }
    }
}

/// Installs the process-wide recorder, once; later calls return the same handle.
///
/// # Panics
/// If another recorder was installed before: the binary has one.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(build).clone()
}

fn build() -> PrometheusHandle {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &OBJECT_BYTES))
        .expect("the bounds are not empty")
        .install_recorder()
        .expect("the binary installs one recorder");
    describe_gauges();
    describe_events();
    describe_gateway();
    describe_local();
    describe_fabric();
    handle
}

fn describe_gauges() {
    describe_gauge!(NODE_READY, "Whether the node serves.");
    describe_gauge!(NODE_UPTIME, "Seconds since the process started.");
    describe_gauge!(NODE_SESSIONS, "Open sessions of nodes, shippers and readers.");
    describe_gauge!(MEMBERSHIP_NODES, "Live nodes as this node sees them.");
    describe_gauge!(SHARD_EPOCH, "The newest epoch of the shard. Every rise is a take-over or a new copy set.");
    describe_gauge!(SHARD_ROLE, "1 at the role that this node has in the shard.");
    describe_gauge!(SHARD_UNCOMMITTED, "Entries journaled here that a quorum is not known to hold.");
    describe_gauge!(SHARD_UNSTORED_ENTRIES, "Entries on a quorum that are not in the bucket.");
    describe_gauge!(SHARD_UNSTORED_BYTES, "Bytes that wait for the bucket. A steady rise ends in back-pressure.");
    describe_gauge!(SHARD_RESIDENT_BYTES, "Of those, bytes in memory; the rest lies in the journal only.");
    describe_gauge!(SHARD_PARTITIONS, "Partitions of the shard.");
    describe_gauge!(DIVERGED, "Partitions of shards owned here that stopped because their source differs.");
    describe_gauge!(JOURNAL_USED, "Journal bytes in use.");
    describe_gauge!(JOURNAL_CAPACITY, "Journal bytes that chunks may use; at this, shippers are told to wait.");
    describe_gauge!(JOURNAL_PINNED, "Dead journal bytes behind an older live record.");
    describe_gauge!(JOURNAL_QUEUED, "Accepted bytes that wait for the disk.");
    describe_gauge!(BUCKET_COST, "What the requests since the start cost at list price, in US dollars.");
    describe_gauge!(BUCKET_REACHABLE, "Whether the bucket answered the last request.");
    describe_gauge!(CACHE_MEMORY, "Bytes of cold blocks in memory.");
    describe_gauge!(TAIL_USED, "Bytes of newest batches in memory.");
}

fn describe_gateway() {
    describe_gauge!(GATEWAY_SESSIONS, "Open sessions of the gateway.");
    describe_gauge!(GATEWAY_ORIGIN, "Whether the Iggy server behind the gateway can be reached.");
    describe_counter!(GATEWAY_REFUSED, "Clients turned away: too many, or no server.");
    describe_counter!(GATEWAY_SERVED, "Polls of Iggy's clients answered from the ring.");
    describe_counter!(GATEWAY_SERVED_ALONE, "Of those, polls answered while the Iggy server was away.");
    describe_counter!(GATEWAY_MESSAGES, "Messages in answers to polls from the ring.");
    describe_counter!(GATEWAY_BYTES, "Bytes of those messages with their headers.");
    describe_counter!(GATEWAY_FORWARDED, "Polls that the Iggy server answered, by the reason.");
    describe_counter!(GATEWAY_PASSED, "Requests of Iggy's clients that are no polls.");
    describe_counter!(GATEWAY_VERDICTS, "What the Iggy server said when a session wanted to poll a topic.");
    describe_counter!(GATEWAY_MISMATCHES, "Times that server and ring held different messages at one offset.");
    describe_histogram!(GATEWAY_POLL, "Seconds from a poll of an Iggy client to its answer, by who answered.");
}

fn describe_local() {
    describe_gauge!(LOCAL_READERS, "Readers of this host that share the node's memory.");
    describe_counter!(LOCAL_REFUSED, "Local connections turned away: too many, or without a good token.");
    describe_counter!(LOCAL_RECORDS, "Records written into the memory shared with readers of this host.");
    describe_counter!(LOCAL_BYTES, "Bytes of batches in those records.");
    describe_counter!(LOCAL_WAKES, "Times that a reader of this host was woken.");
}

fn describe_fabric() {
    describe_counter!(FABRIC_PLACED, "Answers written into readers' memory.");
    describe_counter!(FABRIC_BYTES, "Bytes of batches in those answers.");
    describe_counter!(FABRIC_INLINE, "Answers that went over QUIC although the reader had offered a landing.");
    describe_counter!(FABRIC_COPIES_PLACED, "Copies written into followers' memory.");
    describe_counter!(FABRIC_COPIES_BYTES, "Bytes of batches in those copies.");
    describe_counter!(FABRIC_COPIES_LANDED, "Copies that owners have written into this node's memory.");
    describe_counter!(FABRIC_COPIES_REFUSED, "Copies in this node's memory that did not verify and are repeated.");
    describe_counter!(FABRIC_FAILED, "Placements that failed or were late.");
    describe_counter!(FABRIC_QUARANTINED, "Transfers of the fabric that had not ended at their deadline.");
    describe_counter!(
        FABRIC_BREAKER,
        "Times that the landings of a reader or follower were left alone for a while after a failure."
    );
    describe_counter!(FABRIC_REOPENED, "Times that the fabric's endpoint was opened anew.");
}

fn describe_events() {
    describe_counter!(MEMBERSHIP_CHANGES, "Changes of the settled membership.");
    describe_counter!(DIVERGENCES, "Differences found between a source and the shards owned here.");
    describe_counter!(SHARD_OBJECTS, "Objects that this process wrote for the shard.");
    describe_counter!(BUCKET_REQUESTS, "Requests to the bucket as the store bills them.");
    describe_counter!(BUCKET_BYTES, "Body bytes to and from the bucket.");
    describe_counter!(CACHE_LOOKUPS, "Look-ups of cold blocks; refused ones were damaged and fetched again.");
    describe_counter!(SHIP_BYTES, "Chunk bytes accepted from shippers.");
    describe_counter!(SHIP_REFUSALS, "Chunks that were not accepted.");
    describe_counter!(FETCH_BYTES, "Bytes served to readers, by where they came from.");
    describe_counter!(
        JOURNAL_DAMAGED,
        "Journal records that were durable and did not verify at the start: a failing disk."
    );
    describe_histogram!(JOURNAL_APPEND, "Seconds from an append to its durability.");
    describe_histogram!(BUCKET_PUBLISH, "Seconds from the close of an object to its place in the log.");
    describe_histogram!(BUCKET_OBJECT, "Sizes of published objects.");
    describe_histogram!(SHIP_ACK, "Seconds from a chunk's arrival to its acknowledgement.");
    describe_histogram!(FETCH_ANSWER, "Seconds from a fetch to its answer, by where it came from.");
}

/// Copies what the report knows.
#[expect(clippy::cast_precision_loss, reason = "gauges are shown to a few digits")]
pub fn record_status(report: &StatusReport) {
    gauge!(NODE_READY).set(f64::from(u8::from(report.ready)));
    gauge!(NODE_UPTIME).set(report.uptime_seconds as f64);
    gauge!(NODE_SESSIONS).set(report.sessions as f64);
    gauge!(MEMBERSHIP_NODES).set(report.members.len() as f64);
    counter!(MEMBERSHIP_CHANGES).absolute(report.membership_version);
    gauge!(JOURNAL_USED).set(report.journal.used_bytes as f64);
    gauge!(JOURNAL_CAPACITY).set(report.journal.capacity_bytes as f64);
    gauge!(JOURNAL_PINNED).set(report.journal.pinned_bytes as f64);
    gauge!(JOURNAL_QUEUED).set(report.journal.queued_bytes as f64);
    gauge!(CACHE_MEMORY).set(report.cache.memory_bytes as f64);
    gauge!(TAIL_USED).set(report.tail.used_bytes as f64);
    record_bucket(report);
    if let Some(gateway) = &report.gateway {
        record_gateway(gateway);
    }
    if let Some(local) = &report.local {
        record_local(local);
    }
    if let Some(fabric) = &report.fabric {
        record_fabric(fabric);
    }
    for shard in &report.shards {
        record_shard(shard);
    }
}

fn record_bucket(report: &StatusReport) {
    let bucket = &report.bucket;
    for (kind, requests) in [
        ("put", bucket.puts),
        ("get", bucket.gets),
        ("list", bucket.lists),
        ("head", bucket.heads),
        ("delete", bucket.deletes),
    ] {
        counter!(BUCKET_REQUESTS, "kind" => kind).absolute(requests);
    }
    counter!(BUCKET_BYTES, "direction" => "put").absolute(bucket.bytes_put);
    counter!(BUCKET_BYTES, "direction" => "got").absolute(bucket.bytes_got);
    gauge!(BUCKET_COST).set(bucket.cost_usd);
    gauge!(BUCKET_REACHABLE).set(f64::from(u8::from(bucket.reachable)));
    let cache = &report.cache;
    for (outcome, lookups) in
        [("memory", cache.hits_memory), ("disk", cache.hits_disk), ("miss", cache.misses), ("refused", cache.refused)]
    {
        counter!(CACHE_LOOKUPS, "outcome" => outcome).absolute(lookups);
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are shown to a few digits")]
fn record_gateway(report: &GatewayReport) {
    gauge!(GATEWAY_SESSIONS).set(report.sessions as f64);
    gauge!(GATEWAY_ORIGIN).set(f64::from(u8::from(report.origin_reachable)));
    counter!(GATEWAY_REFUSED).absolute(report.refused);
    counter!(GATEWAY_SERVED).absolute(report.served);
    counter!(GATEWAY_SERVED_ALONE).absolute(report.served_without_origin);
    counter!(GATEWAY_MESSAGES).absolute(report.served_messages);
    counter!(GATEWAY_BYTES).absolute(report.served_bytes);
    for (reason, polls) in &report.forwarded {
        counter!(GATEWAY_FORWARDED, "reason" => reason.clone()).absolute(*polls);
    }
    counter!(GATEWAY_PASSED).absolute(report.passed);
    counter!(GATEWAY_VERDICTS, "verdict" => "may").absolute(report.verdicts);
    counter!(GATEWAY_VERDICTS, "verdict" => "may_not").absolute(report.denials);
    counter!(GATEWAY_MISMATCHES).absolute(report.mismatches);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are shown to a few digits")]
fn record_local(report: &LocalReport) {
    gauge!(LOCAL_READERS).set(report.readers as f64);
    counter!(LOCAL_REFUSED).absolute(report.refused);
    counter!(LOCAL_RECORDS).absolute(report.records);
    counter!(LOCAL_BYTES).absolute(report.record_bytes);
    counter!(LOCAL_WAKES).absolute(report.wakes);
}

fn record_fabric(report: &FabricReport) {
    counter!(FABRIC_PLACED).absolute(report.placed);
    counter!(FABRIC_BYTES).absolute(report.placed_bytes);
    counter!(FABRIC_INLINE).absolute(report.inline);
    counter!(FABRIC_COPIES_PLACED).absolute(report.copies_placed);
    counter!(FABRIC_COPIES_BYTES).absolute(report.copies_placed_bytes);
    counter!(FABRIC_COPIES_LANDED).absolute(report.copies_landed);
    counter!(FABRIC_COPIES_REFUSED).absolute(report.copies_refused);
    counter!(FABRIC_FAILED).absolute(report.failed);
    counter!(FABRIC_QUARANTINED).absolute(report.quarantined);
    counter!(FABRIC_BREAKER).absolute(report.breaker_opens);
    counter!(FABRIC_REOPENED).absolute(report.reopened);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are shown to a few digits")]
fn record_shard(report: &ShardReport) {
    let shard = || ("shard", report.shard.to_string());
    gauge!(SHARD_EPOCH, &[shard()]).set(report.epoch as f64);
    gauge!(SHARD_UNCOMMITTED, &[shard()]).set(report.tail_lsn.saturating_sub(report.committed_lsn) as f64);
    gauge!(SHARD_UNSTORED_ENTRIES, &[shard()]).set(report.committed_lsn.saturating_sub(report.stored_lsn) as f64);
    gauge!(SHARD_UNSTORED_BYTES, &[shard()]).set(report.unstored_bytes as f64);
    gauge!(DIVERGED, &[shard()]).set(report.diverged_partitions as f64);
    gauge!(SHARD_RESIDENT_BYTES, &[shard()]).set(report.resident_bytes as f64);
    gauge!(SHARD_PARTITIONS, &[shard()]).set(report.partitions as f64);
    counter!(SHARD_OBJECTS, &[shard()]).absolute(report.objects);
    for role in ROLES {
        let holds = f64::from(u8::from(report.role == role));
        gauge!(SHARD_ROLE, &[shard(), ("role", role.to_owned())]).set(holds);
    }
}

/// So many records of the journal at least were damaged.
pub fn record_journal_damage(records: u64) {
    counter!(JOURNAL_DAMAGED).increment(records);
}

/// An append became durable.
pub fn record_append(taken: Duration) {
    histogram!(JOURNAL_APPEND).record(taken);
}

/// An object found its place in the log.
#[expect(clippy::cast_precision_loss, reason = "sizes are counted into a few classes")]
pub fn record_publish(bytes: u64, taken: Duration) {
    histogram!(BUCKET_PUBLISH).record(taken);
    histogram!(BUCKET_OBJECT).record(bytes as f64);
}

/// A chunk was accepted and acknowledged.
pub fn record_ship(bytes: u64, taken: Duration) {
    counter!(SHIP_BYTES).increment(bytes);
    histogram!(SHIP_ACK).record(taken);
}

/// A chunk was refused.
pub fn record_refusal(refusal: Refusal) {
    counter!(SHIP_REFUSALS, "reason" => refusal.label()).increment(1);
}

/// A source was found to differ.
pub fn record_divergence() {
    counter!(DIVERGENCES).increment(1);
}

/// A fetch was answered.
pub fn record_fetch(tier: Tier, bytes: u64, taken: Duration) {
    counter!(FETCH_BYTES, "tier" => tier.label()).increment(bytes);
    histogram!(FETCH_ANSWER, "tier" => tier.label()).record(taken);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_label_is_rendered() {
        let handle = install();
        let shard = ShardReport { role: "owner".to_owned(), tail_lsn: 9, committed_lsn: 7, ..Default::default() };
        let gateway = GatewayReport { forwarded: [("group".to_owned(), 4)].into(), ..Default::default() };
        let local = LocalReport { readers: 2, wakes: 5, ..Default::default() };
        let fabric = Some(FabricReport { placed: 6, breaker_opens: 1, ..Default::default() });
        let (gateway, local) = (Some(gateway), Some(local));
        record_status(&StatusReport { shards: vec![shard], gateway, local, fabric, ..Default::default() });
        record_append(Duration::from_millis(2));
        record_journal_damage(3);
        record_publish(5_000, Duration::from_millis(30));
        record_ship(100, Duration::from_millis(3));
        record_refusal(Refusal::Gap);
        record_divergence();
        record_fetch(Tier::Tail, 10, Duration::from_micros(80));
        let text = handle.render();
        for line in [
            "kennel_shard_role_bool{shard=\"0\",role=\"owner\"} 1",
            "kennel_shard_role_bool{shard=\"0\",role=\"follower\"} 0",
            "kennel_shard_uncommitted_entries{shard=\"0\"} 2",
            "kennel_journal_append_seconds_bucket{le=\"0.0025\"} 1",
            "kennel_bucket_object_bytes_bucket{le=\"65536\"} 1",
            "kennel_ship_refusals_total{reason=\"gap\"} 1",
            "kennel_divergences_total 1",
            "kennel_diverged_partitions{shard=\"0\"} 0",
            "kennel_fetch_served_bytes_total{tier=\"tail\"} 10",
            "kennel_gateway_polls_forwarded_total{reason=\"group\"} 4",
            "kennel_local_readers_count 2",
            "kennel_local_wakes_total 5",
            "kennel_fabric_placed_total 6",
            "kennel_fabric_breaker_opens_total 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_has_help() {
        let handle = install();
        record_status(&StatusReport { shards: vec![ShardReport::default()], ..Default::default() });
        let text = handle.render();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().expect("a name");
            assert!(name.starts_with("kennel_"), "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }
}
