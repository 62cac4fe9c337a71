//! What the tests stand on: buckets, clusters, data, a shipper, programs.

pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod node;
pub(crate) mod programs;
pub(crate) mod shipping;
pub(crate) mod source;

use std::time::Duration;

use tokio::time::{Instant, sleep};

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
