//! One node in this process, on a runtime of its own so that it can crash without touching the others.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use cache_node::config::{Layers, Settings, Sources};
use cache_node::http::StatusReport;
use cache_node::node::{Node, NodeError};
use tokio::runtime::Runtime;

/// How long a crashed node's threads may take to be gone.
const CRASH_PATIENCE: Duration = Duration::from_secs(10);

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

/// A UDP port that nobody has.
pub(crate) fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("it is bound")
}
