//! The end of a world: everything heals, comes to rest, and is compared with the truth.

use core::time::Duration;

use kennel_core::shard::Shard;
use kennel_protocol::entry::{EntryHead, EntryKind, IntegritySum};
use kennel_protocol::ids::{Epoch, Lsn};

use super::World;
use crate::oracle::reads::{equals_the_source, one_history};
use crate::oracle::{LogReader, Violation};
use crate::source::Partition;

/// How long a healed world may store nothing more before it is at rest.
const REST_MAX: Duration = Duration::from_secs(90);
/// How long it may take in all: a network that puts everything out of order takes a few entries a round.
const REST_ALL_MAX: Duration = Duration::from_mins(15);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);
/// How long a world at rest is watched: copies learn what is stored and forget.
const AFTERGLOW: Duration = Duration::from_secs(4);
/// Epochs that a machine at rest may remember.
const RUNS_AT_REST_MAX: usize = 3;
/// Claims that a healed world may need.
const CLAIMS_TO_REST_MAX: u64 = 30;
/// What a journal may hold of a shard whose entries are all stored.
const ENTRIES_AT_REST_MAX: usize = 8;

impl World {
    /// Lives a whole life: a storm, then rest, then the reckoning.
    pub fn live(&mut self) {
        self.run_until_time(self.now + self.plan.storm);
        self.come_to_rest();
        self.reckon();
    }

    /// Heals everything and waits until all of the source is stored and one node owns the shard. Who slept through it
    /// wakes up then.
    pub fn come_to_rest(&mut self) {
        self.heal();
        self.claims_at_heal = self.bucket.newest_claim().map_or(0, |claim| claim.epoch.0);
        self.run_until_time(self.now + Duration::from_millis(300));
        self.appends = false;
        self.wait_for_rest();
        if self.wake_sleepers() {
            self.run_until_time(self.now + Duration::from_millis(300));
            self.wait_for_rest();
        }
    }

