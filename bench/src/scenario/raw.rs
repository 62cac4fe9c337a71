//! A question and an answer over bare quinn: what sessions, frames and nodes are measured against.
//!
//! The same socket, certificates and settings as our sessions, and nothing of ours on top: one long-lived stream, eight bytes
//! that name a length, and as many bytes back, cut out of one buffer. The other side is a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use kennel_transport::certs::{DevelopmentCa, Overwrite, create_development_ca};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::tls::TlsIdentity;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::environment::Environment;
use super::file::Scenario;
use super::outcome::{BucketUse, FORMAT, Outcome, Proof, RoundUsage};
use super::pace::Pace;
use super::record::{Done, Recorder, Rounds};
use crate::measure::figures::say;
use crate::measure::usage::{Processors, Usage};

/// Most that an answer may hold.
const ANSWER_MAX: u64 = 64 << 20;

/// What the answering process is told.
#[derive(Debug, Clone, clap::Args)]
pub struct RawServerArgs {
    /// Certificates of a development CA.
    #[arg(long, value_name = "DIR")]
    pub tls_dir: PathBuf,
}

/// Answers until it is killed. The first line printed is its address for QUIC, the second that for TCP.
///
/// # Errors
/// If there is no socket to be had.
pub async fn raw_server(args: RawServerArgs) -> anyhow::Result<bool> {
    let certificates = DevelopmentCa::in_dir(&args.tls_dir);
    let (certificate, key) = (&certificates.node.certificate, &certificates.node.key);
    let identity = TlsIdentity::load(&certificates.ca, certificate, key)?;
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = QuicEndpoint::bind(own, &identity, QuicSettings::default())?;
    let quinn = endpoint.bare_server();
    let listener = TcpListener::bind(own).await?;
    say(&endpoint.local_address()?.to_string());
    say(&listener.local_addr()?.to_string());
    let body = Bytes::from(vec![7; usize::try_from(ANSWER_MAX).context("it fits")?]);
    tokio::spawn(answer_tcp(listener, body.clone()));
    while let Some(incoming) = quinn.accept().await {
        let body = body.clone();
        tokio::spawn(async move {
            let connection = incoming.await?;
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(answer(send, receive, body.clone()));
            }
            anyhow::Ok(())
        });
    }
    Ok(true)
}

async fn answer(mut send: quinn::SendStream, mut receive: quinn::RecvStream, body: Bytes) -> anyhow::Result<()> {
    let mut question = [0; 8];
    loop {
        receive.read_exact(&mut question).await?;
        let length = usize::try_from(u64::from_le_bytes(question).min(ANSWER_MAX))?;
        send.write_chunk(body.slice(..length)).await?;
    }
}

async fn answer_tcp(listener: TcpListener, body: Bytes) -> anyhow::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        tokio::spawn(async move {
            let mut question = [0; 8];
            while stream.read_exact(&mut question).await.is_ok() {
                let length = usize::try_from(u64::from_le_bytes(question).min(ANSWER_MAX))?;
                stream.write_all(&body[..length]).await?;
            }
            anyhow::Ok(())
        });
    }
}

/// The answering process. Dropping it ends it.
pub(crate) struct RawPeer {
    child: Child,
    endpoint: QuicEndpoint,
    address: SocketAddr,
    tcp: SocketAddr,
    _certificates: tempfile::TempDir,
}

impl RawPeer {
    /// Starts it, with certificates of its own.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("a directory for certificates")?;
        let certificates = create_development_ca(directory.path(), &[], Overwrite::Replace)?;
        let own = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(own);
        command.arg("raw-server").arg("--tls-dir").arg(directory.path()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("start the answering process")?;
        let output = child.stdout.take().context("it was asked for")?;
        let mut lines = BufReader::new(output).lines();
        let mut next = async || lines.next_line().await?.context("the answering process says where it is");
        let (quic, tcp) = (next().await?, next().await?);
        let (certificate, key) = (&certificates.client.certificate, &certificates.client.key);
        let identity = TlsIdentity::load(&certificates.ca, certificate, key)?;
        let endpoint = QuicEndpoint::bind_any(&identity, QuicSettings::default())?;
        Ok(Self { child, endpoint, address: quic.parse()?, tcp: tcp.parse()?, _certificates: directory })
    }

