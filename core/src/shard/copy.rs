//! What a journal of the shard does for others: answers questions, promises, gives back, and follows an owner.
//!
//! A follower appends in the owner's order without holes (PROTOCOL R12). It takes copies only under a claim that it
//! has read itself and that names its journal (R5).

use std::collections::BTreeMap;

use kennel_protocol::entry::{EntryKind, NumberedEntry};
use kennel_protocol::ids::{Epoch, Lsn, NodeId, Offset, PartitionKey};
use kennel_protocol::object::Claim;
use kennel_protocol::wire::{
    Ask, AskAnswer, Copy, CopyAck, CopyEntry, CopySource, Pull, Pulled, Seal, SealAnswer, ShardMessage, ShardStamp,
};

use super::flaw::Flaw;
use super::ground::{Accepted, Ground};
use super::io::{BucketRequest, Effects, Then};

/// What a copy frame calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyVerdict {
    /// Of an older epoch: refused.
    Fenced,
    /// Its claim was not read yet; the owner will send again.
    Unverified,
    /// Of the epoch that is followed.
    Followed,
    /// Same epoch, other process: no rule allows it (PROTOCOL R4).
    Impostor,
}

impl Ground {
    /// Says what this node knows; binds nobody (PROTOCOL R1). `owns` is set if this node itself claims or owns.
    pub(crate) fn answer_ask(&self, from: NodeId, ask: Ask, owns: bool, effects: &mut Effects) {
        let answer = AskAnswer {
            stamp: ask.stamp,
            round: ask.round,
            journal: self.config.journal,
            newest: self.newest_epoch(),
            hears_owner: owns || self.hears_owner(from),
        };
        effects.send(from, ShardMessage::AskAnswer(answer));
    }

    /// Promises to a claimant, durably, and says what is held (PROTOCOL R9). The caller checked the fence.
    pub(crate) fn promise(&mut self, from: NodeId, seal: Seal, effects: &mut Effects) {
        self.hear(seal.stamp.epoch, from, false);
        self.holdings.seal(seal.stamp.epoch, effects);
        let (held_from, held_end) =
            self.holdings.run(seal.gather).map_or((Lsn(0), Lsn(0)), |run| (run.from(), run.end()));
        let answer = SealAnswer {
            stamp: seal.stamp,
            journal: self.config.journal,
            gather: seal.gather,
            from: held_from,
            end: held_end,
            fenced: None,
        };
        effects.send(from, ShardMessage::SealAnswer(answer));
    }

    /// Refuses a claimant that a newer epoch has overtaken.
    pub(crate) fn refuse_seal(&self, from: NodeId, seal: Seal, effects: &mut Effects) {
        let answer = SealAnswer {
            stamp: seal.stamp,
            journal: self.config.journal,
            gather: seal.gather,
            from: Lsn(0),
            end: Lsn(0),
            fenced: Some(self.fence()),
        };
        effects.send(from, ShardMessage::SealAnswer(answer));
    }

    /// Gives entries of a gathered epoch to the claimant that sealed this journal. Bodies that are away are read first.
    pub(crate) fn give_back(&mut self, from: NodeId, pull: Pull, effects: &mut Effects) {
        self.pulls_waiting.retain(|(node, _)| *node != from);
        let sizes = self.config.sizes;
        let mut entries = Vec::new();
        if let Some(run) = self.holdings.run(pull.gather).filter(|run| run.from() <= pull.from) {
            let mut bytes = 0;
            for (lsn, entry) in run.range(pull.from, pull.end) {
                bytes += entry.body_len();
                let full = bytes > sizes.pulled_bytes_max || entries.len() >= sizes.copy_entries_max;
                if entry.is_away() || (full && !entries.is_empty()) {
                    break;
                }
                entries.push(NumberedEntry { lsn, entry: entry.clone() });
            }
            let away = run.away(pull.from, pull.end, sizes.pulled_bytes_max);
            if entries.is_empty() && !away.is_empty() {
                effects.load(pull.gather, away);
                self.pulls_waiting.push((from, pull));
                return;
            }
        }
        effects.send(from, ShardMessage::Pulled(Pulled { stamp: pull.stamp, gather: pull.gather, entries }));
    }

