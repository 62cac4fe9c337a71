//! From merged text to checked settings: ranges, relations between values, and paths that follow from others.
//!
//! Each check names its key, so that the error can say which file, variable or flag to edit.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kennel_core::membership::WEIGHT_MAX;
use kennel_protocol::ids::NodeId;
use kennel_protocol::limits::SOCKET_PATH_BYTES_MAX;
use kennel_transport::quic::{PACKET_BYTES_MAX, PACKET_BYTES_MIN, QuicSettings};

use super::error::ConfigError;
use super::fabric;
use super::file::{self, File};
use super::gateway;
use super::layers::Layers;
use super::settings::{
    CacheSettings, ClusterSettings, FlushSettings, JournalSettings, LimitSettings, ListenSettings, LocalSettings,
    NodeSettings, Settings, TimingSettings, TlsSettings,
};
use crate::bucket::{BucketLimits, BucketSettings, BucketTimeouts, Secret};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Freshness has a price: below 200 ms PUTs cost more than the data is worth, above 800 ms the bucket is no longer fresh.
const FLUSH_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_millis(800);
/// The smallest ring that holds a few full flushes and its recovery reserve.
const JOURNAL_BYTES: RangeInclusive<u64> = 64 * MIB..=16 * TIB;
/// A claim names its copies one by one, and a majority of more than seven waits for too many disks.
const COPIES: RangeInclusive<u8> = 1..=7;
/// Each active shard makes a PUT per flush interval: 1024 of them are some 2,500 a second.
const SHARD_COUNT: RangeInclusive<u16> = 1..=1_024;
const OBJECT_BYTES: RangeInclusive<u64> = 64 * KIB..=64 * MIB;
const FETCH_BYTES: RangeInclusive<u64> = 64 * KIB..=64 * MIB;
/// Below, records of some 100 KiB throw out all others; above, the memory is better spent on the tail.
const LOCAL_BYTES: RangeInclusive<u64> = MIB..=64 * GIB;
const PACKET_BYTES: RangeInclusive<u16> = PACKET_BYTES_MIN..=PACKET_BYTES_MAX;
/// Below, each window is a few packets; above, the kernel is never asked for so much.
const SOCKET_BYTES: RangeInclusive<u64> = 64 * KIB..=GIB;
/// More than any machine has cores.
const THREADS: RangeInclusive<usize> = 0..=1024;
/// More sockets than cores keep no core busier.
const SOCKETS: RangeInclusive<u16> = 0..=64;
/// QUIC's own default at one end; at the other, a lost packet is noticed too late.
const PACKETS_PER_ACK: RangeInclusive<u32> = 1..=100;
/// Nodes notice a silent session sooner than others: a reader's question to a dead owner waits for it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// What a length is rounded down to: the memory is mapped.
const PAGE_BYTES: u64 = 4 * KIB;
/// With fewer heartbeats than this in an owner's time-out, one lost packet starts a take-over.
const HEARTBEATS_MIN: u32 = 3;

/// Checks everything.
pub(super) fn settings(layers: &Layers, file: File) -> Result<Settings, ConfigError> {
    let check = Check(layers);
    let directory = file.node.directory.clone();
    check.not_empty("node.directory", &directory.to_string_lossy())?;
    let seeds = check.seeds(&file.cluster.seeds)?;
    Ok(Settings {
        node: check.node(file.node)?,
        listen: check.listen(&file.listen)?,
        local: check.local(file.listen.local, &file.local)?,
        cluster: check.cluster(&file.cluster)?,
        seeds,
        bucket: check.bucket(file.bucket)?,
        tls: tls(&directory, file.tls),
        journal: check.journal(&directory, file.journal)?,
        flush: check.flush(&file.flush)?,
        tail_bytes_max: check.size("tail.bytes_max", file.tail.bytes_max.0, MIB..=TIB)?,
        cache: check.cache(&directory, &file.cache)?,
        limits: check.limits(&file.limits)?,
        timing: check.timing(&file.timing)?,
        gateway: gateway::settings(&check, file.gateway)?,
        fabric: fabric::settings(&check, file.fabric)?,
        quic: check.quic(&file.quic)?,
        log_filter: file.log.filter,
    })
}

