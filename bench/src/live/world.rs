//! A running Iggy server, a ring with a gateway on every node, and shippers between them: all of them processes.

use std::fmt::Write;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kennel_client::{Client, ClientSettings, FetchRequest};
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::LiveArgs;
use super::server::{IggyServer, IggyServerSettings, free_address};
use crate::measure::stage::{Stage, directory_bucket};
use crate::measure::usage::Usage;

/// How long the ring may take to have what the server has.
const CATCH_UP_PATIENCE: Duration = Duration::from_mins(2);
/// Of a cluster.
const SERVERS: u8 = 3;
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// All processes of a scenario. Dropping it kills them.
#[derive(Debug)]
pub(super) struct World {
    /// The server; of a cluster, those that run, the first leader first.
    pub(super) servers: Vec<IggyServer>,
    pub(super) stage: Stage,
    shippers: Vec<Option<Child>>,
    programs: PathBuf,
    directory: PathBuf,
}

/// What the processes have taken up to one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// All servers together.
    pub(super) server: Usage,
    /// All nodes together.
    pub(super) nodes: Usage,
    /// All shippers together.
    pub(super) shippers: Usage,
}

impl World {
    /// Starts a server and three nodes, and so many shippers.
    pub(super) async fn start(args: &LiveArgs, shippers: usize) -> anyhow::Result<Self> {
        Self::beside(args, shippers, |directory| Ok(vec![single(args, directory)])).await
    }

    /// The same with a cluster of three servers.
    pub(super) async fn start_cluster(args: &LiveArgs, shippers: usize) -> anyhow::Result<Self> {
        Self::beside(args, shippers, |directory| cluster(args, directory)).await
    }

    async fn beside(
        args: &LiveArgs,
        shippers: usize,
        servers: impl FnOnce(&Path) -> anyhow::Result<Vec<IggyServerSettings>>,
    ) -> anyhow::Result<Self> {
        let directory = args.place.directory()?;
        let programs = crate::measure::programs(args.place.programs.as_deref())?;
        let data = directory.with_extension("iggy");
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("empty {}", data.display()))?;
        }
        let starting = servers(&data)?.into_iter().map(IggyServer::start);
        let servers = futures::future::try_join_all(starting).await?;
        let mut assignments = vec![directory_bucket(&directory)?, "gateway.listen=127.0.0.1:0".to_owned()];
        assignments.push(format!("gateway.origin={}", servers[0].address()));
        let mut stage = args.place.start(3, assignments)?;
        stage.whole().await?;
        let mut world = Self { servers, stage, shippers: Vec::new(), programs, directory };
        for at in 0..shippers {
            world.start_shipper(at)?;
        }
        Ok(world)
    }

    /// The server; of a cluster, the first that runs.
    pub(super) fn server(&self) -> &IggyServer {
        &self.servers[0]
    }

    /// Starts a shipper at a place where none runs.
    pub(super) fn start_shipper(&mut self, at: usize) -> anyhow::Result<()> {
        let (config, log) = (self.directory.join("shipper.toml"), self.directory.join(format!("shipper-{at}.log")));
        let listed =
            |addresses: Vec<SocketAddr>| addresses.iter().map(|at| format!("\"{at}\"")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "ring.addresses = [{}]\ntls.directory = {:?}\nhttp.listen = \"\"\n\
             iggy = {{ addresses = [{}], username = \"iggy\", password = \"iggy\" }}\n\
             barrier.interval = \"2s\"\nlog.filter = \"info,iggy=off\"\n",
            listed(self.stage.addresses()),
            self.directory.join("tls").display().to_string(),
            listed(self.servers.iter().map(IggyServer::address).collect()),
        );
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(self.programs.join("wal-shipper"));
        command.args(["run", "--config"]).arg(&config).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(output.try_clone().context("share the log")?).stderr(output);
        if self.shippers.len() <= at {
            self.shippers.resize_with(at + 1, || None);
        }
        self.shippers[at] = Some(command.spawn().context("start wal-shipper")?);
        Ok(())
    }

    /// Ends a shipper as a power cut would.
    pub(super) async fn kill_shipper(&mut self, at: usize) -> anyhow::Result<()> {
        let child = self.shippers.get_mut(at).and_then(Option::take);
        child.context("the shipper runs")?.kill().await.context("kill a shipper")
    }

    /// Fails if a process ended that nobody ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.stage.check()?;
        for (at, shipper) in self.shippers.iter_mut().enumerate() {
            let Some(child) = shipper else { continue };
            if let Some(status) = child.try_wait().context("look at a shipper")? {
                bail!("shipper {at} ended with {status}; see {}", self.directory.display());
            }
        }
        Ok(())
    }

    /// A reader whose home is this node.
    pub(super) async fn reader(&self, node: usize) -> anyhow::Result<Client> {
        let mut addresses = self.stage.addresses();
        addresses.rotate_left(node);
        Ok(Client::connect(ClientSettings::new(addresses), &self.stage.reader()?).await?)
    }

    /// Where the nodes' gateways listen.
    pub(super) async fn gateways(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let statuses = self.stage.statuses().await.into_iter().map(|status| status.context("a node does not answer"));
        let gateways = statuses.map(|status| {
            let gateway = status?.gateway.context("a node has no gateway")?;
            gateway.address.parse().context("read a gateway's address")
        });
        gateways.collect()
    }

    /// What the processes have taken by now.
    pub(super) fn taken(&self) -> anyhow::Result<Taken> {
        let sum = |processes: Vec<u32>| {
            processes.into_iter().try_fold(Usage::default(), |sum, process| {
                let one = Usage::of(process)?;
                anyhow::Ok(Usage {
                    processor: sum.processor + one.processor,
                    resident_bytes: sum.resident_bytes + one.resident_bytes,
                })
            })
        };
        let shippers = self.shippers.iter().flatten().filter_map(Child::id).collect();
        Ok(Taken {
            server: sum(self.servers.iter().map(IggyServer::process).collect::<Result<_, _>>()?)?,
            nodes: sum(self.stage.processes())?,
            shippers: sum(shippers)?,
        })
    }

    /// Where everything of the scenario lies.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Waits until the ring has a partition up to an offset; its key.
