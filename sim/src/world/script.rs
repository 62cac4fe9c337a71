//! What scenarios do to a world by hand.

use core::time::Duration;

use kennel_core::shard::{BucketRequest, Input};
use kennel_protocol::ids::{Epoch, Slot};
use kennel_protocol::object::LogPosition;

use super::{PutFate, World};
use crate::event::Event;
use crate::network::Copied;
use crate::node::Node;
use crate::oracle::Violation;

impl World {
    /// Lets time pass.
    pub fn pass(&mut self, length: Duration) {
        self.run_until_time(self.now + length);
    }

    /// Lets time pass until something is so; not for ever.
    ///
    /// # Panics
    /// If it does not become so within a minute, or a rule is broken.
    pub fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_mins(1);
        while !holds(self) {
            assert!(self.now < end, "{what} did not happen");
            self.run_until_time(self.now + Duration::from_millis(5));
            assert!(self.violation.is_none(), "waiting for {what}: {:?}", self.violation);
        }
    }

    /// The node that owns the newest epoch, if it is open.
    pub fn owner(&self) -> Option<usize> {
        let newest = self.bucket.newest_claim()?.epoch;
        self.nodes.iter().position(|node| node.owns() == Some(newest))
    }

    /// The newest claim's number.
    pub fn epoch(&self) -> Epoch {
        self.bucket.newest_claim().map(|claim| claim.epoch).unwrap_or_default()
    }

    /// The node that the newest claim names.
    pub fn claimant(&self) -> Option<usize> {
        self.bucket.newest_claim().map(|claim| super::node_index(claim.node))
    }

    /// The nodes that the newest claim names as copies, its own among them.
    pub fn copies(&self) -> Vec<usize> {
        let claim = self.bucket.newest_claim();
        claim.into_iter().flat_map(|claim| &claim.copyset.copies).map(|(_, node)| super::node_index(*node)).collect()
    }

    /// How many holes the log declares, as far as it was read.
    pub fn holes(&self) -> u64 {
        self.oracle.log.holes()
    }

    /// A node.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// How many messages are committed at the source.
    pub fn written(&self) -> u64 {
        self.sources.iter().map(|source| source.end().0 - source.origin.0).sum()
    }

    /// How many messages were acknowledged to shippers.
    pub fn acknowledged(&self) -> u64 {
        self.oracle.marks.acknowledged().map(|(_, offset)| offset.0).sum()
    }

    /// What owners have sent to followers.
    pub fn copied(&self) -> &Copied {
        self.network.copied()
    }

    /// Kills a process until it is started by hand.
    pub fn crash_node(&mut self, index: usize) {
        self.crash(index);
    }

    /// Starts a process.
    pub fn start_node(&mut self, index: usize) {
        self.start(index);
    }

    /// Stops a process as by SIGSTOP, for a while.
    pub fn pause_node(&mut self, index: usize, length: Duration) {
        self.pause(index, length);
    }

    /// Lets a stopped process go on, as by SIGCONT.
    pub fn wake_node(&mut self, index: usize) {
        if let Some(pause) = self.nodes[index].paused {
            self.resume(index, pause);
        }
    }

    /// Kills a process and empties its disk.
    pub fn lose_disk(&mut self, index: usize) {
        self.crash(index);
        self.lose_journal(index);
    }

    /// Tells a node to stop in good order.
    pub fn stop_node(&mut self, index: usize) {
        self.nodes[index].stopping = true;
        self.feed(index, Input::Stop);
    }

    /// An operator accepts a loss.
    pub fn force_node(&mut self, index: usize) {
        self.force(index);
    }

    /// Cuts links both ways between one node and others, for a while.
    pub fn isolate(&mut self, index: usize, others: &[usize], length: Duration) {
        let both = others.iter().flat_map(|other| [(index, *other), (*other, index)]);
        self.cut_links(both.collect(), length);
    }

    /// Cuts one direction of one link for a while.
    pub fn deafen(&mut self, from: usize, to: usize, length: Duration) {
        self.cut_links(vec![(from, to)], length);
    }

    /// Tells a node that these are the live ones; gossip corrects it later.
    pub fn mislead(&mut self, index: usize, members: &[usize]) {
        self.nodes[index].placement = self.placement_of(members).into();
        self.tell_placement(index);
    }

    /// Makes a node believe for a while that these are the live ones, whatever gossip could tell it.
    pub fn believe(&mut self, index: usize, members: &[usize], length: Duration) {
        self.nodes[index].deluded = Some((self.now + length, members.to_vec()));
    }

    /// Decides what becomes of bucket requests from now on; `None` leaves one to chance.
    pub fn script_bucket(&mut self, script: fn(usize, &BucketRequest) -> Option<PutFate>) {
        self.put_script = Some(script);
    }

    /// From now on the first upload to one slot of so many is stuck for this long.
    pub fn stick_uploads(&mut self, every: u64, length: Duration) {
        self.spells.silent = Some((every, every / 2, length));
    }

    /// How many messages are known to be in the bucket.
    pub fn stored(&self) -> u64 {
        self.oracle.objects.stored_messages()
    }

    /// The bucket answers nobody for a while.
    pub fn bucket_outage(&mut self, length: Duration) {
        self.bucket_down.fill(true);
        self.after(length, Event::BucketBack { node: None });
    }

    /// A collector moves the start of the log to a slot and will delete what lies below.
    pub fn collect_below(&mut self, epoch: Epoch, slot: Slot) {
        self.publish(LogPosition { epoch, slot });
    }

    /// The newest slot that an epoch's owner called stored.
    pub fn stored_slot(&self, epoch: Epoch) -> Option<Slot> {
        self.oracle.objects.stored_slot(epoch)
    }

    /// The source forgets everything.
    pub fn expire_source(&mut self) {
        for source in &mut self.sources {
            source.start = source.end();
        }
    }

    /// A source loses its newest messages and gives their offsets to others.
    pub fn roll_back_source(&mut self, index: usize, count: u64) {
        self.lose_tail(index, count);
    }

    /// A source's topic is deleted and created again.
    pub fn recreate_source(&mut self, index: usize) {
        let index = self.living(index);
        self.recreate(index);
    }

    /// Whether a shipper said that the ring holds another history than a source.
    pub fn has_diverged(&self, index: usize) -> bool {
        self.shippers.iter().any(|shipper| shipper.has_diverged(index))
    }

    /// How many partitions of a source's name the log holds.
    pub fn partitions_of(&self, index: usize) -> usize {
        let name = self.sources[index].key.partition;
        self.oracle.log.partitions().filter(|state| state.partition.partition == name).count()
    }

    /// Heals, waits for rest, compares with the truth.
    ///
    /// # Panics
    /// If a rule is broken.
    pub fn end_well(&mut self) {
        self.come_to_rest();
        self.reckon();
        if let Some(Violation { rule, what }) = &self.violation {
            let tail: Vec<&str> = self.trace.tail(60).collect();
            panic!("{rule}: {what}\n{}", tail.join("\n"));
        }
    }
}
