//! The client's landings against a node in memory that does with them what the test wishes. The bytes move by libfabric's
//! TCP, where there is a libfabric.
#![expect(clippy::print_stdout, reason = "what was skipped is told to who runs the tests")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kennel_client::{
    Client, ClientSettings, ConnectError, FabricChoice, FabricCounts, FabricError, FabricSettings, FetchRequest,
    Fetched, Offset,
};
use kennel_fabric::{Endpoint, EndpointSettings, LandingAdvert, Library};
use kennel_protocol::batch::BatchBuilder;
use kennel_protocol::ids::{ClusterId, Epoch, NodeId, PartitionId, PartitionKey, ProcessId, ShardId};
use kennel_protocol::limits::WIRE_VERSION;
use kennel_protocol::wire::{
    ErrorCode, FabricOffer, FetchInto, Landed, LandingOutcome, Message, NodeAddress, Role, Served, ShardView, View,
    WireError,
};
use kennel_transport::handshake::{HelloPolicy, handshake_server};
use kennel_transport::loopback::{LoopbackIdentity, LoopbackNetwork};
use kennel_transport::rpc::Caller;
use kennel_transport::session::{Listener, Session};

const PROVIDER: &str = "tcp;ofi_rxm";
const MESSAGES: u64 = 20;

/// What the node does with the next landings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Places the answer.
    Place,
    /// Places an answer with a flipped bit, and says that all is well.
    Damage,
    /// Says that it placed more than there is.
    Boast,
    /// Answers inline.
    Untouched,
    /// Answers inline, and does not know what became of the landing.
    Unknown,
    /// Refuses, once.
    Refuse,
    /// Says nothing.
    Silent,
}

struct Node {
    endpoint: Endpoint,
    offers: bool,
    version: u16,
    act: Mutex<Act>,
    /// Questions with a landing, and without.
    landings: AtomicU64,
    plain: AtomicU64,
    address: Mutex<Option<std::net::SocketAddr>>,
}

fn key() -> PartitionKey {
    "1/1/0".parse().expect("a partition")
}

/// One batch of some 40 KB.
fn batch() -> Bytes {
    let mut batch = BatchBuilder::new(PartitionId(0), Offset(0), 0);
    for number in 0..MESSAGES {
        batch = batch.payload(&[u8::try_from(number).expect("small"); 2_000]);
    }
    batch.build()
}

fn answer(batches: Bytes) -> kennel_protocol::wire::Fetched {
    kennel_protocol::wire::Fetched {
        partition: key(),
        epoch: Epoch(1),
        start: Offset(0),
        next: Offset(MESSAGES),
        trim: Offset(0),
        stored: Offset(0),
        committed: Offset(MESSAGES),
        holes: Vec::new(),
        served: Served::Tail,
        batches,
    }
}

