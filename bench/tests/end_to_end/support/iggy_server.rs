//! A real Iggy server, where `IGGY_SERVER_BIN` names one (and `IGGY_SERVER_CONFIG` its configuration file): started, killed
//! and started again on its directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use iggy::prelude::{Identifier, IggyClient, TopicClient};
use kennel_bench::live::{self, IggyServer, IggyServerSettings};
use tempfile::TempDir;

/// A server's process, or the place of one.
pub(crate) struct IggyServerProcess {
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    server: IggyServer,
}

impl IggyServerProcess {
    /// Starts one; `None` where there is none to start.
    pub(crate) async fn start() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("IGGY_SERVER_BIN")?);
        let config = std::env::var_os("IGGY_SERVER_CONFIG").map(PathBuf::from);
        let directory = tempfile::tempdir().expect("a directory");
        let settings = IggyServerSettings { program, config, directory: directory.path().to_owned(), replica: None };
        let server = IggyServer::start(settings).await.expect("the server starts");
        Some(Self { directory, address: server.address(), server })
    }

    /// Starts it on its directory.
    pub(crate) async fn revive(&mut self) {
        self.server.revive().await.expect("the server starts");
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.server.kill().await.expect("it runs");
    }

    pub(crate) async fn client(&self) -> IggyClient {
        self.server.client().await.expect("a session")
    }
}

/// Creates a topic with so many partitions, and its stream if need be.
pub(crate) async fn create_topic(client: &IggyClient, stream: &str, topic: &str, partitions: u32) {
    live::create_topic(client, stream, topic, partitions).await.expect("a topic");
}

pub(crate) async fn delete_topic(client: &IggyClient, stream: &str, topic: &str) {
    let [stream, topic] = [stream, topic].map(|name| Identifier::named(name).expect("a name"));
    client.delete_topic(&stream, &topic).await.expect("it is deleted");
}

pub(crate) async fn purge_topic(client: &IggyClient, stream: &str, topic: &str) {
    let [stream, topic] = [stream, topic].map(|name| Identifier::named(name).expect("a name"));
    client.purge_topic(&stream, &topic).await.expect("it is purged");
}

/// Sends messages in one batch.
pub(crate) async fn send(client: &IggyClient, stream: &str, topic: &str, partition: u32, payloads: Vec<Bytes>) {
    live::send(client, stream, topic, partition, payloads).await.expect("it takes them");
}
