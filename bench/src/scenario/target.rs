//! The ring that is measured: processes on this machine, nodes in this process, or somebody else's ring.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cache_node::config::{Layers, Sources};
use cache_node::node::Node;
use kennel_protocol::ids::ProcessId;
use kennel_transport::certs::{CertificateFiles, DevelopmentCa};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::tls::TlsIdentity;
use tokio::task::JoinSet;
use wal_shipper::ship::Ring;

use super::file::Scenario;
use super::outcome::BucketUse;
use super::producers::Reach;
use crate::measure::cores::Cores;
use crate::measure::load::watch_views;
use crate::measure::programs;
use crate::measure::stage::{Stage, StageSettings, directory_bucket};
use crate::measure::usage::Usage;

/// Where a scenario runs.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Nodes of a ring that runs already, `host:port`, separated by commas: nothing is started, killed or counted there.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "tls_dir")]
    pub ring: Vec<String>,
    /// A directory with ca.pem, client.pem, client.key, shipper.pem and shipper.key, for --ring.
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Run the nodes inside this process: for profilers. What nodes and load take is not told apart then.
    #[arg(long, conflicts_with = "ring")]
    pub one_process: bool,
    /// Where cache-node is; beside this program by default.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where nodes and logs go; emptied first.
    #[arg(long, value_name = "DIR", default_value = "kennel-bench-run")]
    pub directory: PathBuf,
    /// A setting of the nodes, over the scenario's, as `cache-node --set` takes it. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
}

/// A ring that answers. Dropping it ends what was started.
#[derive(Debug)]
pub(super) enum Target {
    /// Processes on this machine.
    Processes(Stage),
    /// Nodes in this process.
    Inside(Stage, Vec<Node>),
    /// Another's.
    Remote { addresses: Vec<SocketAddr>, certificates: DevelopmentCa },
}

impl Target {
    /// Starts what is to be started, and waits until it is whole.
    pub(super) async fn open(args: &TargetArgs, scenario: &Scenario) -> anyhow::Result<Self> {
        if !args.ring.is_empty() {
            return Self::remote(args, scenario);
        }
        let shares_memory = scenario.read.iter().any(|read| read.shared_memory);
        ensure!(
            !shares_memory || scenario.ring.nodes == 1,
            "shared_memory needs ring.nodes = 1: a reader has one node here"
        );
        let directory = std::path::absolute(&args.directory).context("find the directory")?;
        let mut assignments = vec![directory_bucket(&args.directory)?];
        if scenario.ring.cores > 0 {
            // Cores of a node's own are there for nothing else.
            assignments.push(format!("node.threads={}", scenario.ring.cores));
        }
        assignments.extend(scenario.ring.set.iter().cloned());
        if shares_memory {
            assignments.push(format!("listen.local={}", directory.join("node-1").join("local.sock").display()));
        }
        if scenario.read.iter().any(|read| read.fabric) {
            assignments.extend(scenario.ring.fabric.assignments());
        }
        assignments.extend(args.assignments.iter().cloned());
        let nodes = scenario.ring.nodes;
        if args.one_process {
            ensure!(scenario.ring.cores == 0, "this scenario gives nodes cores of their own, which needs processes");
            let stage = Stage::set(StageSettings { programs: PathBuf::new(), directory, nodes, assignments })?;
            return Self::inside(stage, nodes).await;
        }
        let programs = programs(args.programs.as_deref())?;
        let cores = match scenario.ring.cores {
            0 => None,
            cores => Some(Cores::deal(cores, nodes)?),
        };
        let mut stage = Stage::start_on(StageSettings { programs, directory, nodes, assignments }, cores)?;
        stage.whole().await?;
        Ok(Self::Processes(stage))
    }

