//! Stock clients through a gateway, against a server in the process and a ring in memory.

mod outage;
mod python;
mod reads;
mod roster;
mod secure;
mod trust;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iggy::prelude::{Client, Identifier, IggyClient};
use iggy_binary_protocol::codes::POLL_MESSAGES_CODE;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::{WireConsumer, WireEncode, WireIdentifier, WirePollingStrategy};
use kennel_protocol::batch::BatchBuilder;
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey};

use crate::ring::MemoryRing;
use crate::testing::{IggyOrigin, Store};
use crate::{Gateway, GatewaySettings};

const STREAM: (u32, &str) = (3, "orders");
const TOPIC: (u32, &str) = (1, "events");
const PARTITION: (u32, u32, u32) = (3, 1, 0);

/// A server, a ring that was shipped what the server had at the start, and a gateway between clients and both.
struct Rig {
    origin: IggyOrigin,
    ring: Arc<MemoryRing>,
    gateway: Gateway,
}

impl Rig {
    async fn start(batches: &[Bytes]) -> Self {
        Self::with(batches, |settings| settings).await
    }

    async fn with(batches: &[Bytes], change: impl FnOnce(GatewaySettings) -> GatewaySettings) -> Self {
        let (mut store, ring) = (Store::default(), Arc::new(MemoryRing::default()));
        store.topic(STREAM, TOPIC, 2);
        ring.name(STREAM.1, TOPIC.1, key());
        for batch in batches {
            store.append(PARTITION, batch);
            ring.append(key(), batch.clone());
        }
        let origin = IggyOrigin::start(store).await;
        let settings = GatewaySettings::new((Ipv4Addr::LOCALHOST, 0).into(), origin.address().to_string());
        let gateway = Gateway::start(change(settings), Arc::clone(&ring) as _).await.expect("a gateway");
        Self { origin, ring, gateway }
    }

    async fn client(&self) -> IggyClient {
        client(self.gateway.address()).await
    }

    async fn direct(&self) -> IggyClient {
        client(self.origin.address()).await
    }

    fn served(&self) -> u64 {
        self.gateway.counts().served
    }

    fn forwarded(&self, reason: &str) -> u64 {
        self.gateway.counts().forwarded.get(reason).copied().unwrap_or(0)
    }
}

/// A stock client that is logged in, and that comes back quickly when it loses its connection.
async fn client(address: SocketAddr) -> IggyClient {
    let text = format!("iggy://iggy:iggy@{address}?reconnection_interval=100ms&reestablish_after=10ms");
    let client = IggyClient::from_connection_string(&text).expect("a connection string");
    client.connect().await.expect("a session");
    client
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

fn name(name: &str) -> Identifier {
    Identifier::named(name).expect("a name")
}

fn request(strategy: WirePollingStrategy, count: u32) -> PollMessagesRequest {
    PollMessagesRequest {
        consumer: WireConsumer::consumer(WireIdentifier::numeric(7)),
        stream_id: WireIdentifier::named(STREAM.1).expect("a name"),
        topic_id: WireIdentifier::numeric(TOPIC.0),
        partition_id: Some(0),
        strategy,
        count,
        auto_commit: false,
    }
}

/// The body of the reply to a poll.
async fn poll(client: &IggyClient, request: &PollMessagesRequest) -> Bytes {
    client.send_binary_request(POLL_MESSAGES_CODE, request.to_bytes()).await.expect("a reply")
}

/// The number of messages in a body, and the newest offset that it tells of.
fn told(body: &[u8]) -> (u32, u64) {
    (crate::frame::u32_at(body, 12), crate::frame::u64_at(body, 4))
}

/// Waits until something is so, for ten seconds at most.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}
