//! A ring of `cache-node` processes on the loopback: started, signalled, started again, never left behind.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cache_node::http::StatusReport;
use kennel_transport::certs::{CertificateFiles, DevelopmentCa, Overwrite, create_development_ca};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::tls::TlsIdentity;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::cores::Cores;

/// How long a ring may take until every shard has an owner and all its copies.
const WHOLE_PATIENCE: Duration = Duration::from_secs(90);
/// Copies of a shard, where nothing else is assigned: the default of `cluster.copies`.
pub(crate) const COPIES: usize = 3;
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// A paused node does not answer; the others answer at once.
const STATUS_PATIENCE: Duration = Duration::from_millis(1_500);
/// Linux hands out ports from 32768 on.
const PORTS: core::ops::Range<u16> = 12_000..32_000;

/// Where everything is, and what nodes are told beyond their defaults.
#[derive(Debug)]
pub(crate) struct StageSettings {
    pub(crate) programs: PathBuf,
    /// Emptied first.
    pub(crate) directory: PathBuf,
    pub(crate) nodes: usize,
    /// As `--set` takes them; the bucket is among them.
    pub(crate) assignments: Vec<String>,
}

/// The ring. Dropping it kills its processes.
#[derive(Debug)]
pub(crate) struct Stage {
    settings: StageSettings,
    certificates: DevelopmentCa,
    places: Vec<Place>,
    http: reqwest::Client,
    /// Where nodes and load keep to their own.
    cores: Option<Cores>,
}

#[derive(Debug)]
struct Place {
    quic: SocketAddr,
    gossip: SocketAddr,
    http: SocketAddr,
    child: Option<Child>,
}

/// What a signal does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    Stop,
    Continue,
}

impl Stage {
    /// Makes certificates and directories and starts all nodes.
    pub(crate) fn start(settings: StageSettings) -> anyhow::Result<Self> {
        Self::start_on(settings, None)
    }

    /// The same, with each node on cores of its own.
    pub(crate) fn start_on(settings: StageSettings, cores: Option<Cores>) -> anyhow::Result<Self> {
        let mut stage = Self { cores, ..Self::set(settings)? };
        for at in 0..stage.places.len() {
            stage.start_node(at)?;
        }
        Ok(stage)
    }

    /// Makes certificates and directories, and starts nothing.
    pub(crate) fn set(settings: StageSettings) -> anyhow::Result<Self> {
        let StageSettings { directory, nodes, .. } = &settings;
        if directory.exists() {
            std::fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
        }
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let certificates = create_development_ca(&directory.join("tls"), &[], Overwrite::Refuse)?;
        let mut ports = free_ports();
        let mut port = || ports.next().context("no free port is left");
        let places =
            (0..*nodes).map(|_| anyhow::Ok(Place { quic: port()?, gossip: port()?, http: port()?, child: None }));
        let places = places.collect::<Result<_, _>>()?;
        Ok(Self { settings, certificates, places, http: reqwest::Client::new(), cores: None })
    }

    /// Starts a node that does not run.
    pub(crate) fn start_node(&mut self, at: usize) -> anyhow::Result<()> {
        let log = self.settings.directory.join(format!("node-{}.log", at + 1));
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(self.settings.programs.join("cache-node"));
        command.arg("run").env_remove("KENNEL_CONFIG").stdin(Stdio::null());
        command.args(self.assignments_of(at).iter().map(|assignment| format!("--set={assignment}")));
        command.stdout(output.try_clone().context("share the log")?).stderr(output).kill_on_drop(true);
        let child = match &self.cores {
            Some(cores) => cores.start_on_nodes(at, || command.spawn())?,
            None => command.spawn(),
        };
        self.places[at].child = Some(child.context("start cache-node")?);
        Ok(())
    }

