//! The shape of the merged text: one field per key of `configs/cache-node.toml`, before any check.
//!
//! Only types live here; what values mean together is in `parse`.

use std::path::PathBuf;

use serde::Deserialize;

use super::fabric::Fabric;
use super::gateway::Gateway;
use super::settings::Durability;
use super::units::{Size, Span};

#[derive(Deserialize)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) listen: Listen,
    pub(super) cluster: Cluster,
    pub(super) bucket: Bucket,
    pub(super) tls: Tls,
    pub(super) journal: Journal,
    pub(super) flush: Flush,
    pub(super) tail: Tail,
    pub(super) cache: Cache,
    pub(super) limits: Limits,
    pub(super) timing: Timing,
    pub(super) gateway: Gateway,
    pub(super) local: Local,
    pub(super) fabric: Fabric,
    pub(super) quic: Quic,
    pub(super) log: Log,
}

#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) directory: PathBuf,
    pub(super) zone: String,
    pub(super) weight: u32,
    pub(super) threads: usize,
}

#[derive(Deserialize)]
pub(super) struct Listen {
    pub(super) quic: String,
    pub(super) gossip: String,
    pub(super) http: String,
    pub(super) advertise: String,
    pub(super) local: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct Cluster {
    pub(super) id: String,
    pub(super) shard_count: u16,
    pub(super) copies: u8,
    pub(super) min_copies: u8,
    pub(super) durability: Durability,
    pub(super) seeds: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Bucket {
    pub(super) url: String,
    pub(super) endpoint: String,
    pub(super) region: String,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) secret_access_key_file: PathBuf,
    pub(super) allow_http: bool,
    pub(super) connect_timeout: Span,
    pub(super) attempt_timeout: Span,
    pub(super) overall_timeout: Span,
    pub(super) puts_in_flight: usize,
    pub(super) gets_in_flight: usize,
    pub(super) background_in_flight: usize,
    pub(super) read_bytes_max: Size,
}

#[derive(Deserialize)]
pub(super) struct Tls {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct Journal {
    pub(super) size: Size,
    pub(super) path: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct Flush {
    pub(super) interval: Span,
    pub(super) interval_idle: Span,
    pub(super) object_bytes_max: Size,
    pub(super) uploads_in_flight: usize,
}

#[derive(Deserialize)]
pub(super) struct Tail {
    pub(super) bytes_max: Size,
}

#[derive(Deserialize)]
pub(super) struct Cache {
    pub(super) memory: Size,
    pub(super) disk: Size,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "fields are named as the keys are")]
pub(super) struct Limits {
    pub(super) resident_bytes_max: Size,
    pub(super) unstored_bytes_max: Size,
    pub(super) sessions_max: usize,
    pub(super) fetch_bytes_max: Size,
}

#[derive(Deserialize)]
pub(super) struct Timing {
    pub(super) heartbeat: Span,
    pub(super) owner_timeout: Span,
    pub(super) settle: Span,
    pub(super) gossip: Span,
}

#[derive(Deserialize)]
pub(super) struct Local {
    pub(super) bytes: Size,
}

#[derive(Deserialize)]
pub(super) struct Quic {
    pub(super) packet_bytes_initial: u16,
    pub(super) packet_bytes_max: u16,
    pub(super) sockets: u16,
    pub(super) socket_buffer: Size,
    pub(super) send_window: Size,
    pub(super) packets_per_ack: u32,
}

#[derive(Deserialize)]
pub(super) struct Log {
    pub(super) filter: String,
}
