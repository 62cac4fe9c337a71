//! The network of a run: a namespace for each node, joined by a bridge, and ways to trouble the links.
//!
//! Where namespaces are not permitted every node has a loopback address of its own, and links cannot be troubled. Frames
//! are dropped in silence by a neighbour's address that nobody has: it needs no packet filter, works in one direction
//! at a time, and hits connections that are up. Packets are lost where they arrive: a sender that is told of its loss would
//! not wait for an acknowledgement.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use anyhow::{Context, bail};

use super::command::{run, run_now};
use super::schedule::LinkTrouble;

/// Networks that runs may have at once, on one machine.
const SLOTS: u8 = 200;
/// Whoever holds this port on a network's loopback address has the network.
const SLOT_PORT: u16 = 7_390;
/// Nodes begin at this host number.
const FIRST_HOST: u8 = 10;
/// An address that no interface of a run has.
const NOBODY: &str = "02:00:00:00:00:fe";

/// How nodes are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each in a namespace.
    Namespaces,
    /// All on the loopback.
    Loopback,
}

/// One run's network. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Network {
    kind: Kind,
    slot: u8,
    label: String,
    nodes: u8,
    /// How many troubles let a node's frames to an address vanish at the moment.
    blind: BTreeMap<(u8, IpAddr), u32>,
    /// Held until the end, so that nobody else takes the slot.
    _claim: UdpSocket,
}

impl Network {
    /// Builds a network that no other run on this machine has.
    ///
    /// # Errors
    /// If the machine does not permit it.
    ///
    /// # Cancel safety
    /// What was built is removed.
    pub(super) async fn build(kind: Kind, nodes: u8) -> anyhow::Result<Self> {
        let claim = |slot: u8| {
            let claim = UdpSocket::bind((Ipv4Addr::new(127, 77, slot, 1), SLOT_PORT)).ok()?;
            Some((slot, claim))
        };
        let (slot, claim) = (1..=SLOTS).find_map(claim).context("more runs than networks")?;
        let label = format!("kc{slot}");
        let network = Self { kind, slot, label, nodes, blind: BTreeMap::new(), _claim: claim };
        if kind == Kind::Namespaces {
            network.build_namespaces().await?;
        }
        Ok(network)
    }

    async fn build_namespaces(&self) -> anyhow::Result<()> {
        // A run that was killed could not clean up; its slot is ours now.
        self.tear_down();
        let (label, host) = (&self.label, self.host());
        run(&format!("ip link add {label}b type bridge")).await?;
        run(&format!("ip addr add {host}/24 dev {label}b")).await?;
        run(&format!("ip link set {label}b up")).await?;
        for node in 1..=self.nodes {
            let (name, address) = (self.namespace(node), self.address(node));
            run(&format!("ip netns add {name}")).await?;
            run(&format!("ip link add {label}v{node} type veth peer name eth0 netns {name}")).await?;
            run(&format!("ip link set {label}v{node} master {label}b up")).await?;
            run(&format!("ip -n {name} addr add {address}/24 dev eth0")).await?;
            run(&format!("ip -n {name} link set eth0 up")).await?;
            run(&format!("ip -n {name} link set lo up")).await?;
        }
        Ok(())
    }

    /// Where this process, the bucket's proxy included, is reached by the nodes.
    pub(super) fn host(&self) -> IpAddr {
        self.number(1)
    }

    /// A node's address; nodes are counted from 1.
    pub(super) fn address(&self, node: u8) -> IpAddr {
        self.number(FIRST_HOST + node)
    }

    fn number(&self, host: u8) -> IpAddr {
        match self.kind {
            Kind::Namespaces => Ipv4Addr::new(10, 77, self.slot, host).into(),
            Kind::Loopback => Ipv4Addr::new(127, 77, self.slot, host).into(),
        }
    }

    /// The words that put a command into a node's network.
    pub(super) fn enter(&self, node: u8) -> Vec<String> {
        match self.kind {
            Kind::Namespaces => {
                ["ip", "netns", "exec"].map(str::to_owned).into_iter().chain([self.namespace(node)]).collect()
            }
            Kind::Loopback => Vec::new(),
        }
    }

