//! Servers that people run today, as their packages come, asked by their own clients.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use iggy::prelude::{Consumer, Identifier, IggyClient, MessageClient, PollingStrategy};
use redis::AsyncCommands;

use super::contenders::{Contender, Presence, Server};
use super::{MESSAGE_BYTES, MESSAGES};
use crate::live::server::{IggyServer, IggyServerSettings, create_topic, send};

pub(super) const REDIS: &str = "Redis, GET of 100 KB";
const NATS: &str = "NATS JetStream, fetch of 100";
pub(super) const IGGY: &str = "Iggy, poll of 100";

/// Answers' worth of messages that each holds.
const ANSWERS: u64 = 256;
pub(super) const NAME: &str = "orders";
/// Longest that a fetch may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One message.
pub(super) fn payload() -> Bytes {
    Bytes::from(vec![b'x'; usize::try_from(MESSAGE_BYTES).expect("small")])
}

struct Redis {
    server: Server,
    connection: redis::aio::MultiplexedConnection,
}

/// A server without persistence, whose values are as large as an answer of the others.
pub(super) async fn redis(directory: &Path) -> anyhow::Result<Presence> {
    let arguments =
        |port: u16| ["--port", &port.to_string(), "--save", "", "--appendonly", "no"].map(str::to_owned).to_vec();
    let Some(server) = Server::start("redis-server", directory, arguments).await? else {
        return Ok(Presence::Absent("Redis: no redis-server on this machine".to_owned()));
    };
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let value = vec![b'x'; payload().len() * MESSAGES as usize];
    for key in 0..ANSWERS {
        let () = connection.set(key, &value).await?;
    }
    Ok(Presence::Here(Box::new(Redis { server, connection })))
}

#[async_trait]
impl Contender for Redis {
    fn name(&self) -> &'static str {
        REDIS
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        let value: Vec<u8> = self.connection.get(question * 37 % ANSWERS).await?;
        ensure!(value.len() == payload().len() * MESSAGES as usize, "{} bytes came", value.len());
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.server.process()?])
    }
}

struct Nats {
    server: Server,
    consumer: jetstream::consumer::Consumer<pull::Config>,
    stream: stream::Stream,
    left: u64,
}

/// A stream in memory, read by a pull consumer that acknowledges nothing and begins anew when it is through.
pub(super) async fn nats(directory: &Path) -> anyhow::Result<Presence> {
    let store = directory.join("nats").display().to_string();
    let arguments =
        |port: u16| ["-js", "-sd", &store, "-a", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
    let Some(server) = Server::start("nats-server", directory, arguments).await? else {
        return Ok(Presence::Absent("NATS JetStream: no nats-server on this machine".to_owned()));
    };
    let context = jetstream::new(async_nats::connect(format!("127.0.0.1:{}", server.port)).await?);
    let config = stream::Config {
        name: NAME.to_owned(),
        subjects: vec![NAME.to_owned()],
        storage: stream::StorageType::Memory,
        ..stream::Config::default()
    };
    let stream = context.create_stream(config).await?;
    for _ in 0..ANSWERS * u64::from(MESSAGES) / 100 {
        let mut acknowledgements = Vec::new();
        for _ in 0..100 {
            acknowledgements.push(context.publish(NAME, payload()).await?);
        }
        for acknowledgement in acknowledgements {
            acknowledgement.await?;
        }
    }
    let consumer = begin(&stream).await?;
    Ok(Presence::Here(Box::new(Nats { server, consumer, stream, left: ANSWERS })))
}

async fn begin(stream: &stream::Stream) -> anyhow::Result<jetstream::consumer::Consumer<pull::Config>> {
    let config = pull::Config {
        ack_policy: jetstream::consumer::AckPolicy::None,
        inactive_threshold: Duration::from_mins(1),
        memory_storage: true,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.context("make a consumer")
}

#[async_trait]
impl Contender for Nats {
    fn name(&self) -> &'static str {
        NATS
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        if self.left == 0 {
            self.consumer = begin(&self.stream).await?;
            self.left = ANSWERS;
        }
        let mut batch = self.consumer.fetch().max_messages(MESSAGES as usize).expires(PATIENCE).messages().await?;
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = batch.next().await {
            bytes += message.map_err(anyhow::Error::from_boxed)?.payload.len();
            messages += 1;
        }
        self.left -= 1;
        ensure!(messages == MESSAGES && bytes == payload().len() * MESSAGES as usize, "{messages} messages came");
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

/// A server of Iggy's, asked by the stock SDK.
pub(super) async fn iggy(program: Option<&Path>, directory: &Path) -> anyhow::Result<Presence> {
    let Some(program) = program else {
        return Ok(Presence::Absent("Iggy: IGGY_SERVER_BIN is not set".to_owned()));
    };
    let (program, directory) = (program.to_owned(), directory.join("iggy"));
    let server = IggyServer::start(IggyServerSettings { program, config: None, directory, replica: None }).await?;
    let client = server.client().await?;
    create_topic(&client, NAME, NAME, 1).await?;
    for _ in 0..ANSWERS {
        send(&client, NAME, NAME, 0, vec![payload(); MESSAGES as usize]).await.context("send messages")?;
    }
    Ok(Presence::Here(Box::new(Iggy { server, client })))
}

#[async_trait]
impl Contender for Iggy {
    fn name(&self) -> &'static str {
        IGGY
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        let name = Identifier::named(NAME)?;
        let strategy = PollingStrategy::offset(question * 37 % ANSWERS * u64::from(MESSAGES));
        let consumer = Consumer::default();
        let polled = self.client.poll_messages(&name, &name, Some(0), &consumer, &strategy, MESSAGES, false).await?;
        ensure!(polled.messages.len() == MESSAGES as usize, "{} messages came", polled.messages.len());
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.server.process()?])
    }
}
