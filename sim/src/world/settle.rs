//! The end of a world: everything heals, comes to rest, and is compared with the truth.

use core::time::Duration;

use kennel_protocol::ids::{Epoch, Lsn};

use super::World;
use crate::oracle::reads::equals_the_source;
use crate::oracle::{LogReader, Violation};

/// How long a healed world may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(90);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);
/// How long a world at rest is watched: copies learn what is stored and forget.
const AFTERGLOW: Duration = Duration::from_secs(4);
/// What a journal may hold of a shard whose entries are all stored.
const ENTRIES_AT_REST_MAX: usize = 8;

impl World {
    /// Lives a whole life: a storm, then rest, then the reckoning.
    pub fn live(&mut self) {
        self.run_until_time(self.now + self.plan.storm);
        self.come_to_rest();
        self.reckon();
    }

    /// Heals everything and waits until all of the source is stored and one node owns the shard.
    pub fn come_to_rest(&mut self) {
        self.heal();
        self.run_until_time(self.now + Duration::from_millis(300));
        self.appends = false;
        let deadline = self.now + REST_MAX;
        let mut looks = 0_u64;
        while self.violation.is_none() && !self.is_at_rest() {
            if self.now > deadline {
                let what = self.unrest();
                self.judge(Err(Violation::new("comes_to_rest", what)));
                return;
            }
            self.run_until_time(self.now + LOOK);
            self.restart_stopped();
            looks += 1;
            if self.plan.loss_allowed && looks.is_multiple_of(50) {
                for node in 0..self.nodes.len() {
                    self.force(node);
                }
            }
        }
    }

    /// Compares the log in the bucket with the source.
    pub fn reckon(&mut self) {
        if self.violation.is_none() {
            let verdict = self.log_equals_source();
            self.judge(verdict);
        }
        if self.violation.is_none() && self.seed.is_multiple_of(4) {
            let verdict = self.afterglow();
            self.judge(verdict);
        }
    }

    /// Whether all of the source is known to be stored and exactly one node owns the newest open epoch.
    pub fn is_at_rest(&self) -> bool {
        let done = self.shippers.iter().all(|shipper| shipper.is_done(&self.sources));
        let newest = self.bucket.newest_open();
        let mut owners = self.owners();
        done && newest.is_some() && owners.next() == newest && owners.next().is_none()
    }

    pub(super) fn read_log_below(&mut self, epoch: Epoch) -> Result<(), Violation> {
        self.oracle.log.read_below(&self.bucket, epoch)?;
        self.log_entries_equal_source()?;
        for state in self.oracle.log.partitions() {
            self.oracle.objects.stored_end(state.partition, state.end);
        }
        self.opening_covers_the_acknowledged(epoch)
    }

    /// DESIGN 2.1: what was acknowledged before an epoch opens is in the older logs or among its adopted entries.
    fn opening_covers_the_acknowledged(&self, epoch: Epoch) -> Result<(), Violation> {
        let Some(adopted) = self.bucket.opening(epoch).filter(|_| !self.plan.loss_allowed) else { return Ok(()) };
        let mut ends: Vec<_> =
            self.sources.iter().map(|source| (source.key, self.oracle.log.end(source.key))).collect();
        for lsn in 0..adopted.adopted.0 {
            let mut journals = self.nodes.iter().map(|node| &node.journal);
            let Some(head) = journals.find_map(|journal| journal.head(epoch, Lsn(lsn))) else { return Ok(()) };
            for (key, end) in &mut ends {
                if *key == head.partition {
                    *end = (*end).max(head.end);
                }
            }
        }
        for (key, acknowledged) in self.oracle.marks.acknowledged() {
            let end = ends.iter().find(|(other, _)| *other == key).map(|(_, end)| *end).unwrap_or_default();
            Violation::unless(end >= acknowledged, "acknowledged_is_durable", || {
                format!("epoch {epoch} opens with {key} at {end}, acknowledged was {acknowledged}")
            })?;
        }
        Ok(())
    }

    fn log_entries_equal_source(&mut self) -> Result<(), Violation> {
        for head in self.oracle.log.drain() {
            equals_the_source(&head, self.sources.iter().find(|source| source.key == head.partition))?;
        }
        Ok(())
    }

    /// DESIGN 2.1, 2.2: what a reader of the bucket sees is what the source committed, all of it.
    fn log_equals_source(&mut self) -> Result<(), Violation> {
        let newest = self.bucket.newest_open().unwrap_or_default();
        self.oracle.log.read_below(&self.bucket, newest)?;
        self.oracle.log.read_epoch(&self.bucket)?;
        self.log_entries_equal_source()?;
        for source in &self.sources {
            let end = self.oracle.log.end(source.key);
            let read = self.oracle.reads.end(source.key);
            Violation::unless(end == source.end() && read <= end, "acknowledged_is_durable", || {
                format!("{} ends at {end} in the log, at {} at its source; {read} was read", source.key, source.end())
            })?;
        }
        let mut fresh = LogReader::default();
        fresh.read_below(&self.bucket, newest)
    }

    /// Watches a world at rest until nothing has moved for a while.
    fn afterglow(&mut self) -> Result<(), Violation> {
        let deadline = self.now + REST_MAX;
        loop {
            self.restart_stopped();
            let epoch = self.bucket.newest_claim().map(|claim| claim.epoch);
            self.run_until_time(self.now + AFTERGLOW);
            let moved = self.bucket.newest_claim().map(|claim| claim.epoch) != epoch;
            let forgot = self.nodes.iter().all(|node| node.journal.entries() <= ENTRIES_AT_REST_MAX);
            let still = self.is_at_rest() && !moved && forgot;
            if still || self.now > deadline || self.violation.is_some() {
                return self.stays_at_rest();
            }
        }
    }

    /// PROTOCOL R28: copies forget what is stored; nothing moves where nothing happens.
    fn stays_at_rest(&self) -> Result<(), Violation> {
        Violation::unless(self.is_at_rest(), "stays_at_rest", || self.unrest())?;
        for (index, node) in self.nodes.iter().enumerate() {
            let entries = node.journal.entries();
            Violation::unless(entries <= ENTRIES_AT_REST_MAX, "copies_forget_what_is_stored", || {
                format!("n{} holds {entries} entries: {}", index + 1, node.journal.summary())
            })?;
        }
        Ok(())
    }

    fn unrest(&self) -> String {
        let status = |node: &crate::node::Node| node.machine.as_ref().map(kennel_core::shard::Shard::status);
        let nodes: Vec<_> = self.nodes.iter().map(|node| (node.role, status(node))).collect();
        let ends: Vec<_> = self.sources.iter().map(|source| (source.start, source.end())).collect();
        format!(
            "source {ends:?}, newest claim {:?}, shippers {:?}, {nodes:?}",
            self.bucket.newest_claim(),
            self.shippers
        )
    }
}
