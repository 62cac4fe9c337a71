//! An answer: batches, messages and holes, verified, without copies.

use bytes::Bytes;
use kennel_fabric::Arrived;
use kennel_protocol::batch::{Batch, batches, split};
use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey};
use kennel_protocol::wire::{self, Served};
use kennel_slab::WholeRead;

/// What a fetch brought. Every checksum was verified, and nothing between `start` and `next` is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whose log.
    pub partition: PartitionKey,
    /// The epoch that answered.
    pub epoch: Epoch,
    /// The offset asked for, resolved.
    pub start: Offset,
    /// Where to continue.
    pub next: Offset,
    /// First offset that is not trimmed.
    pub trim: Offset,
    /// End of what is in the bucket.
    pub stored: Offset,
    /// End of what may be read.
    pub committed: Offset,
    /// Ranges without messages in `[start, next)`.
    pub holes: Vec<Hole>,
    /// Which tier answered. From shared memory it is the tail, whatever lay there before.
    pub served: Served,
    /// Whether it came out of memory that a node on this host shares, and not over the network.
    pub from_shared_memory: bool,
    /// Whether a node has written it into this process's memory by the fabric. The memory is a landing: it is free for
    /// another answer when the last handle of these bytes is dropped.
    pub by_fabric: bool,
    /// The last message, for [`crate::FetchRequest::last`].
    pub last: Option<MessageIdentity>,
    batches: Bytes,
}

/// A range without messages, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// First offset.
    pub from: Offset,
    /// End, exclusive.
    pub to: Offset,
    /// Why.
    pub reason: HoleReason,
}

/// A message, sharing the bytes of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its number in the partition.
    pub offset: Offset,
    /// When the broker appended it, microseconds since 1970.
    pub timestamp: u64,
    /// When its producer made it, microseconds since 1970.
    pub origin_timestamp: u64,
    /// Its producer's id for it.
    pub id: u128,
    /// Iggy's checksum over it.
    pub checksum: u64,
    /// What it says.
    pub payload: Bytes,
    /// Its user headers, as Iggy encodes them.
    pub user_headers: Bytes,
}

impl Fetched {
    /// Verifies an answer: every batch, and that batches and holes cover `[start, next)` without gaps.
    pub(crate) fn verify(answer: wire::Fetched) -> Result<Self, String> {
        let last = check(&answer, &answer.batches)?;
        Ok(Self::new(answer, last))
    }

    /// The same of an answer whose batches lie in a landing, which is given up if they are not what they should be.
    pub(crate) fn verify_placed(answer: wire::Fetched, arrived: Arrived) -> Result<Self, String> {
        let last = check(&answer, arrived.as_ref())?;
        let fetched = Self::new(wire::Fetched { batches: arrived.keep(), ..answer }, last);
        Ok(Self { by_fabric: true, ..fetched })
    }

    fn new(answer: wire::Fetched, last: Option<MessageIdentity>) -> Self {
        let wire::Fetched { partition, epoch, start, next, trim, stored, committed, holes, served, batches } = answer;
        let holes = holes.into_iter().map(|(from, to, reason)| Hole { from, to, reason }).collect();
        let (from_shared_memory, by_fabric) = (false, false);
        Self {
            partition,
            epoch,
            start,
            next,
            trim,
            stored,
            committed,
            holes,
            served,
            from_shared_memory,
            by_fabric,
            last,
            batches,
        }
    }

    /// What came out of shared memory: its checksum holds, so it is what the node wrote. Whether that is what can be read,
    /// and every message from `start` to its end, is looked at here; `None` if not.
    pub(crate) fn of_shared_memory(partition: PartitionKey, start: Offset, read: WholeRead) -> Option<Self> {
        let mut at = start;
        for view in batches(&read.batches) {
            for message in view.ok()?.messages() {
                if message.ok()?.offset() != at {
                    return None;
                }
                at = at.plus(1);
            }
        }
        (at == read.next).then(|| Self {
            partition,
            epoch: read.epoch,
            start,
            next: read.next,
            trim: read.trim,
            stored: read.stored,
            committed: read.committed,
            holes: Vec::new(),
            served: Served::Tail,
            from_shared_memory: true,
            by_fabric: false,
            last: Some(read.last),
            batches: Bytes::from(read.batches),
        })
    }

    /// Iggy's own batches, in offset order. The first may begin below `start`: batches are never split.
    pub fn batches(&self) -> impl Iterator<Item = Batch> {
        split(&self.batches).map(|batch| batch.expect("the answer was verified when it came"))
    }

    /// The batches back to back, as Iggy stores them.
    pub fn batch_bytes(&self) -> &Bytes {
        &self.batches
    }

    /// The messages from `start` on, in order.
    pub fn messages(&self) -> impl Iterator<Item = Message> {
        let views = batches(&self.batches).map(|view| view.expect("the answer was verified when it came"));
        let messages = views.flat_map(|view| view.messages());
        let messages = messages.map(|message| message.expect("the answer was verified when it came"));
        messages.skip_while(|message| message.offset() < self.start).map(|message| Message {
            offset: message.offset(),
            timestamp: message.timestamp(),
            origin_timestamp: message.origin_timestamp(),
            id: message.id(),
            checksum: message.checksum(),
            payload: self.batches.slice_ref(message.payload()),
            user_headers: self.batches.slice_ref(message.user_headers()),
        })
    }

    /// Whether there is nothing new: no message and no hole.
    pub fn is_empty(&self) -> bool {
        self.next == self.start
    }
}

