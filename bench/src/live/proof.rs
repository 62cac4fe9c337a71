//! A million messages over many partitions while shippers are killed and the server restarts; then every message is read
//! by the server's own SDK, through a gateway by the same and by Python's, and natively, and all of them say the same.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use iggy::prelude::{Consumer, Identifier, IggyClient, MessageClient, PollingStrategy};
use kennel_client::{Client, FetchRequest};
use kennel_protocol::ids::{Offset, PartitionId};
use serde::Serialize;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::LiveArgs;
use super::server::{client_at, create_topic, send};
use super::world::{World, caught_up};
use crate::measure::figures::{say, write_json};
use crate::random::Random;

pub(super) const STREAM: &str = "orders";
pub(super) const TOPIC: &str = "events";
const COUNT: u64 = 1_000_000;
const PARTITIONS: u32 = 200;
const SHIPPERS: [usize; 3] = [0, 1, 2];
/// Messages of one send.
const SENT: u64 = 100;
const PRODUCERS: u32 = 4;
/// A producer that the server does not answer tries again after this.
const RETRY: Duration = Duration::from_millis(200);
/// How long a cluster may take until one of its servers takes a client, and one try.
const SERVER_PATIENCE: Duration = Duration::from_mins(1);
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two blows at the shippers, milliseconds.
const BLOW_MILLIS: core::ops::Range<u64> = 700..2_300;
/// When the server is restarted.
const RESTART: Duration = Duration::from_secs(6);
/// How long a shipper stays away.
const AWAY: Duration = Duration::from_millis(700);
/// Messages of one poll.
const POLLED: u32 = 1_000;
/// Readers at once.
const READERS: usize = 4;

/// What a partition holds: how many messages, and a sum over all of them in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Content {
    pub(super) messages: u64,
    sum: u64,
}

/// By partition.
pub(super) type Contents = BTreeMap<u32, Content>;

#[derive(Debug, Default, Serialize)]
struct ProofReport {
    messages: u64,
    partitions: u32,
    confirmed: u64,
    shippers_killed: u32,
    server_restarts: u32,
    /// Partitions in which a reader saw something else than the server's own SDK, by reader.
    differing: BTreeMap<String, usize>,
    bars_met: bool,
}

pub(super) async fn proof(args: &LiveArgs) -> anyhow::Result<bool> {
    let mut world = World::start(args, SHIPPERS.len()).await?;
    let (count, partitions) = (args.count.unwrap_or(COUNT), args.partitions.unwrap_or(PARTITIONS));
    create_topic(&world.server().client().await?, STREAM, TOPIC, partitions).await?;
    let mut report = ProofReport { partitions, ..ProofReport::default() };
    report.confirmed = produce_and_kill(&mut world, &mut report, count, partitions).await?;

    let direct = through_sdk(world.server().address(), partitions).await?;
    report.messages = direct.values().map(|content| content.messages).sum();
    say(&format!("the server holds {} messages, {} were confirmed", report.messages, report.confirmed));
    ensure!(report.messages >= report.confirmed, "the server lost what it confirmed");
    let client = world.reader(2).await?;
    for (partition, content) in &direct {
        caught_up(&client, (STREAM, TOPIC, *partition), Offset(content.messages)).await?;
    }
    let gateway = world.gateways().await?[1];
    let mut readings = vec![
        ("the native client", natively(&client, partitions).await?),
        ("the Rust SDK through a gateway", through_sdk(gateway, partitions).await?),
    ];
    if let Some(python) = &args.python {
        readings.push(("the Python SDK through a gateway", through_python(python, gateway, &world, partitions).await?));
    }
    for (who, contents) in readings {
        let differing = direct.iter().filter(|(partition, content)| contents.get(partition) != Some(content)).count();
        say(&format!("{who}: {differing} partitions differ from what the server holds"));
        report.differing.insert(who.to_owned(), differing);
    }
    report.bars_met = report.differing.values().all(|differing| *differing == 0);
    write_json(args.place.json.as_deref(), &report)?;
    let verdict = if report.bars_met { "all equal" } else { "NOT EQUAL" };
    let (killed, restarts) = (report.shippers_killed, report.server_restarts);
    say(&format!("{} messages, {killed} shippers killed, {restarts} server restarts: {verdict}", report.messages));
    Ok(report.bars_met)
}

