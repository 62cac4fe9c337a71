//! One suite for every store that Kennel runs on, and what must hold when an S3 store misbehaves.
//!
//! The suite runs on memory, on a directory, on our own S3 server, and on Ceph's radosgw where
//! `KENNEL_RADOSGW_ENDPOINT` names one (`tests/radosgw/start` prints it).

mod checks;
mod faults;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cache_node::bucket::{Bucket, BucketError, BucketSettings, BucketTimeouts, CreateOutcome, Secret};
use cache_node::random;
use kennel_s3_server::{RunningServer, Server, ServerSettings};

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    checks::run(&connect(&BucketSettings::at(format!("memory://{:x}/a/prefix", random::id()))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory() {
    let directory = tempfile::tempdir().expect("a directory");
    checks::run(&connect(&BucketSettings::at(format!("file://{}", directory.path().display()))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_s3_server() {
    let server = start_server().await;
    checks::run(&connect(&settings_of(&server)).await).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn radosgw() {
    let Ok(endpoint) = std::env::var("KENNEL_RADOSGW_ENDPOINT") else {
        println!("SKIPPED: KENNEL_RADOSGW_ENDPOINT is not set; tests/radosgw/start starts a server and prints it");
        return;
    };
    let url = format!("s3://kennel/{:x}", random::id());
    checks::run(&connect(&s3_settings(&endpoint, &url)).await).await;
}

#[tokio::test]
async fn a_name_in_memory_is_one_bucket() {
    let url = format!("memory://{:x}", random::id());
    let [one, two] = [connect(&BucketSettings::at(&url)).await, connect(&BucketSettings::at(&url)).await];
    created(one.create("object", vec![Bytes::from_static(b"shared")]).await);
    assert_eq!(read(&two, "object").await, "shared");
}

#[tokio::test]
async fn a_read_beyond_the_limit_is_refused_before_it_is_read() {
    let mut settings = BucketSettings::at(format!("memory://{:x}", random::id()));
    settings.limits.read_bytes_max = 10;
    let bucket = connect(&settings).await;
    created(bucket.create("object", vec![body_of(11, 1)]).await);
    let refused = bucket.get("object").await;
    assert!(matches!(refused, Err(BucketError::TooLarge { size: 11, limit: 10, .. })), "{refused:?}");
    let refused = bucket.get_range("object", 0..11).await;
    assert!(matches!(refused, Err(BucketError::TooLarge { .. })), "{refused:?}");
    assert!(bucket.get_range("object", 0..10).await.expect("a range").is_some());
}

#[tokio::test]
async fn every_key_is_listed_once_under_the_whole_prefix() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    created(bucket.create("claims/0/1", vec![Bytes::from_static(b"claim")]).await);
    let keys: BTreeSet<_> = server.contents.objects("kennel").into_iter().map(|object| object.key).collect();
    assert_eq!(keys, BTreeSet::from(["a/prefix/claims/0/1".to_owned()]));
}

pub(crate) async fn start_server() -> RunningServer {
    Server::start(ServerSettings::default()).await.expect("a server")
}

pub(crate) fn settings_of(server: &RunningServer) -> BucketSettings {
    s3_settings(&server.endpoint(), "s3://kennel/a/prefix")
}

/// Both our server and the script for radosgw accept this one key.
pub(crate) fn s3_settings(endpoint: &str, url: &str) -> BucketSettings {
    BucketSettings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("kennel".to_owned()),
        secret_access_key: Some(Secret::new("kennel-secret")),
        allow_http: true,
        ..BucketSettings::at(url)
    }
}

pub(crate) fn impatient(settings: BucketSettings) -> BucketSettings {
    let timeouts = BucketTimeouts {
        connect: Duration::from_millis(200),
        attempt: Duration::from_millis(300),
        overall: Duration::from_millis(900),
    };
    BucketSettings { timeouts, ..settings }
}

pub(crate) async fn connect(settings: &BucketSettings) -> Bucket {
    Bucket::connect(settings).await.expect("a bucket")
}

pub(crate) async fn read(bucket: &Bucket, key: &str) -> Bytes {
    bucket.get(key).await.expect("an answer").expect("an object")
}

#[expect(clippy::needless_pass_by_value, reason = "an outcome ends here")]
pub(crate) fn created(outcome: CreateOutcome) {
    assert!(matches!(outcome, CreateOutcome::Done), "{outcome:?}");
}

/// `length` bytes that differ by position and by `seed`; their period is prime.
pub(crate) fn body_of(length: usize, seed: u8) -> Bytes {
    (0..=250_u8).cycle().take(length).map(|byte| byte ^ seed).collect()
}