    /// A name that no other run on this machine has.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    fn namespace(&self, node: u8) -> String {
        format!("{}n{node}", self.label)
    }

    /// Lets frames from one node to another vanish, or no longer.
    ///
    /// # Errors
    /// If the machine does not permit it.
    ///
    /// # Cancel safety
    /// Done or not done.
    pub(super) async fn drop_frames(&mut self, from: u8, to: u8, on: bool) -> anyhow::Result<()> {
        self.blind(from, self.address(to), on).await
    }

    /// Lets frames between a node and this process vanish, or no longer: readers and shippers lose it.
    ///
    /// # Errors
    /// If the machine does not permit it.
    ///
    /// # Cancel safety
    /// Done or not done.
    pub(super) async fn drop_frames_to_host(&mut self, node: u8, on: bool) -> anyhow::Result<()> {
        self.blind(node, self.host(), on).await
    }

    /// Troubles overlap: the frames come through again when the last one that stops them is over.
    async fn blind(&mut self, node: u8, to: IpAddr, on: bool) -> anyhow::Result<()> {
        let name = self.namespace(node);
        let count = self.blind.entry((node, to)).or_default();
        if on {
            *count += 1;
            return run(&format!("ip -n {name} neigh replace {to} lladdr {NOBODY} dev eth0 nud permanent")).await;
        }
        *count = count.saturating_sub(1);
        if *count > 0 {
            return Ok(());
        }
        run(&format!("ip -n {name} neigh del {to} dev eth0")).await
    }

    /// Troubles what a node sends.
    ///
    /// # Errors
    /// If the machine cannot do it.
    ///
    /// # Cancel safety
    /// Done or not done.
    pub(super) async fn trouble(&self, node: u8, trouble: LinkTrouble, by: LossBy) -> anyhow::Result<()> {
        let name = self.namespace(node);
        let qdisc = format!("tc -n {name} qdisc replace dev eth0 root");
        match trouble {
            LinkTrouble::Narrow { kilobits_per_second } => {
                run(&format!("{qdisc} tbf rate {kilobits_per_second}kbit burst 16kb latency 300ms")).await
            }
            LinkTrouble::Delay { millis } => {
                run(&format!("{qdisc} netem delay {millis}ms {millis}ms reorder 25% 50%")).await
            }
            LinkTrouble::Loss { percent } if by == LossBy::Netem => {
                run(&format!("{qdisc} netem loss {percent}%")).await
            }
            LinkTrouble::Loss { percent } => {
                let nft = format!("ip netns exec {name} nft");
                run(&format!("{nft} add table inet kennel")).await?;
                let hook = "{ type filter hook input priority 0 ; }";
                run(&format!("{nft} add chain inet kennel in {hook}")).await?;
                run(&format!("{nft} add rule inet kennel in numgen random mod 100 < {percent} drop")).await
            }
        }
    }

    /// Ends the trouble of a node's link.
    ///
    /// # Errors
    /// If there was none.
    ///
    /// # Cancel safety
    /// Done or not done.
    pub(super) async fn soothe(&self, node: u8, trouble: LinkTrouble, by: LossBy) -> anyhow::Result<()> {
        let name = self.namespace(node);
        if matches!(trouble, LinkTrouble::Loss { .. }) && by == LossBy::Filter {
            return run(&format!("ip netns exec {name} nft delete table inet kennel")).await;
        }
        run(&format!("tc -n {name} qdisc del dev eth0 root")).await
    }

    fn tear_down(&self) {
        let is_there = |name: &str| Path::new("/sys/class/net").join(name).exists();
        for node in 1..=FIRST_HOST {
            let (name, link) = (self.namespace(node), format!("{}v{node}", self.label));
            // Its end in the namespace would hold it as long as any socket there lingers.
            if is_there(&link) {
                run_now(&format!("ip link del {link}"));
            }
            if Path::new("/run/netns").join(&name).exists() {
                run_now(&format!("ip netns del {name}"));
            }
        }
        let bridge = format!("{}b", self.label);
        if is_there(&bridge) {
            run_now(&format!("ip link del {bridge}"));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.kind == Kind::Namespaces {
            self.tear_down();
        }
    }
}

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossBy {
    /// The kernel's network emulator.
    Netem,
    /// A rule of the packet filter.
    Filter,
}

/// Whether namespaces can be had here.
///
/// # Errors
/// Why not.
pub(super) async fn probe() -> anyhow::Result<()> {
    let mut network = Network::build(Kind::Namespaces, 2).await?;
    network.drop_frames(1, 2, true).await?;
    network.drop_frames(1, 2, false).await
}

/// Which of all link troubles can be had.
///
/// # Errors
/// Why not this one.
pub(super) async fn probe_trouble(trouble: LinkTrouble, by: LossBy) -> anyhow::Result<()> {
    let network = Network::build(Kind::Namespaces, 1).await?;
    network.trouble(1, trouble, by).await?;
    if network.soothe(1, trouble, by).await.is_err() {
        bail!("it cannot be ended");
    }
    Ok(())
}
