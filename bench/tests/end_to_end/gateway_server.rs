//! A gateway before a real server, where there is one to start (`IGGY_SERVER_BIN`): whole frames are those that it sends,
//! and its sessions never notice which polls did not come to it. Elsewhere these tests pass without looking at anything.

use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iggy::prelude::{
    Client, Consumer, ConsumerOffsetClient, Identifier, IggyClient, IggyError, StreamClient, SystemClient,
};
use iggy_binary_protocol::codes::POLL_MESSAGES_CODE;
use iggy_binary_protocol::consensus::{Command, HEADER_SIZE, Operation, RequestHeader};
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::{IGGY_PROTOCOL_VERSION, WireConsumer, WireEncode, WireIdentifier, WirePollingStrategy};
use kennel_gateway::ring::MemoryRing;
use kennel_gateway::{Gateway, GatewaySettings};
use kennel_protocol::ids::PartitionKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::iggy_server::{IggyServerProcess, create_topic, send};

const MESSAGES: u64 = 400;

/// A server with one partition of messages of 1 KB in batches of twenty, and a gateway with a ring that knows nothing yet.
struct Rig {
    server: IggyServerProcess,
    direct: IggyClient,
    ring: Arc<MemoryRing>,
    gateway: Gateway,
}

impl Rig {
    async fn start() -> Option<Self> {
        let server = IggyServerProcess::start().await?;
        let direct = server.client().await;
        create_topic(&direct, "orders", "events", 1).await;
        for base in (0..MESSAGES).step_by(20) {
            let payload = |offset| Bytes::from(format!("message {offset:1000}"));
            send(&direct, "orders", "events", 0, (base..base + 20).map(payload).collect()).await;
        }
        let ring = Arc::new(MemoryRing::default());
        let settings = GatewaySettings::new((Ipv4Addr::LOCALHOST, 0).into(), server.address.to_string());
        let gateway = Gateway::start(settings, Arc::clone(&ring) as _).await.expect("a gateway");
        Some(Self { server, direct, ring, gateway })
    }

    /// Ships what the server has.
    async fn ship(&self) {
        let body = poll(&self.direct, WirePollingStrategy::offset(0), 1 << 20).await;
        let key = key();
        self.ring.name("orders", "events", key);
        self.ring.append(key, body.slice(16..));
    }

    async fn client(&self) -> IggyClient {
        let text = format!("iggy://iggy:iggy@{}?nodelay=true&reconnection_interval=100ms", self.gateway.address());
        let client = IggyClient::from_connection_string(&text).expect("an address");
        client.connect().await.expect("a session");
        client
    }
}

fn key() -> PartitionKey {
    "0/0/0@1".parse().expect("a partition")
}

fn request(strategy: WirePollingStrategy, count: u32) -> PollMessagesRequest {
    PollMessagesRequest {
        consumer: WireConsumer::consumer(WireIdentifier::numeric(1)),
        stream_id: WireIdentifier::named("orders").expect("a name"),
        topic_id: WireIdentifier::named("events").expect("a name"),
        partition_id: Some(0),
        strategy,
        count,
        auto_commit: false,
    }
}

async fn poll(client: &IggyClient, strategy: WirePollingStrategy, count: u32) -> Bytes {
    let body = request(strategy, count).to_bytes();
    client.send_binary_request(POLL_MESSAGES_CODE, body).await.expect("a reply")
}

fn strategies() -> Vec<WirePollingStrategy> {
    let offsets = [0, 7, 19, 20, 399, 400].map(WirePollingStrategy::offset);
    let others = [WirePollingStrategy::first(), WirePollingStrategy::last(), WirePollingStrategy::next()];
    let times = [0, u64::MAX].map(WirePollingStrategy::timestamp);
    offsets.into_iter().chain(others).chain(times).collect()
}

/// A session whose frames are seen whole.
struct Session {
    socket: TcpStream,
    client: u128,
    number: u64,
}

impl Session {
    async fn log_in(address: std::net::SocketAddr) -> Self {
        // Version, names of the SDK and of its version, user, password, and a context of no bytes.
        let word = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        let login = [
            IGGY_PROTOCOL_VERSION.to_le_bytes().to_vec(),
            [word("test"), word("1"), word("iggy"), word("iggy")].concat(),
            0_u32.to_le_bytes().to_vec(),
        ];
        let socket = TcpStream::connect(address).await.expect("it listens");
        socket.set_nodelay(true).expect("TCP");
        let mut session = Self { socket, client: 0x1234_5678_9abc, number: 0 };
        let reply = session.ask(Operation::Register, 0, &login.concat()).await;
        // A count of errors, the user's id, then the session.
        session.number = u64::from_le_bytes(reply[HEADER_SIZE + 8..HEADER_SIZE + 16].try_into().expect("eight bytes"));
        session
    }

    async fn poll(&mut self, strategy: WirePollingStrategy, count: u32) -> Vec<u8> {
        self.ask(Operation::NonReplicated, POLL_MESSAGES_CODE, &request(strategy, count).to_bytes()).await
    }

