//! The live nodes, and the machine that lets only lasting changes of them through.
//!
//! Membership decides when somebody tries something, never who is right: claims and seals do that (PROTOCOL R1).
//! This module knows nothing of gossip; whoever observes nodes reports the whole live set each time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kennel_protocol::ids::{JournalId, NodeId, ProcessId};

use crate::time::Instant;

/// Most nodes in a membership. The ring is computed over all of them whenever one changes, and a cluster that needs
/// more hosts than this needs more clusters.
pub const MEMBERS_MAX: usize = 256;

/// Largest weight of a node. A weight is a count of points on the ring, so this bounds the ring at 256,000 points.
pub const WEIGHT_MAX: u32 = 1_000;

/// Where traffic is free: an availability zone, a rack. The empty zone is a zone like any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zone(pub String);

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Zone {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// One live node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// This start of its process.
    pub process: ProcessId,
    /// The journal that it holds (PROTOCOL R5).
    pub journal: JournalId,
    /// Its QUIC address, `host:port`.
    pub address: String,
    /// Its zone.
    pub zone: Zone,
    /// Its share of the shards: points on the ring, `1..=WEIGHT_MAX`.
    pub weight: u32,
    /// It is being drained: it holds what it holds, and nothing new is placed on it.
    pub draining: bool,
}

/// A set of live nodes that cannot be a membership.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Two processes run under one node id. Fix: give one of them another `node.id`.
    #[error("node {node} is there twice, as process {first} and as process {second}: give one another `node.id`")]
    TwiceTheSame {
        /// The id that both use.
        node: NodeId,
        /// One of the processes.
        first: ProcessId,
        /// The other.
        second: ProcessId,
    },
    /// A weight outside `1..=WEIGHT_MAX`. Fix: the `node.weight` of that node.
    #[error("node {node} has weight {weight}: `node.weight` is 1 to {WEIGHT_MAX}")]
    Weight {
        /// Whose weight.
        node: NodeId,
        /// What it is.
        weight: u32,
    },
    /// More nodes than [`MEMBERS_MAX`]. Fix: split the cluster.
    #[error("{count} nodes are more than the {MEMBERS_MAX} of one cluster")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// The live nodes with weights and zones, in node order, each node once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    version: u64,
    members: Vec<Member>,
}

impl Membership {
    /// A membership of these nodes, in any order.
    pub fn new(version: u64, mut members: Vec<Member>) -> Result<Self, MembershipError> {
        if members.len() > MEMBERS_MAX {
            return Err(MembershipError::TooMany { count: members.len() });
        }
        members.sort_by_key(|member| (member.node, member.process));
        for pair in members.windows(2) {
            if pair[0].node == pair[1].node {
                let (node, first, second) = (pair[0].node, pair[0].process, pair[1].process);
                return Err(MembershipError::TwiceTheSame { node, first, second });
            }
        }
        match members.iter().find(|member| !(1..=WEIGHT_MAX).contains(&member.weight)) {
            Some(member) => Err(MembershipError::Weight { node: member.node, weight: member.weight }),
            None => Ok(Self { version, members }),
        }
    }

    /// Rises with every change that settled in this process; other processes count on their own.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The nodes, in node order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The node of this id, if it lives.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.binary_search_by_key(&node, |member| member.node).ok().map(|place| &self.members[place])
    }

    /// The node that holds this journal. A journal that two nodes advertise (a copied disk) is held by nobody: no
    /// answer of either could be told from the other's.
    pub fn holder(&self, journal: JournalId) -> Option<&Member> {
        let mut holders = self.members.iter().filter(|member| member.journal == journal);
        let first = holders.next()?;
        holders.next().is_none().then_some(first)
    }
}

/// A change of one node that was seen and has not stood for long enough yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// The node as it now looks; `None` when it is gone.
    becomes: Option<Member>,
    /// Since when it has looked like this without a break.
    since: Instant,
}

/// Lets a change of the live nodes through once it stood for the settle time.
///
/// Changes are waited for together, so a cluster that starts or stops makes one new membership and not many. A node that
/// flaps delays the others by one more settle time at most, and is itself never let through while it flaps.
#[derive(Debug)]
pub struct Settled {
    settle: Duration,
    current: Option<Membership>,
    pending: BTreeMap<NodeId, Change>,
}

