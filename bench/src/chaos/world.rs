//! The world of a run: network, bucket, proxy, nodes, source. Built, and taken down whatever happens.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kennel_s3_server::{RunningServer, Server, ServerSettings};
use kennel_transport::certs::{Overwrite, create_development_ca};
use kennel_transport::tls::TlsIdentity;
use tokio::time::sleep;

use super::Reads;
use super::abilities::Abilities;
use super::disk::Disk;
use super::network::Network;
use super::node::{Node, NodePlan};
use super::proxy::Proxy;
use super::schedule::Schedule;
use super::source::Source;
use super::timeline::Timeline;
use super::watch::ask;

/// How often a ring that forms is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Everything that one run has to itself. Dropping it ends its processes and removes its network and disks.
#[derive(Debug)]
pub(super) struct World {
    /// First, so that processes end before what they stand on goes away.
    pub(super) nodes: Vec<Node>,
    pub(super) proxy: Proxy,
    /// The bucket itself, where it is ours.
    _server: Option<RunningServer>,
    pub(super) network: Network,
    pub(super) source: Arc<Source>,
    pub(super) identity: TlsIdentity,
    pub(super) tls: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) timeline: Timeline,
}

/// What a world is built from.
#[derive(Debug)]
pub(super) struct WorldPlan<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) abilities: &'a Abilities,
    pub(super) programs: &'a Path,
    /// An older `cache-node` that every node starts as.
    pub(super) upgrade_from: Option<&'a Path>,
    pub(super) directory: &'a Path,
    /// An S3 server that runs already; `None` for one of our own.
    pub(super) bucket: Option<SocketAddr>,
    pub(super) shards: u16,
    pub(super) partitions: u32,
    pub(super) reads: Reads,
}

impl World {
    /// Builds it. No node runs yet.
    ///
    /// # Errors
    /// If the machine refuses something.
    ///
    /// # Cancel safety
    /// What was built is removed.
    pub(super) async fn build(plan: &WorldPlan<'_>, timeline: Timeline) -> anyhow::Result<Self> {
        let WorldPlan { schedule, abilities, directory, .. } = *plan;
        let (logs, tls) = (directory.join("logs"), directory.join("tls"));
        std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let network = Network::build(abilities.network, schedule.nodes).await.context("build the network")?;
        let addresses: Vec<IpAddr> = (1..=schedule.nodes).map(|node| network.address(node)).collect();
        let hosts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
        let files = create_development_ca(&tls, &hosts, Overwrite::Replace).context("make certificates")?;
        let identity = TlsIdentity::load(&files.ca, &files.client.certificate, &files.client.key)?;
        let server = match plan.bucket {
            Some(_) => None,
            None => Some(Server::start(ServerSettings::default()).await.context("start the bucket")?),
        };
        let upstream = plan.bucket.or(server.as_ref().map(|server| server.address)).context("there is a bucket")?;
        let proxy = Proxy::start(network.host(), schedule.nodes, upstream, schedule.seed).await?;
        let (newer, mut nodes) = (plan.programs.join("cache-node"), Vec::new());
        for id in 1..=schedule.nodes {
            let at = directory.join(format!("node-{id}"));
            let disk = if abilities.own_disks { Disk::mounted(&at).await? } else { Disk::plain(&at)? };
            let node_plan = NodePlan {
                program: plan.upgrade_from.unwrap_or(&newer),
                newer: &newer,
                logs: &logs,
                tls: &tls,
                bucket_url: &bucket_url(directory),
                bucket_endpoint: proxy.endpoint(id),
                shards: plan.shards,
                addresses: &addresses,
                reads: plan.reads,
            };
            nodes.push(Node::new(id, disk, network.enter(id), &node_plan));
        }
        let source = Source::create(&directory.join("source"), plan.partitions).context("make the source")?;
        Ok(Self { nodes, proxy, _server: server, network, source: Arc::new(source), identity, tls, logs, timeline })
    }

    /// Sessions of all nodes.
    pub(super) fn ring(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::quic).collect()
    }

    /// Starts every node that is not up.
    ///
    /// # Errors
    /// If one cannot start.
    pub(super) fn start_all(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.start(None))
    }

    /// Waits until every node serves and every shard has an owner.
    ///
    /// # Errors
    /// What is missing, when the time is over.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub(super) async fn whole_ring(&mut self, patience: Duration) -> anyhow::Result<Duration> {
        let (started, http) = (Instant::now(), reqwest::Client::new());
        loop {
            let missing = match self.missing(&http).await {
                Ok(None) => return Ok(started.elapsed()),
                Ok(Some(missing)) => missing,
                Err(error) => format!("{error:#}"),
            };
            if started.elapsed() > patience {
                bail!("no whole ring within {patience:?}: {missing}");
            }
            sleep(LOOK).await;
        }
    }

    /// What keeps the ring from being whole.
    async fn missing(&mut self, http: &reqwest::Client) -> anyhow::Result<Option<String>> {
        let (mut owned, mut shards) = (std::collections::BTreeSet::new(), 0);
        for node in &mut self.nodes {
            let id = node.id;
            if let Some(status) = node.ended() {
                self.timeline.note(format!("n{id} ended by itself: {status}; started again"));
                node.start(None)?;
            }
            let report = ask(http, node.http()).await.with_context(|| format!("n{id} does not answer"))?;
            if !report.ready {
                return Ok(Some(format!("n{id} is not ready: {}", report.reason.unwrap_or_default())));
            }
            if let Some(halted) = report.shards.iter().find(|shard| shard.role == "halted") {
                let note = halted.note.clone().unwrap_or_default();
                return Ok(Some(format!("n{id} halted shard {}: {note}", halted.shard)));
            }
            shards = report.shards.len();
            let owners = report.shards.iter().filter(|shard| shard.role == "owner");
            owned.extend(owners.map(|shard| shard.shard));
        }
        let without = (0..u16::try_from(shards)?).filter(|shard| !owned.contains(shard));
        let without: Vec<_> = without.map(|shard| shard.to_string()).collect();
        Ok((!without.is_empty()).then(|| format!("nobody owns shard {}", without.join(", "))))
    }
}

/// One prefix for each run: several may share a server.
pub(super) fn bucket_url(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("s3://kennel/{name}-{}", std::process::id())
}
