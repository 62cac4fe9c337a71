//! Links to the other nodes: one session per node, one lane per shard, made when first needed.
//!
//! Nothing here is reliable, and nothing needs to be: a machine repeats what matters. A full queue drops the newest.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture, Shared as SharedFuture};
use kennel_core::membership::Membership;
use kennel_protocol::frame::FrameKind;
use kennel_protocol::ids::{NodeId, ProcessId, ShardId};
use kennel_protocol::wire::{Hello, Message, ShardMessage, Welcome};
use kennel_transport::close::CloseCode;
use kennel_transport::handshake::handshake_client;
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{CallError, Caller};
use kennel_transport::session::{Connector, Session};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::link::{self, Road};
use crate::fabric::{Borrowed, Fabric};

/// How long connecting and saying hello may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Why another node gave no answer on somebody's behalf.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// Nobody lives under this id. Retry elsewhere.
    #[error("node {0} is not a member")]
    NotAMember(NodeId),
    /// It cannot be reached. Retry elsewhere.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// It did not answer, or refused.
    #[error("node {node} gave no answer")]
    Call {
        /// Which node.
        node: NodeId,
        /// Why.
        #[source]
        source: CallError,
    },
}

/// The links of one node. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    shared: Arc<Shared>,
}

/// A session, and what was agreed on in it.
#[derive(Debug, Clone)]
pub(super) struct PeerSession {
    pub(super) session: Arc<dyn Session>,
    /// The wire version.
    pub(super) version: u16,
    /// Where copies may be written; `None` where one of both sides has no fabric or does not know of it.
    pub(super) borrowed: Option<Arc<Borrowed>>,
}

/// A session that stands or is being made; nothing if it could not be made. All lanes to a node wait for the same one:
/// a node that wakes from a pause has to answer one handshake, not one for every shard and try.
type Dial = SharedFuture<BoxFuture<'static, Option<PeerSession>>>;

