//! One node with its tail, over QUIC and out of the memory that it shares.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use kennel_client::{Client, ClientSettings, FetchRequest};
use kennel_protocol::ids::{Offset, PartitionKey};
use tokio::time::{sleep, timeout};

use super::contenders::{Contender, Presence};
use super::{MESSAGE_BYTES, MESSAGES, VersusArgs};
use crate::measure::Shipping;
use crate::measure::load::Shape;
use crate::measure::stage::{Stage, directory_bucket};

pub(super) const QUIC: &str = "kennel, QUIC";
pub(super) const SHARED: &str = "kennel, shared memory";

/// Batches that are there to be read.
const BATCHES: u64 = 256;
const ATTACH: Duration = Duration::from_secs(20);

struct Node {
    stage: Arc<Stage>,
    client: Client,
    partition: PartitionKey,
    shared: bool,
}

/// A node that is full, and its two readers.
pub(super) async fn both(args: &VersusArgs) -> anyhow::Result<Vec<Presence>> {
    let socket = args.place.directory()?.join("node-1").join("local.sock");
    let own = ["journal.size=512 MiB", "cluster.copies=1", "cluster.min_copies=1"];
    let mut assignments: Vec<String> = own.map(str::to_owned).to_vec();
    assignments.extend([directory_bucket(&args.place.directory)?, format!("listen.local={}", socket.display())]);
    let mut stage = args.place.start(1, assignments)?;
    stage.whole().await?;
    let payload_bytes = usize::try_from(MESSAGE_BYTES).context("small")?;
    let mut shipping = Shipping::open(&mut stage, Shape { messages: MESSAGES, payload_bytes }).await?;
    let (identity, settings) = (stage.reader()?, ClientSettings::new(stage.addresses()));
    let quic = Client::connect(ClientSettings { local: false, ..settings.clone() }, &identity).await?;
    let shared = Client::connect(settings, &identity).await?;
    let attached = async {
        while !shared.shares_memory() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(ATTACH, attached).await.context("the node shares no memory")?;
    // Only now: a node writes into its memory for readers that have it.
    for _ in 0..BATCHES {
        shipping.ship().await?;
    }
    let (stage, partition) = (Arc::new(stage), shipping.partition());
    let reader = |client, shared| {
        let stage = Arc::clone(&stage);
        Presence::Here(Box::new(Node { stage, client, partition, shared }) as Box<dyn Contender>)
    };
    Ok(vec![reader(quic, false), reader(shared, true)])
}

#[async_trait]
impl Contender for Node {
    fn name(&self) -> &'static str {
        if self.shared { SHARED } else { QUIC }
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        let offset = Offset(question * 37 % BATCHES * u64::from(MESSAGES));
        let request = FetchRequest { messages_max: MESSAGES, ..FetchRequest::at(self.partition, offset) };
        let fetched = self.client.fetch(request).await?;
        ensure!(fetched.next.0 == offset.0 + u64::from(MESSAGES), "{} messages came", fetched.next.0 - offset.0);
        ensure!(fetched.from_shared_memory == self.shared, "the answer came another way");
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(self.stage.processes())
    }
}