    fn wait_for_rest(&mut self) {
        let last = self.now + REST_ALL_MAX;
        let (mut deadline, mut stored) = (self.now + REST_MAX, self.stored_messages());
        let mut looks = 0_u64;
        while self.violation.is_none() && !self.is_at_rest() {
            if self.stored_messages() > stored {
                (deadline, stored) = ((self.now + REST_MAX).min(last), self.stored_messages());
            }
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

    /// How far the bucket is, over all partitions: what is stored is never stored again.
    fn stored_messages(&self) -> u64 {
        self.sources.iter().map(|source| self.oracle.objects.stored_end_of(source.key).0).sum()
    }

    /// Compares the log in the bucket with the source.
    pub fn reckon(&mut self) {
        self.claims_settle();
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
        done && newest.is_some() && owners.next() == newest && owners.next().is_none() && self.all_is_stored()
    }

    /// Whether owners have nothing left to publish: a partition that diverged or was deleted has nobody who waits for it.
    fn all_is_stored(&self) -> bool {
        let statuses = self.nodes.iter().filter_map(|node| node.machine.as_ref()).map(Shard::status);
        statuses.filter(|status| status.role == "owner").all(|status| status.stored == status.tail)
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
            let acknowledged = acknowledged.max(self.oracle.reads.end(key));
            let end = ends.iter().find(|(other, _)| *other == key).map(|(_, end)| *end).unwrap_or_default();
            Violation::unless(end >= acknowledged, "acknowledged_is_durable", || {
                format!("epoch {epoch} opens with {key} at {end}, acknowledged or read was {acknowledged}")
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
        let mut fresh = LogReader::default();
        fresh.read_below(&self.bucket, newest)?;
        fresh.read_epoch(&self.bucket)?;
        let heads: Vec<EntryHead> = fresh.drain().collect();
        for (index, source) in self.sources.iter().enumerate() {
            let end = self.oracle.log.end(source.key);
            let read = self.oracle.reads.end(source.key);
            let whole = if source.lost_any() || source.deleted {
                self.log_has_one_history(index, &heads)?
            } else {
                shipped_is_stored(source, &heads)?;
                end == source.end()
            };
            // What an operator gave up comes again from the source, unless the source does not have it any more.
            let given_up = self.plan.loss_allowed && (source.lost_any() || source.deleted);
            Violation::unless(whole && (read <= end || given_up), "acknowledged_is_durable", || {
                format!("{} ends at {end} in the log, at {} at its source; {read} was read", source.key, source.end())
            })?;
        }
        self.acknowledged_is_in_the_log()
    }

    /// PROTOCOL R15: two histories are never mixed, and where the source's is another than the ring's somebody says so.
    /// Answers whether all is in the log that has to be.
    fn log_has_one_history(&self, index: usize, heads: &[EntryHead]) -> Result<bool, Violation> {
        let source = &self.sources[index];
        let end = self.oracle.log.end(source.key);
        let stored = one_history(source, heads.iter())?;
        if !self.plan.loss_allowed {
            one_history(source, self.oracle.reads.told().iter().chain(heads))?;
        }
        let said = self.shippers.iter().any(|shipper| shipper.has_diverged(index));
        let same = stored & source.newest_history() != 0 || end > source.end();
        Violation::unless(same || said || source.deleted, "divergence_is_told", || {
            format!("{} holds another history than its source, and nobody noticed", source.key)
        })?;
        Ok(said || source.deleted || end >= source.end())
    }

    /// DESIGN 2.1: what was acknowledged is in the log.
    fn acknowledged_is_in_the_log(&self) -> Result<(), Violation> {
        let mut acknowledged = self.oracle.marks.acknowledged();
        let lost = acknowledged.find(|(key, offset)| *offset > self.oracle.log.end(*key));
        Violation::unless(lost.is_none() || self.plan.loss_allowed, "acknowledged_is_durable", || {
            format!("{lost:?} was acknowledged and is not in the log")
        })
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
            let still = self.is_at_rest() && !moved && forgot && self.awaited_is_bounded();
            if still || self.now > deadline || self.violation.is_some() {
                return self.stays_at_rest();
            }
        }
    }

    /// Requests of the storm may land long after it; whoever is at rest asks little anew.
    fn awaited_is_bounded(&self) -> bool {
        // A former copy may look whether the bucket covers what it holds (R28).
        self.awaited() <= self.nodes.len()
    }

    fn awaited(&self) -> usize {
        self.flights.values().filter(|flight| flight.is_awaited()).count()
    }

    /// DESIGN 2.7: whatever went wrong left nothing behind in machines, drivers and the bucket's client.
    fn nothing_leaks(&self) -> Result<(), Violation> {
        let empty = |holds: bool, what: &dyn Fn() -> String| Violation::unless(holds, "nothing_leaks", what);
        empty(self.awaited_is_bounded(), &|| format!("{} requests to the bucket under way", self.awaited()))?;
        for (index, node) in self.nodes.iter().enumerate() {
            let weight = node.machine.as_ref().map(Shard::weight).unwrap_or_default();
            let light = weight.runs <= RUNS_AT_REST_MAX
                && weight.entries <= ENTRIES_AT_REST_MAX
                && weight.unsynced == 0
                && weight.uploads == 0;
            empty(light, &|| format!("n{} carries {weight:?}", index + 1))?;
            let idle = node.calls.is_empty() && node.outbox.is_empty() && node.waiting.is_empty();
            empty(idle, &|| format!("n{}'s driver has work", index + 1))?;
        }
        Ok(())
    }

    /// DESIGN 2.7: claims are for changes; a world that heals agrees on an owner without many more of them.
    fn claims_settle(&mut self) {
        let claims = self.bucket.newest_claim().map_or(0, |claim| claim.epoch.0) - self.claims_at_heal;
        let verdict = Violation::unless(claims <= CLAIMS_TO_REST_MAX, "claims_settle", || {
            format!("{claims} claims since everything healed")
        });
        self.judge(verdict);
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
        self.followers_know_the_end()?;
        self.nothing_leaks()
    }

    /// PROTOCOL R26: whoever follows has shown everything that is committed, or has said what it leaves out.
    fn followers_know_the_end(&self) -> Result<(), Violation> {
        let running =
            || self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node, node.machine.as_ref()?)));
        let owner = running().map(|(_, _, machine)| machine.status()).find(|status| status.role == "owner");
        let Some(owner) = owner.filter(|owner| owner.committed > Lsn(0)) else { return Ok(()) };
        for (index, node, machine) in running() {
            let shown = self.oracle.reads.position((index, node.boot));
            let knows = shown.is_some_and(|shown| shown >= (owner.epoch, owner.committed));
            let follows = machine.followed_epoch() == Some(owner.epoch);
            Violation::unless(knows || !follows, "followers_know_the_end", || {
                format!("n{} has shown up to {shown:?} of epoch {}, entry {}", index + 1, owner.epoch, owner.committed)
            })?;
        }
        Ok(())
    }

    fn unrest(&self) -> String {
        let status = |node: &crate::node::Node| node.machine.as_ref().map(Shard::status);
        let nodes: Vec<_> = self.nodes.iter().map(|node| (node.role, status(node))).collect();
        let ends: Vec<_> = self.sources.iter().map(|source| (source.start, source.end())).collect();
        format!(
            "source {ends:?}, newest claim {:?}, shippers {:?}, {nodes:?}",
            self.bucket.newest_claim(),
            self.shippers
        )
    }
}

/// DESIGN 6: by sum and count, what lies in the log and what is declared missing there is what the source shipped.
fn shipped_is_stored(source: &Partition, heads: &[EntryHead]) -> Result<(), Violation> {
    let mut sum = IntegritySum::default();
    for head in heads.iter().filter(|head| head.partition == source.key) {
        match head.kind {
            EntryKind::Chunk => sum.add(head.sum),
            EntryKind::Hole(_) => {
                let missing = source.sum(head.base.max(source.origin), head.end.max(source.origin));
                sum.add(missing.unwrap_or_default());
            }
            EntryKind::Trim | EntryKind::Cut => {}
        }
    }
    let shipped = source.sum(source.origin, source.end()).unwrap_or_default();
    Violation::unless(sum == shipped, "shipped_is_stored", || {
        format!("{}: the log sums up to {sum:?} and the source to {shipped:?}", source.key)
    })
}