    async fn inside(mut stage: Stage, count: usize) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for at in 0..count {
            let assignments = stage.assignments_of(at);
            let layers = Layers::read(Sources { assignments: &assignments, ..Sources::default() })?;
            nodes.push(Node::start(layers.settings()?).await?);
        }
        stage.whole().await?;
        Ok(Self::Inside(stage, nodes))
    }

    fn remote(args: &TargetArgs, scenario: &Scenario) -> anyhow::Result<Self> {
        ensure!(scenario.fault.is_none(), "this scenario kills nodes, and --ring names nodes of somebody else");
        let leaves_alone = scenario.ring.set.is_empty() && scenario.ring.cores == 0;
        ensure!(leaves_alone, "this scenario sets nodes up, and --ring names nodes that run already");
        let mut addresses = Vec::new();
        for address in &args.ring {
            addresses.extend(address.to_socket_addrs().with_context(|| format!("`{address}` is not an address"))?);
        }
        let directory = args.tls_dir.as_ref().context("--ring needs --tls-dir")?;
        Ok(Self::Remote { addresses, certificates: DevelopmentCa::in_dir(directory) })
    }

    /// What the result says of it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Processes(stage) => format!("{} processes on this machine, over loopback", stage.addresses().len()),
            Self::Inside(_, nodes) => format!("{} nodes inside the bench's own process", nodes.len()),
            Self::Remote { addresses, .. } => format!("a ring of its own, asked at {} addresses", addresses.len()),
        }
    }

    /// Where sessions are taken.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Processes(stage) | Self::Inside(stage, _) => stage.addresses(),
            Self::Remote { addresses, .. } => addresses.clone(),
        }
    }

    /// A reader's certificates.
    pub(super) fn reader(&self) -> anyhow::Result<TlsIdentity> {
        match self {
            Self::Processes(stage) | Self::Inside(stage, _) => stage.reader(),
            Self::Remote { certificates, .. } => {
                let CertificateFiles { certificate, key } = &certificates.client;
                Ok(TlsIdentity::load(&certificates.ca, certificate, key)?)
            }
        }
    }

    fn shipper(&self) -> anyhow::Result<QuicEndpoint> {
        match self {
            Self::Processes(stage) | Self::Inside(stage, _) => stage.shipper(),
            Self::Remote { certificates, .. } => {
                let CertificateFiles { certificate, key } = &certificates.shipper;
                let identity = TlsIdentity::load(&certificates.ca, certificate, key)?;
                Ok(QuicEndpoint::bind_any(&identity, QuicSettings::default())?)
            }
        }
    }

    /// How to reach owners, and how many shards there are. The watching lasts as long as `tasks`.
    pub(super) async fn reach(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<(Reach, u16)> {
        let ring = Ring::new(Arc::new(self.shipper()?.connector()), self.addresses(), ProcessId(0xbe4c));
        let mut refused = None;
        for address in self.addresses() {
            match ring.connect(address, None).await {
                Ok((_, welcome)) => {
                    let owners = watch_views(&ring, self.addresses(), tasks);
                    return Ok((Reach { ring, owners }, welcome.shard_count));
                }
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) => Err(error.into()),
            None => bail!("no node was named"),
        }
    }

    /// What each process of a node has taken so far.
    pub(super) fn usage(&self) -> anyhow::Result<NodesUsage> {
        let Self::Processes(stage) = self else { return Ok(NodesUsage::default()) };
        let of = |process| anyhow::Ok((process, Usage::of(process)?));
        Ok(NodesUsage(stage.processes().into_iter().map(of).collect::<Result<_, _>>()?))
    }

    /// What the bucket was asked so far.
    pub(super) async fn bucket(&self) -> anyhow::Result<BucketUse> {
        let mut sum = BucketUse::default();
        // Nodes of one process count in one place: nothing to be told apart there.
        let Self::Processes(stage) = self else { return Ok(sum) };
        for text in stage.metrics().await? {
            count_requests(&text, &mut sum);
        }
        Ok(sum)
    }

    /// The processes, where a scenario may kill them.
    pub(super) fn stage(&mut self) -> anyhow::Result<&mut Stage> {
        match self {
            Self::Processes(stage) => Ok(stage),
            Self::Inside(..) | Self::Remote { .. } => bail!("only nodes in processes of this machine can be killed"),
        }
    }

    /// Publishes and ends what was started.
    pub(super) async fn close(self) {
        if let Self::Inside(_, nodes) = self {
            for node in nodes {
                node.stop().await;
            }
        }
    }
}

/// By process.
#[derive(Debug, Default)]
pub(super) struct NodesUsage(BTreeMap<u32, Usage>);

impl NodesUsage {
    /// The processor's time since an earlier moment. A process that is gone takes what it took meanwhile with it.
    pub(super) fn since(&self, before: &Self) -> Duration {
        let of = |(process, usage): (&u32, &Usage)| usage.since(before.0.get(process).copied().unwrap_or_default());
        self.0.iter().map(of).sum()
    }

    /// Memory of all together, bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.0.values().map(|usage| usage.resident_bytes).sum()
    }
}

/// Lines such as `kennel_bucket_requests_total{kind="put"} 12`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and not negative")]
fn count_requests(text: &str, sum: &mut BucketUse) {
    for line in text.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        if name.starts_with(cache_node::metrics::BUCKET_COST) {
            sum.cost_usd += value;
        } else if name.starts_with(cache_node::metrics::BUCKET_REQUESTS) {
            let kind = name.split_once("kind=\"").and_then(|(_, rest)| rest.split_once('"'));
            let kind = kind.map_or("other", |(kind, _)| kind);
            *sum.requests.entry(kind.to_owned()).or_default() += value as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_are() {
        let text = "# HELP x\nkennel_bucket_requests_total{kind=\"put\",node=\"1\"} 3\n\
                    kennel_bucket_requests_total{kind=\"put\",node=\"2\"} 1\nkennel_bucket_cost_usd 0.5\n";
        let mut sum = BucketUse::default();
        count_requests(text, &mut sum);
        assert_eq!(sum.requests.get("put"), Some(&4));
        assert!((sum.cost_usd - 0.5).abs() < 1e-12);
    }
}