/// Sends everything while shippers die and come back and the server restarts once; how many messages were confirmed.
async fn produce_and_kill(
    world: &mut World,
    report: &mut ProofReport,
    count: u64,
    partitions: u32,
) -> anyhow::Result<u64> {
    let mut producers = producers(&[world.server().address()], partitions, count);
    let mut random = Random(7);
    let started = Instant::now();
    let (mut confirmed, mut restarted) = (0, false);
    loop {
        let pause = Duration::from_millis(random.between(BLOW_MILLIS.start, BLOW_MILLIS.end));
        tokio::select! {
            done = producers.join_next() => match done {
                Some(done) => confirmed += done.context("a producer panicked")??,
                None => break,
            },
            () = sleep(pause) => {
                let shipper = random.choose(&SHIPPERS);
                world.kill_shipper(shipper).await?;
                report.shippers_killed += 1;
                sleep(AWAY).await;
                world.start_shipper(shipper)?;
                if !restarted && started.elapsed() > RESTART {
                    restarted = true;
                    world.servers[0].stop().await?;
                    world.servers[0].revive().await?;
                    report.server_restarts += 1;
                }
            }
        }
    }
    world.check()?;
    Ok(confirmed)
}

/// Those who send everything to whichever of the servers takes it; what each returns is how many were confirmed.
pub(super) fn producers(servers: &[SocketAddr], partitions: u32, count: u64) -> JoinSet<anyhow::Result<u64>> {
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let own: Vec<u32> = (0..partitions).filter(|partition| partition % PRODUCERS == producer).collect();
        producers.spawn(produce(servers.to_vec(), own, count / u64::from(PRODUCERS)));
    }
    producers
}

/// Sends its share, batch by batch, to one partition after the other. What was sent to a server that went away is not
/// sent again: it may have been taken.
async fn produce(servers: Vec<SocketAddr>, partitions: Vec<u32>, count: u64) -> anyhow::Result<u64> {
    let (mut confirmed, mut at, mut server) = (0, 0_usize, 0_usize);
    let mut numbers: BTreeMap<u32, u64> = BTreeMap::new();
    let mut client = client_at(servers[server]).await?;
    while confirmed < count {
        let partition = partitions[at % partitions.len()];
        at += 1;
        let next = numbers.entry(partition).or_default();
        let payload =
            |number| Bytes::from(format!("{partition}:{number}:{}", "x".repeat(100 + (number % 50) as usize)));
        let payloads = (*next..*next + SENT).map(payload).collect();
        *next += SENT;
        match send(&client, STREAM, TOPIC, partition, payloads).await {
            Ok(()) => confirmed += SENT,
            // A client comes back to its own server by itself; of a cluster, another one may live.
            Err(_) if servers.len() == 1 => sleep(RETRY).await,
            Err(_) => client = other_client(&servers, &mut server).await?,
        }
    }
    Ok(confirmed)
}

/// A client of the next server that takes one.
async fn other_client(servers: &[SocketAddr], server: &mut usize) -> anyhow::Result<IggyClient> {
    let deadline = Instant::now() + SERVER_PATIENCE;
    loop {
        *server = (*server + 1) % servers.len();
        sleep(RETRY).await;
        match timeout(ATTEMPT, client_at(servers[*server])).await {
            Ok(Ok(client)) => return Ok(client),
            _ => ensure!(Instant::now() < deadline, "no server takes a client"),
        }
    }
}

/// A sum over messages in their order: offset, id and payload.
#[derive(Default)]
struct Sum {
    content: Content,
    hasher: std::hash::DefaultHasher,
}

