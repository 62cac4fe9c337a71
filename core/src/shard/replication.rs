//! The owner's stream of entries to its followers, and what they hold of it (PROTOCOL R12).
//!
//! A follower's answers are cumulative, so the stream needs no bookkeeping per frame: silence beyond patience makes it
//! start again from what the follower said last.

use core::ops::Range;
use core::time::Duration;

use kennel_protocol::ids::{Epoch, JournalId, Lsn, NodeId, ShardId};
use kennel_protocol::object::Copyset;
use kennel_protocol::wire::{Copy, CopyAck, CopyEntry, CopySource};

use super::flaw::Flaw;
use super::ground::Ground;
use super::holdings::Run;
use super::io::Effects;
use super::patience::Patience;
use crate::time::Instant;

/// So many answers that say nothing new, and came late enough to be answers to it, say that what was sent is lost; fewer may have
/// overtaken each other. TCP does the same (RFC 5681, 3.2).
const STALE_MAX: u32 = 3;

/// Entries `0..count` of this epoch are entries `from..` of an older one: followers may adopt them (PROTOCOL R10).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adoption {
    pub(crate) epoch: Epoch,
    pub(crate) from: Lsn,
    pub(crate) count: u64,
}

/// What one follower holds and is being sent.
#[derive(Debug)]
struct Progress {
    node: NodeId,
    journal: JournalId,
    durable: Lsn,
    expected: Lsn,
    sent: Lsn,
    sent_at: Instant,
    moved_at: Instant,
    patience: Patience,
    /// Answers since then that said nothing new, although more was sent.
    stale: u32,
    /// What it holds of the gathered epoch.
    held: Range<Lsn>,
    heard_at: Option<Instant>,
    /// Its last sign of life: it may have to read the claim, or wait for its disk, before it follows.
    alive_at: Instant,
}

/// What every copy frame says besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) committed: Lsn,
    pub(crate) stored: Lsn,
    pub(crate) open: bool,
    pub(crate) released: bool,
}

#[derive(Debug)]
pub(crate) struct Replication {
    epoch: Epoch,
    quorum: usize,
    followers: Vec<Progress>,
    adoption: Option<Adoption>,
    /// After how long without a frame one goes without entries.
    heartbeat: Duration,
}

impl Replication {
    /// Starts with the followers of a copy set. `held` says what each journal holds of the gathered epoch.
    pub(crate) fn new(
        ground: &Ground,
        epoch: Epoch,
        copyset: &Copyset,
        adoption: Option<Adoption>,
        held: impl Fn(JournalId) -> Range<Lsn>,
    ) -> Self {
        let others = copyset.copies.iter().filter(|(journal, _)| *journal != ground.config.journal);
        let followers = others
            .map(|(journal, node)| Progress {
                node: *node,
                journal: *journal,
                durable: Lsn(0),
                expected: Lsn(0),
                sent: Lsn(0),
                sent_at: Instant::default(),
                moved_at: ground.now,
                patience: Patience::new(ground.config.timing.round),
                stale: 0,
                held: held(*journal),
                heard_at: None,
                alive_at: ground.now,
            })
            .collect();
        let heartbeat = own_pace(ground.config.timing.heartbeat, ground.config.shard);
        Self { epoch, quorum: usize::from(copyset.quorum), followers, adoption, heartbeat }
    }

    /// End of what a quorum holds durably, the own journal with `own` included.
    pub(crate) fn quorum_durable(&self, own: Lsn) -> Lsn {
        let mut ends: Vec<Lsn> = self.followers.iter().map(|follower| follower.durable).collect();
        ends.push(own);
        ends.sort_unstable_by(|left, right| right.cmp(left));
        ends.get(self.quorum - 1).copied().unwrap_or_default()
    }

    /// How many entries followers hold durably, all of them together: rises while anything moves.
    pub(crate) fn durable_entries(&self) -> u64 {
        self.followers.iter().map(|follower| follower.durable.0).sum()
    }

    /// Whether a quorum of the copy set, the own journal included, has taken copies of this epoch.
    pub(crate) fn quorum_follows(&self) -> bool {
        let following = self.followers.iter().filter(|follower| follower.heard_at.is_some()).count();
        following + 1 >= self.quorum
    }