impl Node {
    fn start(network: &LoopbackNetwork, library: &Library, (offers, version): (bool, u16)) -> Arc<Self> {
        let settings = EndpointSettings { choice: choice(), landing_count: 0, ..EndpointSettings::default() };
        let node = Arc::new(Self {
            endpoint: Endpoint::open(library, &settings).expect("its TCP is everywhere"),
            offers,
            version,
            act: Mutex::new(Act::Place),
            landings: AtomicU64::new(0),
            plain: AtomicU64::new(0),
            address: Mutex::new(None),
        });
        let identity = LoopbackIdentity { common_name: "node-1".to_owned(), role: Some(Role::Node) };
        let mut listener = network.listen(identity);
        *node.address.lock().expect("alive") = Some(listener.local_address());
        let serving = Arc::clone(&node);
        tokio::spawn(async move {
            while let Ok(session) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(session));
            }
        });
        node
    }

    async fn serve(self: Arc<Self>, session: Arc<dyn Session>) {
        let policy = HelloPolicy {
            version_min: 1,
            version_max: self.version,
            cluster: ClusterId(1),
            node: NodeId(1),
            process: ProcessId(1),
            shard_count: 1,
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        if handshake_server(&*session, &policy, deadline).await.is_err() {
            return;
        }
        while let Ok(lane) = session.accept().await {
            let (caller, mut inbound) = Caller::new(lane);
            let node = Arc::clone(&self);
            tokio::spawn(async move {
                while let Ok(incoming) = inbound.next().await {
                    let (node, caller) = (Arc::clone(&node), caller.clone());
                    tokio::spawn(async move {
                        let answer = node.answer(incoming.message).await;
                        drop(caller.reply(incoming.correlation, answer).await);
                    });
                }
            });
        }
    }

    async fn answer(&self, message: Message) -> Message {
        match message {
            Message::ViewRequest(_) => Message::View(self.view()),
            Message::FabricRequest(request) => {
                assert_eq!(request.provider, PROVIDER);
                Message::FabricOffer(FabricOffer { provider: self.offers.then_some(request.provider) })
            }
            Message::Fetch(_) => {
                self.plain.fetch_add(1, Ordering::SeqCst);
                Message::Fetched(answer(batch()))
            }
            Message::FetchInto(into) => {
                self.landings.fetch_add(1, Ordering::SeqCst);
                self.land(into).await
            }
            _ => refusal(),
        }
    }

    async fn land(&self, into: FetchInto) -> Message {
        let act = *self.act.lock().expect("alive");
        let landed = |batches: Bytes, outcome| Message::Landed(Landed { fetched: answer(batches), outcome });
        match act {
            Act::Untouched => landed(batch(), LandingOutcome::Untouched),
            Act::Unknown => landed(batch(), LandingOutcome::Unknown),
            Act::Boast => landed(Bytes::new(), LandingOutcome::Placed(1 << 26)),
            Act::Silent => std::future::pending().await,
            Act::Refuse => {
                self.does(Act::Place);
                refusal()
            }
            Act::Place | Act::Damage => {
                let mut bytes = batch().to_vec();
                if act == Act::Damage {
                    bytes[30_000] ^= 1;
                }
                let advert = LandingAdvert::decode(&into.advert.0).expect("the client's own");
                let deadline = std::time::Instant::now() + Duration::from_secs(5);
                let placed = self.endpoint.place(advert, vec![bytes.into()], deadline).await.expect("placed");
                landed(Bytes::new(), LandingOutcome::Placed(u32::try_from(placed.len).expect("small")))
            }
        }
    }

    fn view(&self) -> View {
        let address = self.address.lock().expect("alive").expect("it listens").to_string();
        let node = NodeAddress { node: NodeId(1), address, zone: String::new() };
        let shard = ShardView { shard: ShardId(0), epoch: Epoch(1), owner: Some(NodeId(1)) };
        View { shard_count: 1, nodes: vec![node], shards: vec![shard] }
    }

    fn does(&self, act: Act) {
        *self.act.lock().expect("alive") = act;
    }

    /// Questions with a landing, and without.
    fn asked(&self) -> (u64, u64) {
        (self.landings.load(Ordering::SeqCst), self.plain.load(Ordering::SeqCst))
    }
}

fn refusal() -> Message {
    let message = "as the test wishes".to_owned();
    Message::Error(WireError { code: ErrorCode::Busy, message, offset: None, node: None })
}

/// A node and its reader, with two landings; `None` where there is no libfabric.
async fn ring(node: (bool, u16)) -> Option<(Arc<Node>, Client)> {
    let library = match Library::load(None) {
        Ok(library) => library,
        Err(error) => {
            assert!(std::env::var_os("KENNEL_REQUIRE_FABRIC").is_none(), "{error}");
            println!("SKIPPED: {error}");
            return None;
        }
    };
    let network = LoopbackNetwork::new();
    let node = Node::start(&network, &library, node);
    let mut settings = ClientSettings::new(vec![node.address.lock().expect("alive").expect("it listens")]);
    settings.local = false;
    settings.answer_timeout = Duration::from_millis(500);
    settings.fabric =
        Some(FabricSettings { required: true, choice: choice(), landing_count: 2, ..FabricSettings::default() });
    let identity = LoopbackIdentity { common_name: "reader".to_owned(), role: Some(Role::Client) };
    let connector = Arc::new(network.connector(identity));
    let client = Client::connect_over(settings, connector).await.expect("the node is up");
    Some((node, client))
}

/// A provider of software, over loopback.
fn choice() -> FabricChoice {
    let (provider, source) = (Some(PROVIDER.to_owned()), Some("127.0.0.1".to_owned()));
    FabricChoice { provider, source, ..FabricChoice::default() }
}

async fn fetch(client: &Client) -> Fetched {
    let fetched = client.fetch(FetchRequest::at(key(), Offset(0))).await.expect("an answer");
    assert_eq!(*fetched.batch_bytes(), batch(), "whichever way it came");
    fetched
}

fn counts(client: &Client) -> FabricCounts {
    client.fabric_counts().expect("it has a fabric")
}

#[tokio::test]
async fn what_is_placed_is_read_where_it_lies() {
    let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
    for _ in 0..10 {
        assert!(fetch(&client).await.by_fabric);
    }
    assert_eq!(node.asked(), (10, 0));
    let bytes = batch().len() as u64;
    let expected = FabricCounts { placed: 10, placed_bytes: 10 * bytes, ..FabricCounts::default() };
    assert_eq!(counts(&client), expected);
    // Two answers that are held are all landings: others come over the network, and then by the fabric again.
    let held = [fetch(&client).await, fetch(&client).await];
    assert!(held.iter().all(|fetched| fetched.by_fabric));
    assert!(!fetch(&client).await.by_fabric);
    drop(held);
    assert!(fetch(&client).await.by_fabric);
}