    /// Bodies came back: answers who waited for them, as far as that still counts.
    pub(crate) fn give_back_waiting(&mut self, effects: &mut Effects) {
        for (from, pull) in core::mem::take(&mut self.pulls_waiting) {
            if pull.stamp.epoch >= self.fence() {
                self.give_back(from, pull, effects);
            }
        }
    }

    /// Decides what a copy frame is.
    pub(crate) fn judge_copy(&self, stamp: ShardStamp) -> CopyVerdict {
        let forgets = self.breaks(Flaw::TakesBelowPromise);
        if stamp.epoch < self.fence() && !(forgets && self.accepted.is_none_or(|known| known.epoch <= stamp.epoch)) {
            return CopyVerdict::Fenced;
        }
        match self.accepted {
            Some(accepted) if accepted.epoch == stamp.epoch && accepted.process == stamp.process => {
                CopyVerdict::Followed
            }
            Some(accepted) if accepted.epoch == stamp.epoch => CopyVerdict::Impostor,
            _ => CopyVerdict::Unverified,
        }
    }

    /// Reads the claim of an epoch that somebody sends copies under.
    pub(crate) fn verify(&mut self, stamp: ShardStamp, effects: &mut Effects) {
        let asked = self.verifying.is_some_and(|(_, epoch)| epoch >= stamp.epoch);
        if !asked && self.not_named < stamp.epoch {
            let id = self.request(BucketRequest::ReadClaim { epoch: stamp.epoch }, effects);
            self.verifying = Some((id, stamp.epoch));
        }
    }

    /// Accepts a claim that was read, if it names this journal and nothing newer was promised.
    pub(crate) fn accept(&mut self, claim: &Claim) {
        self.learn(claim.clone());
        if !claim.copyset.names(self.config.journal) && !self.breaks(Flaw::AnyJournalAnswers) {
            self.not_named = self.not_named.max(claim.epoch);
        } else if claim.epoch >= self.fence() {
            self.accepted = Some(Accepted { epoch: claim.epoch, process: claim.process, node: claim.node });
        }
    }

    /// Follows: appends what continues the run, takes the marks, answers once durable.
    pub(crate) fn follow(&mut self, from: NodeId, copy: Copy, effects: &mut Effects) {
        let epoch = copy.stamp.epoch;
        self.hear(epoch, from, copy.released);
        // What is held is shown before it is forgotten.
        self.tell_skipped(epoch, effects);
        self.follow_commit(copy.stamp, copy.committed, effects);
        let forget = if self.breaks(Flaw::ForgetsCommitted) { copy.committed } else { copy.stored };
        let stored = self.ends_below(epoch, copy.stored);
        self.holdings.stored(epoch, forget, effects);
        self.tell_skipped(epoch, effects);
        let seen = copy.entries.last().map_or(Lsn(0), |last| last.lsn.next());
        let adoption_missed = self.take_entries(copy.stamp, copy.entries, effects);
        if copy.open || self.breaks(Flaw::ForgetsBeforeTheOpening) {
            // After the entries: they may adopt from what this forgets.
            self.holdings.covered(epoch, effects);
        }
        self.follow_commit(copy.stamp, copy.committed, effects);
        if !stored.is_empty() {
            effects.then(Then::Stored { ends: stored });
        }
        self.answer_copy(from, copy.stamp, seen, adoption_missed, effects);
    }

    /// Says what is held of the owner's epoch, once that is durable. Marks alone, which follow every commit, are answered only
    /// where the owner would begin to wonder: half of what is said between nodes would be said for nothing.
    fn answer_copy(
        &mut self,
        from: NodeId,
        stamp: ShardStamp,
        seen: Lsn,
        adoption_missed: bool,
        effects: &mut Effects,
    ) {
        let run = self.holdings.run_mut(stamp.epoch);
        let durable = if effects.persist.is_empty() { run.durable } else { run.end() };
        let expected = run.end();
        let lies = self.breaks(Flaw::FollowerAnswersForHoles) || (self.breaks(Flaw::AdoptsUnheld) && adoption_missed);
        let ack = CopyAck {
            stamp,
            journal: self.config.journal,
            durable: if lies { durable.max(seen) } else { durable },
            expected,
            inline: adoption_missed,
            fenced: None,
        };
        let is_known = self.answered.is_some_and(|(last, at)| {
            let recent = self.now.since(at) < self.config.timing.heartbeat / 2;
            recent && last.stamp == stamp && last.durable >= ack.durable && last.expected == ack.expected
        });
        // Where entries came the owner waits for this, the second time as well: the first answer may have been lost.
        if seen > Lsn(0) || adoption_missed || !is_known {
            self.answered = Some((ack, self.now));
            effects.send(from, ShardMessage::CopyAck(ack));
        }
    }

