//! What the tests stand on: buckets, clusters, data, a shipper, programs.

pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod iggy_server;
pub(crate) mod node;
pub(crate) mod programs;
pub(crate) mod readers;
pub(crate) mod shipping;
pub(crate) mod source;
pub(crate) mod trickle;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing_subscriber::EnvFilter;

/// What nodes and shippers of this process log from now on is shown where the test fails. `RUST_LOG` says how much.
pub(crate) fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,chitchat=error"));
    // Another test of the process may have been first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// How often something that must come to be is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Waits until `look` finds what it looks for; fails with what it saw last.
pub(crate) async fn eventually<T, L>(what: &str, patience: Duration, mut look: impl FnMut() -> L) -> T
where
    L: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what}: not within {patience:?}; last seen: {seen}"),
        }
        sleep(LOOK).await;
    }
}
