//! Which node a reader asks, when it asks again, and when it stops.
//!
//! [`Routes`] is what a client knows of the ring; [`Attempt`] is the machine of one request. Neither opens a
//! connection, reads a clock or draws from the system's randomness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kennel_protocol::ids::{Epoch, NodeId, ShardId};
use kennel_protocol::wire::{NodeAddress, View};
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

use crate::time::Instant;

/// The first pause after every node was tried once. A take-over takes a second or so; most troubles are shorter.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause between rounds: a reader comes back within it once the ring is well again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long a node that could not be reached is asked last.
pub const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// What a client knows of the ring.
#[derive(Debug, Default)]
pub struct Routes {
    shard_count: u16,
    home: Option<NodeId>,
    nodes: BTreeMap<NodeId, NodeAddress>,
    owners: BTreeMap<ShardId, (Epoch, Option<NodeId>)>,
    suspects: BTreeMap<NodeId, Instant>,
}

impl Routes {
    /// Takes a node's view in. Nodes are replaced; an owner only by one of the same or a newer epoch.
    pub fn learn(&mut self, view: &View) {
        self.shard_count = view.shard_count;
        self.nodes = view.nodes.iter().map(|node| (node.node, node.clone())).collect();
        self.suspects.retain(|node, _| self.nodes.contains_key(node));
        for shard in &view.shards {
            let known = self.owners.entry(shard.shard).or_default();
            if shard.epoch >= known.0 {
                *known = (shard.epoch, shard.owner);
            }
        }
    }

    /// Names the node that is asked first whenever it is well: the one on the reader's own host.
    pub fn set_home(&mut self, node: NodeId) {
        self.home = Some(node);
    }

    /// Asks `node` last for a while.
    pub fn suspect(&mut self, now: Instant, node: NodeId) {
        self.suspects.insert(node, now + SUSPECT_FOR);
    }

    /// Takes a suspicion back: the node answered.
    pub fn trust(&mut self, node: NodeId) {
        self.suspects.remove(&node);
    }

    /// The cluster's shard count; 0 before the first view.
    pub fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// Where a node can be reached.
    pub fn address(&self, node: NodeId) -> Option<&NodeAddress> {
        self.nodes.get(&node)
    }

    /// The nodes, in id order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeAddress> {
        self.nodes.values()
    }

    /// The owner of a shard, as far as is known.
    pub fn owner(&self, shard: ShardId) -> Option<NodeId> {
        self.owners.get(&shard).and_then(|(_, owner)| *owner)
    }

    /// The node to ask next: not asked yet, and the best of those.
    fn best(&self, now: Instant, shard: ShardId, hint: Option<NodeId>, asked: &BTreeSet<NodeId>) -> Option<NodeId> {
        let rank = |node: NodeId| {
            let suspected = self.suspects.get(&node).is_some_and(|until| now < *until);
            let wish = if Some(node) == hint {
                0
            } else if Some(node) == self.home {
                1
            } else if Some(node) == self.owner(shard) {
                2
            } else {
                3
            };
            // Strangers are spread by shard, so that one dead home does not send every reader to one neighbour.
            let spread = node.0.wrapping_add(u64::from(shard.0)) % (self.nodes.len() as u64).max(1);
            (suspected, wish, spread, node)
        };
        self.nodes.keys().copied().filter(|node| !asked.contains(node)).min_by_key(|node| rank(*node))
    }
}

/// What a request met at a node, as far as routing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// No connection, or it broke.
    Unreachable,
    /// The node cannot answer for the shard, and may know who can.
    Moved(Option<NodeId>),
    /// The node is overloaded, or its bucket is: ask it again after a pause.
    Busy,
    /// The shard has no owner, or the node knows less than the reader. Another may know more.
    Behind,
}

/// What to do next for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask this node.
    Ask(NodeId),
    /// Nobody is left in this round: wait until then, fetch the view from any node, then ask for the next step.
    WaitForView(Instant),
    /// The deadline has come, or will during the pause. Tell the caller what was met last.
    GiveUp,
}

/// One request on its way through the ring.
#[derive(Debug)]
pub struct Attempt {
    shard: ShardId,
    deadline: Instant,
    asked: BTreeSet<NodeId>,
    hint: Option<NodeId>,
    round: u32,
    jitter: Pcg64Mcg,
}

impl Attempt {
    /// A request about a shard that gives up at `deadline`. The seed spreads readers that fail together.
    pub fn new(shard: ShardId, deadline: Instant, seed: u64) -> Self {
        let jitter = Pcg64Mcg::new(u128::from(seed) << 1 | 1);
        Self { shard, deadline, asked: BTreeSet::new(), hint: None, round: 0, jitter }
    }

    /// Asks this node first, if it is known: for questions that the owner answers best.
    #[must_use]
    pub fn preferring(mut self, node: Option<NodeId>) -> Self {
        self.hint = node;
        self
    }

