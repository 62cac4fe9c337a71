//! Settings: embedded defaults, then a file, then the environment, then flags; checked once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use kennel_core::shipper::{ShipperConfig, Until};
use kennel_protocol::limits::SHIP_BYTES_TARGET;
use serde::Deserialize;

mod live;

pub use live::{BarrierConfig, IggyConfig, WatchConfig};

use crate::live::PasswordError;
use crate::source::FilterError;

/// The defaults, commented: what `--config` may change.
pub const DEFAULTS: &str = include_str!("../../configs/wal-shipper.toml");

/// A configuration that cannot be used. Fix: the key that it names.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file, variable or flag is unknown or of the wrong form.
    #[error("{0}")]
    Invalid(Box<figment::Error>),
    /// The file is not there.
    #[error("the configuration {} cannot be read", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key is needed and empty.
    #[error("`{key}` is not set: {hint}")]
    Missing {
        /// Which key.
        key: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// Values that do not go together.
    #[error("`{key}` {reason}")]
    Relation {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The password's file cannot be read.
    #[error("`iggy.password_file` cannot be used")]
    Password(#[source] PasswordError),
    /// Not a pattern.
    #[error("`source.include` or `source.exclude` cannot be used")]
    Pattern(#[source] FilterError),
    /// An address that is none.
    #[error("`{address}` in `ring.addresses` is not an address: write host:port")]
    Address {
        /// What was written.
        address: String,
        /// Why, where the system says.
        #[source]
        source: std::io::Error,
    },
}

/// All settings, in the shape of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the ring is.
    pub ring: RingConfig,
    /// Who we are.
    pub tls: TlsConfig,
    /// What to ship.
    pub source: SourceConfig,
    /// A running server.
    pub iggy: IggyConfig,
    /// How closely it is watched.
    pub watch: WatchConfig,
    /// What it must keep.
    pub barrier: BarrierConfig,
    /// Where a shipper that runs tells how it is.
    pub http: HttpConfig,
    /// When an import is done.
    pub import: ImportConfig,
    /// Memory and parallelism.
    pub limits: LimitsConfig,
    /// Patience.
    pub timing: TimingConfig,
    /// Log output.
    pub log: LogConfig,
}

/// `[ring]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingConfig {
    /// Nodes to ask first.
    pub addresses: Vec<String>,
    /// How long to look for one that answers.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
}

/// `[tls]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Holds `ca.pem`, `shipper.pem`, `shipper.key`.
    pub directory: PathBuf,
    /// The CA's certificate.
    pub ca: PathBuf,
    /// Ours.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// `[source]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The Iggy server's data directory.
    pub data_dir: PathBuf,
    /// Names for ids; empty for none.
    pub mapping: PathBuf,
    /// What to ship.
    pub include: Vec<String>,
    /// What not to ship.
    pub exclude: Vec<String>,
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// The address; empty for none.
    pub listen: String,
}

/// `[import]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportConfig {
    /// When it is done.
    pub wait: Wait,
}

/// When an import is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Journaled on a quorum.
    Committed,
    /// In the bucket.
    Stored,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// All shards together.
    pub bytes_in_flight: ByteSize,
    /// One shard.
    pub shard_bytes_in_flight: ByteSize,
    /// One partition.
    pub partition_bytes_in_flight: ByteSize,
    /// One read.
    pub read_bytes: ByteSize,
    /// Reads at once.
    pub reads: usize,
}

/// `[timing]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingConfig {
    /// Bytes in flight and no progress.
    #[serde(with = "humantime_serde")]
    pub progress_timeout: Duration,
    /// A question and no answer.
    #[serde(with = "humantime_serde")]
    pub answer_timeout: Duration,
    /// First pause.
    #[serde(with = "humantime_serde")]
    pub backoff_min: Duration,
    /// Longest pause.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// In the syntax of `tracing`.
    pub filter: String,
}

impl Config {
    /// Reads all layers. `flags` are `section.key` pairs that win over everything else.
    pub fn load(file: Option<&Path>, flags: Vec<(&'static str, figment::value::Value)>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            // figment takes a missing file for an empty one.
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            figment = figment.merge(Toml::string(&text));
        }
        // Other programs have variables of the same prefix; ours have a section.
        let env = Env::prefixed("KENNEL_").filter(|key| key.as_str().contains("__")).split("__");
        figment = figment.merge(env);
        for (key, value) in flags {
            figment = figment.merge(Serialized::default(key, value));
        }
        figment.extract().map_err(|error| ConfigError::Invalid(Box::new(error)))
    }

