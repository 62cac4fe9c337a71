//! Scenarios as people write them: TOML of our own, with every default said here, and unknown keys refused.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytesize::ByteSize;
use kennel_client::{FabricChoice, FabricSettings};
use serde::{Deserialize, Serialize};

use super::omb;

/// The scenarios that come with the program, by name.
const BUILTIN: [(&str, &str); 13] = [
    ("ship", include_str!("../../scenarios/ship.toml")),
    ("read-hot", include_str!("../../scenarios/read-hot.toml")),
    ("follow", include_str!("../../scenarios/follow.toml")),
    ("read-cold", include_str!("../../scenarios/read-cold.toml")),
    ("scan-while-tailing", include_str!("../../scenarios/scan-while-tailing.toml")),
    ("many-partitions", include_str!("../../scenarios/many-partitions.toml")),
    ("owner-loss", include_str!("../../scenarios/owner-loss.toml")),
    ("s3-cost", include_str!("../../scenarios/s3-cost.toml")),
    ("quic-raw", include_str!("../../scenarios/quic-raw.toml")),
    ("shm", include_str!("../../scenarios/shm.toml")),
    ("rdma", include_str!("../../scenarios/rdma.toml")),
    ("most-ships", include_str!("../../scenarios/most-ships.toml")),
    ("most-reads", include_str!("../../scenarios/most-reads.toml")),
];

/// One load and what reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called in results.
    pub name: String,
    /// What it shows, one sentence.
    pub about: String,
    /// The nodes, where they are not somebody else's.
    #[serde(default)]
    pub ring: RingSection,
    /// How long it is measured.
    #[serde(default)]
    pub time: TimeSection,
    /// What is shipped while it is measured.
    #[serde(default)]
    pub ship: Option<ShipSection>,
    /// What is shipped before, as fast as it goes, and waited for until it is in the bucket.
    #[serde(default)]
    pub before: Option<BeforeSection>,
    /// Who reads.
    #[serde(default)]
    pub read: Vec<ReadSection>,
    /// What goes wrong, once a round.
    #[serde(default)]
    pub fault: Option<FaultSection>,
}

/// The nodes that are started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RingSection {
    /// How many.
    pub nodes: usize,
    /// Cores that all of them have together, dealt out in turns; load and readers have this machine's others. 0: whoever needs
    /// one has it.
    pub cores: usize,
    /// Settings beyond their defaults, as `cache-node --set` takes them.
    pub set: Vec<String>,
    /// The fabric over which nodes place answers and readers have them placed, where a reader asks for it.
    pub fabric: FabricSection,
}

/// Which fabric, in libfabric's words. Nothing in front of a real card but another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FabricSection {
    /// The provider.
    pub provider: String,
    /// The device, where there are several.
    pub domain: String,
    /// The own address, for providers with addresses of IP; empty for those without.
    pub source: String,
}

/// Rounds are measured one after the other; what changes between them is noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeSection {
    /// Not counted.
    #[serde(with = "humantime_serde")]
    pub warm_up: Duration,
    /// One round.
    #[serde(with = "humantime_serde")]
    pub round: Duration,
    /// How many.
    pub rounds: u32,
}

/// A load whose messages come by the clock, whether the ring keeps up or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipSection {
    /// Partitions, all equally busy unless `active` says otherwise.
    pub partitions: u32,
    /// How many of them get messages after the first one; 0: all.
    #[serde(default)]
    pub active: u32,
    /// Payload of a message, bytes.
    pub message_bytes: u32,
    /// Messages in a batch, which is what comes at once.
    pub messages_per_batch: u32,
    /// Payload a second over all partitions. `"0"`: as fast as the ring takes it.
    pub rate: ByteSize,
}

/// What is there before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeforeSection {
    /// Payload in all.
    pub bytes: ByteSize,
}

