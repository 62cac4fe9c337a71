//! Every metric of a shipper that watches a server: names, help texts, and the only functions that record them.
//!
//! Names are `kennel_shipper_<noun>_<unit>`. No series bears a partition: how many there are is users' business.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::report::LiveReport;

const CONNECTED: &str = "kennel_shipper_source_connected_bool";
const PARTITIONS: &str = "kennel_shipper_partitions_count";
const STOPPED: &str = "kennel_shipper_stopped_partitions_count";
const DIVERGED: &str = "kennel_shipper_diverged_partitions_count";
const BEHIND: &str = "kennel_shipper_behind_partitions_count";
const UNCOMMITTED: &str = "kennel_shipper_uncommitted_messages";
const UNSTORED: &str = "kennel_shipper_unstored_messages";
const SENT: &str = "kennel_shipper_sent_bytes_total";
const COMMITTED: &str = "kennel_shipper_committed_bytes_total";
const HELD: &str = "kennel_shipper_held_bytes";
const ROUNDS: &str = "kennel_shipper_watch_rounds_total";
const WATCH_CPU: &str = "kennel_shipper_watch_cpu_seconds_total";
const SESSIONS_LOST: &str = "kennel_shipper_source_sessions_lost_total";
const POLLS: &str = "kennel_shipper_polls_total";
const POLLED: &str = "kennel_shipper_polled_bytes_total";
const FROM_FILES: &str = "kennel_shipper_file_bytes_total";
const BARRIERS: &str = "kennel_shipper_barrier_stores_total";
const BARRIER_FAILURES: &str = "kennel_shipper_barrier_failures_total";

/// Installs the recorder, once per process.
pub fn install() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    describe_gauge!(CONNECTED, "Whether the watch has a session to the Iggy server");
    describe_gauge!(PARTITIONS, "Partitions that are shipped");
    describe_gauge!(STOPPED, "Of those, stopped with a problem");
    describe_gauge!(DIVERGED, "Of those, because the ring holds other messages at the same offsets");
    describe_gauge!(BEHIND, "Partitions of which the ring has more than the server");
    describe_gauge!(UNCOMMITTED, "Messages of the server that the ring has not acknowledged");
    describe_gauge!(UNSTORED, "Messages of the server that are not known to be in the bucket");
    describe_counter!(SENT, "Bytes of batches sent to the ring, counting what was sent twice");
    describe_counter!(COMMITTED, "Bytes of batches that the ring has acknowledged");
    describe_gauge!(HELD, "Bytes read and not acknowledged");
    describe_counter!(ROUNDS, "Rounds of the watch over the server");
    describe_counter!(WATCH_CPU, "Processor time of the watch");
    describe_counter!(SESSIONS_LOST, "Sessions to the server that broke or could not be opened");
    describe_counter!(POLLS, "Polls of messages");
    describe_counter!(POLLED, "Bytes of batches that polls brought");
    describe_counter!(FROM_FILES, "Bytes of batches read from the server's files");
    describe_counter!(BARRIERS, "Offsets stored as the retention barrier");
    describe_counter!(BARRIER_FAILURES, "Offsets that could not be stored");
    Ok(handle)
}

/// A session broke, or was refused.
pub(super) fn session_lost() {
    counter!(SESSIONS_LOST).increment(1);
}

/// A poll was answered.
pub(super) fn polled(bytes: usize) {
    counter!(POLLS).increment(1);
    counter!(POLLED).increment(bytes as u64);
}

/// A read was answered from a file.
pub(super) fn read_from_files(bytes: usize) {
    counter!(FROM_FILES).increment(bytes as u64);
}

/// A barrier was stored, or not.
pub(super) fn barrier(stored: bool) {
    counter!(if stored { BARRIERS } else { BARRIER_FAILURES }).increment(1);
}

/// Copies what the report knows.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(super) fn record(report: &LiveReport) {
    gauge!(CONNECTED).set(if report.source.connected { 1.0 } else { 0.0 });
    gauge!(PARTITIONS).set(report.partitions as f64);
    gauge!(STOPPED).set(report.stopped as f64);
    gauge!(DIVERGED).set(report.diverged as f64);
    gauge!(BEHIND).set(report.behind as f64);
    gauge!(UNCOMMITTED).set(report.uncommitted_messages as f64);
    gauge!(UNSTORED).set(report.unstored_messages as f64);
    gauge!(HELD).set(report.bytes_held as f64);
    gauge!(WATCH_CPU).set(report.source.watch_cpu_seconds);
    counter!(SENT).absolute(report.bytes_sent);
    counter!(COMMITTED).absolute(report.bytes_committed);
    counter!(ROUNDS).absolute(report.source.rounds);
}