    /// Appends in order; stops at a gap or at an adoption that finds nothing, and says whether it was the latter.
    fn take_entries(&mut self, stamp: ShardStamp, entries: Vec<CopyEntry>, effects: &mut Effects) -> bool {
        for CopyEntry { lsn, source } in entries {
            let expected = self.holdings.run_mut(stamp.epoch).end();
            if lsn < expected {
                continue;
            }
            if lsn > expected && !self.breaks(Flaw::FollowerTakesHoles) {
                return false;
            }
            let recovery = matches!(source, CopySource::Adopt { .. });
            match source {
                CopySource::Inline(entry) => {
                    self.holdings.append(stamp.epoch, entry, recovery, effects);
                }
                CopySource::Adopt { epoch, lsn } => {
                    if self.holdings.adopt(stamp.epoch, (epoch, lsn), effects).is_none() {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Where the partitions end in the entries that are held below a number.
    fn ends_below(&self, epoch: Epoch, below: Lsn) -> Vec<(PartitionKey, Offset)> {
        let Some(run) = self.holdings.run(epoch) else { return Vec::new() };
        let heads = run.range(run.from(), below).map(|(_, entry)| &entry.head);
        let ends: BTreeMap<_, _> = heads
            .filter(|head| matches!(head.kind, EntryKind::Chunk | EntryKind::Hole(_)))
            .map(|head| (head.partition, head.end))
            .collect();
        ends.into_iter().collect()
    }

    fn follow_commit(&mut self, stamp: ShardStamp, committed: Lsn, effects: &mut Effects) {
        let unasked = self.breaks(Flaw::ServesBeyondCommitted);
        let run = self.holdings.run_mut(stamp.epoch);
        let end = if unasked { run.end() } else { committed.min(run.end()) };
        if end > run.committed {
            let entries = run.numbered(run.committed, end);
            run.committed = end;
            if !entries.is_empty() {
                effects.then(Then::Committed { epoch: stamp.epoch, entries });
            }
        }
    }

    /// PROTOCOL R26: a copy starts at what is stored. Whoever shows its entries must know that some will never come.
    fn tell_skipped(&mut self, epoch: Epoch, effects: &mut Effects) {
        let silent = self.breaks(Flaw::SkipsInSilence);
        let run = self.holdings.run_mut(epoch);
        let below = run.from();
        if run.committed < below {
            run.committed = below;
            if !silent {
                effects.then(Then::Skipped { epoch, below });
            }
        }
    }

    /// Tells an owner of an older epoch that it is fenced.
    pub(crate) fn refuse_copy(&self, from: NodeId, stamp: ShardStamp, effects: &mut Effects) {
        let ack = CopyAck {
            stamp,
            journal: self.config.journal,
            durable: Lsn(0),
            expected: Lsn(0),
            inline: false,
            fenced: Some(self.fence()),
        };
        effects.send(from, ShardMessage::CopyAck(ack));
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use bytes::Bytes;
    use kennel_protocol::batch::inspect_chunk;
    use kennel_protocol::builder::BatchBuilder;
    use kennel_protocol::entry::Entry;
    use kennel_protocol::ids::{ClusterId, JournalId, ProcessId, ShardId};

    use super::super::config::{ShardConfig, Sizes, Timing};
    use super::super::flaw::Flaws;
    use super::super::holdings::Holdings;
    use super::super::io::RecoveredShard;
    use super::*;
    use crate::time::Instant;

    const OWNER: NodeId = NodeId(1);
    const HEARTBEAT: Duration = Duration::from_millis(100);
    const STAMP: ShardStamp = ShardStamp { process: ProcessId(1), shard: ShardId(0), epoch: Epoch(3) };

    /// A follower of [`OWNER`].
    fn follower() -> Ground {
        let span = Duration::from_secs(1);
        let timing = Timing {
            heartbeat: HEARTBEAT,
            owner_timeout: span,
            claim_stagger: span,
            round: span,
            open_timeout: span,
            create_patience: span,
            backoff_min: span,
            backoff_max: span,
            flush_interval: span,
            flush_interval_idle: span,
            move_after: span,
        };
        let sizes = Sizes {
            object_bytes_max: 1 << 20,
            object_bytes_loaded_max: 1 << 20,
            object_bytes_idle: 1,
            object_entries_max: 100,
            uploads_max: 1,
            uploads_bytes_max: 1 << 20,
            resident_bytes_max: 1 << 20,
            unstored_bytes_max: 1 << 20,
            unstored_entries_max: 100,
            copy_bytes_max: 1 << 20,
            pulled_bytes_max: 1 << 20,
            copy_entries_max: 100,
            copy_window_bytes: 1 << 20,
            walk_window: 1,
        };
        let (shard, cluster, node) = (ShardId(0), ClusterId(1), NodeId(2));
        let (process, journal) = (ProcessId(2), JournalId(2));
        let (copies, min_copies, flaws) = (2, 2, Flaws::NONE);
        let config = ShardConfig { cluster, shard, node, process, journal, copies, min_copies, timing, sizes, flaws };
        let mut ground =
            Ground::new(config, Holdings::recovered(RecoveredShard::default()), 7, Instant::from_micros(0));
        ground.accepted = Some(Accepted { epoch: STAMP.epoch, process: STAMP.process, node: OWNER });
        ground
    }

    fn entry(lsn: u64) -> CopyEntry {
        let partition: PartitionKey = "1/1/0".parse().expect("a partition");
        let body: Bytes = BatchBuilder::new(partition.partition, Offset(lsn), 7).payload(b"one").build();
        let head = inspect_chunk(partition, &body).expect("a valid batch");
        CopyEntry { lsn: Lsn(lsn), source: CopySource::Inline(Entry { head, body }) }
    }

    /// What is answered to a copy, so long after the start.
    fn answer(ground: &mut Ground, at: Duration, entries: Vec<CopyEntry>, committed: u64) -> Option<CopyAck> {
        ground.now = Instant::from_micros(0) + at;
        let mut effects = Effects::new();
        let (committed, stored) = (Lsn(committed), Lsn(0));
        let copy = Copy { stamp: STAMP, entries, committed, stored, open: false, released: false };
        ground.follow(OWNER, copy, &mut effects);
        ground.holdings.submit(&mut effects);
        if let Some(id) = effects.persist_id {
            ground.holdings.persisted(id);
        }
        effects.then.into_iter().find_map(|then| match then {
            Then::Send { to: OWNER, message: ShardMessage::CopyAck(ack) } => Some(ack),
            _ => None,
        })
    }

    #[test]
    fn marks_alone_are_answered_once_and_then_where_the_owner_would_wonder() {
        let (mut ground, soon) = (follower(), Duration::from_millis(1));
        assert!(answer(&mut ground, soon, Vec::new(), 0).is_some(), "the owner has heard nothing yet");
        assert_eq!(answer(&mut ground, 2 * soon, Vec::new(), 0), None);
        let taken = answer(&mut ground, 3 * soon, vec![entry(0)], 0).expect("entries are answered");
        assert_eq!((taken.expected, taken.durable), (Lsn(1), Lsn(1)), "after they are durable");
        assert_eq!(answer(&mut ground, 4 * soon, Vec::new(), 1), None, "what is committed is no news to the owner");
        assert!(answer(&mut ground, 4 * soon + HEARTBEAT / 2, Vec::new(), 1).is_some(), "a sign of life");
    }

    #[test]
    fn entries_are_answered_each_time() {
        let (mut ground, soon) = (follower(), Duration::from_millis(1));
        let first = answer(&mut ground, soon, vec![entry(0)], 0);
        assert_eq!(answer(&mut ground, 2 * soon, vec![entry(0)], 0), first, "the first answer may have been lost");
        assert!(first.is_some());
    }
}
