//! A node, a shipper and a reader in this process, over real QUIC: for profilers, and for counting what a path allocates.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use cache_node::config::{Layers, Sources};
use cache_node::node::Node;
use kennel_client::{Client, ClientSettings, FetchRequest};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::ShipChunk;

use super::load::Shape;
use super::ship_cost::Shipping;
use super::stage::{Stage, StageSettings, directory_bucket};

/// Chunks of a hundred messages of 1 KB, as `bench versus` reads them.
const CHUNK: Shape = Shape { messages: 100, payload_bytes: 1_000 };

/// All of it. Nothing of it is left behind when it was stopped.
pub struct OneProcess {
    node: Node,
    shipping: Shipping,
    client: Client,
    partition: PartitionKey,
    /// Chunks that were shipped.
    chunks: u64,
    built: VecDeque<ShipChunk>,
    _stage: Stage,
}

impl OneProcess {
    /// Starts everything in a directory, which is emptied first.
    ///
    /// # Errors
    /// If a socket or a file cannot be had.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let own = ["journal.size=256 MiB", "cluster.copies=1", "cluster.min_copies=1", "cluster.shard_count=1"];
        let mut assignments: Vec<String> = own.map(str::to_owned).to_vec();
        assignments.push(directory_bucket(directory)?);
        let (programs, directory) = (PathBuf::new(), directory.to_owned());
        let mut stage = Stage::set(StageSettings { programs, directory, nodes: 1, assignments })?;
        let assignments = stage.assignments_of(0);
        let layers = Layers::read(Sources { assignments: &assignments, ..Sources::default() })?;
        let node = Node::start(layers.settings()?).await?;
        stage.whole().await?;
        let shipping = Shipping::open(&mut stage, CHUNK).await?;
        let settings = ClientSettings { local: false, ..ClientSettings::new(stage.addresses()) };
        let client = Client::connect(settings, &stage.reader()?).await?;
        let partition = shipping.partition();
        Ok(Self { node, shipping, client, partition, chunks: 0, built: VecDeque::new(), _stage: stage })
    }

    /// Builds chunks to be shipped: what that takes is not the path's.
    pub fn build(&mut self, chunks: u64) {
        self.built.extend((0..chunks).map(|_| self.shipping.build()));
    }

    /// Ships a chunk that was built until it is acknowledged.
    ///
    /// # Errors
    /// If it is not, or if there is none.
    pub async fn ship(&mut self) -> anyhow::Result<()> {
        let chunk = self.built.pop_front().context("a chunk was built")?;
        self.shipping.send(chunk).await?;
        self.chunks += 1;
        Ok(())
    }

    /// Fetches a chunk that was shipped; numbers go round.
    ///
    /// # Errors
    /// If something else comes.
    pub async fn fetch(&self, number: u64) -> anyhow::Result<()> {
        ensure!(self.chunks > 0, "nothing was shipped");
        let offset = Offset(number % self.chunks * u64::from(CHUNK.messages));
        let request = FetchRequest { messages_max: CHUNK.messages, ..FetchRequest::at(self.partition, offset) };
        let fetched = self.client.fetch(request).await?;
        ensure!(fetched.next == offset.plus(u64::from(CHUNK.messages)), "another range came: {fetched:?}");
        Ok(())
    }

    /// Ends the node.
    pub async fn stop(self) {
        self.node.stop().await;
    }
}