/// Readers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadSection {
    /// What they do.
    pub kind: ReadKind,
    /// How many; they take the partitions in turns.
    #[serde(default = "one")]
    pub readers: u32,
    /// Reads a second of each, by the clock. 0: the next one when the last is done. Followers have no rate.
    #[serde(default)]
    pub rate: f64,
    /// Most bytes of an answer.
    #[serde(default = "default_answer")]
    pub bytes: ByteSize,
    /// Sessions that they share, each of which asks another node first.
    #[serde(default = "default_sessions")]
    pub sessions: u32,
    /// Out of the memory that a node on this host shares.
    #[serde(default)]
    pub shared_memory: bool,
    /// Placed into the readers' memory by the ring's fabric. A node places answers of `fabric.placed_bytes_min` and more, to
    /// fetches that wait for nothing, and so never to followers.
    #[serde(default)]
    pub fabric: bool,
}

/// What a reader does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadKind {
    /// Reads what has just been acknowledged.
    Hot,
    /// Waits for what comes, from the end on; timed from when its batch was due at the source.
    Follow,
    /// Reads anywhere in what is in the bucket.
    Cold,
    /// Reads a partition from its beginning to its end, again and again.
    Scan,
    /// No ring: a round trip of this size over bare quinn, with the settings of our sessions.
    RawQuic,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSection {
    /// What.
    pub kind: FaultKind,
}

/// Faults that a scenario may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The owner of the first partition is killed in the middle of each round, and started again.
    KillOwner,
}

impl Default for RingSection {
    fn default() -> Self {
        Self { nodes: 3, cores: 0, set: Vec::new(), fabric: FabricSection::default() }
    }
}

impl Default for FabricSection {
    fn default() -> Self {
        Self { provider: "tcp;ofi_rxm".to_owned(), domain: String::new(), source: "127.0.0.1".to_owned() }
    }
}

impl FabricSection {
    /// What a node is told, as `cache-node --set` takes it: that it must have this fabric.
    pub(crate) fn assignments(&self) -> [String; 4] {
        let Self { provider, domain, source } = self;
        [
            "fabric.mode=require".to_owned(),
            format!("fabric.provider={provider}"),
            format!("fabric.domain={domain}"),
            format!("fabric.source={source}"),
        ]
    }

    /// What a reader is told: the same.
    pub(crate) fn settings(&self) -> FabricSettings {
        let set = |text: &String| (!text.is_empty()).then(|| text.clone());
        let choice = FabricChoice {
            provider: set(&self.provider),
            domain: set(&self.domain),
            source: set(&self.source),
            ..FabricChoice::default()
        };
        FabricSettings { required: true, choice, ..FabricSettings::default() }
    }
}

impl Default for TimeSection {
    fn default() -> Self {
        Self { warm_up: Duration::from_secs(3), round: Duration::from_secs(5), rounds: 5 }
    }
}

fn one() -> u32 {
    1
}

pub(super) fn default_sessions() -> u32 {
    4
}

fn default_answer() -> ByteSize {
    ByteSize::kib(100)
}

