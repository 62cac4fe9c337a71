//! The other way: a hundred messages given away, until whoever took them says that it has them.
//!
//! What that word means differs, so the names say it: *synced* is on the disk, *written* is with the kernel, which a crash of
//! the machine loses, *in memory* is lost with the process.

use std::path::Path;

use anyhow::Context;
use async_nats::jetstream::{self, stream};
use async_trait::async_trait;
use futures::future::try_join_all;
use iggy::prelude::IggyClient;
use redis::AsyncCommands;

use super::contenders::{Contender, Presence, Server};
use super::floor::BYTES;
use super::others::{NAME, payload};
use super::{MESSAGE_BYTES, MESSAGES, VersusArgs};
use crate::live::server::{IggyServer, IggyServerSettings, create_topic, send};
use crate::measure::load::Shape;
use crate::measure::stage::{Stage, directory_bucket};
use crate::measure::{Disk, PlaceArgs, Shipping};

pub(super) const JOURNALED: &str = "Kennel, one node, synced";

/// Values that are written round and round.
const VALUES: u64 = 256;

/// All of them, started.
pub(super) async fn all(args: &VersusArgs, directory: &Path) -> anyhow::Result<Vec<Presence>> {
    // A ring of its own, with a bucket of its own beside it.
    let name = args.place.directory()?.file_name().context("the directory has a name")?.to_string_lossy().into_owned();
    let directory_of_memory = args.place.directory()?.with_file_name(format!("{name}-memory"));
    let memory = PlaceArgs { directory: directory_of_memory, ..args.place.clone() };
    Ok(vec![
        kennel(&args.place, JOURNALED, "cluster.durability=journal").await?,
        kennel(&memory, "Kennel, one node, in memory", "cluster.durability=memory").await?,
        redis(directory, "Redis, SET of 100 KB, synced", ["yes", "always"]).await?,
        redis(directory, "Redis, SET of 100 KB, in memory", ["no", "no"]).await?,
        nats(directory).await?,
        iggy(args.iggy.as_deref(), directory).await?,
        disk(directory)?,
    ])
}

struct Node {
    name: &'static str,
    stage: Stage,
    shipping: Shipping,
}

async fn kennel(place: &PlaceArgs, name: &'static str, durability: &str) -> anyhow::Result<Presence> {
    let own = ["journal.size=2 GiB", "cluster.copies=1", "cluster.min_copies=1", durability];
    let mut assignments: Vec<String> = own.map(str::to_owned).to_vec();
    assignments.push(directory_bucket(&place.directory)?);
    let mut stage = place.start(1, assignments)?;
    let payload_bytes = usize::try_from(MESSAGE_BYTES).context("small")?;
    let shipping = Shipping::open(&mut stage, Shape { messages: MESSAGES, payload_bytes }).await?;
    Ok(Presence::Here(Box::new(Node { name, stage, shipping })))
}

#[async_trait]
impl Contender for Node {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        self.shipping.ship().await.map(drop)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(self.stage.processes())
    }
}

struct Redis {
    name: &'static str,
    server: Server,
    connection: redis::aio::MultiplexedConnection,
    value: Vec<u8>,
}

async fn redis(directory: &Path, name: &'static str, [log, sync]: [&str; 2]) -> anyhow::Result<Presence> {
    let store = directory.join(format!("redis-{log}"));
    std::fs::create_dir_all(&store).context("make a directory")?;
    let store = store.display().to_string();
    let arguments = |port: u16| {
        let port = port.to_string();
        let arguments = ["--port", &port, "--dir", &store, "--save", "", "--appendonly", log, "--appendfsync", sync];
        arguments.map(str::to_owned).to_vec()
    };
    let Some(server) = Server::start("redis-server", directory, arguments).await? else {
        return Ok(Presence::Absent(format!("{name}: no redis-server on this machine")));
    };
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port))?;
    let connection = client.get_multiplexed_async_connection().await?;
    let value = payload().repeat(MESSAGES as usize);
    Ok(Presence::Here(Box::new(Redis { name, server, connection, value })))
}

#[async_trait]
impl Contender for Redis {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        Ok(self.connection.set(question % VALUES, &self.value).await?)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.server.process()?])
    }
}

struct Nats {
    server: Server,
    context: jetstream::Context,
}

/// A stream in files, which the server syncs every two minutes if nobody tells it otherwise.
async fn nats(directory: &Path) -> anyhow::Result<Presence> {
    let store = directory.join("nats-ships").display().to_string();
    let arguments =
        |port: u16| ["-js", "-sd", &store, "-a", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
    let Some(server) = Server::start("nats-server", directory, arguments).await? else {
        return Ok(Presence::Absent("NATS JetStream: no nats-server on this machine".to_owned()));
    };
    let context = jetstream::new(async_nats::connect(format!("127.0.0.1:{}", server.port)).await?);
    let config = stream::Config {
        name: NAME.to_owned(),
        subjects: vec![NAME.to_owned()],
        max_bytes: 1 << 30,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    Ok(Presence::Here(Box::new(Nats { server, context })))
}

#[async_trait]
impl Contender for Nats {
    fn name(&self) -> &'static str {
        "NATS JetStream, 100 published, written"
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        let mut acknowledgements = Vec::new();
        for _ in 0..MESSAGES {
            acknowledgements.push(self.context.publish(NAME, payload()).await?);
        }
        try_join_all(acknowledgements.into_iter().map(IntoFuture::into_future)).await?;
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.server.process()?])
    }
}

struct Iggy {
    server: IggyServer,
    client: IggyClient,
}

async fn iggy(program: Option<&Path>, directory: &Path) -> anyhow::Result<Presence> {
    let Some(program) = program else {
        return Ok(Presence::Absent("Iggy: IGGY_SERVER_BIN is not set".to_owned()));
    };
    let (program, directory) = (program.to_owned(), directory.join("iggy-ships"));
    let server = IggyServer::start(IggyServerSettings { program, config: None, directory, replica: None }).await?;
    let client = server.client().await?;
    create_topic(&client, NAME, NAME, 1).await?;
    Ok(Presence::Here(Box::new(Iggy { server, client })))
}

#[async_trait]
impl Contender for Iggy {
    fn name(&self) -> &'static str {
        "Iggy, 100 sent, in memory"
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        send(&self.client, NAME, NAME, 0, vec![payload(); MESSAGES as usize]).await.context("send messages")
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.server.process()?])
    }
}

/// A write and a sync, which is the least that *synced* can take.
struct Bare(Disk);

fn disk(directory: &Path) -> anyhow::Result<Presence> {
    let block_bytes = usize::try_from(BYTES.next_multiple_of(4096)).context("small")?;
    let disk = Disk::open(&directory.join("disk"), block_bytes, VALUES * block_bytes as u64)?;
    Ok(Presence::Here(Box::new(Bare(disk))))
}

#[async_trait]
impl Contender for Bare {
    fn name(&self) -> &'static str {
        "a file, written and synced"
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        self.0.write().map(drop)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(Vec::new())
    }
}
