//! Shows readers what is committed, one epoch after the other.
//!
//! A follower learns of a new epoch from the first entries that commit in it. What of the older ones still stands is said
//! by the epoch's open record (PROTOCOL R26). Until that was read, readers are served what they were served before, and
//! what is new waits: without it a take-over would take the newest messages out of memory just when everybody reads them.

use std::sync::Arc;

use kennel_core::read::Authority;
use kennel_protocol::entry::NumberedEntry;
use kennel_protocol::ids::{Epoch, Lsn, Offset, PartitionKey};
use kennel_protocol::object::PartitionState;

use crate::local::Local;
use crate::read::{StowPlace, Tail};

/// Entries that wait for an open record. More come only if the bucket is slow; then memory begins anew instead.
const HELD_MAX: usize = 4_096;

/// So often in a row is an epoch followed in which nothing has committed, before its open record is read without that: a
/// second, in which a take-over of a busy shard is over.
const UNBEGUN_MAX: u32 = 10;

/// What readers of one shard are shown.
#[derive(Debug)]
pub(super) struct Showing {
    tail: Arc<Tail>,
    /// What readers of this host share with the node; `None` where that is off.
    local: Option<Arc<Local>>,
    /// The epoch that the tail has begun.
    epoch: Epoch,
    opening: Option<Opening>,
    /// How often in a row an epoch was followed that has not begun here.
    unbegun: u32,
}

/// An epoch whose open record is being read.
#[derive(Debug)]
struct Opening {
    epoch: Epoch,
    held: Vec<NumberedEntry>,
    /// Before which of the held entries some were left out, the last time.
    skipped: Option<usize>,
    stored: Vec<(PartitionKey, Offset)>,
}

impl Opening {
    fn of(epoch: Epoch) -> Self {
        Self { epoch, held: Vec::new(), skipped: None, stored: Vec::new() }
    }
}

impl Showing {
    pub(super) fn new(tail: Arc<Tail>, local: Option<Arc<Local>>) -> Self {
        Self { tail, local, epoch: Epoch(0), opening: None, unbegun: 0 }
    }