pub(super) async fn caught_up(
    client: &Client,
    (stream, topic, partition): (&str, &str, u32),
    end: Offset,
) -> anyhow::Result<PartitionKey> {
    let deadline = Instant::now() + CATCH_UP_PATIENCE;
    loop {
        let key = client.locate(stream, topic, PartitionId(partition)).await?;
        let committed = match key {
            Some(key) => client.fetch(FetchRequest::at(key, Offset(0))).await.map(|read| read.committed),
            None => Ok(Offset(0)),
        };
        if let (Some(key), Ok(committed)) = (key, &committed)
            && *committed >= end
        {
            return Ok(key);
        }
        ensure!(Instant::now() < deadline, "the ring is at {committed:?} of {end} in {stream}/{topic}/{partition}");
        sleep(LOOK).await;
    }
}

fn single(args: &LiveArgs, directory: &Path) -> IggyServerSettings {
    let (program, config) = (args.server.clone(), args.server_config.clone());
    IggyServerSettings { program, config, directory: directory.to_owned(), replica: None }
}

/// Three servers on the loopback that know each other from one file.
fn cluster(args: &LiveArgs, directory: &Path) -> anyhow::Result<Vec<IggyServerSettings>> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let config = directory.join("cluster.toml");
    // The server's own defaults fill in the rest.
    let mut text = "[cluster]\nenabled = true\nname = \"kennel-live\"\n".to_owned();
    let mut replicas = Vec::new();
    for replica in 0..SERVERS {
        let ports = (0..5).map(|_| Ok(free_address()?.port())).collect::<anyhow::Result<Vec<_>>>()?;
        let [tcp, quic, http, websocket, peers] = ports[..] else { bail!("five ports were asked for") };
        write!(
            text,
            "[[cluster.nodes]]\nname = \"node-{replica}\"\nip = \"127.0.0.1\"\nreplica_id = {replica}\n\
             ports = {{ tcp = {tcp}, quic = {quic}, http = {http}, websocket = {websocket}, tcp_replica = {peers} }}\n"
        )?;
        replicas.push((replica, SocketAddr::from((Ipv4Addr::LOCALHOST, tcp))));
    }
    std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let settings = replicas.into_iter().map(|(replica, address)| IggyServerSettings {
        program: args.server.clone(),
        config: Some(config.clone()),
        directory: directory.join(format!("replica-{replica}")),
        replica: Some((replica, address)),
    });
    Ok(settings.collect())
}