    /// What a node is told, as `--set` takes it.
    pub(crate) fn assignments_of(&self, at: usize) -> Vec<String> {
        let place = &self.places[at];
        let seeds: Vec<_> = self.places.iter().map(|place| format!("{:?}", place.gossip.to_string())).collect();
        let CertificateFiles { certificate, key } = &self.certificates.node;
        let own = [
            format!("node.id={}", at + 1),
            format!("node.directory={}", self.directory(at).display()),
            format!("listen.quic={}", place.quic),
            format!("listen.gossip={}", place.gossip),
            format!("listen.http={}", place.http),
            format!("cluster.seeds=[{}]", seeds.join(",")),
            format!("tls.ca={}", self.certificates.ca.display()),
            format!("tls.cert={}", certificate.display()),
            format!("tls.key={}", key.display()),
        ];
        self.settings.assignments.iter().cloned().chain(own).collect()
    }

    /// A node's directory.
    pub(crate) fn directory(&self, at: usize) -> PathBuf {
        self.settings.directory.join(format!("node-{}", at + 1))
    }

    /// Ends a node as a power cut would; the moment at which it was told.
    pub(crate) async fn kill(&mut self, at: usize) -> anyhow::Result<Instant> {
        let mut child = self.places[at].child.take().context("it runs")?;
        let told = Instant::now();
        child.kill().await.with_context(|| format!("kill node {}", at + 1))?;
        Ok(told)
    }

    /// Pauses a node or lets it go on; the moment at which it was told.
    pub(super) async fn signal(&self, at: usize, signal: Signal) -> anyhow::Result<Instant> {
        let id = self.places[at].child.as_ref().and_then(Child::id).context("it runs")?;
        let word = match signal {
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let told = Instant::now();
        let status = Command::new("kill").args([word, &id.to_string()]).status().await.context("run kill")?;
        ensure!(status.success(), "node {} could not be signalled", at + 1);
        Ok(told)
    }

    /// What each place says of itself; `None` where nothing answers.
    pub(crate) async fn statuses(&self) -> Vec<Option<StatusReport>> {
        let ask = |place: &Place| {
            let request = self.http.get(format!("http://{}/status", place.http)).timeout(STATUS_PATIENCE);
            async move { request.send().await.ok()?.json().await.ok() }
        };
        let mut statuses = Vec::new();
        for place in &self.places {
            statuses.push(ask(place).await);
        }
        statuses
    }

    /// How many copies a shard has once all nodes are there.
    fn copies(&self) -> usize {
        let assigned = self.settings.assignments.iter().rev().find_map(|set| set.strip_prefix("cluster.copies="));
        let copies = assigned.and_then(|copies| copies.parse().ok()).unwrap_or(COPIES);
        copies.min(self.places.len())
    }

    /// Waits until every shard has one owner, which knows all its copies.
    pub(crate) async fn whole(&mut self) -> anyhow::Result<Vec<StatusReport>> {
        let deadline = Instant::now() + WHOLE_PATIENCE;
        loop {
            self.check()?;
            let statuses = self.statuses().await;
            match whole(&statuses, self.copies()) {
                Ok(()) => return Ok(statuses.into_iter().flatten().collect()),
                Err(seen) => ensure!(Instant::now() < deadline, "the ring is not whole: {seen}"),
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the ring is whole and no shard has changed hands for so long.
    pub(crate) async fn settled(&mut self, quiet: Duration) -> anyhow::Result<()> {
        let (mut owners, mut since) = (Vec::new(), Instant::now());
        let deadline = Instant::now() + WHOLE_PATIENCE + quiet;
        loop {
            let statuses = self.whole().await?;
            let now: Vec<_> = statuses
                .iter()
                .flat_map(|status| status.shards.iter().map(|shard| (shard.epoch, shard.role.clone())))
                .collect();
            if now != owners {
                (owners, since) = (now, Instant::now());
            } else if since.elapsed() >= quiet {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "shards still change hands");
            sleep(LOOK).await;
        }
    }

    /// Fails with a log's name if a process ended that nobody ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for (at, place) in self.places.iter_mut().enumerate() {
            let Some(child) = &mut place.child else { continue };
            if let Some(status) = child.try_wait().context("look at a node")? {
                let log = self.settings.directory.join(format!("node-{}.log", at + 1));
                bail!("node {} ended with {status}; see {}", at + 1, log.display());
            }
        }
        Ok(())
    }

    /// The process ids of the nodes that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.places.iter().filter_map(|place| place.child.as_ref().and_then(Child::id)).collect()
    }

    /// Bytes that the first node answered readers with over the network, and bytes that it wrote for readers of its host.
    pub(super) async fn traffic(&self) -> anyhow::Result<(u64, u64)> {
        let text = self.metrics().await?.swap_remove(0);
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        Ok((sum("kennel_fetch_served_bytes_total"), sum("kennel_local_written_bytes_total")))
    }

    /// What each node counts, as Prometheus reads it; empty where nothing answers.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Vec<String>> {
        let mut texts = Vec::new();
        for place in &self.places {
            let request = self.http.get(format!("http://{}/metrics", place.http)).timeout(STATUS_PATIENCE);
            texts.push(match request.send().await {
                Ok(answer) => answer.text().await?,
                Err(_) => String::new(),
            });
        }
        Ok(texts)
    }

