//! The client against a ring of small nodes in memory: answers, refusals, deaths.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use kennel_client::{Client, ClientSettings, FetchError, FetchFrom, FetchRequest, Offset, Runtime};
use kennel_protocol::batch::BatchBuilder;
use kennel_protocol::catalog::{Catalog, PartitionEntry, StreamEntry, TopicEntry};
use kennel_protocol::ids::{
    ClusterId, Epoch, Incarnation, NodeId, PartitionId, PartitionKey, ProcessId, ShardId, StreamId, TopicId,
};
use kennel_protocol::limits::WIRE_VERSION;
use kennel_protocol::wire::{
    CatalogRequest, Catalogued, ErrorCode, Fetch, Fetched, Message, NodeAddress, PartitionReport, Partitions, Role,
    Served, ShardView, View, WireError,
};
use kennel_transport::close::CloseCode;
use kennel_transport::handshake::{HelloPolicy, handshake_server};
use kennel_transport::loopback::{LoopbackIdentity, LoopbackNetwork};
use kennel_transport::rpc::Caller;
use kennel_transport::session::{Listener, Session};
use tokio::time::Instant;

const BATCH: u64 = 3;

fn key() -> PartitionKey {
    "1/1/0".parse().expect("a partition")
}

/// Three nodes that share one log of batches of three messages.
#[derive(Debug, Default)]
struct Ring {
    addresses: Mutex<Vec<SocketAddr>>,
    sessions: Mutex<Vec<(u64, Arc<dyn Session>)>>,
    dead: Mutex<BTreeSet<u64>>,
    refusal: Mutex<Option<(u64, WireError)>>,
    end: AtomicU64,
    asked: AtomicU64,
    flip_next: AtomicU64,
    is_old: AtomicBool,
    catalog: Mutex<Option<Catalog>>,
}

fn refused(code: ErrorCode, offset: Option<u64>) -> WireError {
    WireError { code, message: "as the test wishes".to_owned(), offset: offset.map(Offset), node: None }
}

impl Ring {
    fn start(network: &LoopbackNetwork) -> Arc<Self> {
        let ring = Arc::new(Self::default());
        for node in 1..=3 {
            let identity = LoopbackIdentity { common_name: format!("node-{node}"), role: Some(Role::Node) };
            let mut listener = network.listen(identity);
            ring.addresses.lock().expect("alive").push(listener.local_address());
            let ring = Arc::clone(&ring);
            tokio::spawn(async move {
                while let Ok(session) = listener.accept().await {
                    tokio::spawn(Arc::clone(&ring).serve(node, session));
                }
            });
        }
        ring
    }