#[tokio::test]
async fn an_untouched_landing_is_free_again() {
    let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
    node.does(Act::Untouched);
    for _ in 0..10 {
        assert!(!fetch(&client).await.by_fabric);
    }
    assert_eq!(node.asked(), (10, 0), "the answer was there already");
    assert_eq!(counts(&client), FabricCounts { inline: 10, ..FabricCounts::default() });
    // A refusal says as much.
    node.does(Act::Refuse);
    assert!(fetch(&client).await.by_fabric, "asked again");
    assert_eq!(counts(&client).quarantined, 0);
}

#[tokio::test]
async fn a_landing_of_unknown_fate_is_given_up_and_the_node_left_alone_for_a_while() {
    let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
    node.does(Act::Unknown);
    assert!(!fetch(&client).await.by_fabric);
    assert_eq!(node.asked(), (1, 0), "the answer was there already");
    node.does(Act::Place);
    assert!(!fetch(&client).await.by_fabric);
    assert_eq!(node.asked(), (1, 1), "not so soon");
    let seen = counts(&client);
    assert_eq!((seen.inline, seen.quarantined, seen.breaker_opens, seen.placed), (1, 1, 1, 0));
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert!(fetch(&client).await.by_fabric, "after a second it is tried again");
    assert!(fetch(&client).await.by_fabric, "and is well");
}

#[tokio::test]
async fn what_does_not_verify_is_asked_for_again_over_the_network() {
    for act in [Act::Damage, Act::Boast] {
        let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
        node.does(act);
        assert!(!fetch(&client).await.by_fabric, "{act:?}");
        assert_eq!(node.asked(), (1, 1), "{act:?}");
        let seen = counts(&client);
        assert_eq!((seen.refused, seen.placed, seen.breaker_opens), (1, 0, 1), "{act:?}");
        assert_eq!(seen.quarantined, 1, "{act:?}");
    }
}

#[tokio::test]
async fn a_node_that_falls_silent_costs_one_timeout_and_a_landing() {
    let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
    node.does(Act::Silent);
    assert!(!fetch(&client).await.by_fabric);
    let seen = counts(&client);
    assert_eq!((seen.quarantined, seen.breaker_opens), (1, 1));
    assert_eq!(node.asked(), (1, 1));
}

#[tokio::test]
async fn a_fetch_that_is_dropped_gives_its_landing_up() {
    let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
    node.does(Act::Silent);
    let request = FetchRequest::at(key(), Offset(0));
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.fetch(request)).await;
    assert!(dropped.is_err(), "nobody answered");
    assert_eq!(counts(&client).quarantined, 1);
    node.does(Act::Place);
    assert!(fetch(&client).await.by_fabric);
}

#[tokio::test]
async fn who_waits_or_asks_for_little_or_for_much_asks_over_the_network() {
    let Some((node, client)) = ring((true, WIRE_VERSION)).await else { return };
    let request = FetchRequest::at(key(), Offset(0));
    let plain = [
        request.waiting(Duration::from_millis(10)),
        FetchRequest { bytes_max: 10_000, ..request },
        FetchRequest { bytes_max: 2 << 20, ..request },
    ];
    for request in plain {
        assert!(!client.fetch(request).await.expect("an answer").by_fabric);
    }
    assert_eq!(node.asked(), (0, 3));
}

#[tokio::test]
async fn nodes_that_do_not_place_are_asked_as_ever() {
    for node in [(false, WIRE_VERSION), (true, 3), (true, 1)] {
        let Some((node, client)) = ring(node).await else { return };
        assert!(!fetch(&client).await.by_fabric);
        assert_eq!(node.asked(), (0, 1));
        assert_eq!(counts(&client), FabricCounts::default());
    }
}

#[tokio::test]
async fn a_fabric_that_is_required_and_cannot_be_had_is_an_error_and_else_is_not() {
    let network = LoopbackNetwork::new();
    let identity = LoopbackIdentity { common_name: "reader".to_owned(), role: Some(Role::Client) };
    let connect = async |required| {
        let library = Some("/nowhere/libfabric.so.1".into());
        let choice = FabricChoice { library, ..FabricChoice::default() };
        let fabric = Some(FabricSettings { required, choice, ..FabricSettings::default() });
        let settings = ClientSettings { fabric, ..ClientSettings::new(Vec::new()) };
        Client::connect_over(settings, Arc::new(network.connector(identity.clone()))).await
    };
    assert!(matches!(connect(true).await, Err(ConnectError::Fabric(FabricError::LibraryMissing { .. }))));
    assert!(matches!(connect(false).await, Err(ConnectError::NoAddress)), "it went on to look for nodes");
}
