//! A real Iggy server, where `IGGY_SERVER_BIN` names one (and `IGGY_SERVER_CONFIG` its configuration file): started, killed
//! and started again on its directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use iggy::prelude::{
    Client, Identifier, IggyClient, IggyMessage, MessageClient, Partitioning, StreamClient, TopicClient,
};
use iggy_binary_protocol::codes::CREATE_TOPIC_CODE;
use iggy_binary_protocol::requests::topics::CreateTopicRequest;
use iggy_binary_protocol::{WireEncode, WireIdentifier, WireName, WireOptions};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::eventually;
use super::node::free_address;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server's process, or the place of one.
pub(crate) struct IggyServerProcess {
    binary: PathBuf,
    config: Option<PathBuf>,
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl IggyServerProcess {
    /// Starts one; `None` where there is none to start.
    pub(crate) async fn start() -> Option<Self> {
        let binary = PathBuf::from(std::env::var_os("IGGY_SERVER_BIN")?);
        let config = std::env::var_os("IGGY_SERVER_CONFIG").map(PathBuf::from);
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self { binary, config, directory, address: free_address(), child: None };
        server.revive().await;
        Some(server)
    }

    /// Starts it on its directory.
    pub(crate) async fn revive(&mut self) {
        let data = self.data_dir();
        let mut command = Command::new(&self.binary);
        command.env("IGGY_SYSTEM_PATH", &data).env("IGGY_PATH", &data);
        command.env("IGGY_TCP_ADDRESS", self.address.to_string());
        for off in ["IGGY_QUIC_ENABLED", "IGGY_HTTP_ENABLED", "IGGY_WEBSOCKET_ENABLED"] {
            command.env(off, "false");
        }
        command.env("IGGY_ROOT_USERNAME", "iggy").env("IGGY_ROOT_PASSWORD", "iggy");
        command.env("IGGY_SYSTEM_SHARDING_CPU_ALLOCATION", "1").env("IGGY_SYSTEM_SHARDING_PIN_CORES", "false");
        command.env("IGGY_SYSTEM_MEMORY_POOL_SIZE", "512 MiB");
        command.envs(self.config.as_ref().map(|config| ("IGGY_CONFIG_PATH", config)));
        command.current_dir(self.directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.child = Some(command.spawn().expect("the server starts"));
        let address = self.address;
        eventually("the server listens", PATIENCE, || async move {
            TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.take().expect("it runs").kill().await.expect("it ends");
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) async fn client(&self) -> IggyClient {
        let address = format!("iggy://iggy:iggy@{}?nodelay=true", self.address);
        let client = IggyClient::from_connection_string(&address).expect("an address");
        client.connect().await.expect("a session");
        client
    }
}

/// Creates a topic with so many partitions, and its stream if need be. The request carries no options, since servers of one
/// protocol version differ in those that they know.
pub(crate) async fn create_topic(client: &IggyClient, stream: &str, topic: &str, partitions: u32) {
    let stream_id = Identifier::named(stream).expect("a name");
    if client.get_stream(&stream_id).await.expect("it answers").is_none() {
        client.create_stream(stream).await.expect("a stream");
    }
    let request = CreateTopicRequest {
        stream_id: WireIdentifier::named(stream).expect("a name"),
        partitions_count: partitions,
        name: WireName::new(topic).expect("a name"),
        options: WireOptions::empty(),
    };
    client.send_binary_request(CREATE_TOPIC_CODE, request.to_bytes()).await.expect("a topic");
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
    let [stream, topic] = [stream, topic].map(|name| Identifier::named(name).expect("a name"));
    let message = |payload| IggyMessage::builder().payload(payload).build().expect("a message");
    let mut messages: Vec<IggyMessage> = payloads.into_iter().map(message).collect();
    let partitioning = Partitioning::partition_id(partition);
    client.send_messages(&stream, &topic, &partitioning, &mut messages).await.expect("it takes them");
}