impl Scenario {
    /// The names of those that come with the program.
    pub fn names() -> Vec<&'static str> {
        BUILTIN.iter().map(|(name, _)| *name).collect()
    }

    /// By name, or from a file: TOML of our own, or a workload of the `OpenMessaging` Benchmark where the name ends in
    /// `.yaml` or `.yml`.
    ///
    /// # Errors
    /// If there is none, or it says what cannot be; the text names the key.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        let scenario = if let Some((_, text)) = BUILTIN.iter().find(|(known, _)| *known == name) {
            toml::from_str(text).with_context(|| format!("read the scenario {name}"))?
        } else {
            let path = Path::new(name);
            let known = Self::names().join(", ");
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{name} is neither a file that can be read nor one of {known}"))?;
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("yaml" | "yml") => omb::scenario(&text).with_context(|| format!("read the workload {name}"))?,
                _ => toml::from_str(&text).with_context(|| format!("read {name}"))?,
            }
        };
        Self::check(&scenario).with_context(|| format!("scenario {}", scenario.name))?;
        Ok(scenario)
    }

    /// Whether it asks for a ring at all.
    pub fn needs_ring(&self) -> bool {
        self.ship.is_some() || self.before.is_some() || self.read.iter().any(|read| read.kind != ReadKind::RawQuic)
    }

    fn check(&self) -> anyhow::Result<()> {
        let TimeSection { round, rounds, .. } = self.time;
        ensure!(rounds >= 1 && round >= Duration::from_millis(500), "time: at least one round of half a second");
        ensure!(!self.needs_ring() || self.ring.nodes >= 1, "ring.nodes: at least one");
        ensure!(self.ship.is_some() || !self.read.is_empty(), "nothing is shipped and nothing is read");
        let raw = self.read.iter().filter(|read| read.kind == ReadKind::RawQuic).count();
        ensure!(
            raw == 0 || !self.needs_ring(),
            "read.kind = \"raw-quic\" knows no ring: give it a scenario of its own"
        );
        ensure!(self.ship.is_some() || !self.needs_ring(), "ship: readers need to know what there is; give a load");
        if let Some(ship) = &self.ship {
            ensure!(ship.partitions >= 1, "ship.partitions: at least one");
            ensure!(ship.active <= ship.partitions, "ship.active: no more than partitions");
            ensure!((1..=100_000).contains(&ship.messages_per_batch), "ship.messages_per_batch: 1 to 100000");
            let batch = u64::from(ship.messages_per_batch) * u64::from(ship.message_bytes);
            ensure!(
                (1..=8 << 20).contains(&batch),
                "ship: a batch has 1 byte to 8 MiB of payload, this one has {batch}"
            );
        }
        for read in &self.read {
            ensure!(read.readers >= 1, "read.readers: at least one");
            ensure!(read.sessions >= 1, "read.sessions: at least one");
            ensure!(read.rate >= 0.0 && read.rate.is_finite(), "read.rate: not a number of reads");
            ensure!(read.bytes.as_u64() >= 1 && read.bytes.as_u64() <= 64 << 20, "read.bytes: 1 byte to 64 MiB");
            ensure!(
                !read.fabric || read.kind != ReadKind::Follow,
                "read.fabric: what a follower waits for is not placed"
            );
            ensure!(
                !(read.shared_memory && read.fabric),
                "read.fabric: an answer comes out of shared memory or by the fabric, not both"
            );
            ensure!(
                read.kind != ReadKind::Cold || self.before.is_some(),
                "read.kind = \"cold\" needs `before.bytes`: what lies in the bucket"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_can_be_read() {
        for name in Scenario::names() {
            let scenario = Scenario::load(name).expect(name);
            assert_eq!(scenario.name, name);
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let check = |text: &str, words: &str| {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("own.toml");
            std::fs::write(&path, text).expect("a file");
            let error = Scenario::load(path.to_str().expect("a name")).expect_err(text);
            assert!(format!("{error:#}").contains(words), "{error:#} does not say {words}");
        };
        let head = "name = \"own\"\nabout = \"x\"\n";
        let ship = "[ship]\npartitions = 1\nmessage_bytes = 10\nmessages_per_batch = 1\nrate = \"1 MB\"\n";
        check(&format!("{head}rounds = 3\n"), "unknown field `rounds`");
        check(head, "nothing is shipped");
        check(&format!("{head}{ship}[[read]]\nkind = \"cold\"\n"), "before.bytes");
        check(&format!("{head}{ship}[[read]]\nkind = \"warm\"\n"), "unknown variant `warm`");
        check(&format!("{head}[[read]]\nkind = \"hot\"\n"), "give a load");
        check(&format!("{head}{}", ship.replace("partitions = 1", "partitions = 0")), "ship.partitions");
        let error = Scenario::load("no-such").expect_err("there is none");
        assert!(format!("{error:#}").contains("read-hot"), "{error:#}");
    }
}
