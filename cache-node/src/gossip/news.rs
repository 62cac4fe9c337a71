//! What nodes tell each other, as short keys and texts, and what one node makes of all of it.
//!
//! Everything read here was written by somebody unknown: what does not parse or is too long is left out, never an error.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chitchat::{ChitchatId, NodeState};
use kennel_core::membership::{MEMBERS_MAX, Member, WEIGHT_MAX, Zone};
use kennel_protocol::ids::{Epoch, NodeId, ProcessId, ShardId};

const PROCESS: &str = "p";
const JOURNAL: &str = "j";
const QUIC: &str = "q";
const HTTP: &str = "h";
const ZONE: &str = "z";
const WEIGHT: &str = "w";
/// Set by a node that hands over what it owns: nothing new is placed on it.
pub(super) const DRAINING: &str = "drain";
/// Set by a node that is stopping.
pub(super) const LEFT: &str = "left";
/// Followed by a shard: `epoch:stored`, from the node that owns it.
const OWNS: &str = "o";

/// Longest address or zone that is believed; a host name has at most 253 letters.
const TEXT_BYTES_MAX: usize = 262;

/// One node's word about a shard that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Of which epoch.
    pub epoch: Epoch,
    /// How far the shard is stored: any number that only grows while the owner makes progress (PROTOCOL R27).
    pub stored: u64,
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.stored)
    }
}

impl FromStr for Ownership {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, stored) = text.split_once(':').ok_or(())?;
        Ok(Self { epoch: epoch.parse().map_err(|_| ())?, stored: stored.parse().map_err(|_| ())? })
    }
}

/// What one node sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipView {
    /// The node that sees it.
    pub node: NodeId,
    /// Its process.
    pub process: ProcessId,
    /// The live nodes in node order, the newest process of each; not settled.
    pub members: Vec<Member>,
    /// The addresses of their status pages.
    pub http: BTreeMap<NodeId, String>,
    /// Per shard the newest epoch that a live node claims to own, and that node.
    pub shards: BTreeMap<ShardId, (NodeId, Ownership)>,
}

impl GossipView {
    /// What a node sees before it has heard of any other.
    pub(super) fn alone(member: Member, http: String) -> Self {
        Self {
            node: member.node,
            process: member.process,
            http: BTreeMap::from([(member.node, http)]),
            members: vec![member],
            shards: BTreeMap::new(),
        }
    }

    /// Takes what was seen; whether that changed anything.
    pub(super) fn update(&mut self, seen: Seen) -> bool {
        let Seen { members, http, shards } = seen;
        let changed = self.members != members || self.http != http || self.shards != shards;
        (self.members, self.http, self.shards) = (members, http, shards);
        changed
    }
}

/// What the live nodes say.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) members: Vec<Member>,
    http: BTreeMap<NodeId, String>,
    shards: BTreeMap<ShardId, (NodeId, Ownership)>,
}

/// The keys by which a node introduces itself.
pub(super) fn announce(member: &Member, http: &str) -> Vec<(String, String)> {
    [
        (PROCESS, member.process.to_string()),
        (JOURNAL, member.journal.to_string()),
        (QUIC, member.address.clone()),
        (HTTP, http.to_owned()),
        (ZONE, member.zone.to_string()),
        (WEIGHT, member.weight.to_string()),
    ]
    .map(|(key, text)| (key.to_owned(), text))
    .to_vec()
}

/// The key under which an owner speaks of its shard.
pub(super) fn shard_key(shard: ShardId) -> String {
    format!("{OWNS}{shard}")
}

/// What the live nodes say, the newest start of each. Nodes that left or do not introduce themselves are not there.
pub(super) fn view(live: &BTreeMap<ChitchatId, NodeState>, shard_count: u16) -> Seen {
    let mut newest: BTreeMap<NodeId, (&ChitchatId, &NodeState)> = BTreeMap::new();
    for (id, keys) in live {
        // Ids are in order of node and then generation, so a later one replaces an earlier one.
        if let Ok(node) = id.node_id.parse() {
            newest.insert(node, (id, keys));
        }
    }
    let mut seen = Seen::default();
    for (node, (_, keys)) in newest.into_iter().filter(|(_, (_, keys))| keys.get(LEFT).is_none()).take(MEMBERS_MAX) {
        let Some(member) = member(node, keys) else { continue };
        seen.members.push(member);
        seen.http.extend(text(keys, HTTP).map(|http| (node, http)));
        for (shard, ownership) in owned(keys, shard_count) {
            let best = seen.shards.entry(shard).or_insert((node, ownership));
            if best.1.epoch < ownership.epoch {
                *best = (node, ownership);
            }
        }
    }
    seen
}

