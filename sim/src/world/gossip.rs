//! Who seems alive to whom: a guess that may be late, wrong and different on every node.

use core::time::Duration;
use std::sync::Arc;

use kennel_core::shard::Placement;

use super::{World, node_id};
use crate::event::Event;

/// How often a node looks.
const ROUND: Duration = Duration::from_millis(150);

impl World {
    /// A node looks who is alive. What it sees twice in a row has settled.
    pub(super) fn gossip(&mut self, index: usize) {
        let jitter = self.draws.gossip.duration(Duration::ZERO, Duration::from_millis(50));
        self.after(ROUND + jitter, Event::Gossip { node: index });
        if !self.nodes[index].runs() {
            return;
        }
        let believed = self.nodes[index].deluded.clone().filter(|(until, _)| self.now < *until);
        let members = match believed {
            Some((_, members)) => members,
            None => (0..self.nodes.len()).filter(|other| self.seems_alive(index, *other)).collect(),
        };
        let view = self.placement_of(&members);
        let node = &mut self.nodes[index];
        if view != *node.seen {
            node.seen = Arc::new(view);
        } else if node.seen != node.placement {
            let placement = Arc::clone(&node.seen);
            let boot = node.boot;
            let delay = self.draws.gossip.duration(Duration::ZERO, Duration::from_millis(100));
            self.after(delay, Event::Placement { node: index, boot, placement });
        }
    }

    pub(super) fn place(&mut self, index: usize, boot: u64, placement: Arc<Placement>) {
        if self.nodes[index].is_boot(boot) {
            self.nodes[index].placement = placement;
            self.tell_placement(index);
        }
    }

    /// The placement in which these nodes are the live ones.
    pub(super) fn placement_of(&self, members: &[usize]) -> Placement {
        let count = self.nodes.len();
        let all_drain = members.iter().all(|node| self.nodes[*node].stopping);
        let drained = |node: usize| self.nodes[node].stopping && !all_drain;
        let ranked = (0..count).map(|rank| (self.plan.rotation + rank) % count);
        Placement {
            members: members.iter().map(|node| (node_id(*node), self.nodes[*node].journal.id)).collect(),
            // A node that stops in good order says so: nothing new is placed on it.
            candidates: ranked.filter(|node| members.contains(node) && !drained(*node)).map(node_id).collect(),
        }
    }

    fn seems_alive(&mut self, observer: usize, other: usize) -> bool {
        if observer == other {
            return true;
        }
        if !self.nodes[other].runs() || (self.stormy && self.draws.gossip.chance(self.plan.weather.gossip_misses)) {
            return false;
        }
        let hears = |from: usize, to: usize| !self.network.is_cut(from, to);
        let relayed = |through: usize| self.nodes[through].runs() && hears(other, through) && hears(through, observer);
        hears(other, observer) || (self.plan.weather.gossip_relays && (0..self.nodes.len()).any(relayed))
    }
}