#[derive(Debug)]
struct Shared {
    connector: Arc<dyn Connector>,
    hello: Hello,
    fabric: Option<Arc<Fabric>>,
    addresses: Mutex<HashMap<NodeId, (String, ProcessId)>>,
    sessions: Mutex<HashMap<NodeId, Dial>>,
    lanes: Mutex<HashMap<(NodeId, ShardId), Arc<Road>>>,
    readers: Mutex<HashMap<NodeId, Caller>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Peers {
    pub(super) fn new(connector: Arc<dyn Connector>, hello: Hello, fabric: Option<Arc<Fabric>>) -> Self {
        let shared = Shared {
            connector,
            hello,
            fabric,
            addresses: Mutex::default(),
            sessions: Mutex::default(),
            lanes: Mutex::default(),
            readers: Mutex::default(),
            tasks: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Learns where nodes are. Links to nodes that are not seen stay: they may only be slow. A node that was started
    /// again gets a new session at once; the old one would take its time to notice.
    pub(super) fn learn(&self, membership: &Membership) {
        for member in membership.members() {
            let now = (member.address.clone(), member.process);
            let before = lock(&self.shared.addresses).insert(member.node, now.clone());
            if before.is_some_and(|before| before != now) {
                lock(&self.shared.readers).remove(&member.node);
                let old = lock(&self.shared.sessions).remove(&member.node);
                if let Some(Some(PeerSession { session, .. })) = old.as_ref().and_then(Dial::peek) {
                    session.close(CloseCode::DONE, "the node was started again");
                }
            }
        }
    }

    /// Hands a message for a node to the transport, queues it, or drops it.
    pub(super) fn send(&self, to: NodeId, message: ShardMessage) {
        let shard = message.stamp().shard;
        let road = lock(&self.shared.lanes).entry((to, shard)).or_insert_with(|| self.road(to, shard)).clone();
        if !road.send(message) {
            tracing::debug!(node = %to, %shard, "the queue to a node is full; dropped a message that will be repeated");
        }
    }

    fn road(&self, to: NodeId, shard: ShardId) -> Arc<Road> {
        let at_once = self.shared.fabric.as_ref().map(|fabric| fabric.placed_bytes_min());
        let (road, link) = link::new(self.clone(), to, shard, at_once);
        self.spawn(link);
        road
    }

    /// Asks another node on somebody's behalf.
    pub(super) async fn ask(&self, to: NodeId, question: Message, deadline: Instant) -> Result<Message, ForwardError> {
        let kept = lock(&self.shared.readers).get(&to).cloned().filter(|caller| caller.over().is_none());
        let caller = if let Some(caller) = kept {
            caller
        } else {
            let PeerSession { session, version, .. } = self.session(to).await?;
            let lane = session.open(Lane::Read).await;
            let (caller, _) = Caller::new(lane.map_err(|_| ForwardError::Unreachable(to))?);
            let caller = caller.speaking(version);
            lock(&self.shared.readers).insert(to, caller.clone());
            caller
        };
        let answer = caller.call(question, deadline).await;
        answer.map_err(|source| ForwardError::Call { node: to, source })
    }

    /// The session to a node, made if there is none.
    pub(super) async fn session(&self, to: NodeId) -> Result<PeerSession, ForwardError> {
        let known = lock(&self.shared.addresses).get(&to).cloned();
        let (address, _) = known.ok_or(ForwardError::NotAMember(to))?;
        let dial = lock(&self.shared.sessions).entry(to).or_insert_with(|| self.dial(to, address)).clone();
        dial.await.ok_or(ForwardError::Unreachable(to))
    }

    /// Makes the session, whoever waits for it, and forgets it when it is over.
    fn dial(&self, to: NodeId, address: String) -> Dial {
        let connecting = {
            let peers = self.clone();
            async move { timeout(CONNECT_PATIENCE, peers.connect(&address)).await.ok().flatten() }
        };
        let dial = connecting.boxed().shared();
        let (peers, made) = (self.clone(), dial.clone());
        self.spawn(async move {
            if let Some(PeerSession { session, version, borrowed }) = made.clone().await {
                let lending = borrowed.map(|borrowed| borrowed.keep(Arc::clone(&session), version));
                tokio::select! {
                    _ = session.closed() => {}
                    () = async { OptionFuture::from(lending).await; pending().await } => {}
                }
            }
            let mut sessions = lock(&peers.shared.sessions);
            if sessions.get(&to).is_some_and(|current| current.ptr_eq(&made)) {
                sessions.remove(&to);
            }
        });
        dial
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.shared.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    async fn connect(&self, address: &str) -> Option<PeerSession> {
        let resolved = tokio::net::lookup_host(address).await.ok()?.next()?;
        let session = self.shared.connector.connect(resolved).await.ok()?;
        let deadline = Instant::now() + CONNECT_PATIENCE;
        match handshake_client(&*session, self.shared.hello.clone(), deadline).await {
            Ok(Welcome { version, .. }) => {
                let knows = version >= FrameKind::PlacedCopy.since();
                let fabric = self.shared.fabric.as_ref().filter(|_| knows);
                Some(PeerSession { session, version, borrowed: fabric.cloned().map(Borrowed::new) })
            }
            Err(error) => {
                tracing::warn!(address, error = %error, "another node refused this one");
                None
            }
        }
    }

    /// Ends all links.
    pub(super) async fn stop(&self) {
        let mut tasks = core::mem::take(&mut *lock(&self.shared.tasks));
        tasks.shutdown().await;
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every critical section leaves the map whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kennel_core::membership::{Member, Zone};
    use kennel_protocol::batch::inspect_chunk;
    use kennel_protocol::builder::BatchBuilder;
    use kennel_protocol::entry::Entry;
    use kennel_protocol::ids::{ClusterId, Epoch, JournalId, Lsn, Offset, PartitionKey};
    use kennel_protocol::wire::{Copy, CopyEntry, CopySource, Role, ShardStamp};
    use kennel_transport::handshake::{HelloPolicy, handshake_server};
    use kennel_transport::loopback::{LoopbackIdentity, LoopbackNetwork};
    use kennel_transport::session::Listener;

    use tokio::time::sleep;

    use super::super::link::AT_ONCE_BYTES_MAX;
    use super::*;

    /// Shards that lose their lanes at the same time.
    const LANES: usize = 16;

    fn identity() -> LoopbackIdentity {
        LoopbackIdentity { common_name: "node".to_owned(), role: Some(Role::Node) }
    }

    fn hello() -> Hello {
        let (cluster, node) = (Some(ClusterId(7)), Some(NodeId(1)));
        let agent = "test".to_owned();
        Hello { version_min: 1, version_max: 1, role: Role::Node, cluster, node, process: ProcessId(1), agent }
    }

    fn policy() -> HelloPolicy {
        let (cluster, node, process) = (ClusterId(7), NodeId(2), ProcessId(2));
        HelloPolicy { version_min: 1, version_max: 1, cluster, node, process, shard_count: 8 }
    }

    /// Welcomes everybody, and keeps the sessions.
    async fn welcome(mut listener: impl Listener) {
        let policy = policy();
        let mut sessions = Vec::new();
        while let Ok(session) = listener.accept().await {
            let deadline = Instant::now() + CONNECT_PATIENCE;
            handshake_server(&*session, &policy, deadline).await.expect("a hello");
            sessions.push(session);
        }
    }

    fn member(address: SocketAddr) -> Member {
        Member {
            node: NodeId(2),
            process: ProcessId(2),
            journal: JournalId(2),
            address: address.to_string(),
            zone: Zone::from(""),
            weight: 100,
            draining: false,
        }
    }

    /// Message number `number`, with a body where it says so.
    fn numbered(number: u64, body_bytes: usize) -> ShardMessage {
        let (process, shard, epoch) = (ProcessId(1), ShardId(3), Epoch(number));
        let partition: PartitionKey = "1/1/0".parse().expect("a partition");
        let body = BatchBuilder::new(partition.partition, Offset(0), 7).payload(&vec![7; body_bytes]).build();
        let head = inspect_chunk(partition, &body).expect("a valid batch");
        let source = CopySource::Inline(Entry { head, body });
        let entries = if body_bytes > 0 { vec![CopyEntry { lsn: Lsn(0), source }] } else { Vec::new() };
        let stamp = ShardStamp { process, shard, epoch };
        ShardMessage::Copy(Copy { stamp, entries, committed: Lsn(0), stored: Lsn(0), open: true, released: false })
    }

    #[tokio::test]
    async fn large_and_small_messages_arrive_in_the_order_of_sending() {
        let network = LoopbackNetwork::new();
        let mut listener = network.listen(identity());
        let peers = Peers::new(Arc::new(network.connector(identity())), hello(), None);
        peers.learn(&Membership::new(1, vec![member(listener.local_address())]).expect("a membership"));
        let receiving = tokio::spawn(async move {
            let session = listener.accept().await.expect("a session");
            handshake_server(&*session, &policy(), Instant::now() + CONNECT_PATIENCE).await.expect("a hello");
            let (_caller, mut inbound) = Caller::new(session.accept().await.expect("a lane"));
            let mut numbers = Vec::new();
            while numbers.last() != Some(&400) {
                let Message::Shard(message) = inbound.next().await.expect("a message").message else { continue };
                numbers.push(message.stamp().epoch.0);
            }
            numbers
        });
        for number in 1..=400 {
            // The large ones go the long way, and what follows them must not overtake.
            peers.send(NodeId(2), numbered(number, if number % 7 == 0 { 2 * AT_ONCE_BYTES_MAX } else { 0 }));
            if number % 50 == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        }
        let numbers = timeout(Duration::from_secs(20), receiving).await.expect("all arrive").expect("no panic");
        assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
        peers.stop().await;
    }

    #[tokio::test]
    async fn lanes_that_connect_at_the_same_time_share_one_session() {
        let network = LoopbackNetwork::new();
        let listener = network.listen(identity());
        let peers = Peers::new(Arc::new(network.connector(identity())), hello(), None);
        peers.learn(&Membership::new(1, vec![member(listener.local_address())]).expect("a membership"));
        let welcoming = tokio::spawn(welcome(listener));
        let sessions = futures::future::join_all((0..LANES).map(|_| peers.session(NodeId(2)))).await;
        let sessions: Vec<_> = sessions.into_iter().map(|made| made.expect("it is reached").session).collect();
        assert!(sessions.iter().all(|session| Arc::ptr_eq(session, &sessions[0])), "lanes have sessions of their own");
        peers.stop().await;
        welcoming.abort();
    }
}
