//! A real Iggy server, where `IGGY_SERVER_BIN` names one (and `IGGY_SERVER_CONFIG` its configuration): bodies are its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use iggy_binary_protocol::codes::CREATE_TOPIC_CODE;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::requests::topics::CreateTopicRequest;
use iggy_binary_protocol::{WireConsumer, WireEncode, WireIdentifier, WireName, WireOptions, WirePollingStrategy};
use iggy_common::{BinaryTransport, IggyMessage, Partitioning, StreamClient};
use kennel_protocol::batch::batches;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::*;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    _child: Child,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("IGGY_SERVER_BIN") else {
            eprintln!("SKIPPED: IGGY_SERVER_BIN names no Iggy server");
            return None;
        };
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port");
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(binary);
        command.env("IGGY_SYSTEM_PATH", directory.path().join("data")).env("IGGY_PATH", directory.path().join("data"));
        command.env("IGGY_TCP_ADDRESS", address.to_string());
        for off in ["IGGY_QUIC_ENABLED", "IGGY_HTTP_ENABLED", "IGGY_WEBSOCKET_ENABLED"] {
            command.env(off, "false");
        }
        command.env("IGGY_ROOT_USERNAME", "iggy").env("IGGY_ROOT_PASSWORD", "iggy");
        command.env("IGGY_SYSTEM_SHARDING_CPU_ALLOCATION", "1").env("IGGY_SYSTEM_SHARDING_PIN_CORES", "false");
        command.env("IGGY_SYSTEM_MEMORY_POOL_SIZE", "512 MiB");
        command.envs(std::env::var_os("IGGY_SERVER_CONFIG").map(|config| ("IGGY_CONFIG_PATH", config)));
        command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("the server starts");
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < deadline, "the server listens");
            sleep(Duration::from_millis(50)).await;
        }
        Some(Self { address, _child: child, _directory: directory })
    }

    fn tcp(&self) -> TcpClient {
        TcpClient::from_connection_string(&format!("iggy://iggy:iggy@{}", self.address)).expect("a connection string")
    }
}

/// One topic with batches of 1 to 9 messages. Servers of one protocol differ in the options of topics: none are sent.
async fn fill(client: &TcpClient) {
    client.create_stream(STREAM.1).await.expect("a stream");
    let request = CreateTopicRequest {
        stream_id: WireIdentifier::named(STREAM.1).expect("a name"),
        partitions_count: 1,
        name: WireName::new(TOPIC.1).expect("a name"),
        options: WireOptions::empty(),
    };
    client.send_raw_with_response(CREATE_TOPIC_CODE, request.to_bytes()).await.expect("a topic");
    let (stream, topic) = (name(STREAM.1), name(TOPIC.1));
    for count in (0..60).map(|number| number % 9 + 1) {
        let mut messages: Vec<IggyMessage> =
            (0..count).map(|number| IggyMessage::from(format!("message {number:200}"))).collect();
        let sent = client.send_messages(&stream, &topic, &Partitioning::partition_id(0), &mut messages).await;
        sent.expect("the server takes them");
    }
}

fn request(strategy: WirePollingStrategy, count: u32) -> PollMessagesRequest {
    PollMessagesRequest {
        consumer: WireConsumer::consumer(WireIdentifier::numeric(7)),
        stream_id: WireIdentifier::named(STREAM.1).expect("a name"),
        topic_id: WireIdentifier::named(TOPIC.1).expect("a name"),
        partition_id: None,
        strategy,
        count,
        auto_commit: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_those_of_a_real_server() {
    let Some(server) = Server::start().await else { return };
    let direct = server.tcp();
    direct.connect().await.expect("a session");
    fill(&direct).await;
    // What a shipper does.
    let all = direct.send_poll_with_response(&request(WirePollingStrategy::first(), 1 << 20)).await.expect("a reply");
    let (ring, run) = (Arc::new(MemoryRing::default()), all.slice(16..));
    let key: PartitionKey = "0/0/0@1".parse().expect("a partition");
    ring.name(STREAM.1, TOPIC.1, key);
    ring.append(key, run.clone());
    let cached = CacheTransport::new(server.tcp(), ring as _, CacheSettings::default());
    cached.connect().await.expect("a session");

    let views: Vec<_> = batches(&run).map(|view| view.expect("a batch")).collect();
    let times = views.iter().step_by(7).map(|view| WirePollingStrategy::timestamp(view.header().base_timestamp));
    let later = views.iter().step_by(11).map(|view| WirePollingStrategy::timestamp(view.header().base_timestamp + 1));
    let offsets = (0..305).step_by(3).map(WirePollingStrategy::offset);
    let others = [WirePollingStrategy::first(), WirePollingStrategy::last(), WirePollingStrategy::next()];
    let mut polls = 0;
    for strategy in times.chain(later).chain(offsets).chain(others) {
        for count in [1, 4, 30, 1000] {
            let request = request(strategy.clone(), count);
            let expected = direct.send_poll_with_response(&request).await.expect("a reply");
            let found = cached.send_poll_with_response(&request).await.expect("a reply");
            assert!(found == expected, "{strategy:?}, {count}: {} bytes for {}", found.len(), expected.len());
            polls += 1;
        }
    }
    eprintln!("{polls} polls, {:?}", cached.counts());
    let beyond = cached.counts().forwarded.get("beyond").copied().unwrap_or(0);
    assert_eq!(cached.counts().served + beyond, polls, "{:?}", cached.counts());
}
