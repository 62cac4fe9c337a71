//! Between the source, the shippers and the nodes.

use core::time::Duration;

use kennel_core::shard::{Input, RoleChange, SessionId};

use super::{Session, World, node_index};
use crate::event::{Event, NodeSays, ShipperSays};
use crate::source::Partition;

impl World {
    /// The source commits a batch somewhere, and forgets one now and then.
    pub(super) fn append(&mut self) {
        if !self.appends {
            return;
        }
        let mean = self.plan.workload.append_every;
        let next = self.draws.source.duration(mean / 3, mean * 2);
        self.after(next, Event::Append);
        let drawn = self.draws.source.index(self.plan.workload.partitions);
        let index = self.living(drawn);
        let count = self.draws.source.between(1, self.plan.workload.append_max);
        self.sources[index].append(count);
        self.trace.event(self.now, 8, count);
        if self.plan.workload.retention && self.draws.source.chance(40) {
            let source = &mut self.sources[index];
            let start = self.draws.source.between(source.start.0, source.end().0);
            source.start = kennel_protocol::ids::Offset(start);
            self.trace.line(self.now, || format!("source {index} starts at {start}"));
        }
    }

    /// The partition that has the name of the one at a place, if that was deleted.
    pub(super) fn living(&self, index: usize) -> usize {
        let name = self.sources[index].key.partition;
        let lives = |source: &Partition| !source.deleted && source.key.partition == name;
        self.sources.iter().position(lives).expect("whatever is deleted is created again")
    }

    /// A shipper looks what to do.
    pub(super) fn shipper_acts(&mut self, index: usize) {
        let asleep_until = self.shippers[index].asleep_until;
        if self.now < asleep_until {
            self.queue.push(asleep_until, Event::Shipper { shipper: index });
            return;
        }
        let pace = self.draws.shippers.duration(Duration::from_millis(20), Duration::from_millis(60));
        self.after(pace, Event::Shipper { shipper: index });
        let Some(session) = self.shippers[index].session else {
            self.connect(index);
            return;
        };
        let says = self.shippers[index].act(self.now, &self.plan.workload, &self.sources);
        if self.shippers[index].session.is_none() {
            self.sessions.remove(&session);
        }
        if let Some(says) = says {
            self.carry(session, &says);
        }
    }

    pub(super) fn shipper_said(&mut self, id: SessionId, says: ShipperSays) {
        let Some(session) = self.sessions.get(&id).copied() else { return };
        if !self.nodes[session.node].is_boot(session.boot) {
            return;
        }
        let input = match says {
            ShipperSays::Ship(ship) => Input::Ship { session: id, ship },
            ShipperSays::Positions { correlation, request } => Input::Positions { session: id, correlation, request },
        };
        self.feed(session.node, input);
    }

    pub(super) fn node_said(&mut self, id: SessionId, says: NodeSays) {
        let Some(session) = self.sessions.get(&id).copied() else { return };
        if self.shippers[session.shipper].session != Some(id) {
            return;
        }
        let asleep_until = self.shippers[session.shipper].asleep_until;
        if self.now < asleep_until {
            self.queue.push(asleep_until, Event::ToShipper { session: id, says });
            return;
        }
        self.trace.event(self.now, 9, session.shipper as u64);
        self.trace.line(self.now, || format!("s{} <- {}", session.shipper + 1, crate::describe::node_says(&says)));
        let verdict = self.shippers[session.shipper].hear(self.now, says, &self.sources);
        self.judge(verdict);
        if self.shippers[session.shipper].session.is_none() {
            self.sessions.remove(&id);
        }
    }

    pub(super) fn say_to_shipper(&mut self, id: SessionId, says: &NodeSays) {
        let Some(session) = self.sessions.get(&id) else { return };
        let end = self.nodes.len() + session.shipper;
        for at in self.network.arrivals(&self.plan.weather, session.node, end, self.now).into_iter().flatten() {
            self.queue.push(at, Event::ToShipper { session: id, says: says.clone() });
        }
    }

    /// Asks any node who owns the shard, and connects to that one.
    fn connect(&mut self, index: usize) {
        let asked = self.draws.shippers.index(self.nodes.len());
        let end = self.nodes.len() + index;
        let reaches = |node: usize| !self.network.is_cut(end, node) && !self.network.is_cut(node, end);
        if !self.nodes[asked].runs() || !reaches(asked) {
            return;
        }
        let owner = match self.nodes[asked].role {
            RoleChange::Owner { .. } => asked,
            RoleChange::NotOwner { owner: Some(owner), .. } => node_index(owner),
            RoleChange::NotOwner { owner: None, .. } | RoleChange::Halted => return,
        };
        if !self.nodes[owner].is_up() || !reaches(owner) {
            return;
        }
        self.sessions_made += 1;
        let session = SessionId(self.sessions_made);
        self.sessions.insert(session, Session { shipper: index, node: owner, boot: self.nodes[owner].boot });
        let says = self.shippers[index].connect(self.now, session, &self.sources);
        self.carry(session, &says);
    }

    fn carry(&mut self, id: SessionId, says: &ShipperSays) {
        let Some(session) = self.sessions.get(&id) else { return };
        let end = self.nodes.len() + session.shipper;
        for at in self.network.arrivals(&self.plan.weather, end, session.node, self.now).into_iter().flatten() {
            self.queue.push(at, Event::FromShipper { session: id, says: says.clone() });
        }
    }
}
