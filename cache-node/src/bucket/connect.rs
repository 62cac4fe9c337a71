//! From settings to clients: three schemes, and for S3 a client each for conditional PUTs, hot reads and the background.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use tokio::sync::Semaphore;
use url::Url;

use super::counters::Counters;
use super::error::BucketError;
use super::key::Prefix;
use super::observe::ObservedConnector;
use super::settings::{BucketSettings, BucketTimeouts};
use super::store::{Backing, Bucket, Stores};

/// Retries of a read inside its overall time-out: enough for a store's hiccup, too few to hide an outage.
const READ_RETRIES_MAX: usize = 4;
/// First pause between two tries of a read.
const READ_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two tries of a read.
const READ_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Each further pause is longer by this factor, with jitter.
const READ_PAUSE_GROWTH: f64 = 2.0;

impl Bucket {
    /// Opens the bucket that `settings` name. Nothing is sent: see [`Bucket::probe`].
    ///
    /// Async because it looks at the directory of a `file://` url. Cancel safety: no effect when dropped.
    ///
    /// # Errors
    /// [`BucketError::InvalidSettings`], or [`BucketError::NotFoundBucket`] for a directory that does not exist.
    pub async fn connect(settings: &BucketSettings) -> Result<Self, BucketError> {
        let url = Url::parse(&settings.url)
            .map_err(|error| invalid("url", format!("`{}` does not parse: {error}", settings.url)))?;
        check_bounds(settings)?;
        let counters = Arc::new(Counters::default());
        let (stores, prefix) = match url.scheme() {
            "s3" => s3(&url, settings, counters)?,
            "file" => file(&url, settings, counters).await?,
            "memory" => memory(&url, settings, counters)?,
            other => return Err(invalid("url", format!("`{other}://` is none of s3://, file://, memory://"))),
        };
        Ok(Self::new(stores, Prefix::parse(&prefix)?))
    }
}

fn s3(url: &Url, settings: &BucketSettings, counters: Arc<Counters>) -> Result<(Stores, String), BucketError> {
    let bucket = url.host_str().filter(|name| !name.is_empty());
    let bucket = bucket.ok_or_else(|| invalid("url", "s3:// needs a bucket's name".to_owned()))?.to_owned();
    // The first try of a conditional PUT must be its only one: the client would take its own first try for somebody
    // else's object and answer AlreadyExists.
    let never = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let reads = RetryConfig {
        max_retries: READ_RETRIES_MAX,
        retry_timeout: settings.timeouts.overall,
        backoff: BackoffConfig { init_backoff: READ_PAUSE_MIN, max_backoff: READ_PAUSE_MAX, base: READ_PAUSE_GROWTH },
    };
    let client = |retry: &RetryConfig| s3_client(&bucket, retry.clone(), settings, &counters);
    let clients = [client(&never)?, client(&reads)?, client(&reads)?];
    let backing = Backing::S3 { bucket: bucket.clone() };
    Ok((Stores::new(backing, clients, settings, counters), url.path().to_owned()))
}

fn s3_client(
    bucket: &str,
    retry: RetryConfig,
    settings: &BucketSettings,
    counters: &Arc<Counters>,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let options = ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_connect_timeout(settings.timeouts.connect)
        .with_timeout(settings.timeouts.attempt);
    // Over TLS the checksum alone protects the body; signing it as well would hash every byte a second time.
    let encrypted = !settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_unsigned_payload(encrypted)
        .with_http_connector(ObservedConnector { counters: Arc::clone(counters) });
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &settings.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &settings.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose());
    }
    let store = builder.build().map_err(|error| invalid("s3", error.to_string()))?;
    Ok(Arc::new(store))
}

async fn file(url: &Url, settings: &BucketSettings, counters: Arc<Counters>) -> Result<(Stores, String), BucketError> {
    let root = url.to_file_path();
    let root = root.map_err(|()| invalid("url", format!("`{url}` is not an absolute path: file:///directory")))?;
    let is_directory = tokio::fs::metadata(&root).await.is_ok_and(|metadata| metadata.is_dir());
    if !is_directory {
        return Err(BucketError::NotFoundBucket { bucket: url.to_string() });
    }
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| invalid("url", error.to_string()))?;
    let store: Arc<dyn ObjectStore> = Arc::new(store.with_fsync(true));
    let clients = [Arc::clone(&store), Arc::clone(&store), store];
    Ok((Stores::new(Backing::File { root }, clients, settings, counters), String::new()))
}

fn memory(url: &Url, settings: &BucketSettings, counters: Arc<Counters>) -> Result<(Stores, String), BucketError> {
    /// Buckets of this process by name, so that nodes in one test share one. They live as long as the process.
    static BUCKETS: LazyLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);
    let name = url.host_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| invalid("url", "memory:// needs a name".to_owned()))?.to_owned();
    let store = {
        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(buckets.entry(name.clone()).or_default())
    };
    let clients = [Arc::clone(&store) as Arc<dyn ObjectStore>, Arc::clone(&store) as Arc<dyn ObjectStore>, store];
    let stores = Stores::new(Backing::Memory { name }, clients, settings, counters);
    Ok((stores, url.path().to_owned()))
}

/// What the limits and time-outs must be to each other.
fn check_bounds(settings: &BucketSettings) -> Result<(), BucketError> {
    let limits = &settings.limits;
    for (setting, value) in [("puts", limits.puts), ("hot_gets", limits.hot_gets), ("background", limits.background)] {
        if !(1..=Semaphore::MAX_PERMITS).contains(&value) {
            return Err(invalid(setting, format!("{value} requests at once; give at least one")));
        }
    }
    let BucketTimeouts { connect, attempt, overall } = settings.timeouts;
    if connect.is_zero() || connect > attempt || attempt > overall {
        return Err(invalid("timeouts", "give 0 < connect <= attempt <= overall".to_owned()));
    }
    Ok(())
}

fn invalid(setting: &'static str, reason: String) -> BucketError {
    BucketError::InvalidSettings { setting, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_that_cannot_work_are_refused() {
        for url in ["ftp://host/x", "s3://", "memory://", "not a url"] {
            let refused = Bucket::connect(&BucketSettings::at(url)).await;
            assert!(matches!(refused, Err(BucketError::InvalidSettings { .. })), "{url}: {refused:?}");
        }
        let mut settings = BucketSettings::at("memory://limits");
        settings.limits.puts = 0;
        let refused = Bucket::connect(&settings).await;
        assert!(matches!(refused, Err(BucketError::InvalidSettings { setting: "puts", .. })), "{refused:?}");
        let mut settings = BucketSettings::at("memory://timeouts");
        settings.timeouts.overall = settings.timeouts.attempt / 2;
        let refused = Bucket::connect(&settings).await;
        assert!(matches!(refused, Err(BucketError::InvalidSettings { setting: "timeouts", .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_missing_directory_is_a_missing_bucket() {
        let missing = Bucket::connect(&BucketSettings::at("file:///nowhere/at/all")).await;
        assert!(matches!(missing, Err(BucketError::NotFoundBucket { .. })), "{missing:?}");
    }
}