    pub(super) fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }

    /// The newest epoch of which anything is shown or about to be.
    pub(super) fn epoch(&self) -> Epoch {
        self.opening.as_ref().map_or(self.epoch, |opening| opening.epoch)
    }

    /// This node owns the epoch, which opened with these partitions.
    pub(super) fn owns(&mut self, epoch: Epoch, states: &[PartitionState]) {
        (self.epoch, self.opening) = (epoch, None);
        self.begin(Authority::Owner, states);
    }

    /// This node owns nothing any more.
    pub(super) fn retires(&mut self, newest: Epoch) {
        self.opening = None;
        self.tail.retire(newest);
        self.tell_local(newest);
    }

    /// Says, a few times a second, in which epoch this node follows an owner that it hears. One that has not begun that
    /// epoch does not know where partitions end: the last of the old one may never have come here. Returns the epoch whose
    /// open record is needed now: that of one in which nothing commits.
    pub(super) fn follows(&mut self, followed: Option<Epoch>) -> Option<Epoch> {
        if self.tail.hears_owner(followed == Some(self.epoch))
            && let Some(local) = &self.local
        {
            local.moved(self.tail.shard());
        }
        let Some(epoch) = followed.filter(|epoch| *epoch > self.epoch()) else {
            self.unbegun = 0;
            return None;
        };
        self.unbegun += 1;
        if self.unbegun < UNBEGUN_MAX {
            return None;
        }
        self.unbegun = 0;
        self.opening(epoch).1
    }

    /// Takes in committed entries, in log order. Returns the epoch whose open record is needed now, for [`Self::opened`].
    /// `place` says where a body lies besides.
    pub(super) fn committed(
        &mut self,
        epoch: Epoch,
        entries: Vec<NumberedEntry>,
        place: impl Fn(Epoch, Lsn) -> Option<StowPlace>,
    ) -> Option<Epoch> {
        if epoch <= self.epoch {
            self.show(epoch, &entries, &place);
            return None;
        }
        let (opening, needed) = self.opening(epoch);
        opening.held.extend(entries);
        if opening.held.len() > HELD_MAX {
            self.opened(epoch, None, place);
        }
        needed
    }

    /// Entries of an epoch were left out that are in the bucket: nobody here knows where partitions end. Returns the epoch
    /// whose open record is needed now.
    pub(super) fn skipped(&mut self, epoch: Epoch) -> Option<Epoch> {
        if epoch > self.epoch {
            let (opening, needed) = self.opening(epoch);
            opening.skipped = Some(opening.held.len());
            return needed;
        }
        self.doubt_ends();
        None
    }

    /// The opening of an epoch that has not begun here, and the epoch itself if that is news.
    fn opening(&mut self, epoch: Epoch) -> (&mut Opening, Option<Epoch>) {
        let needed = self.opening.as_ref().is_none_or(|opening| opening.epoch != epoch).then_some(epoch);
        if needed.is_some() {
            self.opening = None;
        }
        (self.opening.get_or_insert_with(|| Opening::of(epoch)), needed)
    }

    /// Says up to where partitions are in the bucket.
    pub(super) fn stored(&mut self, ends: Vec<(PartitionKey, Offset)>) {
        match &mut self.opening {
            Some(opening) => opening.stored.extend(ends),
            None => self.tail.stored(ends),
        }
    }

    /// The open record of an epoch was read, or could not be: then memory begins anew with what commits from here on, and
    /// stays as it is where nothing has.
    pub(super) fn opened(
        &mut self,
        epoch: Epoch,
        states: Option<&[PartitionState]>,
        place: impl Fn(Epoch, Lsn) -> Option<StowPlace>,
    ) {
        // A newer one may have come since, or this one may have been given up.
        let Some(opening) = self.opening.take_if(|opening| opening.epoch == epoch) else { return };
        if states.is_none() && opening.held.is_empty() {
            return self.tail.stored(opening.stored);
        }
        self.epoch = epoch;
        self.begin(Authority::Follower, states.unwrap_or_default());
        let (before, after) = opening.held.split_at(opening.skipped.unwrap_or_default());
        self.show(epoch, before, &place);
        if opening.skipped.is_some() {
            self.doubt_ends();
        }
        self.show(epoch, after, &place);
        self.tail.stored(opening.stored);
    }

    fn show(&self, epoch: Epoch, entries: &[NumberedEntry], place: &impl Fn(Epoch, Lsn) -> Option<StowPlace>) {
        for numbered in entries {
            self.tail.append(&numbered.entry, place(epoch, numbered.lsn));
            if let Some(local) = &self.local {
                local.committed(self.tail.shard(), epoch, &numbered.entry);
            }
        }
    }

    fn doubt_ends(&self) {
        self.tail.doubt_ends();
        if let Some(local) = &self.local {
            local.moved(self.tail.shard());
        }
    }

    fn begin(&self, authority: Authority, states: &[PartitionState]) {
        self.tail.begin(self.epoch, authority, states);
        self.tell_local(self.epoch);
    }

    /// The tail began anew: what readers of this host were shown of the shard is not shown any more.
    fn tell_local(&self, epoch: Epoch) {
        if let Some(local) = &self.local {
            local.changed(self.tail.shard(), epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::ShardId;

    use super::*;
    use crate::read::TailBudget;
    use crate::read::testing::{chunk, key};

    fn follower() -> Showing {
        Showing::new(Tail::new(ShardId(0), &TailBudget::new(u64::MAX)), None)
    }

    fn nowhere(_: Epoch, _: Lsn) -> Option<StowPlace> {
        None
    }

    fn numbered(lsn: u64, base: u64) -> Vec<NumberedEntry> {
        vec![NumberedEntry { lsn: Lsn(lsn), entry: chunk(0, base, &[1]) }]
    }

    fn state(end: u64) -> PartitionState {
        PartitionState { partition: key(0), trim: Offset(0), end: Offset(end), last: None, cut: 0 }
    }

    /// What memory holds of the partition: from where to where.
    fn held(showing: &Showing) -> (Epoch, Option<(u64, u64)>) {
        let standing = showing.tail().standing(&key(0));
        (standing.epoch, standing.range.map(|range| (range.start.0, range.committed.0)))
    }

    /// A follower of epoch 1 that was shown messages 0, 1 and 2.
    fn shown() -> Showing {
        let mut showing = follower();
        assert_eq!(showing.committed(Epoch(1), numbered(0, 0), nowhere), Some(Epoch(1)));
        showing.opened(Epoch(1), Some(&[]), nowhere);
        for base in 1..3 {
            assert_eq!(showing.committed(Epoch(1), numbered(base, base), nowhere), None);
        }
        assert_eq!(held(&showing), (Epoch(1), Some((0, 3))));
        showing
    }

    #[test]
    fn what_was_shown_stays_in_memory_through_a_take_over() {
        let mut showing = shown();
        assert_eq!(showing.committed(Epoch(2), numbered(0, 2), nowhere), Some(Epoch(2)));
        showing.stored(vec![(key(0), Offset(3))]);
        assert_eq!(held(&showing), (Epoch(1), Some((0, 3))), "as before, until the open record is known");
        assert_eq!(showing.committed(Epoch(2), numbered(1, 3), nowhere), None);
        // Stored when the epoch opened: messages 0 and 1. Message 2 was adopted.
        showing.opened(Epoch(2), Some(&[state(2)]), nowhere);
        assert_eq!(held(&showing), (Epoch(2), Some((0, 4))));
        assert_eq!(showing.tail().partitions()[0].stored, Offset(3));
    }

    /// R26: the new epoch may know less, where a loss was accepted.
    #[test]
    fn what_the_open_record_does_not_cover_is_dropped() {
        let mut showing = shown();
        showing.committed(Epoch(2), numbered(0, 1), nowhere);
        showing.opened(Epoch(2), Some(&[state(1)]), nowhere);
        assert_eq!(held(&showing), (Epoch(2), Some((0, 2))));
    }

    /// A copy that was away starts at what is stored meanwhile. What it missed may have been the last of some partitions.
    #[test]
    fn where_entries_were_left_out_no_end_is_named_until_more_comes() {
        let mut showing = shown();
        let authority = |showing: &Showing| showing.tail().standing(&key(0)).authority;
        assert_eq!(showing.skipped(Epoch(1)), None);
        assert_eq!(held(&showing), (Epoch(1), Some((0, 3))), "what is in memory is served");
        assert_eq!(authority(&showing), Authority::Observer);
        showing.committed(Epoch(1), numbered(9, 5), nowhere);
        assert_eq!(held(&showing), (Epoch(1), Some((5, 6))));
        assert_eq!(authority(&showing), Authority::Follower);
        // In an epoch that has not begun here: what comes before the gap proves nothing, what comes after it does.
        assert_eq!(showing.committed(Epoch(2), numbered(0, 6), nowhere), Some(Epoch(2)));
        assert_eq!(showing.skipped(Epoch(2)), None);
        showing.opened(Epoch(2), Some(&[state(6)]), nowhere);
        assert_eq!((held(&showing), authority(&showing)), ((Epoch(2), Some((5, 7))), Authority::Observer));
        assert_eq!(showing.skipped(Epoch(3)), Some(Epoch(3)));
        assert_eq!(showing.committed(Epoch(3), numbered(4, 9), nowhere), None);
        showing.opened(Epoch(3), Some(&[state(8)]), nowhere);
        assert_eq!((held(&showing), authority(&showing)), ((Epoch(3), Some((9, 10))), Authority::Follower));
    }

    /// The last entries of an epoch may have been committed without this copy, and may be the last for a long time.
    #[test]
    fn an_epoch_in_which_nothing_commits_is_begun_all_the_same() {
        let mut showing = shown();
        assert_eq!(showing.follows(Some(Epoch(1))), None);
        let authority = |showing: &Showing| showing.tail().standing(&key(0)).authority;
        assert_eq!(authority(&showing), Authority::Follower);
        for _ in 1..UNBEGUN_MAX {
            assert_eq!(showing.follows(Some(Epoch(2))), None);
            assert_eq!(authority(&showing), Authority::Observer, "where it ends, the owner is asked");
        }
        assert_eq!(showing.follows(Some(Epoch(2))), Some(Epoch(2)));
        assert_eq!(showing.follows(Some(Epoch(2))), None, "it is being read");
        showing.opened(Epoch(2), None, nowhere);
        assert_eq!(held(&showing), (Epoch(1), Some((0, 3))), "it could not be read");
        for _ in 1..UNBEGUN_MAX {
            assert_eq!(showing.follows(Some(Epoch(2))), None);
        }
        assert_eq!(showing.follows(Some(Epoch(2))), Some(Epoch(2)), "again");
        showing.opened(Epoch(2), Some(&[state(5)]), nowhere);
        assert_eq!(held(&showing), (Epoch(2), Some((5, 5))), "messages 3 and 4 are in the bucket");
        assert_eq!(showing.follows(Some(Epoch(2))), None);
        assert_eq!(authority(&showing), Authority::Follower);
    }

    #[test]
    fn without_the_open_record_memory_begins_anew() {
        let mut showing = shown();
        showing.committed(Epoch(2), numbered(0, 3), nowhere);
        showing.opened(Epoch(2), None, nowhere);
        assert_eq!(held(&showing), (Epoch(2), Some((3, 4))));
        let mut showing = shown();
        for base in 0..=HELD_MAX as u64 {
            showing.committed(Epoch(2), numbered(base, 3 + base), nowhere);
        }
        assert_eq!(held(&showing).0, Epoch(2), "no more than so many entries wait");
    }

    #[test]
    fn a_record_that_comes_too_late_says_nothing() {
        let mut showing = shown();
        showing.committed(Epoch(2), numbered(0, 3), nowhere);
        assert_eq!(showing.committed(Epoch(3), numbered(0, 3), nowhere), Some(Epoch(3)));
        showing.opened(Epoch(2), Some(&[]), nowhere);
        assert_eq!(held(&showing), (Epoch(1), Some((0, 3))));
        assert_eq!(showing.epoch(), Epoch(3));
        showing.opened(Epoch(3), Some(&[state(3)]), nowhere);
        assert_eq!(held(&showing), (Epoch(3), Some((0, 4))));
    }

    #[test]
    fn an_owner_shows_at_once_what_its_own_record_leaves() {
        let mut showing = shown();
        showing.committed(Epoch(2), numbered(0, 3), nowhere);
        showing.owns(Epoch(3), &[state(3)]);
        showing.opened(Epoch(2), Some(&[]), nowhere);
        assert_eq!(showing.committed(Epoch(3), numbered(0, 3), nowhere), None);
        assert_eq!(held(&showing), (Epoch(3), Some((0, 4))));
        showing.retires(Epoch(4));
        assert_eq!(held(&showing).1, None);
    }
}
