//! One bucket, three clients: conditional PUTs, hot reads and background work never wait for each other.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::counters::{Counters, RequestKind};
use super::error::BucketError;
use super::key::Prefix;
use super::settings::{BucketSettings, BucketTimeouts};

/// A handle of one cluster's part of a bucket. Cheap to clone; clones share clients, limits and counters.
#[derive(Clone)]
pub struct Bucket {
    pub(super) stores: Arc<Stores>,
    pub(super) prefix: Prefix,
    in_background: bool,
}

impl Bucket {
    pub(super) fn new(stores: Stores, prefix: Prefix) -> Self {
        Self { stores: Arc::new(stores), prefix, in_background: false }
    }

    /// The same bucket for work that nobody waits for: its reads have limits and connections of their own.
    #[must_use]
    pub fn background(&self) -> Self {
        Self { in_background: true, ..self.clone() }
    }

    /// The same bucket under another prefix: another cluster's, or `""` for what all clusters share.
    ///
    /// # Errors
    /// [`BucketError::InvalidKey`] if `prefix` cannot be part of a key.
    pub fn under(&self, prefix: &str) -> Result<Self, BucketError> {
        Ok(Self { prefix: Prefix::parse(prefix)?, ..self.clone() })
    }

    /// What was asked of the bucket so far, through all handles.
    pub fn counters(&self) -> &Counters {
        &self.stores.counters
    }

    pub(super) fn reads(&self) -> &Lane {
        if self.in_background { &self.stores.background } else { &self.stores.hot }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bucket({self})")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.stores.backing, self.prefix.as_str())
    }
}

/// What the keys live in.
#[derive(Debug)]
pub(super) enum Backing {
    S3 { bucket: String },
    File { root: PathBuf },
    Memory { name: String },
}

impl fmt::Display for Backing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket } => write!(formatter, "s3://{bucket}"),
            Self::File { root } => write!(formatter, "file://{}", root.display()),
            Self::Memory { name } => write!(formatter, "memory://{name}"),
        }
    }
}

/// The clients behind every handle of one bucket.
pub(super) struct Stores {
    pub(super) backing: Backing,
    pub(super) puts: Lane,
    pub(super) hot: Lane,
    pub(super) background: Lane,
    pub(super) counters: Arc<Counters>,
    pub(super) read_bytes_max: u64,
}

impl Stores {
    /// Three clients, for conditional PUTs, hot reads and background work, which may be one and the same.
    pub(super) fn new(
        backing: Backing,
        [puts, hot, background]: [Arc<dyn ObjectStore>; 3],
        settings: &BucketSettings,
        counters: Arc<Counters>,
    ) -> Self {
        let limits = &settings.limits;
        let lane =
            |store, in_flight_max| Lane { store, permits: Semaphore::new(in_flight_max), timeouts: settings.timeouts };
        Self {
            backing,
            puts: lane(puts, limits.puts),
            hot: lane(hot, limits.hot_gets),
            background: lane(background, limits.background),
            counters,
            read_bytes_max: limits.read_bytes_max,
        }
    }

    /// Counts an operation on a store that makes no requests of its own; S3's are counted where they leave.
    pub(super) fn count_local(&self, kind: RequestKind, bytes_sent: u64) {
        if !matches!(self.backing, Backing::S3 { .. }) {
            self.counters.count(kind);
            self.counters.sent(bytes_sent);
        }
    }

    /// Turns the client's error into ours, naming the bucket where that is what is missing.
    pub(super) fn error(&self, error: object_store::Error, operation: &'static str, key: &str) -> BucketError {
        match BucketError::classify(error, operation, key) {
            BucketError::NotFoundBucket { .. } => BucketError::NotFoundBucket { bucket: self.backing.to_string() },
            other => other,
        }
    }
}

/// One client with its own connections and its own limit.
pub(super) struct Lane {
    pub(super) store: Arc<dyn ObjectStore>,
    permits: Semaphore,
    timeouts: BucketTimeouts,
}

impl Lane {
    /// Runs one operation in its turn and in its time.
    pub(super) async fn run<T>(
        &self,
        stores: &Stores,
        operation: &'static str,
        key: &str,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, BucketError> {
        let start = Instant::now();
        let BucketTimeouts { attempt, overall, .. } = self.timeouts;
        // A turn that comes too late for one whole attempt would only make an outcome unknown.
        let Ok(permit) = timeout_at(start + overall.saturating_sub(attempt), self.permits.acquire()).await else {
            return Err(BucketError::Busy { operation, key: key.to_owned() });
        };
        let _permit = permit.expect("the semaphore is never closed");
        match timeout_at(start + overall, work).await {
            Ok(outcome) => outcome.map_err(|error| stores.error(error, operation, key)),
            Err(_) => Err(BucketError::Timeout { operation, key: key.to_owned() }),
        }
    }
}
