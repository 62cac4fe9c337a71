//! A real Iggy server: started, killed and started again on its directory.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use iggy::prelude::{
    Client, Identifier, IggyClient, IggyError, IggyMessage, MessageClient, Partitioning, StreamClient,
};
use iggy_binary_protocol::codes::CREATE_TOPIC_CODE;
use iggy_binary_protocol::requests::topics::CreateTopicRequest;
use iggy_binary_protocol::{WireEncode, WireIdentifier, WireName, WireOptions};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a server may take to listen.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// How long it may take to write what it holds, and end.
const STOP_PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// Where a server is found, and where it works.
#[derive(Debug, Clone)]
pub struct IggyServerSettings {
    /// The program.
    pub program: PathBuf,
    /// Its configuration file, if it needs one.
    pub config: Option<PathBuf>,
    /// Its data and its log.
    pub directory: PathBuf,
    /// Which node of the cluster that its configuration names, and where that one listens; none outside of a cluster.
    pub replica: Option<(u8, SocketAddr)>,
}

/// A server's process, or the place of one. Dropping it kills it.
#[derive(Debug)]
pub struct IggyServer {
    settings: IggyServerSettings,
    address: SocketAddr,
    child: Option<Child>,
}

impl IggyServer {
    /// Starts one.
    ///
    /// # Errors
    /// If it does not start or does not listen.
    ///
    /// # Cancel safety
    /// Safe: the process ends with it.
    pub async fn start(settings: IggyServerSettings) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&settings.directory).context("make the server's directory")?;
        let address = match settings.replica {
            Some((_, address)) => address,
            None => free_address()?,
        };
        let mut server = Self { settings, address, child: None };
        server.revive().await?;
        Ok(server)
    }

    /// Starts it again on its directory and under its address.
    ///
    /// # Errors
    /// If it does not start or does not listen.
    ///
    /// # Cancel safety
    /// Safe: the process ends with it.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        let (data, log) = (self.data_dir(), self.settings.directory.join("iggy.log"));
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(&self.settings.program);
        command.env("IGGY_SYSTEM_PATH", &data).env("IGGY_PATH", &data);
        command.env("IGGY_TCP_ADDRESS", self.address.to_string());
        for off in ["IGGY_QUIC_ENABLED", "IGGY_HTTP_ENABLED", "IGGY_WEBSOCKET_ENABLED"] {
            command.env(off, "false");
        }
        command.env("IGGY_ROOT_USERNAME", "iggy").env("IGGY_ROOT_PASSWORD", "iggy");
        command.env("IGGY_SYSTEM_SHARDING_CPU_ALLOCATION", "1").env("IGGY_SYSTEM_SHARDING_PIN_CORES", "false");
        command.env("IGGY_SYSTEM_MEMORY_POOL_SIZE", "512 MiB");
        command.args(
            self.settings.replica.iter().flat_map(|(replica, _)| ["--replica-id".to_owned(), replica.to_string()]),
        );
        command.envs(self.settings.config.as_ref().map(|config| ("IGGY_CONFIG_PATH", config)));
        command.stdin(Stdio::null()).stdout(output.try_clone().context("share the log")?).stderr(output);
        command.current_dir(&self.settings.directory).kill_on_drop(true);
        self.child = Some(command.spawn().context("start the Iggy server")?);
        let deadline = Instant::now() + START_PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            ensure!(Instant::now() < deadline, "the Iggy server does not listen; see {}", log.display());
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// If it does not run.
    ///
    /// # Cancel safety
    /// Not safe: whether it still runs is not known.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.take().context("the server runs")?.kill().await.context("kill the server")
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not run or does not stop in time.
    ///
    /// # Cancel safety
    /// Not safe: whether it still runs is not known.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.process()?;
        let mut child = self.child.take().context("the server runs")?;
        let asked = Command::new("kill").args(["-TERM", &id.to_string()]).status().await.context("run kill")?;
        ensure!(asked.success(), "the server could not be asked to stop");
        timeout(STOP_PATIENCE, child.wait()).await.context("the server does not stop")?.context("wait for it")?;
        Ok(())
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it does not run.
    pub fn process(&self) -> anyhow::Result<u32> {
        self.child.as_ref().and_then(Child::id).context("the server runs")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory that holds `streams`.
    pub fn data_dir(&self) -> PathBuf {
        self.settings.directory.join("data")
    }

    /// A client that is logged in, and logs in again by itself.
    ///
    /// # Errors
    /// If it cannot.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> anyhow::Result<IggyClient> {
        client_at(self.address).await
    }
}

/// An address of the loopback that nobody listens at now.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a port")?;
    free.local_addr().context("find a port")
}

/// A client of a server or a gateway that is logged in, and logs in again by itself.
///
/// # Errors
/// If it cannot.
///
/// # Cancel safety
/// Safe.
pub async fn client_at(address: SocketAddr) -> anyhow::Result<IggyClient> {
    let address = format!("iggy://iggy:iggy@{address}?nodelay=true&reconnection_interval=100ms");
    let client = IggyClient::from_connection_string(&address)?;
    client.connect().await?;
    Ok(client)
}

/// Creates a topic with so many partitions, and its stream if need be. The request carries no options, since servers of
/// one protocol version differ in those that they know.
///
/// # Errors
/// The server's.
///
/// # Cancel safety
/// Safe: what was created stays.
pub async fn create_topic(client: &IggyClient, stream: &str, topic: &str, partitions: u32) -> Result<(), IggyError> {
    if client.get_stream(&Identifier::named(stream)?).await?.is_none() {
        client.create_stream(stream).await?;
    }
    let name = |text| WireIdentifier::named(text).map_err(|_| IggyError::InvalidIdentifier);
    let request = CreateTopicRequest {
        stream_id: name(stream)?,
        partitions_count: partitions,
        name: WireName::new(topic).map_err(|_| IggyError::InvalidIdentifier)?,
        options: WireOptions::empty(),
    };
    client.send_binary_request(CREATE_TOPIC_CODE, request.to_bytes()).await.map(drop)
}

/// Sends messages in one batch.
///
/// # Errors
/// The server's. After an error of the connection it may have taken them.
///
/// # Cancel safety
/// Not safe: the server may have taken them.
pub async fn send(
    client: &IggyClient,
    stream: &str,
    topic: &str,
    partition: u32,
    payloads: Vec<Bytes>,
) -> Result<(), IggyError> {
    let message = |payload| IggyMessage::builder().payload(payload).build();
    let mut messages = payloads.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    let (stream, topic) = (Identifier::named(stream)?, Identifier::named(topic)?);
    client.send_messages(&stream, &topic, &Partitioning::partition_id(partition), &mut messages).await.map(drop)
}
