//! The walk over what the ring brings: which batches a poll gets whole, which cut, and where it ends.

use core::ops::Range;

use bytes::Bytes;
use kennel_protocol::batch::{BatchView, batches, slice_in_place};
use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};

use crate::poll::answer::head;
use crate::poll::{ForwardReason, PollAnswer, Reach, Served};
use crate::ring::RingRead;

/// Most bytes of one reply: one batch of the largest size. Iggy has no limit; beyond this one it serves itself.
const RECORDS_BYTES_MAX: usize = kennel_protocol::limits::BATCH_BYTES_MAX;

/// Whether a walk needs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Done,
}

/// A poll under way.
#[derive(Debug)]
pub(super) struct Walk {
    partition: PartitionKey,
    at: Offset,
    timestamp: Option<u64>,
    left: u32,
    messages: u32,
    /// End of what was committed at the first read: what comes later is for the next poll, as at the server.
    committed: Option<Offset>,
    first: Option<MessageIdentity>,
    records: Vec<Bytes>,
    bytes: usize,
    reach: Reach,
}

impl Walk {
    pub(super) fn new(partition: PartitionKey, at: Offset, timestamp: Option<u64>, count: u32) -> Self {
        Self {
            partition,
            at,
            timestamp,
            left: count,
            messages: 0,
            committed: None,
            first: None,
            records: Vec::new(),
            bytes: 0,
            reach: Reach::Count,
        }
    }

    /// Takes what the poll wants of a read that begins at or below [`Self::at`].
    pub(super) fn take(&mut self, read: &RingRead) -> Result<Step, ForwardReason> {
        let committed = *self.committed.get_or_insert(read.committed);
        if self.at >= committed {
            return Ok(self.done(Reach::End));
        }
        if self.at < read.first {
            return Err(ForwardReason::Trimmed { first: read.first });
        }
        for run in &read.batches {
            let mut whole = 0..0;
            let step = self.take_run(run, read, committed, &mut whole);
            self.push(run, whole);
            if step? == Step::Done {
                return Ok(Step::Done);
            }
        }
        if self.jump(read)? == Step::Done {
            return Ok(Step::Done);
        }
        Ok(if self.at >= committed { self.done(Reach::End) } else { Step::More })
    }

    /// Takes batches of one run; `whole` is the stretch of it that goes on as it is and has not been pushed yet.
    fn take_run(
        &mut self,
        run: &Bytes,
        read: &RingRead,
        committed: Offset,
        whole: &mut Range<usize>,
    ) -> Result<Step, ForwardReason> {
        for view in batches(run) {
            let view = view.map_err(|_| ForwardReason::Broken { at: self.at })?;
            if view.end_if_dense() <= self.at {
                continue;
            }
            if self.jump(read)? == Step::Done {
                return Ok(Step::Done);
            }
            self.check(&view, read)?;
            let room = committed.0.saturating_sub(self.at.0);
            let wanted = u32::try_from(room).unwrap_or(u32::MAX).min(self.left);
            let messages = view.header().message_count;
            if view.first_offset() == self.at && messages <= wanted {
                let identity = view.messages().next().and_then(Result::ok).map(|message| message.identity());
                let end = view.position() + view.bytes().len();
                *whole = if whole.start == whole.end { view.position()..end } else { whole.start..end };
                self.count(identity, messages, view.bytes().len())?;
            } else {
                self.push(run, std::mem::take(whole));
                self.cut(run, &view, wanted)?;
            }
            if self.left == 0 {
                return Ok(self.done(Reach::Count));
            }
            if self.at >= committed {
                return Ok(self.done(Reach::End));
            }
        }
        Ok(Step::More)
    }

    /// What no checksum says: that the batch is of this partition, joins here, and has no hole inside.
    fn check(&self, view: &BatchView<'_>, read: &RingRead) -> Result<(), ForwardReason> {
        let (header, first, end) = (view.header(), view.first_offset(), view.end_if_dense());
        if header.partition_id != u64::from(self.partition.partition.0) || first > self.at || end <= self.at {
            return Err(ForwardReason::Broken { at: self.at });
        }
        if self.timestamp.is_some_and(|timestamp| header.base_timestamp < timestamp) {
            return Err(ForwardReason::TimestampsFall { at: first });
        }
        match read.holes.iter().find(|hole| first < hole.from && hole.from < end) {
            Some(hole) => Err(ForwardReason::Hole { at: hole.from, reason: hole.reason }),
            None => Ok(()),
        }
    }

    /// Passes a declared hole. Iggy's own retention leaves one that its polls jump, so ours do; but an answer that has
    /// messages ends there, and a hole of the ring alone is one that the server may fill.
    fn jump(&mut self, read: &RingRead) -> Result<Step, ForwardReason> {
        while let Some(hole) = read.holes.iter().find(|hole| hole.from <= self.at && self.at < hole.to) {
            if self.messages > 0 {
                return Ok(self.done(Reach::Hole));
            }
            if hole.reason != HoleReason::SourceRetention {
                return Err(ForwardReason::Hole { at: self.at, reason: hole.reason });
            }
            self.at = hole.to;
        }
        Ok(Step::More)
    }

    /// Takes some of a batch: a header of its own, and the messages where they lie.
    fn cut(&mut self, run: &Bytes, view: &BatchView<'_>, wanted: u32) -> Result<(), ForwardReason> {
        let broken = ForwardReason::Broken { at: self.at };
        let sliced = slice_in_place(view, self.at, wanted).map_err(|_| broken)?.ok_or(broken)?;
        let frames = view.position() + sliced.frames.start..view.position() + sliced.frames.end;
        let bytes = sliced.header.len() + frames.len();
        self.records.push(sliced.header);
        self.push(run, frames);
        self.count(Some(sliced.first), sliced.messages, bytes)
    }

    fn push(&mut self, run: &Bytes, range: Range<usize>) {
        if !range.is_empty() {
            self.records.push(run.slice(range));
        }
    }

    fn count(&mut self, first: Option<MessageIdentity>, messages: u32, bytes: usize) -> Result<(), ForwardReason> {
        self.first = self.first.or(first);
        self.at = self.at.plus(messages.into());
        self.left -= messages;
        self.messages += messages;
        self.bytes += bytes;
        if self.bytes > RECORDS_BYTES_MAX { Err(ForwardReason::TooLong) } else { Ok(()) }
    }

    fn done(&mut self, reach: Reach) -> Step {
        self.reach = reach;
        Step::Done
    }

    /// The reply that the walk amounts to, for a poll of this partition id.
    pub(super) fn into_answer(self, partition: u32) -> PollAnswer {
        let committed = self.committed.unwrap_or_default();
        let served = Served {
            partition: self.partition,
            first: self.first,
            messages: self.messages,
            bytes: self.bytes,
            next: self.at,
            committed,
            reach: self.reach,
        };
        PollAnswer::Served { head: head(partition, committed, self.messages), records: self.records, served }
    }

    /// The next offset that the poll wants.
    pub(super) fn at(&self) -> Offset {
        self.at
    }

    /// How many messages it still wants.
    pub(super) fn left(&self) -> u32 {
        self.left
    }
}