    /// When a follower last answered; `None` where none ever did.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.followers.iter().filter_map(|follower| follower.heard_at).max()
    }

    /// Takes a sign of life of a node that may not follow yet.
    pub(crate) fn lives(&mut self, ground: &Ground, node: NodeId) {
        for follower in self.followers.iter_mut().filter(|follower| follower.node == node) {
            follower.alive_at = ground.now;
        }
    }

    /// The followers that gave no sign of life for so long.
    pub(crate) fn silent(&self, ground: &Ground, patience: Duration) -> impl Iterator<Item = NodeId> {
        let now = ground.now;
        let silent = move |follower: &&Progress| now.since(follower.alive_at) >= patience;
        self.followers.iter().filter(silent).map(|follower| follower.node)
    }

    /// Whether those that are not silent are a quorum, the own journal included.
    pub(crate) fn quorum_lives(&self, ground: &Ground, patience: Duration) -> bool {
        self.followers.len() + 1 - self.silent(ground, patience).count() >= self.quorum
    }

    /// Takes a follower's answer. `false` if it is from a journal that the claim does not name (PROTOCOL R5).
    pub(crate) fn acked(&mut self, ground: &Ground, from: NodeId, ack: &CopyAck, end: Lsn) -> bool {
        let any = ground.breaks(Flaw::AnyJournalAnswers);
        let mut followers = self.followers.iter_mut();
        let named = |follower: &&mut Progress| any || follower.journal == ack.journal;
        let Some(follower) = followers.find(|follower| named(follower) && follower.node == from) else {
            return false;
        };
        // R12: nobody can hold what was never written.
        assert!(ack.durable <= end, "R12: journal {} claims {} of {end} entries", ack.journal, ack.durable);
        if follower.heard_at.is_none_or(|at| ground.now.since(at) >= follower.patience.get()) {
            // Also where it tells news: what is stored by now is, to who was away, and what comes after it is lost all the same.
            follower.patience.back(follower.sent);
        }
        follower.heard_at = Some(ground.now);
        follower.alive_at = ground.now;
        if ack.durable > follower.durable || ack.expected > follower.expected {
            (follower.moved_at, follower.stale) = (ground.now, 0);
            follower.patience.answered(ack.expected, ground.now);
        } else {
            // Until then it may answer what was sent before.
            let answers_it = ground.now.since(follower.moved_at) >= follower.patience.took();
            follower.stale += u32::from(answers_it && ack.expected < follower.sent);
        }
        follower.durable = follower.durable.max(ack.durable);
        if ack.inline {
            follower.held = Lsn(0)..Lsn(0);
            follower.sent = follower.sent.min(ack.expected);
        }
        follower.expected = ack.expected;
        true
    }

    /// Whether a follower has everything durably and is listening.
    pub(crate) fn is_caught_up(&self, ground: &Ground, node: NodeId, end: Lsn) -> bool {
        self.followers.iter().any(|follower| {
            let alive = follower.heard_at.is_some_and(|at| ground.now.since(at) < ground.config.timing.owner_timeout);
            follower.node == node && follower.durable == end && alive
        })
    }

    /// Sends what fits to every follower; a frame without entries where there is something to say and nothing to send.
    pub(crate) fn pump(&mut self, ground: &Ground, marks: Marks, announce: bool, effects: &mut Effects) {
        let Some(run) = ground.holdings.run(self.epoch) else { return };
        for follower in &mut self.followers {
            follower.restart_if_silent(ground, marks.stored);
            let entries = follower.next_entries(ground, run, self.adoption);
            if let Some(away) = follower.waits_for(ground, run, self.adoption) {
                effects.load(self.epoch, away);
            }
            let heartbeat = ground.now.since(follower.sent_at) >= self.heartbeat;
            if entries.is_empty() && !announce && !heartbeat {
                continue;
            }
            follower.sent_at = ground.now;
            let stamp = ground.stamp(self.epoch);
            let Marks { committed, stored, open, released } = marks;
            effects.copies.push((follower.node, Copy { stamp, entries, committed, stored, open, released }));
        }
    }

    /// Whether entries wait that a follower's window would take now.
    pub(crate) fn has_more(&self, ground: &Ground) -> bool {
        let Some(run) = ground.holdings.run(self.epoch) else { return false };
        self.followers.iter().any(|follower| {
            let more = follower.sent < run.end() && follower.window(ground, run) > 0;
            more && follower.waits_for(ground, run, self.adoption).is_none()
        })
    }

    /// When the next heartbeat or resend is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.followers.iter().map(|follower| follower.sent_at + self.heartbeat).min()
    }
}