impl Settled {
    /// Waits `settle` before it believes a change, the first view included.
    pub fn new(settle: Duration) -> Self {
        Self { settle, current: None, pending: BTreeMap::new() }
    }

    /// Takes what is seen now: the whole live set. Returns the new membership if one settled with this.
    ///
    /// # Errors
    /// The set cannot be a membership; the machine keeps what it knew, and the report of a later set heals it.
    pub fn observe(&mut self, now: Instant, seen: Vec<Member>) -> Result<Option<&Membership>, MembershipError> {
        let seen = Membership::new(0, seen)?;
        let known: Vec<NodeId> = self.settled_members().iter().map(|member| member.node).collect();
        let pending: Vec<NodeId> = self.pending.keys().copied().collect();
        let fresh = seen.members().iter().map(|member| member.node);
        for node in known.into_iter().chain(pending).chain(fresh) {
            self.note(now, node, seen.member(node));
        }
        Ok(self.expire(now))
    }

    /// Lets through what has stood for long enough. Returns the new membership if there is one.
    pub fn expire(&mut self, now: Instant) -> Option<&Membership> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let mut members: BTreeMap<NodeId, Member> =
            self.settled_members().iter().map(|member| (member.node, member.clone())).collect();
        for (node, change) in self.pending.extract_if(.., |_, change| change.since + self.settle <= now) {
            match change.becomes {
                Some(member) => members.insert(node, member),
                None => members.remove(&node),
            };
        }
        let version = self.current.as_ref().map_or(0, Membership::version) + 1;
        // Nodes that settle at different times can exceed the bound together; then the older ones stay.
        let members = members.into_values().take(MEMBERS_MAX).collect();
        let settled = Membership::new(version, members).expect("each node once, each checked when it was observed");
        Some(self.current.insert(settled))
    }

    /// When to call [`Self::expire`] if nothing is observed before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let newest = self.pending.values().map(|change| change.since).max()?;
        let oldest = self.pending.values().map(|change| change.since).min()?;
        Some((newest + self.settle).min(oldest + self.settle * 2))
    }

    /// The membership that stands; `None` until the first one settled.
    pub fn current(&self) -> Option<&Membership> {
        self.current.as_ref()
    }

    fn note(&mut self, now: Instant, node: NodeId, seen: Option<&Member>) {
        if self.current.as_ref().and_then(|current| current.member(node)) == seen {
            self.pending.remove(&node);
            return;
        }
        let change = Change { becomes: seen.cloned(), since: now };
        let standing = self.pending.entry(node).or_insert_with(|| change.clone());
        if standing.becomes != change.becomes {
            *standing = change;
        }
    }

    fn settled_members(&self) -> &[Member] {
        self.current.as_ref().map_or(&[], Membership::members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64) -> Member {
        Member {
            node: NodeId(node),
            process: ProcessId(u128::from(node)),
            journal: JournalId(u128::from(node)),
            address: format!("127.0.0.1:{}", 7400 + node),
            zone: Zone::from("a"),
            weight: 100,
            draining: false,
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn nodes(membership: Option<&Membership>) -> Option<Vec<u64>> {
        Some(membership?.members().iter().map(|member| member.node.0).collect())
    }

    fn observe(settled: &mut Settled, millis: u64, seen: &[u64]) -> Option<Vec<u64>> {
        let seen = seen.iter().copied().map(member).collect();
        nodes(settled.observe(at(millis), seen).expect("a good view"))
    }

    #[test]
    fn a_membership_is_sorted_and_found_by_node_and_journal() {
        let membership = Membership::new(7, vec![member(3), member(1)]).expect("a membership");
        assert_eq!(nodes(Some(&membership)), Some(vec![1, 3]));
        assert_eq!(membership.member(NodeId(3)), Some(&member(3)));
        assert_eq!(membership.member(NodeId(2)), None);
        assert_eq!(membership.holder(JournalId(1)), Some(&member(1)));
        assert_eq!(membership.holder(JournalId(9)), None);
    }

    #[test]
    fn a_membership_refuses_what_it_cannot_be() {
        let twice = Membership::new(1, vec![member(1), Member { process: ProcessId(9), ..member(1) }]);
        assert!(matches!(twice, Err(MembershipError::TwiceTheSame { node: NodeId(1), .. })));
        for weight in [0, WEIGHT_MAX + 1] {
            let weighed = Membership::new(1, vec![Member { weight, ..member(1) }]);
            assert_eq!(weighed, Err(MembershipError::Weight { node: NodeId(1), weight }));
        }
        let crowd = Membership::new(1, (0..=256).map(member).collect());
        assert_eq!(crowd, Err(MembershipError::TooMany { count: 257 }));
    }

    #[test]
    fn a_copied_journal_has_no_holder() {
        let copied = Member { journal: JournalId(1), ..member(2) };
        let membership = Membership::new(1, vec![member(1), copied]).expect("a membership");
        assert_eq!(membership.holder(JournalId(1)), None);
    }

    #[test]
    fn a_start_makes_one_membership() {
        let mut settled = Settled::new(Duration::from_secs(2));
        assert_eq!(settled.poll_timeout(), None);
        assert_eq!(observe(&mut settled, 0, &[1]), None);
        assert_eq!(observe(&mut settled, 500, &[1, 2]), None);
        assert_eq!(settled.poll_timeout(), Some(at(2_500)), "the first node waits for the second");
        assert_eq!(nodes(settled.expire(at(2_499))), None);
        assert_eq!(nodes(settled.expire(at(2_500))), Some(vec![1, 2]));
        assert_eq!(settled.current().map(Membership::version), Some(1));
        assert_eq!(settled.poll_timeout(), None);
    }

    #[test]
    fn a_blink_changes_nothing() {
        let mut settled = Settled::new(Duration::from_secs(2));
        observe(&mut settled, 0, &[1, 2]);
        assert_eq!(observe(&mut settled, 2_000, &[1, 2]), Some(vec![1, 2]));
        observe(&mut settled, 3_000, &[1]);
        assert_eq!(observe(&mut settled, 4_999, &[1, 2]), None);
        assert_eq!(settled.poll_timeout(), None);
        assert_eq!(settled.current().map(Membership::version), Some(1));
    }

    /// F25.
    #[test]
    fn a_node_that_flaps_twenty_times_within_the_settle_time_changes_nothing() {
        let mut settled = Settled::new(Duration::from_secs(2));
        observe(&mut settled, 0, &[1, 2, 3]);
        observe(&mut settled, 2_000, &[1, 2, 3]);
        for flap in 0..20 {
            let gone_at = 10_000 + flap * 2_500;
            assert_eq!(observe(&mut settled, gone_at, &[1, 2]), None);
            assert_eq!(nodes(settled.expire(at(gone_at + 1_900))), None);
            assert_eq!(observe(&mut settled, gone_at + 1_950, &[1, 2, 3]), None, "flap {flap}");
        }
        assert_eq!(settled.current().map(Membership::version), Some(1));
    }

    #[test]
    fn a_flapping_node_does_not_hold_up_the_loss_of_another() {
        let mut settled = Settled::new(Duration::from_secs(2));
        observe(&mut settled, 0, &[1, 2, 3]);
        observe(&mut settled, 2_000, &[1, 2, 3]);
        let mut lost_at = None;
        for step in 0_u64..10 {
            let now = 10_000 + step * 1_000;
            let seen: &[u64] = if step % 2 == 0 { &[1] } else { &[1, 2] };
            if observe(&mut settled, now, seen) == Some(vec![1, 2]) {
                lost_at.get_or_insert(now);
            }
        }
        assert_eq!(lost_at, Some(13_000), "node 3 went at 10 s and was told apart from the flapping node 2");
    }

    #[test]
    fn a_restart_is_a_change() {
        let mut settled = Settled::new(Duration::from_secs(2));
        observe(&mut settled, 0, &[1]);
        observe(&mut settled, 2_000, &[1]);
        let restarted = Member { process: ProcessId(77), ..member(1) };
        settled.observe(at(3_000), vec![restarted.clone()]).expect("a good view");
        let membership = settled.expire(at(5_000)).expect("a new membership");
        assert_eq!((membership.version(), membership.members()), (2, &[restarted][..]));
    }

    #[test]
    fn a_bad_view_is_refused_and_forgotten() {
        let mut settled = Settled::new(Duration::from_secs(2));
        observe(&mut settled, 0, &[1]);
        assert!(settled.observe(at(100), vec![Member { weight: 0, ..member(2) }]).is_err());
        assert_eq!(observe(&mut settled, 2_000, &[1]), Some(vec![1]));
    }
}