fn tls(directory: &Path, tls: file::Tls) -> TlsSettings {
    let directory = directory.join("tls");
    TlsSettings {
        ca: or(tls.ca, || directory.join("ca.pem")),
        cert: or(tls.cert, || directory.join("node.pem")),
        key: or(tls.key, || directory.join("node.key")),
    }
}

fn or(path: PathBuf, otherwise: impl FnOnce() -> PathBuf) -> PathBuf {
    if path.as_os_str().is_empty() { otherwise() } else { path }
}

pub(super) fn set(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Checks values against the layers that they came from.
pub(super) struct Check<'a>(pub(super) &'a Layers);

impl Check<'_> {
    fn node(&self, node: file::Node) -> Result<NodeSettings, ConfigError> {
        let weight = self.within("node.weight", node.weight, 1..=WEIGHT_MAX)?;
        let threads = match self.within("node.threads", node.threads, THREADS)? {
            0 => threads_for(cores()),
            some => some,
        };
        Ok(NodeSettings { id: NodeId(node.id), directory: node.directory, zone: node.zone, weight, threads })
    }

    fn listen(&self, listen: &file::Listen) -> Result<ListenSettings, ConfigError> {
        let advertise = set(listen.advertise.clone());
        let quic = self.address("listen.quic", &listen.quic)?;
        let gossip = self.address("listen.gossip", &listen.gossip)?;
        let http = self.address("listen.http", &listen.http)?;
        for (key, address) in [("listen.quic", quic), ("listen.gossip", gossip)] {
            if advertise.is_none() && address.ip().is_unspecified() {
                let reason = format!("{} is no address for others: set `listen.advertise` too", address.ip());
                return Err(self.0.refuse(key, reason));
            }
        }
        if quic == gossip && quic.port() != 0 {
            return Err(self
                .0
                .refuse("listen.gossip", "is the same as `listen.quic`; both are UDP and need their own"));
        }
        Ok(ListenSettings { quic, gossip, http, advertise })
    }

    fn local(&self, socket: PathBuf, local: &file::Local) -> Result<Option<LocalSettings>, ConfigError> {
        let bytes = self.size("local.bytes", local.bytes.0, LOCAL_BYTES)?;
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(self.0.refuse("listen.local", format!("is longer than {SOCKET_PATH_BYTES_MAX} bytes")));
        }
        let is_on = !socket.as_os_str().is_empty();
        Ok(is_on.then(|| LocalSettings { socket, bytes: bytes - bytes % PAGE_BYTES }))
    }

    fn cluster(&self, cluster: &file::Cluster) -> Result<ClusterSettings, ConfigError> {
        let id = match set(cluster.id.clone()) {
            Some(text) => Some(text.parse().map_err(|_| self.0.refuse("cluster.id", "is 32 hex digits, or empty"))?),
            None => None,
        };
        let copies = self.within("cluster.copies", cluster.copies, COPIES)?;
        Ok(ClusterSettings {
            id,
            shard_count: self.within("cluster.shard_count", cluster.shard_count, SHARD_COUNT)?,
            copies,
            min_copies: self.within("cluster.min_copies", cluster.min_copies, 1..=copies)?,
            durability: cluster.durability,
        })
    }

    fn seeds(&self, seeds: &[String]) -> Result<Vec<String>, ConfigError> {
        let is_address = |seed: &String| {
            seed.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        match seeds.iter().find(|seed| !is_address(seed)) {
            Some(seed) => Err(self.0.refuse("cluster.seeds", format!("`{seed}` is not host:port"))),
            None => Ok(seeds.to_vec()),
        }
    }

    fn bucket(&self, bucket: file::Bucket) -> Result<BucketSettings, ConfigError> {
        if !["s3://", "file://", "memory://"].iter().any(|scheme| bucket.url.starts_with(scheme)) {
            return Err(self.0.refuse("bucket.url", "starts with s3://, file:/// or memory://"));
        }
        let secret = self.secret(&bucket)?;
        if secret.is_some() == bucket.access_key_id.is_empty() {
            let reason = "goes with `bucket.secret_access_key` or its file: set both or neither";
            return Err(self.0.refuse("bucket.access_key_id", reason));
        }
        let timeouts = self.bucket_timeouts(&bucket)?;
        let limits = self.bucket_limits(&bucket)?;
        Ok(BucketSettings {
            endpoint: set(bucket.endpoint),
            region: set(bucket.region),
            access_key_id: set(bucket.access_key_id),
            secret_access_key: secret,
            allow_http: bucket.allow_http,
            timeouts,
            limits,
            url: bucket.url,
        })
    }

    fn secret(&self, bucket: &file::Bucket) -> Result<Option<Secret>, ConfigError> {
        let path = &bucket.secret_access_key_file;
        if path.as_os_str().is_empty() {
            return Ok(set(bucket.secret_access_key.clone()).map(Secret::new));
        }
        if !bucket.secret_access_key.is_empty() {
            let reason = "and `bucket.secret_access_key` are both set: keep one";
            return Err(self.0.refuse("bucket.secret_access_key_file", reason));
        }
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        self.not_empty("bucket.secret_access_key_file", text.trim())?;
        Ok(Some(Secret::new(text.trim())))
    }

    fn bucket_timeouts(&self, bucket: &file::Bucket) -> Result<BucketTimeouts, ConfigError> {
        let (connect, attempt, overall) =
            (bucket.connect_timeout.0, bucket.attempt_timeout.0, bucket.overall_timeout.0);
        self.positive("bucket.connect_timeout", connect)?;
        if attempt < connect {
            return Err(self.0.refuse("bucket.attempt_timeout", "is shorter than `bucket.connect_timeout`"));
        }
        if overall < attempt {
            return Err(self.0.refuse("bucket.overall_timeout", "is shorter than `bucket.attempt_timeout`"));
        }
        Ok(BucketTimeouts { connect, attempt, overall })
    }

    fn bucket_limits(&self, bucket: &file::Bucket) -> Result<BucketLimits, ConfigError> {
        Ok(BucketLimits {
            puts: self.within("bucket.puts_in_flight", bucket.puts_in_flight, 1..=4_096)?,
            hot_gets: self.within("bucket.gets_in_flight", bucket.gets_in_flight, 1..=4_096)?,
            background: self.within("bucket.background_in_flight", bucket.background_in_flight, 1..=4_096)?,
            read_bytes_max: self.size("bucket.read_bytes_max", bucket.read_bytes_max.0, 64 * MIB..=8 * GIB)?,
        })
    }

    fn journal(&self, directory: &Path, journal: file::Journal) -> Result<JournalSettings, ConfigError> {
        let bytes = self.size("journal.size", journal.size.0, JOURNAL_BYTES)?;
        Ok(JournalSettings { bytes, path: or(journal.path, || directory.join("journal")) })
    }

    fn flush(&self, flush: &file::Flush) -> Result<FlushSettings, ConfigError> {
        let interval = self.span("flush.interval", flush.interval.0, FLUSH_INTERVAL)?;
        Ok(FlushSettings {
            interval,
            interval_idle: self.span("flush.interval_idle", flush.interval_idle.0, interval..=*FLUSH_INTERVAL.end())?,
            object_bytes_max: self.size("flush.object_bytes_max", flush.object_bytes_max.0, OBJECT_BYTES)?,
            uploads_in_flight: self.within("flush.uploads_in_flight", flush.uploads_in_flight, 1..=64)?,
        })
    }

    fn cache(&self, directory: &Path, cache: &file::Cache) -> Result<CacheSettings, ConfigError> {
        let disk_bytes = cache.disk.0;
        if disk_bytes != 0 {
            self.size("cache.disk", disk_bytes, 64 * MIB..=16 * TIB)?;
        }
        let memory_bytes = self.size("cache.memory", cache.memory.0, MIB..=TIB)?;
        Ok(CacheSettings { memory_bytes, disk_bytes, directory: directory.join("cache") })
    }

    fn limits(&self, limits: &file::Limits) -> Result<LimitSettings, ConfigError> {
        Ok(LimitSettings {
            resident_bytes_max: self.size("limits.resident_bytes_max", limits.resident_bytes_max.0, MIB..=TIB)?,
            unstored_bytes_max: self.size("limits.unstored_bytes_max", limits.unstored_bytes_max.0, MIB..=TIB)?,
            sessions_max: self.within("limits.sessions_max", limits.sessions_max, 1..=65_536)?,
            fetch_bytes_max: self.size("limits.fetch_bytes_max", limits.fetch_bytes_max.0, FETCH_BYTES)?,
        })
    }

    fn timing(&self, timing: &file::Timing) -> Result<TimingSettings, ConfigError> {
        let (heartbeat, owner_timeout) = (timing.heartbeat.0, timing.owner_timeout.0);
        self.positive("timing.heartbeat", heartbeat)?;
        self.positive("timing.gossip", timing.gossip.0)?;
        if owner_timeout <= heartbeat * HEARTBEATS_MIN {
            let beats = words(heartbeat);
            let reason = format!("is not longer than {HEARTBEATS_MIN} times `timing.heartbeat` ({beats})");
            return Err(self.0.refuse("timing.owner_timeout", reason));
        }
        Ok(TimingSettings { heartbeat, owner_timeout, settle: timing.settle.0, gossip: timing.gossip.0 })
    }

    /// The largest packet of a path is that of this host's own as well: `lo` takes more than any.
    fn quic(&self, quic: &file::Quic) -> Result<QuicSettings, ConfigError> {
        let packet_bytes_max = self.within("quic.packet_bytes_max", quic.packet_bytes_max, PACKET_BYTES)?;
        let initial = PACKET_BYTES_MIN..=packet_bytes_max;
        let packet_bytes_initial = self.within("quic.packet_bytes_initial", quic.packet_bytes_initial, initial)?;
        let sockets = match self.within("quic.sockets", quic.sockets, SOCKETS)? {
            0 => sockets_for(cores()),
            some => some,
        };
        let socket_buffer = self.size("quic.socket_buffer", quic.socket_buffer.0, SOCKET_BYTES)?;
        let window = *SOCKET_BYTES.start()..=socket_buffer;
        let send_window = self.size("quic.send_window", quic.send_window.0, window)?;
        let packets_per_ack = self.within("quic.packets_per_ack", quic.packets_per_ack, PACKETS_PER_ACK)?;
        let small = |bytes: u64| u32::try_from(bytes).expect("at most a GiB");
        Ok(QuicSettings {
            packet_bytes_initial,
            packet_bytes_loopback: packet_bytes_max,
            packet_bytes_probe_max: packet_bytes_max,
            sockets,
            socket_buffer_bytes: small(socket_buffer),
            send_window_bytes: small(send_window),
            packets_per_ack,
            idle_timeout: IDLE_TIMEOUT,
            keep_alive_interval: KEEP_ALIVE,
            ..QuicSettings::default()
        })
    }

    pub(super) fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.parse().map_err(|_| self.0.refuse(key, format!("`{text}` is not ip:port, such as 127.0.0.1:7400")))
    }

    fn not_empty(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        if text.is_empty() { Err(self.0.refuse(key, "is empty")) } else { Ok(()) }
    }

    fn positive(&self, key: &str, span: Duration) -> Result<(), ConfigError> {
        if span.is_zero() { Err(self.0.refuse(key, "is zero")) } else { Ok(()) }
    }

    pub(super) fn within<N: PartialOrd + Copy + std::fmt::Display>(
        &self,
        key: &str,
        number: N,
        allowed: RangeInclusive<N>,
    ) -> Result<N, ConfigError> {
        self.in_range(key, number, &allowed, |number| number.to_string())
    }

    pub(super) fn size(&self, key: &str, bytes: u64, allowed: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        self.in_range(key, bytes, &allowed, |bytes| bytesize::ByteSize(bytes).to_string())
    }

    pub(super) fn span(
        &self,
        key: &str,
        span: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        self.in_range(key, span, &allowed, words)
    }

    fn in_range<T: PartialOrd + Copy>(
        &self,
        key: &str,
        value: T,
        allowed: &RangeInclusive<T>,
        words: impl Fn(T) -> String,
    ) -> Result<T, ConfigError> {
        if allowed.contains(&value) {
            return Ok(value);
        }
        let (from, to) = (words(*allowed.start()), words(*allowed.end()));
        Err(self.0.refuse(key, format!("{} is outside {from} to {to}", words(value))))
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// One for every two cores: the journal, uploads, the kernel's work for the network and a server beside the node take the
/// others, and the fewer threads there are, the less often one wakes another for a task that it would have come to itself.
pub(super) fn threads_for(cores: usize) -> usize {
    cores.div_ceil(2).clamp(1, *THREADS.end())
}

/// One for every four cores: a socket's task takes in what some three others work off.
pub(super) fn sockets_for(cores: usize) -> u16 {
    u16::try_from(cores / 4).unwrap_or(u16::MAX).clamp(1, *SOCKETS.end())
}

fn words(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}