/// Whether batches are the answer's, whole and without gaps; the last message.
fn check(answer: &wire::Fetched, bytes: &[u8]) -> Result<Option<MessageIdentity>, String> {
    let mut holes = holes_of(answer).peekable();
    let (mut at, mut last) = (answer.start, None);
    for view in batches(bytes) {
        let summary = view.and_then(|view| view.verify()).map_err(|error| error.to_string())?;
        while let Some(hole) = holes.next_if(|hole| hole.from <= at && at < hole.to) {
            at = hole.to;
        }
        let (first, end) = (summary.first.offset, summary.last.offset.plus(1));
        // Only the first batch may begin earlier: batches are never split.
        let joins = if last.is_none() { first <= at && at < end } else { first == at };
        if !joins {
            return Err(format!("messages {first} to {end} came where {at} was due"));
        }
        let declared = |gap: Offset| holes_of(answer).any(|hole| hole.from <= gap && gap < hole.to);
        if let Some(gap) = summary.gap.filter(|gap| !declared(*gap)) {
            return Err(format!("the message at {gap} is missing"));
        }
        (at, last) = (end, Some(summary.last));
    }
    for hole in holes {
        if hole.from > at {
            return Err(format!("a hole at {} came where {at} was due", hole.from));
        }
        at = at.max(hole.to);
    }
    if at != answer.next {
        return Err(format!("the answer ends at {at} and says {}", answer.next));
    }
    Ok(last)
}

fn holes_of(answer: &wire::Fetched) -> impl Iterator<Item = Hole> {
    answer.holes.iter().map(|&(from, to, reason)| Hole { from, to, reason })
}

#[cfg(test)]
mod tests {
    use kennel_protocol::batch::BatchBuilder;
    use kennel_protocol::ids::PartitionId;

    use super::*;

    fn batch(base: u64, count: u64) -> Vec<u8> {
        let mut batch = BatchBuilder::new(PartitionId(0), Offset(base), base);
        for offset in base..base + count {
            batch = batch.payload(&offset.to_le_bytes());
        }
        batch.build().to_vec()
    }

    fn answer(start: u64, next: u64, holes: &[(u64, u64)], batches: &[Vec<u8>]) -> wire::Fetched {
        let hole = |&(from, to)| (Offset(from), Offset(to), HoleReason::SourceRetention);
        wire::Fetched {
            partition: "0/0/0".parse().expect("a partition"),
            epoch: Epoch(1),
            start: Offset(start),
            next: Offset(next),
            trim: Offset(0),
            stored: Offset(0),
            committed: Offset(next),
            holes: holes.iter().map(hole).collect(),
            served: Served::Tail,
            batches: batches.concat().into(),
        }
    }

    #[test]
    fn messages_begin_where_was_asked_and_share_the_bytes() {
        let answer = answer(1, 9, &[(3, 6)], &[batch(0, 3), batch(6, 3)]);
        let whole = answer.batches.clone();
        let fetched = Fetched::verify(answer).expect("a good answer");
        let offsets: Vec<_> = fetched.messages().map(|message| message.offset.0).collect();
        assert_eq!(offsets, [1, 2, 6, 7, 8]);
        assert_eq!(fetched.last.map(|last| last.offset), Some(Offset(8)));
        let payload = fetched.messages().next().expect("one").payload;
        assert!(whole.as_ptr_range().contains(&payload.as_ptr()));
        assert_eq!(fetched.batches().count(), 2);
    }

    fn shared(start: u64, next: u64, batches: &[Vec<u8>]) -> Option<Fetched> {
        let partition = "0/0/0".parse().expect("a partition");
        let (zero, next) = (Offset(0), Offset(next));
        let last = MessageIdentity { offset: Offset(next.0 - 1), base_timestamp: 0, checksum: 0 };
        let (epoch, batches) = (Epoch(1), batches.concat());
        let read = WholeRead { epoch, next, trim: zero, stored: zero, committed: next, last, batches };
        Fetched::of_shared_memory(partition, Offset(start), read)
    }

    #[test]
    fn what_was_shared_is_every_message_or_nothing() {
        let fetched = shared(3, 8, &[batch(3, 2), batch(5, 3)]).expect("whole");
        assert_eq!(fetched.messages().map(|message| message.offset.0).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
        assert!(fetched.from_shared_memory);
        let cut = batch(3, 2)[..300].to_vec();
        let wrong: [(u64, u64, &[Vec<u8>]); 5] = [
            (3, 9, &[batch(3, 2), batch(5, 3)]),
            (4, 8, &[batch(3, 2), batch(5, 3)]),
            (3, 9, &[batch(3, 2), batch(6, 3)]),
            (3, 5, &[cut]),
            (3, 5, &[vec![7; 400]]),
        ];
        for (start, next, batches) in wrong {
            assert!(shared(start, next, batches).is_none());
        }
    }

    #[test]
    fn answers_with_gaps_or_flipped_bits_are_refused() {
        let mut flipped = batch(0, 3);
        *flipped.last_mut().expect("not empty") ^= 1;
        let wrong = [
            answer(0, 9, &[], &[batch(0, 3), batch(6, 3)]),
            answer(0, 3, &[], &[flipped]),
            answer(0, 5, &[], &[batch(0, 3)]),
            answer(5, 9, &[], &[batch(6, 3)]),
            answer(0, 9, &[(4, 6)], &[batch(0, 3), batch(6, 3)]),
            answer(0, 3, &[], &[batch(0, 3), batch(0, 3)]),
            answer(0, 5, &[], &[batch(0, 3), batch(1, 4)]),
        ];
        for answer in wrong {
            assert!(Fetched::verify(answer).is_err());
        }
        assert!(Fetched::verify(answer(3, 8, &[(3, 8)], &[])).is_ok());
        assert!(Fetched::verify(answer(3, 3, &[], &[])).expect("nothing new").is_empty());
    }
}