    /// One long-lived stream on a connection of its own.
    pub(crate) async fn connect(&self) -> anyhow::Result<RawStream> {
        let (quinn, config, name) = self.endpoint.bare_client();
        let mut address = self.address;
        if quinn.local_addr()?.is_ipv6() {
            address.set_ip(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        }
        RawStream::open(quinn.connect_with(config, address, name)?.await?).await
    }

    /// Where it answers the same over TCP.
    pub(crate) fn tcp_address(&self) -> SocketAddr {
        self.tcp
    }

    /// The answering process.
    pub(crate) fn process(&self) -> anyhow::Result<u32> {
        self.child.id().context("the answering process ended")
    }
}

/// Questions and answers, one at a time.
pub(crate) struct RawStream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    chunks: Vec<Bytes>,
    connection: quinn::Connection,
}

impl RawStream {
    /// One more on the same connection.
    pub(crate) async fn another(&self) -> anyhow::Result<Self> {
        Self::open(self.connection.clone()).await
    }

    async fn open(connection: quinn::Connection) -> anyhow::Result<Self> {
        let (send, receive) = connection.open_bi().await?;
        Ok(Self { send, receive, chunks: vec![Bytes::new(); 64], connection })
    }

    /// Asks for so many bytes and takes them as they come, without a copy.
    pub(crate) async fn ask(&mut self, bytes: u64) -> anyhow::Result<()> {
        self.send.write_all(&bytes.to_le_bytes()).await?;
        let mut missing = bytes;
        while missing > 0 {
            let count = self.receive.read_chunks(&mut self.chunks).await?.context("the answer ended early")?;
            let came: u64 = self.chunks[..count].iter().map(|chunk| chunk.len() as u64).sum();
            ensure!(came <= missing, "more came than was asked for");
            missing -= came;
        }
        Ok(())
    }
}

/// A scenario that only has readers of this kind.
pub(super) async fn run(scenario: Scenario) -> anyhow::Result<Outcome> {
    let peer = RawPeer::start().await?;
    let environment = Environment::here("none: a process that answers over bare quinn".to_owned());
    let rounds = Rounds::from_now(scenario.time);
    let (mut tasks, mut recorders) = (JoinSet::new(), Vec::new());
    for section in &scenario.read {
        let recorder = Arc::new(Recorder::new(rounds));
        for _ in 0..section.readers {
            let stream = peer.connect().await?;
            tasks.spawn(ask_on(stream, section.bytes.as_u64(), section.rate, Arc::clone(&recorder)));
        }
        let timed = "from when a question was due until its answer was there";
        recorders.push((recorder, timed, section.rate > 0.0));
    }
    let mut usage = Vec::new();
    tokio::time::sleep_until(rounds.start.into()).await;
    for round in 0..rounds.time.rounds {
        let before = (Usage::of(peer.process()?)?, Usage::of(std::process::id())?);
        let processors = Processors::now()?;
        tokio::time::sleep_until(rounds.end_of(round).into()).await;
        let after = (Usage::of(peer.process()?)?, Usage::of(std::process::id())?);
        let cores = |used: Duration| used.as_secs_f64() / rounds.time.round.as_secs_f64();
        usage.push(RoundUsage {
            nodes_cores: cores(after.0.since(before.0)),
            bench_cores: cores(after.1.since(before.1)),
            nodes_resident_bytes: after.0.resident_bytes,
            bench_resident_bytes: after.1.resident_bytes,
            withheld: Processors::now()?.withheld_since(processors),
        });
    }
    while let Some(asked) = tasks.join_next().await {
        asked??;
    }
    let group = |(recorder, timed, open): &(Arc<Recorder>, &str, bool)| {
        recorder.outcome("raw quic".to_owned(), timed, 0.0, *open)
    };
    let groups = recorders.iter().map(group).collect();
    let (bucket, faults, proof) = (BucketUse::default(), Vec::new(), Proof::default());
    Ok(Outcome { format: FORMAT, scenario, environment, groups, usage, bucket, faults, proof })
}

async fn ask_on(mut stream: RawStream, bytes: u64, rate: f64, recorder: Arc<Recorder>) -> anyhow::Result<()> {
    let end = recorder.rounds().end();
    let interval = Duration::try_from_secs_f64(1.0 / rate).ok();
    let mut pace = interval.map(|interval| Pace::start(Instant::now(), interval, end));
    while Instant::now() < end {
        let due = match &mut pace {
            Some(pace) => match pace.next().await {
                Some(due) => due,
                None => break,
            },
            None => Instant::now(),
        };
        stream.ask(bytes).await?;
        recorder.done(Done { due, over: Instant::now(), messages: 1, bytes });
    }
    Ok(())
}