    /// Where all nodes take sessions, running or not.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().map(|place| place.quic).collect()
    }

    /// A reader's certificates.
    pub(crate) fn reader(&self) -> anyhow::Result<TlsIdentity> {
        let CertificateFiles { certificate, key } = &self.certificates.client;
        Ok(TlsIdentity::load(&self.certificates.ca, certificate, key)?)
    }

    /// An endpoint of a shipper.
    pub(crate) fn shipper(&self) -> anyhow::Result<QuicEndpoint> {
        let CertificateFiles { certificate, key } = &self.certificates.shipper;
        let identity = TlsIdentity::load(&self.certificates.ca, certificate, key)?;
        Ok(QuicEndpoint::bind_any(&identity, QuicSettings::default())?)
    }

    /// An endpoint that others may connect to.
    pub(super) fn node(&self, listen: SocketAddr) -> anyhow::Result<QuicEndpoint> {
        let CertificateFiles { certificate, key } = &self.certificates.node;
        let identity = TlsIdentity::load(&self.certificates.ca, certificate, key)?;
        Ok(QuicEndpoint::bind(listen, &identity, QuicSettings::default())?)
    }
}

/// A bucket in a directory of the stage.
pub(crate) fn directory_bucket(directory: &Path) -> anyhow::Result<String> {
    // Beside the stage, which is emptied when it starts.
    let bucket = directory.with_extension("bucket");
    if bucket.exists() {
        std::fs::remove_dir_all(&bucket).with_context(|| format!("empty {}", bucket.display()))?;
    }
    std::fs::create_dir_all(&bucket).with_context(|| format!("make {}", bucket.display()))?;
    let bucket = std::path::absolute(&bucket).context("find the bucket")?;
    Ok(format!("bucket.url=file://{}", bucket.display()))
}

fn whole(statuses: &[Option<StatusReport>], copies: usize) -> Result<(), String> {
    let mut owners = std::collections::BTreeMap::new();
    for (at, status) in statuses.iter().enumerate() {
        let status = status.as_ref().ok_or_else(|| format!("node {} does not answer", at + 1))?;
        if !status.ready {
            return Err(format!("node {}: {:?}", at + 1, status.reason));
        }
        for shard in &status.shards {
            let owned: &mut u64 = owners.entry(shard.shard).or_default();
            *owned += u64::from(shard.role == "owner" && shard.copies.len() == copies);
        }
    }
    match owners.iter().find(|(_, owners)| **owners != 1) {
        Some((shard, _)) => Err(format!("shard {shard} has no owner with all copies")),
        None => Ok(()),
    }
}

/// Loopback addresses that nobody has, outside of the range from which the system hands out ports by itself.
fn free_ports() -> impl Iterator<Item = SocketAddr> {
    let count = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() % 500).expect("below 500") * 37;
    let addresses = (0..count).map(move |step| {
        let port = PORTS.start + (start + step) % count;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    });
    addresses.filter(|address| UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok())
}