    /// What to do now. Each node is asked once a round; a round without an answer is followed by a growing pause.
    pub fn next(&mut self, now: Instant, routes: &Routes) -> Step {
        if now >= self.deadline {
            return Step::GiveUp;
        }
        if let Some(node) = routes.best(now, self.shard, self.hint.take(), &self.asked) {
            self.asked.insert(node);
            return Step::Ask(node);
        }
        self.asked.clear();
        let until = now + self.pause();
        if until >= self.deadline { Step::GiveUp } else { Step::WaitForView(until) }
    }

    /// Says what the node asked last answered.
    pub fn met(&mut self, now: Instant, routes: &mut Routes, node: NodeId, setback: Setback) {
        match setback {
            Setback::Unreachable => routes.suspect(now, node),
            Setback::Moved(to) => self.hint = to.filter(|to| !self.asked.contains(to)),
            Setback::Busy | Setback::Behind => {}
        }
    }

    /// Between half and the whole of a doubling pause.
    fn pause(&mut self) -> Duration {
        let full = BACKOFF_MIN.saturating_mul(1 << self.round.min(10)).min(BACKOFF_MAX);
        self.round += 1;
        let half = u64::try_from(full.as_micros() / 2).expect("a pause is at most a second");
        Duration::from_micros(half + self.jitter.next_u64() % (half + 1))
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::wire::ShardView;

    use super::*;

    const SHARD: ShardId = ShardId(0);

    fn routes(owner: u64) -> Routes {
        let node = |id| NodeAddress { node: NodeId(id), address: format!("127.0.0.1:{id}"), zone: String::new() };
        let shards = vec![ShardView { shard: SHARD, epoch: Epoch(4), owner: Some(NodeId(owner)) }];
        let mut routes = Routes::default();
        routes.learn(&View { shard_count: 8, nodes: (1..=3).map(node).collect(), shards });
        routes
    }

    fn second(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn home_then_owner_then_the_others_then_a_pause() {
        let mut routes = routes(3);
        routes.set_home(NodeId(2));
        let mut attempt = Attempt::new(SHARD, second(10), 1);
        let now = second(0);
        for expected in [2, 3, 1] {
            assert_eq!(attempt.next(now, &routes), Step::Ask(NodeId(expected)));
            attempt.met(now, &mut routes, NodeId(expected), Setback::Behind);
        }
        let Step::WaitForView(until) = attempt.next(now, &routes) else { panic!("everybody was asked") };
        assert!(until > now && until <= now + BACKOFF_MIN);
        assert_eq!(attempt.next(until, &routes), Step::Ask(NodeId(2)), "a new round begins at home");
    }

    #[test]
    fn a_dead_home_is_asked_last_until_it_answers() {
        let mut routes = routes(3);
        routes.set_home(NodeId(2));
        let mut first = Attempt::new(SHARD, second(10), 1);
        assert_eq!(first.next(second(0), &routes), Step::Ask(NodeId(2)));
        first.met(second(0), &mut routes, NodeId(2), Setback::Unreachable);
        assert_eq!(Attempt::new(SHARD, second(10), 1).next(second(1), &routes), Step::Ask(NodeId(3)));
        assert_eq!(Attempt::new(SHARD, second(10), 1).next(second(6), &routes), Step::Ask(NodeId(2)));
        routes.trust(NodeId(2));
        assert_eq!(Attempt::new(SHARD, second(10), 1).next(second(1), &routes), Step::Ask(NodeId(2)));
    }

    #[test]
    fn a_node_that_knows_better_is_believed_once() {
        let mut routes = routes(3);
        let mut attempt = Attempt::new(SHARD, second(10), 1);
        assert_eq!(attempt.next(second(0), &routes), Step::Ask(NodeId(3)));
        attempt.met(second(0), &mut routes, NodeId(3), Setback::Moved(Some(NodeId(1))));
        assert_eq!(attempt.next(second(0), &routes), Step::Ask(NodeId(1)));
        attempt.met(second(0), &mut routes, NodeId(1), Setback::Moved(Some(NodeId(3))));
        assert_eq!(attempt.next(second(0), &routes), Step::Ask(NodeId(2)), "no ping-pong between two nodes");
    }

    #[test]
    fn it_gives_up_in_time_and_pauses_grow_to_a_bound() {
        let routes = routes(1);
        let mut attempt = Attempt::new(SHARD, second(60), 7);
        let (mut now, mut rounds) = (second(0), 0);
        loop {
            match attempt.next(now, &routes) {
                Step::Ask(_) => {}
                Step::WaitForView(until) => {
                    assert!(until.since(now) <= BACKOFF_MAX);
                    (now, rounds) = (until, rounds + 1);
                }
                Step::GiveUp => break,
            }
        }
        assert!(now < second(60) && now > second(58), "{now}");
        assert!(rounds < 130, "{rounds} rounds in a minute");
    }

    #[test]
    fn an_older_view_does_not_bring_an_old_owner_back() {
        let mut routes = routes(3);
        let old = ShardView { shard: SHARD, epoch: Epoch(3), owner: Some(NodeId(1)) };
        routes.learn(&View { shard_count: 8, nodes: vec![], shards: vec![old] });
        assert_eq!(routes.owner(SHARD), Some(NodeId(3)));
    }
}
