//! A source that never stops and never hurries: small chunks for many partitions, evenly in time, over the wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kennel_protocol::batch::{BatchBuilder, inspect_chunk};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, ProcessId, ShardId};
use kennel_protocol::wire::{Message, Ship, ShipChunk};
use kennel_transport::lane::Lane;
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::rpc::{Caller, Inbound};
use tokio::time::{Instant, MissedTickBehavior, interval};
use wal_shipper::ship::Ring;

use super::cluster::Cluster;

/// Between two ships of one shard: several in the shortest interval between uploads.
const TICK: Duration = Duration::from_millis(40);

/// What each message says.
const PAYLOAD: &[u8] = b"one of very many small messages that come in all the time";

/// Ships to every shard that has any of the partitions until dropped.
#[derive(Debug)]
pub(crate) struct Trickle {
    tasks: tokio::task::JoinSet<()>,
    times: Times,
    /// The shards that have something to say.
    pub(crate) shards: usize,
}

impl Trickle {
    /// So many partitions together get so many messages a second.
    pub(crate) async fn start(cluster: &Cluster, shard_count: u16, partitions: u32, messages_a_second: usize) -> Self {
        let mut shards: BTreeMap<ShardId, Vec<Stream>> = BTreeMap::new();
        for number in 0..partitions {
            let key: PartitionKey = format!("{}/{}/{}", number % 3, number % 5, number).parse().expect("a partition");
            shards.entry(key.shard(shard_count)).or_default().push(Stream { key, next: Offset(0), last: None });
        }
        let ticks_a_second = usize::try_from(1_000 / TICK.as_millis()).expect("small");
        let per_tick = messages_a_second.div_ceil(shards.len() * ticks_a_second);
        let mut tasks = tokio::task::JoinSet::new();
        let count = shards.len();
        let times = Times::default();
        for (shard, streams) in shards {
            let (caller, inbound) = lane(cluster, shard).await;
            tasks.spawn(watch(inbound, times.clone()));
            tasks.spawn(feed(shard, caller, streams, per_tick, times.clone()));
        }
        Self { tasks, times, shards: count }
    }

    /// From sending until the acknowledgement of 99 of a hundred chunks, of those that were acknowledged since this was
    /// asked before.
    pub(crate) fn p99(&self) -> Duration {
        let mut acknowledged = core::mem::take(&mut self.times.lock().acknowledged);
        acknowledged.sort_unstable();
        acknowledged.get(acknowledged.len() * 99 / 100).copied().expect("something was acknowledged")
    }

    /// Fails if anything was refused, or ended, by now.
    pub(crate) fn check(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.expect("nothing is refused");
            panic!("a lane ended");
        }
    }
}

/// How long acknowledgements take: of one chunk of each ship, the last one.
#[derive(Debug, Clone, Default)]
struct Times {
    shared: Arc<Mutex<Timed>>,
}

#[derive(Debug, Default)]
struct Timed {
    /// Ends of what is under way.
    sent: BTreeMap<(PartitionKey, Offset), Instant>,
    acknowledged: Vec<Duration>,
}

impl Times {
    fn lock(&self) -> MutexGuard<'_, Timed> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self, partition: PartitionKey, end: Offset) {
        let mut timed = self.lock();
        let Timed { sent, acknowledged } = &mut *timed;
        for (_, at) in sent.extract_if((partition, Offset(0))..=(partition, end), |_, _| true) {
            acknowledged.push(at.elapsed());
        }
    }
}

/// One partition's log, as its server would write it.
#[derive(Debug)]
struct Stream {
    key: PartitionKey,
    next: Offset,
    last: Option<MessageIdentity>,
}

impl Stream {
    fn chunk(&mut self) -> ShipChunk {
        let body = BatchBuilder::new(self.key.partition, self.next, 1 + self.next.0).payload(PAYLOAD).build();
        let mut head = inspect_chunk(self.key, &body).expect("a whole batch");
        head.previous = self.last;
        (self.next, self.last) = (head.end, head.last);
        ShipChunk { head, body }
    }
}

async fn lane(cluster: &Cluster, shard: ShardId) -> (Caller, Inbound) {
    let identity = cluster.identity(&cluster.certificates.shipper);
    let endpoint = QuicEndpoint::bind_any(&identity, QuicSettings::default()).expect("a free port");
    let owner = cluster.address(cluster.owner_of(shard).await);
    let ring = Ring::new(Arc::new(endpoint.connector()), vec![owner], ProcessId(9));
    let (session, _) = ring.connect(owner, None).await.expect("the owner welcomes a shipper");
    Caller::new(session.open(Lane::Shard(shard)).await.expect("a lane"))
}

async fn feed(shard: ShardId, caller: Caller, mut streams: Vec<Stream>, per_tick: usize, times: Times) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at = 0;
    loop {
        tick.tick().await;
        let mut chunks = Vec::with_capacity(per_tick);
        for _ in 0..per_tick {
            chunks.push(streams[at].chunk());
            at = (at + 1) % streams.len();
        }
        if let Some(last) = chunks.last() {
            times.lock().sent.insert((last.head.partition, last.head.end), Instant::now());
        }
        caller.send(Message::Ship(Ship { shard, epoch: Epoch(0), chunks })).await.expect("the lane holds");
    }
}

async fn watch(mut inbound: Inbound, times: Times) {
    while let Ok(incoming) = inbound.next().await {
        let Message::ShipAck(ack) = incoming.message else { panic!("not an acknowledgement: {incoming:?}") };
        assert!(ack.refusal.is_none() && ack.problems.is_empty(), "{ack:?}");
        for marks in &ack.marks {
            times.committed(marks.partition, marks.committed);
        }
    }
}