    async fn serve(self: Arc<Self>, node: u64, session: Arc<dyn Session>) {
        let policy = HelloPolicy {
            version_min: 1,
            version_max: if self.is_old.load(Ordering::SeqCst) { 1 } else { WIRE_VERSION },
            cluster: ClusterId(1),
            node: NodeId(node),
            process: ProcessId(node.into()),
            shard_count: 1,
        };
        if self.is_dead(node) {
            return session.close(CloseCode::DONE, "dead");
        }
        self.sessions.lock().expect("alive").push((node, Arc::clone(&session)));
        let deadline = Instant::now() + Duration::from_secs(5);
        if handshake_server(&*session, &policy, deadline).await.is_err() {
            return;
        }
        while let Ok(lane) = session.accept().await {
            let (caller, mut inbound) = Caller::new(lane);
            let ring = Arc::clone(&self);
            tokio::spawn(async move {
                while let Ok(incoming) = inbound.next().await {
                    let answer = ring.answer(node, incoming.message).await;
                    if caller.reply(incoming.correlation, answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    async fn answer(&self, node: u64, message: Message) -> Message {
        match message {
            Message::ViewRequest(_) => Message::View(self.view()),
            Message::Fetch(fetch) => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let refusal = self.refusal.lock().expect("alive").clone();
                match refusal.filter(|(refusing, _)| *refusing == node || *refusing == 0) {
                    Some((_, error)) => Message::Error(error),
                    None => Message::Fetched(self.fetch(fetch).await),
                }
            }
            Message::PartitionsRequest(request) => {
                let end = Offset(self.end.load(Ordering::SeqCst));
                let report = PartitionReport { partition: key(), trim: Offset(0), stored: Offset(0), committed: end };
                Message::Partitions(Partitions { shard: request.shard, epoch: Epoch(1), partitions: vec![report] })
            }
            Message::CatalogRequest(CatalogRequest { newer_than }) => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let catalog = self.catalog.lock().expect("alive");
                let revision = catalog.as_ref().map(|catalog| catalog.revision);
                let newer = catalog.as_ref().filter(|catalog| newer_than.is_none_or(|known| known < catalog.revision));
                Message::Catalogued(Catalogued { revision, catalog: newer.map(Catalog::encode) })
            }
            _ => Message::Error(refused(ErrorCode::NotAllowed, None)),
        }
    }

    async fn fetch(&self, fetch: Fetch) -> Fetched {
        let FetchFrom::Offset(start) = fetch.from else { panic!("the test asks by offset") };
        let until = Instant::now() + Duration::from_millis(fetch.wait_millis.into());
        while self.end.load(Ordering::SeqCst) <= start.0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let end = self.end.load(Ordering::SeqCst);
        let base = start.0 - start.0 % BATCH;
        let next = (base + BATCH).min(end).max(start.0);
        let mut batches = if next > start.0 { batch(base) } else { Vec::new() };
        if self.flip_next.swap(0, Ordering::SeqCst) == 1 {
            *batches.last_mut().expect("there is something to flip") ^= 1;
        }
        Fetched {
            partition: fetch.partition,
            epoch: Epoch(1),
            start,
            next: Offset(next),
            trim: Offset(0),
            stored: Offset(0),
            committed: Offset(end),
            holes: Vec::new(),
            served: Served::Tail,
            batches: batches.into(),
        }
    }

    fn view(&self) -> View {
        let addresses = self.addresses.lock().expect("alive");
        let node = |(address, id): (&SocketAddr, u64)| NodeAddress {
            node: NodeId(id),
            address: address.to_string(),
            zone: String::new(),
        };
        let nodes = addresses.iter().zip(1..).map(node).collect();
        let shards = vec![ShardView { shard: ShardId(0), epoch: Epoch(1), owner: Some(NodeId(2)) }];
        View { shard_count: 1, nodes, shards }
    }

    fn is_dead(&self, node: u64) -> bool {
        self.dead.lock().expect("alive").contains(&node)
    }

    fn kill(&self, node: u64) {
        self.dead.lock().expect("alive").insert(node);
        let sessions = self.sessions.lock().expect("alive");
        let theirs = sessions.iter().filter(|(of, _)| *of == node);
        theirs.for_each(|(_, session)| session.close(CloseCode::DONE, "killed"));
    }

    fn revive(&self, node: u64) {
        self.dead.lock().expect("alive").remove(&node);
    }

    fn refuse(&self, node: u64, error: Option<WireError>) {
        *self.refusal.lock().expect("alive") = error.map(|error| (node, error));
    }

    fn commit(&self, batches: u64) {
        self.end.fetch_add(batches * BATCH, Ordering::SeqCst);
    }

    async fn client(&self, network: &LoopbackNetwork) -> Client {
        let identity = LoopbackIdentity { common_name: "reader".to_owned(), role: Some(Role::Client) };
        let mut settings = ClientSettings::new(self.addresses.lock().expect("alive").clone());
        settings.patience = Duration::from_secs(3);
        let connector = Arc::new(network.connector(identity));
        Client::connect_over(settings, connector).await.expect("the ring is up")
    }
}

fn batch(base: u64) -> Vec<u8> {
    let mut batch = BatchBuilder::new(PartitionId(0), Offset(base), base);
    for offset in base..base + BATCH {
        batch = batch.payload(format!("message {offset}").as_bytes());
    }
    batch.build().to_vec()
}

fn at(offset: u64) -> FetchRequest {
    FetchRequest::at(key(), Offset(offset))
}

#[tokio::test]
async fn a_follower_reads_every_message_once_while_nodes_die() {
    let network = LoopbackNetwork::new();
    let ring = Ring::start(&network);
    let client = ring.client(&network).await;
    let reading = tokio::spawn(async move {
        // It begins inside a batch: what lies before is not delivered.
        let mut follower = client.follow(key(), FetchFrom::Offset(Offset(1)));
        let mut offsets = Vec::new();
        while offsets.last() != Some(&119) {
            let fetched = follower.next().await.expect("some node is always up");
            for message in fetched.messages() {
                assert_eq!(message.payload, format!("message {}", message.offset));
                offsets.push(message.offset.0);
            }
        }
        offsets
    });
    for round in 0..40 {
        ring.commit(1);
        let victim = round % 3 + 1;
        ring.kill(victim);
        tokio::time::sleep(Duration::from_millis(5)).await;
        ring.revive(victim);
    }
    let offsets = reading.await.expect("no assertion fails");
    assert_eq!(offsets, (1..120).collect::<Vec<_>>());
}

#[tokio::test]
async fn transient_refusals_are_asked_on_and_final_ones_are_told() {
    let network = LoopbackNetwork::new();
    let ring = Ring::start(&network);
    ring.commit(4);
    let client = ring.client(&network).await;
    for code in [ErrorCode::Moved, ErrorCode::Busy, ErrorCode::Stale, ErrorCode::NoOwner, ErrorCode::Stopping] {
        ring.refuse(1, Some(refused(code, None)));
        assert_eq!(client.fetch(at(4)).await.expect("another node answers").start, Offset(4), "{code:?}");
    }
    ring.refuse(0, Some(refused(ErrorCode::OffsetTrimmed, Some(9))));
    assert!(matches!(client.fetch(at(4)).await, Err(FetchError::Trimmed { first: Offset(9), .. })));
    ring.refuse(0, Some(refused(ErrorCode::Diverged, Some(3))));
    assert!(matches!(client.fetch(at(4)).await, Err(FetchError::Diverged { at: Offset(3), .. })));
    ring.refuse(0, Some(refused(ErrorCode::Rewound, Some(2))));
    assert!(matches!(client.fetch(at(4)).await, Err(FetchError::Rewound { to: Offset(2), .. })));
    let asked = ring.asked.load(Ordering::SeqCst);
    ring.refuse(0, Some(refused(ErrorCode::UnknownPartition, None)));
    assert!(matches!(client.fetch(at(4)).await, Err(FetchError::UnknownPartition(_))));
    assert_eq!(ring.asked.load(Ordering::SeqCst), asked + 1, "what is final is not asked again");
    ring.refuse(0, Some(refused(ErrorCode::Busy, None)));
    let started = Instant::now();
    assert!(matches!(client.fetch(at(4)).await, Err(FetchError::Unavailable { code: ErrorCode::Busy, .. })));
    assert!(started.elapsed() < Duration::from_secs(4), "patience has an end");
}

#[tokio::test]
async fn a_damaged_answer_is_read_elsewhere() {
    let network = LoopbackNetwork::new();
    let ring = Ring::start(&network);
    ring.commit(1);
    let client = ring.client(&network).await;
    ring.flip_next.store(1, Ordering::SeqCst);
    let fetched = client.fetch(at(0)).await.expect("the next node's answer is good");
    assert_eq!(fetched.messages().count(), 3);
    assert_eq!(ring.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_comes_back() {
    let network = LoopbackNetwork::new();
    let ring = Ring::start(&network);
    ring.commit(2);
    let client = ring.client(&network).await;
    (1..=3).for_each(|node| ring.kill(node));
    assert!(matches!(client.fetch(at(0)).await, Err(FetchError::Unreachable(_))));
    (1..=3).for_each(|node| ring.revive(node));
    assert_eq!(client.fetch(at(3)).await.expect("they are back").next, Offset(6));
    let partitions = client.partitions().await.expect("one shard");
    assert_eq!((partitions.len(), partitions[0].committed), (1, Offset(6)));
}

#[test]
fn a_process_without_tokio_reads_all_the_same() {
    let runtime = Runtime::start(1).expect("threads");
    let connecting = runtime.run(async {
        let network = LoopbackNetwork::new();
        let ring = Ring::start(&network);
        ring.commit(2);
        (ring.client(&network).await, network)
    });
    let (client, _network) = block_on(connecting);
    let client = client.detached(runtime);
    let mut follower = client.follow(key(), FetchFrom::Offset(Offset(0)));
    let read: Vec<u64> = [block_on(follower.next()), block_on(follower.next())]
        .into_iter()
        .flat_map(|fetched| {
            fetched.expect("the ring is up").messages().map(|message| message.offset.0).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(read, [0, 1, 2, 3, 4, 5]);
    assert_eq!(block_on(client.partitions()).expect("the ring is up").len(), 1);
}

fn named(revision: u64, incarnation: u64) -> Catalog {
    let partitions = vec![PartitionEntry { id: PartitionId(0), incarnation: Incarnation(incarnation) }];
    let topic = TopicEntry { id: TopicId(1), name: "events".to_owned(), partitions, message_expiry_micros: None };
    Catalog { revision, streams: vec![StreamEntry { id: StreamId(1), name: "orders".to_owned(), topics: vec![topic] }] }
}

#[tokio::test]
async fn names_lead_to_the_present_life_and_are_sent_once() {
    let network = LoopbackNetwork::new();
    let ring = Ring::start(&network);
    let client = ring.client(&network).await;
    let locate =
        async |stream: &str, topic: &str| client.locate(stream, topic, PartitionId(0)).await.expect("a node answers");
    assert_eq!(locate("orders", "events").await, None, "nobody has told yet");
    *ring.catalog.lock().expect("alive") = Some(named(1, 0));
    assert_eq!(locate("orders", "events").await, Some(key()));
    assert_eq!(locate("1", "events").await, Some(key()));
    assert_eq!(locate("orders", "other").await, None);
    let first = client.catalog(None).await.expect("a node answers").expect("it stands");
    let again = client.catalog(None).await.expect("a node answers").expect("it stands");
    assert!(Arc::ptr_eq(&first, &again), "what has not changed is neither sent nor decoded again");
    *ring.catalog.lock().expect("alive") = Some(named(2, 7));
    assert_eq!(locate("orders", "events").await, Some("1/1/0@7".parse().expect("a partition")));
    ring.kill(1);
    assert_eq!(locate("orders", "1").await, Some("1/1/0@7".parse().expect("a partition")), "another node answers");
}

#[tokio::test]
async fn a_ring_that_is_too_old_for_names_says_so_at_once() {
    let network = LoopbackNetwork::new();
    let ring = Ring::start(&network);
    ring.is_old.store(true, Ordering::SeqCst);
    ring.commit(1);
    let client = ring.client(&network).await;
    let refused = client.locate("orders", "events", PartitionId(0)).await;
    assert!(matches!(refused, Err(FetchError::Refused { code: ErrorCode::VersionWindow, .. })), "{refused:?}");
    assert_eq!(ring.asked.load(Ordering::SeqCst), 0, "it was never sent what it does not know");
    assert_eq!(client.fetch(at(0)).await.expect("the session is sound").next, Offset(3));
}
