//! Whether a source that ends elsewhere than the ring, or whose batches lie otherwise there, has the same history.
//!
//! A source that is behind looks like one that lost its newest messages and gave their offsets to others, until a
//! message of both is compared (PROTOCOL R15). The owner compares, because only it can read what is no longer in memory,
//! and so it knows of every difference that any shipper finds.

use core::time::Duration;

use bytes::Bytes;
use kennel_protocol::batch::batches;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{NodeId, Offset, PartitionKey, ShardId};
use kennel_protocol::limits::COMPARISONS_PER_FRAME_MAX;
use kennel_protocol::wire::{CompareRequest, Compared};

use super::Shipper;
use super::contract::{Effect, Effects, PartitionNews, PartitionProblem};
use super::partition::Phase;
use crate::time::Instant;

/// An owner may have to read the bucket once for every message that it is asked about.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How often one message is asked about before what is known has to do.
const TRIES_MAX: u32 = 5;

/// A message of the source that the ring must be asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    /// As the source has it.
    pub(super) source: MessageIdentity,
    /// As the ring has it, where its marks tell.
    pub(super) ring: Option<MessageIdentity>,
    /// What it means if it is the same message.
    pub(super) otherwise: Otherwise,
    /// How often it was asked about.
    pub(super) tries: u32,
}

/// What a doubt means where the messages do not differ.
#[derive(Debug, Clone, Copy)]
pub(super) enum Otherwise {
    /// The source ends at the ring's end.
    Even,
    /// It only ends earlier.
    Behind { end: Offset },
    /// The same messages in other batches: nothing of it can be appended.
    Misaligned { expected: Offset, base: Offset },
}

impl Shipper {
    /// Reads and ends nothing more of a partition until the ring was asked about a message.
    pub(super) fn doubt(&mut self, partition: PartitionKey, source: MessageIdentity, otherwise: Otherwise) {
        let track = self.tracks.get_mut(&partition).expect("the caller found it");
        let ring = track.marks.last.filter(|ring| ring.offset == source.offset);
        track.doubt = Some(Doubt { source, ring, otherwise, tries: 0 });
        self.lanes.get_mut(&track.shard).expect("a track's shard has a lane").doubtful.insert(partition);
    }

    /// What was asked, or was to be, says nothing any more.
    pub(super) fn forget_doubt(&mut self, partition: PartitionKey) {
        let track = self.tracks.get_mut(&partition).expect("the caller found it");
        if track.doubt.take().is_some() {
            let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
            lane.doubtful.remove(&partition);
            lane.comparing.remove(&partition);
        }
    }

    /// Asks the owners of open lanes about what is in doubt; one question of a lane at a time.
    pub(super) fn ask_comparisons(&mut self, now: Instant, effects: &mut Effects) {
        for (shard, lane) in &mut self.lanes {
            let Some(node) = lane.open_to(&self.sessions) else { continue };
            if !lane.comparing.is_empty() || lane.doubtful.is_empty() || now < lane.compare_at {
                continue;
            }
            let mut messages = Vec::new();
            while messages.len() < COMPARISONS_PER_FRAME_MAX
                && let Some(partition) = lane.doubtful.pop_first()
            {
                let doubt = self.tracks.get_mut(&partition).and_then(|track| track.doubt.as_mut());
                let doubt = doubt.expect("a partition in doubt has one");
                doubt.tries += 1;
                messages.push((partition, doubt.source));
                lane.comparing.insert(partition);
            }
            lane.compare_at = now + ANSWER_TIMEOUT;
            effects.push(Effect::Compare { node, request: CompareRequest { shard: *shard, messages } });
        }
    }

    pub(super) fn take_compared(&mut self, now: Instant, from: NodeId, compared: &Compared, effects: &mut Effects) {
        if self.lanes.get(&compared.shard).is_none_or(|lane| lane.owner != Some(from)) {
            return;
        }
        for (partition, ring) in &compared.ring {
            let lane = self.lanes.get_mut(&compared.shard).expect("it was just found");
            if lane.comparing.remove(partition) {
                self.resolve(*partition, *ring, effects);
            }
        }
        self.compare_again(now, compared.shard, effects);
    }

    /// What was asked and is not answered is asked again after a while, but not for ever.
    pub(super) fn compare_again(&mut self, now: Instant, shard: ShardId, effects: &mut Effects) {
        let Some(lane) = self.lanes.get_mut(&shard) else { return };
        let unanswered = core::mem::take(&mut lane.comparing);
        lane.compare_at = if unanswered.is_empty() { now } else { now + self.config.poll_interval };
        for partition in unanswered {
            let doubt = self.tracks.get(&partition).and_then(|track| track.doubt);
            if doubt.expect("a partition in doubt has one").tries >= TRIES_MAX {
                self.resolve(partition, None, effects);
            } else {
                self.lanes.get_mut(&shard).expect("it was just found").doubtful.insert(partition);
            }
        }
    }

    /// The ring said what it has, or will not say.
    fn resolve(&mut self, partition: PartitionKey, ring: Option<MessageIdentity>, effects: &mut Effects) {
        let track = self.tracks.get_mut(&partition).expect("a partition of a lane has a track");
        let Some(doubt) = track.doubt.take() else { return };
        assert!(track.phase == Phase::Moving, "only a partition that moves is in doubt");
        let next = track.cursor;
        if let Some(ring) = ring.or(doubt.ring).filter(|ring| *ring != doubt.source) {
            let problem = PartitionProblem::Diverged { ring, source_message: doubt.source };
            return self.stop(partition, problem, effects);
        }
        match doubt.otherwise {
            Otherwise::Even => {}
            Otherwise::Behind { end } => {
                effects.report(partition, PartitionNews::Behind { end, next, same: ring.is_some() });
            }
            Otherwise::Misaligned { expected, base } => {
                return self.stop(partition, PartitionProblem::Misaligned { expected, base }, effects);
            }
        }
        self.settle(partition);
    }
}

/// The message at an offset within whole batches.
pub(super) fn message_at(body: &Bytes, offset: Offset) -> Option<MessageIdentity> {
    let messages = batches(body).map_while(Result::ok).flat_map(|batch| {
        // A chunk was verified where it was read.
        batch.messages().map_while(Result::ok).map(|message| message.identity()).collect::<Vec<_>>()
    });
    messages.into_iter().find(|message| message.offset == offset)
}