/// Up to a quarter less than `heartbeat`, another for each shard: a node's shards begin together, and heartbeats of all of them
/// at once would hold up what comes in that moment.
fn own_pace(heartbeat: Duration, shard: ShardId) -> Duration {
    // Multiples of the golden ratio spread evenly, however many there are.
    let less = u32::from(shard.0.wrapping_mul(40_503));
    let whole = 4 * u32::from(u16::MAX);
    heartbeat * (whole - less) / whole
}

impl Progress {
    /// Starts again from what the follower said last, if what was sent brought no answer for too long, or if answers show that
    /// it did not come: what is sent before them is answered before.
    fn restart_if_silent(&mut self, ground: &Ground, stored: Lsn) {
        self.sent = self.sent.max(stored);
        let unmoved = ground.now.since(self.moved_at);
        let lost = self.stale >= STALE_MAX && unmoved >= ground.config.timing.round;
        if self.expected >= self.sent || !(lost || unmoved >= self.patience.get()) {
            return;
        }
        if lost {
            self.patience.lost(self.sent);
        } else {
            self.patience.in_vain(self.sent);
        }
        self.sent = self.expected.max(stored);
        (self.moved_at, self.stale) = (ground.now, 0);
    }

    /// How many bytes may still be on their way.
    fn window(&self, ground: &Ground, run: &Run) -> u64 {
        let flying = run.bytes_between(self.expected, self.sent);
        ground.config.sizes.copy_window_bytes.saturating_sub(flying)
    }

    fn next_entries(&mut self, ground: &Ground, run: &Run, adoption: Option<Adoption>) -> Vec<CopyEntry> {
        if self.sent >= run.end() {
            return Vec::new();
        }
        let sizes = ground.config.sizes;
        let budget = self.window(ground, run).min(sizes.copy_bytes_max);
        if budget == 0 {
            return Vec::new();
        }
        if self.expected == self.sent {
            // Nothing was on its way, so silence starts counting now.
            self.moved_at = ground.now;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (lsn, entry) in run.range(self.sent, run.end()) {
            if entries.len() >= sizes.copy_entries_max || (bytes > 0 && bytes + entry.body_len() > budget) {
                break;
            }
            let source = match self.adoptable(lsn, adoption, ground.breaks(Flaw::AdoptsUnheld)) {
                Some((epoch, lsn)) => CopySource::Adopt { epoch, lsn },
                None if entry.is_away() => break,
                None => CopySource::Inline(entry.clone()),
            };
            if matches!(source, CopySource::Inline(_)) {
                bytes += entry.body_len();
            }
            entries.push(CopyEntry { lsn, source });
        }
        if let Some(last) = entries.last() {
            self.sent = last.lsn.next();
            self.patience.sent(self.sent, ground.now);
        }
        entries
    }

    /// The bodies to read back before this follower can be sent more.
    fn waits_for(&self, ground: &Ground, run: &Run, adoption: Option<Adoption>) -> Option<Range<Lsn>> {
        let next = run.entry(self.sent).filter(|entry| entry.is_away())?;
        let blocked = self.adoptable(self.sent, adoption, false).is_none() && self.window(ground, run) > 0;
        let bytes_max = ground.config.sizes.copy_bytes_max.max(next.body_len());
        blocked.then(|| run.away(self.sent, run.end(), bytes_max))
    }

    /// Where the follower holds the entry already, if it said so when it was sealed.
    fn adoptable(&self, lsn: Lsn, adoption: Option<Adoption>, unheld: bool) -> Option<(Epoch, Lsn)> {
        let adoption = adoption.filter(|adoption| lsn.0 < adoption.count)?;
        let source = Lsn(adoption.from.0 + lsn.0);
        (unheld || self.held.contains(&source)).then_some((adoption.epoch, source))
    }
}
