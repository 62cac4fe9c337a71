//! The buckets that clusters of a test may stand on.

use std::sync::atomic::{AtomicU32, Ordering};

use kennel_s3_server::{Faults, RunningServer, Server, ServerSettings};
use tempfile::TempDir;

/// A bucket of one test.
#[derive(Debug)]
pub(crate) enum TestBucket {
    /// A local directory.
    Directory(TempDir),
    /// Memory of this process.
    Memory(String),
    /// An S3 server that misbehaves on request.
    S3(RunningServer),
}

impl TestBucket {
    pub(crate) fn directory() -> Self {
        Self::Directory(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn memory() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::Memory(format!("memory://end-to-end-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) async fn s3() -> Self {
        Self::S3(Server::start(ServerSettings::default()).await.expect("a free port"))
    }

    /// How to make it misbehave.
    pub(crate) fn faults(&self) -> &Faults {
        &self.server().faults
    }

    /// The S3 server.
    pub(crate) fn server(&self) -> &RunningServer {
        let Self::S3(server) = self else { panic!("only the S3 server is a server: {self:?}") };
        server
    }

    /// What a node has to be told to use it, as `--set` takes it.
    pub(crate) fn assignments(&self) -> Vec<String> {
        match self {
            Self::Directory(directory) => vec![format!("bucket.url=file://{}", directory.path().display())],
            Self::Memory(url) => vec![format!("bucket.url={url}")],
            Self::S3(server) => s3_assignments(&server.endpoint()),
        }
    }
}

/// The bucket of an S3 server of ours, with time-outs of a network that has no latency.
pub(crate) fn s3_assignments(endpoint: &str) -> Vec<String> {
    let endpoint = format!("bucket.endpoint={endpoint}");
    let rest = [
        "bucket.url=s3://kennel/ring",
        "bucket.region=us-east-1",
        "bucket.access_key_id=kennel",
        "bucket.secret_access_key=kennel-secret",
        "bucket.allow_http=true",
        "bucket.connect_timeout=500ms",
        "bucket.attempt_timeout=2s",
        "bucket.overall_timeout=4s",
    ];
    rest.into_iter().map(str::to_owned).chain([endpoint]).collect()
}