    /// The whole frame that answers.
    async fn ask(&mut self, operation: Operation, code: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; HEADER_SIZE];
        let size = u32::try_from(HEADER_SIZE + body.len()).expect("small");
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        put(offset_of!(RequestHeader, size), &size.to_le_bytes());
        put(offset_of!(RequestHeader, command), &[Command::Request as u8]);
        put(offset_of!(RequestHeader, client), &self.client.to_le_bytes());
        put(offset_of!(RequestHeader, operation), &[operation as u8]);
        put(offset_of!(RequestHeader, session), &self.number.to_le_bytes());
        if operation == Operation::NonReplicated {
            put(offset_of!(RequestHeader, request), &1_u64.to_le_bytes());
            // Fields that a server echoes, whatever they are.
            put(offset_of!(RequestHeader, timestamp), &77_u64.to_le_bytes());
            put(offset_of!(RequestHeader, reserved), &code.to_le_bytes());
        }
        frame.extend_from_slice(body);
        self.socket.write_all(&frame).await.expect("sent");
        let mut reply = vec![0; HEADER_SIZE];
        self.socket.read_exact(&mut reply).await.expect("a reply");
        let at = offset_of!(RequestHeader, size);
        let size = u32::from_le_bytes(reply[at..at + 4].try_into().expect("four bytes")) as usize;
        reply.resize(size, 0);
        self.socket.read_exact(&mut reply[HEADER_SIZE..]).await.expect("a body");
        reply
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_frames_are_those_of_the_server() {
    let Some(rig) = Rig::start().await else { return };
    let mut session = Session::log_in(rig.gateway.address()).await;
    let mut expected = Vec::new();
    for strategy in strategies() {
        for count in [1, 25, 1000] {
            expected.push((strategy.clone(), count, session.poll(strategy.clone(), count).await));
        }
    }
    assert_eq!(rig.gateway.counts().served, 0, "the ring knows nothing yet");
    rig.ship().await;
    for (strategy, count, expected) in &expected {
        let frame = session.poll(strategy.clone(), *count).await;
        assert!(frame == *expected, "{strategy:?} x {count}: {} bytes for {}", frame.len(), expected.len());
    }
    let counts = rig.gateway.counts();
    assert_eq!(counts.served, expected.len() as u64, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_as_if_all_its_polls_had_come_to_the_server() {
    let Some(rig) = Rig::start().await else { return };
    rig.ship().await;
    let client = rig.client().await;
    let [stream, topic] = ["orders", "events"].map(|name| Identifier::named(name).expect("a name"));
    let consumer = Consumer::new(Identifier::numeric(1).expect("a number"));
    for round in 0..20_u64 {
        for strategy in strategies() {
            let expected = poll(&rig.direct, strategy.clone(), 30).await;
            assert_eq!(poll(&client, strategy, 30).await, expected);
        }
        // What is replicated is numbered by the client, and the server must not miss a number that it expects.
        client.create_stream(&format!("stream-{round}")).await.expect("created");
        let stored = client.store_consumer_offset(&consumer, &stream, &topic, Some(0), round * 10).await;
        if matches!(stored, Err(IggyError::InvalidCommand)) {
            // Older servers of the protocol do not know how clients of today ask for that.
            continue;
        }
        stored.expect("stored");
    }
    let counts = rig.gateway.counts();
    assert!(counts.served >= 20 * 9 && counts.mismatches == 0, "{counts:?}");
    client.ping().await.expect("a heartbeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_while_the_server_is_dead_and_anew_when_it_is_back() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.ship().await;
    let client = rig.client().await;
    let before = poll(&client, WirePollingStrategy::offset(0), 30).await;
    rig.server.kill().await;
    for _ in 0..50 {
        assert_eq!(poll(&client, WirePollingStrategy::offset(0), 30).await, before);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.get_streams().await.expect_err("there is no server");
    rig.server.revive().await;
    let mut streams = client.get_streams().await;
    for _ in 0..100 {
        if streams.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        streams = client.get_streams().await;
    }
    streams.expect("logged in again");
}

/// Prints how long polls take, directly and through the gateway: look at the output where numbers are wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_through_the_gateway_is_timed() {
    const POLLS: usize = 2_000;
    let Some(rig) = Rig::start().await else { return };
    rig.ship().await;
    let client = rig.client().await;
    let mut medians = Vec::new();
    for (who, client) in [("direct", &rig.direct), ("gateway", &client), ("direct", &rig.direct), ("gateway", &client)]
    {
        let mut taken = Vec::with_capacity(POLLS);
        for number in 0..POLLS {
            let offset = (number as u64 * 37) % (MESSAGES - 100);
            let started = Instant::now();
            let body = poll(client, WirePollingStrategy::offset(offset), 100).await;
            taken.push(started.elapsed());
            assert!(body.len() > 100_000);
        }
        taken.sort_unstable();
        let (median, late) = (taken[POLLS / 2], taken[POLLS * 99 / 100]);
        println!("{who}: 100 x 1 KB p50 {median:?} p99 {late:?}");
        medians.push(median);
    }
    let counts = rig.gateway.counts();
    assert!(counts.served >= 2 * POLLS as u64 - 2, "{counts:?}");
}
