//! Clients of Iggy's SDK that read through a ring, against a server in this process.

mod connected;
mod detached;
mod live;
mod transport;

use std::sync::Arc;

use bytes::Bytes;
use iggy::prelude::TcpClient;
use iggy_common::{Client, Consumer, Identifier, MessageClient, PolledMessages, PollingStrategy};
use kennel_client::iggy::{CacheSettings, CacheTransport};
use kennel_gateway::ring::MemoryRing;
use kennel_gateway::testing::{IggyOrigin, Store};
use kennel_protocol::batch::BatchBuilder;
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey};

const STREAM: (u32, &str) = (3, "orders");
const TOPIC: (u32, &str) = (1, "events");
const PARTITION: (u32, u32, u32) = (3, 1, 0);

/// A server, and a ring that was shipped what the server had at the start.
struct Rig {
    origin: IggyOrigin,
    ring: Arc<MemoryRing>,
}

impl Rig {
    async fn start(batches: &[Bytes]) -> Self {
        let (mut store, ring) = (Store::default(), Arc::new(MemoryRing::default()));
        store.topic(STREAM, TOPIC, 2);
        ring.name(STREAM.1, TOPIC.1, key());
        for batch in batches {
            store.append(PARTITION, batch);
            ring.append(key(), batch.clone());
        }
        Self { origin: IggyOrigin::start(store).await, ring }
    }

    fn connection_string(&self) -> String {
        format!("iggy://iggy:iggy@{}?reconnection_interval=100ms&reestablish_after=10ms", self.origin.address())
    }

    /// The SDK's own client, not connected yet.
    fn tcp(&self) -> TcpClient {
        TcpClient::from_connection_string(&self.connection_string()).expect("a connection string")
    }

    async fn direct(&self) -> TcpClient {
        let client = self.tcp();
        client.connect().await.expect("a session");
        client
    }

    async fn cached(&self) -> CacheTransport<TcpClient> {
        self.cached_with(CacheSettings::default()).await
    }

    async fn cached_with(&self, settings: CacheSettings) -> CacheTransport<TcpClient> {
        let client = CacheTransport::new(self.tcp(), Arc::clone(&self.ring) as _, settings);
        client.connect().await.expect("a session");
        client
    }
}

fn forwarded(client: &CacheTransport<TcpClient>, reason: &str) -> u64 {
    client.counts().forwarded.get(reason).copied().unwrap_or(0)
}

/// As an application polls: it knows nothing but the SDK's trait.
async fn poll<C: MessageClient + Sync>(client: &C, strategy: PollingStrategy, count: u32) -> PolledMessages {
    let (stream, topic) = (name(STREAM.1), Identifier::numeric(TOPIC.0).expect("a number"));
    let consumer = consumer();
    let polled = client.poll_messages(&stream, &topic, Some(0), &consumer, &strategy, count, false);
    polled.await.expect("an answer")
}

fn consumer() -> Consumer {
    Consumer::new(Identifier::numeric(7).expect("a number"))
}

fn name(name: &str) -> Identifier {
    Identifier::named(name).expect("a name")
}

fn key() -> PartitionKey {
    "3/1/0@9".parse().expect("a partition")
}

/// Three batches of ten messages, appended at 1000, 2000 and 3000.
fn history() -> Vec<Bytes> {
    vec![batch(0, 10, 1000), batch(10, 10, 2000), batch(20, 10, 3000)]
}

fn batch(base: u64, count: u64, timestamp: u64) -> Bytes {
    let batch = BatchBuilder::new(PartitionId(0), Offset(base), timestamp);
    (base..base + count).fold(batch, |batch, offset| batch.payload(format!("message {offset}").as_bytes())).build()
}

/// Offset, timestamp, id, checksum and payload of a message.
type Told = (u64, u64, u128, u64, Bytes);

/// Everything of a reply, in a form that compares: partition, newest offset, messages.
fn told(polled: &PolledMessages) -> (u32, u64, Vec<Told>) {
    let messages = polled.messages.iter().map(|message| {
        let header = &message.header;
        (header.offset, header.timestamp, header.id, header.checksum, message.payload.clone())
    });
    (polled.partition_id, polled.current_offset, messages.collect())
}

fn offsets(polled: &PolledMessages) -> Vec<u64> {
    polled.messages.iter().map(|message| message.header.offset).collect()
}