fn member(node: NodeId, keys: &NodeState) -> Option<Member> {
    let weight: u32 = keys.get(WEIGHT)?.parse().ok()?;
    Some(Member {
        node,
        process: keys.get(PROCESS)?.parse().ok()?,
        journal: keys.get(JOURNAL)?.parse().ok()?,
        address: text(keys, QUIC)?,
        zone: Zone(text(keys, ZONE)?),
        weight: (1..=WEIGHT_MAX).contains(&weight).then_some(weight)?,
        draining: keys.get(DRAINING).is_some(),
    })
}

fn text(keys: &NodeState, key: &str) -> Option<String> {
    keys.get(key).filter(|text| text.len() <= TEXT_BYTES_MAX).map(str::to_owned)
}

fn owned(keys: &NodeState, shard_count: u16) -> impl Iterator<Item = (ShardId, Ownership)> {
    keys.key_values().filter_map(move |(key, text)| {
        let shard: ShardId = key.strip_prefix(OWNS)?.parse().ok()?;
        (shard.0 < shard_count).then_some((shard, text.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::JournalId;

    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> NodeState {
        let mut keys = NodeState::for_test();
        for (key, text) in announce(&member_of(1), "127.0.0.1:7402") {
            keys.set(key, text);
        }
        for (key, text) in pairs {
            keys.set(key, text);
        }
        keys
    }

    fn member_of(node: u64) -> Member {
        Member {
            node: NodeId(node),
            process: ProcessId(11),
            journal: JournalId(22),
            address: "127.0.0.1:7400".to_owned(),
            zone: Zone::from("a"),
            weight: 100,
            draining: false,
        }
    }

    fn live(nodes: &[(&str, u64, NodeState)]) -> BTreeMap<ChitchatId, NodeState> {
        let id = |node: &str, generation| ChitchatId::new(node, generation, ([127, 0, 0, 1], 1).into());
        nodes.iter().map(|(node, generation, keys)| (id(node, *generation), keys.clone())).collect()
    }

    #[test]
    fn a_node_that_drains_stays_and_says_so() {
        let seen = view(&live(&[("1", 5, keys(&[(DRAINING, "1")]))]), 8);
        assert_eq!(seen.members, [Member { draining: true, ..member_of(1) }]);
    }

    #[test]
    fn what_is_announced_is_seen() {
        let seen = view(&live(&[("1", 5, keys(&[("o3", "7:900")]))]), 8);
        assert_eq!(seen.members, [member_of(1)]);
        assert_eq!(seen.http[&NodeId(1)], "127.0.0.1:7402");
        assert_eq!(seen.shards[&ShardId(3)], (NodeId(1), Ownership { epoch: Epoch(7), stored: 900 }));
    }

    #[test]
    fn the_newest_epoch_and_the_newest_process_count() {
        let seen = view(
            &live(&[
                ("1", 5, keys(&[("p", "00000000000000000000000000000001")])),
                ("1", 6, keys(&[("p", "00000000000000000000000000000002"), ("o3", "8:1")])),
                ("2", 1, keys(&[("o3", "9:0")])),
                ("3", 1, keys(&[("o3", "7:5000")])),
            ]),
            8,
        );
        assert_eq!(seen.members[0].process, ProcessId(2));
        assert_eq!(seen.members.len(), 3);
        assert_eq!(seen.shards[&ShardId(3)], (NodeId(2), Ownership { epoch: Epoch(9), stored: 0 }));
    }

    #[test]
    fn nonsense_is_left_out() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let nodes: Vec<(&str, u64, NodeState)> = vec![
            ("somebody", 1, keys(&[])),
            ("4", 1, NodeState::for_test()),
            ("5", 1, keys(&[("w", "0")])),
            ("6", 1, keys(&[("w", "1001")])),
            ("7", 1, keys(&[("q", &long)])),
            ("8", 1, keys(&[("left", "1")])),
            ("9", 1, keys(&[("o8", "1:1"), ("o1", "1"), ("o2", "x:y"), ("ox", "1:1"), ("o70000", "1:1")])),
        ];
        let seen = view(&live(&nodes), 8);
        assert_eq!(seen.members.iter().map(|member| member.node.0).collect::<Vec<_>>(), [9]);
        assert!(seen.shards.is_empty(), "{:?}", seen.shards);
    }
}