impl Sum {
    fn add(&mut self, offset: u64, id: u128, payload: &[u8]) -> anyhow::Result<()> {
        ensure!(offset == self.content.messages, "message {offset} came where {} was due", self.content.messages);
        self.content.messages += 1;
        self.hasher.write(&id.to_le_bytes());
        self.hasher.write(payload);
        Ok(())
    }

    fn finish(self) -> Content {
        Content { sum: self.hasher.finish(), ..self.content }
    }
}

/// Reads all partitions, some at once.
async fn all<R>(partitions: u32, read: impl Fn(u32) -> R) -> anyhow::Result<Contents>
where
    R: Future<Output = anyhow::Result<Content>> + Send + 'static,
{
    let (mut contents, mut readers) = (Contents::new(), JoinSet::new());
    for partition in 0..partitions {
        if readers.len() >= READERS {
            let (partition, content) = readers.join_next().await.context("some read")?.context("a reader panicked")?;
            contents.insert(partition, content?);
        }
        let reading = read(partition);
        readers.spawn(async move { (partition, reading.await) });
    }
    while let Some(done) = readers.join_next().await {
        let (partition, content) = done.context("a reader panicked")?;
        contents.insert(partition, content?);
    }
    Ok(contents)
}

pub(super) async fn through_sdk(address: SocketAddr, partitions: u32) -> anyhow::Result<Contents> {
    all(partitions, |partition| async move {
        let client = client_at(address).await?;
        let (stream, topic) = (Identifier::named(STREAM)?, Identifier::named(TOPIC)?);
        let mut sum = Sum::default();
        loop {
            let strategy = PollingStrategy::offset(sum.content.messages);
            let consumer = Consumer::default();
            let polled =
                client.poll_messages(&stream, &topic, Some(partition), &consumer, &strategy, POLLED, false).await?;
            if polled.messages.is_empty() {
                return Ok(sum.finish());
            }
            for message in &polled.messages {
                sum.add(message.header.offset, message.header.id, &message.payload)?;
            }
        }
    })
    .await
}

pub(super) async fn natively(client: &Client, partitions: u32) -> anyhow::Result<Contents> {
    all(partitions, |partition| {
        let client = client.clone();
        async move {
            let key = client.locate(STREAM, TOPIC, PartitionId(partition)).await?.context("the ring knows it")?;
            let mut sum = Sum::default();
            loop {
                let fetched = client.fetch(FetchRequest::at(key, Offset(sum.content.messages))).await?;
                if fetched.is_empty() {
                    return Ok(sum.finish());
                }
                for message in fetched.messages() {
                    sum.add(message.offset.0, message.id, &message.payload)?;
                }
            }
        }
    })
    .await
}

/// Python writes what it reads into a file, as one line per message.
async fn through_python(
    python: &Path,
    gateway: SocketAddr,
    world: &World,
    partitions: u32,
) -> anyhow::Result<Contents> {
    let file = world.directory().join("python.txt");
    let script = world.directory().join("read.py");
    std::fs::write(&script, include_str!("read.py")).context("write the script")?;
    let mut command = Command::new(python);
    command.arg(&script).args([&gateway.to_string(), STREAM, TOPIC, &partitions.to_string()]).arg(&file);
    let status = command.status().await.context("run Python")?;
    ensure!(status.success(), "the Python reader ended with {status}");
    let text = std::fs::read_to_string(&file).context("read what Python read")?;
    let mut sums: BTreeMap<u32, Sum> = (0..partitions).map(|partition| (partition, Sum::default())).collect();
    for line in text.lines() {
        let mut fields = line.splitn(4, ' ');
        let mut field = || fields.next().with_context(|| format!("`{line}` is no message"));
        let (partition, offset, id): (u32, u64, u128) = (field()?.parse()?, field()?.parse()?, field()?.parse()?);
        sums.entry(partition).or_default().add(offset, id, field()?.as_bytes())?;
    }
    Ok(sums.into_iter().map(|(partition, sum)| (partition, sum.finish())).collect())
}