    /// The machine's limits, checked against each other.
    pub fn shipper(&self) -> Result<ShipperConfig, ConfigError> {
        let relation = |key, reason| Err(ConfigError::Relation { key, reason });
        let limits = &self.limits;
        let read_bytes = u32::try_from(limits.read_bytes.as_u64()).unwrap_or(0);
        if !(4 << 10..=8 << 20).contains(&read_bytes) {
            return relation("limits.read_bytes", "must be between 4 KiB and 8 MiB");
        }
        if !(1..=256).contains(&limits.reads) {
            return relation("limits.reads", "must be between 1 and 256");
        }
        let [all, shard, partition] =
            [limits.bytes_in_flight, limits.shard_bytes_in_flight, limits.partition_bytes_in_flight]
                .map(|size| size.as_u64());
        if partition < u64::from(read_bytes) || partition > shard || shard > all {
            let reason = "must rise: read_bytes, partition_bytes_in_flight, shard_bytes_in_flight, bytes_in_flight";
            return relation("limits", reason);
        }
        if self.timing.backoff_min.is_zero() || self.timing.backoff_min > self.timing.backoff_max {
            return relation("timing.backoff_min", "must be above zero and at most timing.backoff_max");
        }
        Ok(ShipperConfig {
            bytes_in_flight_max: all,
            shard_bytes_in_flight_max: shard,
            partition_bytes_in_flight_max: partition,
            read_bytes,
            reads_max: limits.reads,
            ship_bytes_target: SHIP_BYTES_TARGET as u64,
            progress_timeout: self.timing.progress_timeout,
            answer_timeout: self.timing.answer_timeout,
            backoff_min: self.timing.backoff_min,
            backoff_max: self.timing.backoff_max,
            until: match self.import.wait {
                Wait::Committed => Until::Committed,
                Wait::Stored => Until::Stored,
            },
            ..ShipperConfig::default()
        })
    }

    /// The ring's addresses, looked up.
    pub fn seeds(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        use std::net::ToSocketAddrs;
        if self.ring.addresses.is_empty() {
            return Err(ConfigError::Missing { key: "ring.addresses", hint: "name a node with --ring HOST:PORT" });
        }
        let mut seeds = Vec::new();
        for address in &self.ring.addresses {
            let fail = |source| ConfigError::Address { address: address.clone(), source };
            seeds.extend(address.to_socket_addrs().map_err(fail)?);
        }
        Ok(seeds)
    }

    /// The CA, our certificate and its key.
    pub fn tls_files(&self) -> Result<[PathBuf; 3], ConfigError> {
        let directory = &self.tls.directory;
        let choose = |file: &PathBuf, name: &str| match file {
            file if !file.as_os_str().is_empty() => Some(file.clone()),
            _ if !directory.as_os_str().is_empty() => Some(directory.join(name)),
            _ => None,
        };
        let files = [
            choose(&self.tls.ca, "ca.pem"),
            choose(&self.tls.certificate, "shipper.pem"),
            choose(&self.tls.key, "shipper.key"),
        ];
        let hint = "name the certificates with --tls-dir DIR, or with --ca, --cert and --key";
        match files {
            [Some(ca), Some(certificate), Some(key)] => Ok([ca, certificate, key]),
            _ => Err(ConfigError::Missing { key: "tls.directory", hint }),
        }
    }

    /// The data directory.
    pub fn data_dir(&self) -> Result<&Path, ConfigError> {
        let hint = "name the Iggy server's data directory with --data-dir DIR";
        let set = !self.source.data_dir.as_os_str().is_empty();
        if set { Ok(&self.source.data_dir) } else { Err(ConfigError::Missing { key: "source.data_dir", hint }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_load_and_agree_with_the_machine() {
        let config = Config::load(None, Vec::new()).expect("the embedded defaults");
        let shipper = config.shipper().expect("consistent limits");
        let machine = ShipperConfig::default();
        assert_eq!(shipper.bytes_in_flight_max, machine.bytes_in_flight_max);
        assert_eq!(shipper.partition_bytes_in_flight_max, machine.partition_bytes_in_flight_max);
        assert!(matches!(config.seeds(), Err(ConfigError::Missing { .. })));
        assert!(matches!(config.tls_files(), Err(ConfigError::Missing { .. })));
    }

    #[test]
    fn unknown_keys_and_bad_sizes_are_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let load = |text: &str| {
            let path = directory.path().join("config.toml");
            std::fs::write(&path, text).expect("a file");
            Config::load(Some(&path), Vec::new())
        };
        let error = load("[limits]\nreed_bytes = \"1 MiB\"").expect_err("unknown");
        assert!(error.to_string().contains("reed_bytes"), "{error}");
        let error = load("[limits]\nread_bytes = \"much\"").expect_err("no size");
        assert!(error.to_string().contains("limits.read_bytes"), "{error}");
        let config = load("[limits]\nread_bytes = \"64 MiB\"").expect("a size");
        assert!(matches!(config.shipper(), Err(ConfigError::Relation { key: "limits.read_bytes", .. })));
    }

    #[test]
    fn flags_win() {
        let flags = vec![("import.wait", "stored".into()), ("source.include", vec!["orders"].into())];
        let config = Config::load(None, flags).expect("flags");
        assert_eq!((config.import.wait, config.source.include.as_slice()), (Wait::Stored, &["orders".to_owned()][..]));
    }
}
