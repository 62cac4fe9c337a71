//! What a node answers a reader, given what it knows: the whole of PROTOCOL R26 in one pure function.

use kennel_protocol::ids::{Epoch, Offset};

/// What part a node plays for a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// It owns the newest epoch that it knows: it knows every partition and every mark.
    Owner,
    /// It is in the copy set: it learns what is committed, a little later than the owner.
    Follower,
    /// It knows the bucket only.
    Observer,
}

/// What a node's memory holds of a partition, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailRange {
    /// First offset in memory.
    pub start: Offset,
    /// End of what is committed as far as this node knows; in memory up to here.
    pub committed: Offset,
    /// First offset that is not trimmed, as far as the memory knows.
    pub trim: Offset,
}

/// What a node's index holds of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRange {
    /// First offset whose place is known.
    pub start: Offset,
    /// End of what the index knows to be in the bucket.
    pub stored: Offset,
    /// First offset that is not trimmed.
    pub trim: Offset,
}

/// Everything that a node knows about where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The newest epoch that the node speaks for.
    pub epoch: Epoch,
    /// The part it plays.
    pub authority: Authority,
    /// Whether everything gathered at the start of the epoch is committed and in memory. Before that a lower end is
    /// no loss, only unfinished.
    pub settled: bool,
    /// The memory, if it knows the partition.
    pub tail: Option<TailRange>,
    /// The index, if it knows the partition.
    pub index: Option<IndexRange>,
}

impl Standing {
    /// First offset that is not trimmed.
    pub fn trim(&self) -> Offset {
        let tail = self.tail.map_or(Offset(0), |tail| tail.trim);
        self.index.map_or(tail, |index| index.trim.max(tail))
    }

    /// End of what the node knows to be committed: what is stored was committed before.
    pub fn committed(&self) -> Offset {
        let tail = self.tail.map_or(Offset(0), |tail| tail.committed);
        self.index.map_or(tail, |index| index.stored.max(tail))
    }

    fn knows_partition(&self) -> bool {
        self.tail.is_some() || self.index.is_some()
    }

    /// Whether an end that this node names is the end, not merely as far as it has heard.
    fn names_the_end(&self) -> bool {
        self.authority != Authority::Observer && self.tail.is_some() && self.settled
    }
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderPosition {
    /// The next offset it wants.
    pub at: Offset,
    /// The newest epoch that it has seen.
    pub epoch: Epoch,
    /// Whether it has read everything below `at` itself: then an end below `at` is a loss, not impatience.
    pub has_read: bool,
}

/// What to do for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPlan {
    /// Answer from memory.
    Tail,
    /// Answer from the bucket or its cache.
    Cold,
    /// Wait for the next commit, or answer that there is nothing yet.
    Wait,
    /// What is asked for must be in the bucket, but the index has not seen it: read on in the log, then plan again.
    Refresh,
    /// Another node knows more: the owner.
    AskOwner,
    /// Nobody knows the partition.
    Unknown,
    /// The offset is gone by policy.
    Trimmed {
        /// First offset that is not trimmed.
        first: Offset,
    },
    /// The reader knows a newer epoch than this node (R26).
    Stale,
    /// The log ends below what the reader has read (R26).
    Rewound {
        /// Where the log ends now.
        to: Offset,
    },
}

/// Decides what to do for a reader at an offset. Never answers beyond `committed`, never skips.
pub fn plan(reader: ReaderPosition, standing: &Standing) -> ReadPlan {
    if reader.epoch > standing.epoch {
        return ReadPlan::Stale;
    }
    if !standing.knows_partition() {
        return if standing.authority == Authority::Owner { ReadPlan::Unknown } else { ReadPlan::AskOwner };
    }
    if reader.at < standing.trim() {
        return ReadPlan::Trimmed { first: standing.trim() };
    }
    if standing.tail.is_some_and(|tail| tail.start <= reader.at && reader.at < tail.committed) {
        return ReadPlan::Tail;
    }
    if let Some(index) = standing.index.filter(|index| reader.at < index.stored) {
        return if index.start <= reader.at { ReadPlan::Cold } else { ReadPlan::AskOwner };
    }
    if reader.at < standing.committed() {
        // Memory lets go of nothing that is not stored, so what is committed and not in memory is in the bucket.
        return ReadPlan::Refresh;
    }
    plan_at_end(reader, standing)
}

fn plan_at_end(reader: ReaderPosition, standing: &Standing) -> ReadPlan {
    let committed = standing.committed();
    if !standing.names_the_end() {
        return if standing.authority == Authority::Observer || standing.tail.is_none() {
            ReadPlan::AskOwner
        } else {
            ReadPlan::Wait
        };
    }
    if reader.at > committed && reader.has_read && reader.epoch < standing.epoch {
        return ReadPlan::Rewound { to: committed };
    }
    ReadPlan::Wait
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: TailRange = TailRange { start: Offset(50), committed: Offset(100), trim: Offset(10) };
    const INDEX: IndexRange = IndexRange { start: Offset(10), stored: Offset(60), trim: Offset(10) };

    fn standing() -> Standing {
        Standing { epoch: Epoch(3), authority: Authority::Owner, settled: true, tail: Some(TAIL), index: Some(INDEX) }
    }

    fn at(offset: u64, epoch: u64) -> ReaderPosition {
        ReaderPosition { at: Offset(offset), epoch: Epoch(epoch), has_read: true }
    }

    #[test]
    fn memory_first_then_the_bucket_then_waiting() {
        assert_eq!(plan(at(55, 3), &standing()), ReadPlan::Tail);
        assert_eq!(plan(at(49, 3), &standing()), ReadPlan::Cold);
        assert_eq!(plan(at(100, 3), &standing()), ReadPlan::Wait);
        assert_eq!(plan(at(9, 3), &standing()), ReadPlan::Trimmed { first: Offset(10) });
    }

    #[test]
    fn a_gap_between_memory_and_index_is_read_from_the_log() {
        let tail = Some(TailRange { start: Offset(80), ..TAIL });
        assert_eq!(plan(at(70, 3), &Standing { tail, ..standing() }), ReadPlan::Refresh);
    }

    #[test]
    fn no_reader_is_moved_in_silence() {
        assert_eq!(plan(at(55, 4), &standing()), ReadPlan::Stale);
        assert_eq!(plan(at(120, 2), &standing()), ReadPlan::Rewound { to: Offset(100) });
        assert_eq!(plan(at(120, 3), &standing()), ReadPlan::Wait, "in one epoch no mark goes back: we are behind");
        let unsettled = Standing { settled: false, ..standing() };
        assert_eq!(plan(at(120, 2), &unsettled), ReadPlan::Wait, "gathered entries may still come");
        let newcomer = ReaderPosition { has_read: false, ..at(120, 0) };
        assert_eq!(plan(newcomer, &standing()), ReadPlan::Wait);
    }

    #[test]
    fn who_does_not_own_asks_the_owner() {
        let observer = Standing { authority: Authority::Observer, tail: None, ..standing() };
        assert_eq!(plan(at(30, 3), &observer), ReadPlan::Cold);
        assert_eq!(plan(at(60, 3), &observer), ReadPlan::AskOwner);
        let nothing = Standing { tail: None, index: None, ..standing() };
        assert_eq!(plan(at(0, 0), &nothing), ReadPlan::Unknown);
        assert_eq!(plan(at(0, 0), &Standing { authority: Authority::Follower, ..nothing }), ReadPlan::AskOwner);
    }
}
