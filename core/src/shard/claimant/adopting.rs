//! The last steps of a take-over: the gathered tail on a quorum of the new copy set, then the open record (PROTOCOL R10,
//! R11).

use std::sync::Arc;

use kennel_protocol::ids::{Epoch, Lsn, NodeId, Slot};
use kennel_protocol::object::OpenRecord;
use kennel_protocol::wire::{Ask, AskAnswer, CopyAck, ShardMessage};

use super::{Claimant, Phase, Step};
use crate::shard::flaw::Flaw;
use crate::shard::ground::Ground;
use crate::shard::holdings::Run;
use crate::shard::io::{Effects, SlotBody};
use crate::shard::publish::SlotCreate;
use crate::shard::replication::{Adoption, Marks, Replication};

/// How many owner timeouts the new copy set may be without a living quorum. Copies answered when the claim was made; one
/// that falls silent before it follows would hold up the shard until everything is given up (F3).
const SILENT_TIMEOUTS: u32 = 2;

impl Claimant {
    /// Makes the gathered tail the first entries of the own epoch and sends it to the new set (R10).
    pub(super) fn adopt(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        let epoch = self.claim.epoch;
        let mut adoption = None;
        // The run stands even if nothing is adopted: followers are spoken to from here on.
        ground.holdings.run_mut(epoch);
        if let Some(gather) = &self.gather {
            let from = gather.stored();
            for (lsn, entry) in (from.0..).map(Lsn).zip(gather.entries()) {
                if ground.holdings.adopt(epoch, (gather.epoch(), lsn), effects).is_none() {
                    ground.holdings.append(epoch, entry.clone(), true, effects);
                }
            }
            adoption = Some(Adoption { epoch: gather.epoch(), from, count: gather.entries().len() as u64 });
        }
        self.adopted = Lsn(adoption.map_or(0, |adoption| adoption.count));
        let gather = &self.gather;
        let held = |journal| gather.as_ref().map_or(Lsn(0)..Lsn(0), |gather| gather.held(journal));
        self.replication = Some(Replication::new(ground, epoch, &self.claim.copyset, adoption, held));
        self.phase = Phase::Adopting { ask_at: ground.now + ground.config.timing.round };
        self.pump(ground, true, effects);
        self.open_if_adopted(ground, effects)
    }

    pub(super) fn pump(&mut self, ground: &Ground, announce: bool, effects: &mut Effects) {
        let marks = Marks { committed: Lsn(0), stored: Lsn(0), open: false, released: false };
        if let Some(replication) = &mut self.replication {
            replication.pump(ground, marks, announce, effects);
        }
    }

    /// R11: the open record is created only once a quorum of the new set holds the gathered tail.
    pub(super) fn open_if_adopted(&mut self, ground: &mut Ground, effects: &mut Effects) -> Step {
        let (Phase::Adopting { .. }, Some(replication)) = (&self.phase, &self.replication) else {
            return Step::Continues;
        };
        let epoch = self.claim.epoch;
        let own = ground.holdings.run(epoch).map_or(Lsn(0), |run| run.durable);
        let promised = ground.holdings.sealed_durable() >= epoch;
        // Even with nothing to adopt: an epoch opened over journals that are gone could never be gathered again.
        let adopted = replication.quorum_follows() && replication.quorum_durable(own) >= self.adopted;
        if !promised || !(adopted || ground.breaks(Flaw::OpensUnadopted)) {
            return Step::Continues;
        }
        let put = ground.put_id();
        let gather = self.gather.as_ref();
        if gather.is_some_and(|gather| gather.answered().0 < u8::try_from(gather.needed(ground)).unwrap_or(u8::MAX)) {
            self.past.table.raise_cuts();
        }
        let record = OpenRecord {
            shard: self.claim.shard,
            epoch,
            process: self.claim.process,
            put,
            gathered: gather.map_or(Epoch(0), |gather| gather.epoch()),
            adopted: self.adopted,
            answered: gather.map_or((0, 0), |gather| gather.answered()),
            partitions: self.past.table.states(),
        };
        let body = Arc::new(SlotBody::Open(record));
        self.phase = Phase::Opening(SlotCreate::start(ground, (epoch, Slot(0)), put, body, effects));
        Step::Continues
    }

    pub(crate) fn on_copy_ack(
        &mut self,
        ground: &mut Ground,
        from: NodeId,
        ack: CopyAck,
        effects: &mut Effects,
    ) -> Step {
        if let Some(newer) = ack.fenced {
            return if newer > self.claim.epoch { Step::Overtaken(newer) } else { Step::Continues };
        }
        let end = ground.holdings.run(self.claim.epoch).map_or(Lsn(0), Run::end);
        if let Some(replication) = self.replication.as_mut().filter(|_| ack.stamp.epoch == self.claim.epoch) {
            let before = replication.durable_entries();
            replication.acked(ground, from, &ack, end);
            if replication.durable_entries() > before {
                self.went_on(ground);
            }
        }
        self.pump(ground, false, effects);
        self.open_if_adopted(ground, effects)
    }

    /// A copy that lives and is slow is waited for; without a quorum that lives, another copy set is needed.
    pub(super) fn look_after_followers(&mut self, ground: &Ground, effects: &mut Effects) -> Step {
        let (Phase::Adopting { ask_at }, Some(replication)) = (&mut self.phase, &self.replication) else {
            return Step::Continues;
        };
        let timing = ground.config.timing;
        if !replication.quorum_lives(ground, timing.owner_timeout * SILENT_TIMEOUTS) {
            return Step::Fails;
        }
        if *ask_at <= ground.now {
            *ask_at = ground.now + timing.round;
            let ask = Ask { stamp: ground.stamp(self.claim.epoch), round: 0 };
            for node in replication.silent(ground, timing.round) {
                effects.send(node, ShardMessage::Ask(ask));
            }
        }
        Step::Continues
    }

    /// Somebody who may not follow yet lives.
    pub(crate) fn on_ask_answer(&mut self, ground: &Ground, from: NodeId, answer: AskAnswer) {
        if let Some(replication) = self.replication.as_mut().filter(|_| answer.stamp == ground.stamp(self.claim.epoch))
        {
            replication.lives(ground, from);
        }
    }
}
