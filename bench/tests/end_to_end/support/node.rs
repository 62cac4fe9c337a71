//! One node in this process, on a runtime of its own so that it can crash without touching the others.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cache_node::config::{Layers, Settings, Sources};
use cache_node::http::StatusReport;
use cache_node::node::{Node, NodeError};
use tokio::runtime::Runtime;

/// How long a crashed node's threads may take to be gone.
const CRASH_PATIENCE: Duration = Duration::from_secs(10);

/// Linux hands out ports from 32768 on.
const PORTS: Range<u16> = 12_000..32_000;
const PORTS_COUNT: u16 = PORTS.end - PORTS.start;

/// Threads of one node's runtime.
const THREADS: usize = 2;

/// A node that runs.
#[derive(Debug)]
pub(crate) struct TestNode {
    node: Option<Node>,
    runtime: Option<Runtime>,
    quic: SocketAddr,
    http: SocketAddr,
}

impl TestNode {
    /// Starts it on a runtime of its own.
    pub(crate) async fn start(settings: Settings) -> Result<Self, NodeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let started = runtime.spawn(Node::start(settings)).await.expect("starting does not panic");
        let node = match started {
            Ok(node) => node,
            Err(error) => {
                end(runtime, None).await;
                return Err(error);
            }
        };
        let (quic, http) = (node.quic_address(), node.http_address());
        Ok(Self { node: Some(node), runtime: Some(runtime), quic, http })
    }

    /// Where it takes sessions.
    pub(crate) fn address(&self) -> SocketAddr {
        self.quic
    }

    /// Ends it as a power cut would: its runtime stops in the middle of whatever it does, and says nothing to anybody.
    pub(crate) async fn crash(mut self) {
        let runtime = self.runtime.take().expect("it runs");
        end(runtime, self.node.take()).await;
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) {
        let runtime = self.runtime.take().expect("it runs");
        let node = self.node.take().expect("it runs");
        runtime.spawn(node.stop()).await.expect("stopping does not panic");
        end(runtime, None).await;
    }

    /// What it says to dashboards.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        Ok(reqwest::get(format!("http://{}/metrics", self.http)).await?.text().await?)
    }

    /// What it says of itself.
    pub(crate) async fn status(&self) -> anyhow::Result<StatusReport> {
        Ok(reqwest::get(format!("http://{}/status", self.http)).await?.json().await?)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // A runtime may not be waited for where a test's own one is driven.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn end(runtime: Runtime, node: Option<Node>) {
    let ended = tokio::task::spawn_blocking(move || {
        runtime.shutdown_timeout(CRASH_PATIENCE);
        // Last, so that no task of it saw it go.
        drop(node);
    });
    ended.await.expect("a runtime ends");
}

/// Settings from the defaults and `assignments`, as the program reads them.
pub(crate) fn settings(assignments: &[String]) -> Settings {
    let layers = Layers::read(Sources { assignments, ..Sources::default() }).expect("known keys");
    layers.settings().expect("values that go together")
}

/// A UDP port that nobody has, outside of the range from which the system hands out ports by itself: between here and
/// its use nobody gets it.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests run in processes of their own, several at a time.
    let start = u16::try_from(std::process::id() % 500).expect("below 500") * 32;
    let ports = core::iter::repeat_with(|| PORTS.start + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS_COUNT);
    let mut addresses = ports.take(PORTS_COUNT.into()).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| UdpSocket::bind(address).is_ok()).expect("a free port")
}
