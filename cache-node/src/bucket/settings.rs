//! Where the bucket is, how to get in, and how much may be asked of it at once.
//!
//! Plain values, already parsed. Reading files and flags is the configuration's work.

use std::fmt;
use std::time::Duration;

/// A value that must never be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that signs with it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// Everything that `Bucket::connect` needs.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// `s3://bucket/prefix`, `file:///directory` or `memory://name/prefix`.
    pub url: String,
    /// Address of an S3 service that is not AWS, as `http://host:port`.
    pub endpoint: Option<String>,
    /// Region, for the signature. Unset: `AWS_REGION`, then `us-east-1`.
    pub region: Option<String>,
    /// Access key id. Unset: `AWS_ACCESS_KEY_ID`, then the identity of the instance, task or pod.
    pub access_key_id: Option<String>,
    /// Secret access key. Unset: `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<Secret>,
    /// Whether plain HTTP is accepted. For loopback and tests.
    pub allow_http: bool,
    /// How long to wait for what.
    pub timeouts: BucketTimeouts,
    /// How much at once.
    pub limits: BucketLimits,
}

impl BucketSettings {
    /// The bucket at `url` with default limits and credentials from the environment.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            timeouts: BucketTimeouts::default(),
            limits: BucketLimits::default(),
        }
    }
}

/// Time-outs; each bounds the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketTimeouts {
    /// For a connection to come up.
    pub connect: Duration,
    /// For one request with its whole body.
    pub attempt: Duration,
    /// For an operation with its retries and the wait for its turn.
    pub overall: Duration,
}

impl Default for BucketTimeouts {
    /// S3 answers in 250 ms at p99; the client's own defaults are minutes, in which a shard would stand still.
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), attempt: Duration::from_secs(10), overall: Duration::from_secs(30) }
    }
}

/// Limits; requests beyond them wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketLimits {
    /// Conditional creates in flight.
    pub puts: usize,
    /// Reads in flight that a reader or a take-over waits for.
    pub hot_gets: usize,
    /// Compaction, listing, deletion and other work in flight that nobody waits for.
    pub background: usize,
    /// Most bytes that one read brings into memory.
    pub read_bytes_max: u64,
}

impl Default for BucketLimits {
    /// 64 PUTs of 8 MiB fill a 10 Gbit/s link at 80 MB/s a connection; reads are smaller and more.
    fn default() -> Self {
        Self { puts: 64, hot_gets: 128, background: 16, read_bytes_max: 512 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let settings =
            BucketSettings { secret_access_key: Some(Secret::new("hunter2")), ..BucketSettings::at("s3://bucket") };
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    }
}
