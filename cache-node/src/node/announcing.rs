//! Marks on their way to followers. They wait until the shard's task has given way once: tokio runs first what was woken last,
//! and what sends an acknowledgement was woken before.
//!
//! Marks only rise, so newer ones take the place of those that wait, and entries on their way to the same follower carry them.

use kennel_protocol::ids::NodeId;
use kennel_protocol::wire::Copy;

/// After so many inputs waiting marks go, whatever else there is to do.
const INPUTS_MAX: u32 = 8;

/// What waits: copies without entries, the newest for each follower.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    waiting: Vec<(NodeId, Copy)>,
    /// Inputs since something began to wait.
    inputs: u32,
}

impl Announcing {
    /// Takes marks in, and returns the copies that go at once.
    pub(super) fn sort(&mut self, copies: Vec<(NodeId, Copy)>) -> Vec<(NodeId, Copy)> {
        self.waiting.retain(|(node, _)| copies.iter().all(|(to, _)| to != node));
        let (entries, marks): (Vec<_>, Vec<_>) = copies.into_iter().partition(|(_, copy)| !copy.entries.is_empty());
        self.waiting.extend(marks);
        entries
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Counts an input. Says whether the marks have waited long enough.
    pub(super) fn is_due(&mut self) -> bool {
        self.inputs = if self.is_empty() { 0 } else { self.inputs + 1 };
        self.inputs > INPUTS_MAX
    }

    /// All that waits, in the order of coming.
    pub(super) fn take(&mut self) -> Vec<(NodeId, Copy)> {
        self.inputs = 0;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::{Epoch, Lsn, ProcessId, ShardId};
    use kennel_protocol::wire::{CopyEntry, CopySource, ShardStamp};

    use super::*;

    fn marks(committed: u64) -> Copy {
        let stamp = ShardStamp { shard: ShardId(0), epoch: Epoch(1), process: ProcessId(1) };
        let committed = Lsn(committed);
        Copy { stamp, entries: Vec::new(), committed, stored: Lsn(0), open: true, released: false }
    }

    fn entries(committed: u64) -> Copy {
        let source = CopySource::Adopt { epoch: Epoch(1), lsn: Lsn(0) };
        Copy { entries: vec![CopyEntry { lsn: Lsn(committed), source }], ..marks(committed) }
    }

    #[test]
    fn newer_marks_take_the_place_of_older_ones_and_entries_carry_them() {
        let mut announcing = Announcing::default();
        assert!(announcing.sort(vec![(NodeId(1), marks(1)), (NodeId(2), marks(1))]).is_empty());
        assert!(announcing.sort(vec![(NodeId(2), marks(2))]).is_empty());
        assert_eq!(announcing.sort(vec![(NodeId(1), entries(3))]), [(NodeId(1), entries(3))]);
        assert_eq!(announcing.take(), [(NodeId(2), marks(2))]);
        assert!(announcing.is_empty());
    }

    #[test]
    fn marks_behind_entries_of_the_same_step_are_kept() {
        let mut announcing = Announcing::default();
        let at_once = announcing.sort(vec![(NodeId(1), entries(1)), (NodeId(1), marks(2))]);
        assert_eq!((at_once, announcing.take()), (vec![(NodeId(1), entries(1))], vec![(NodeId(1), marks(2))]));
    }

    #[test]
    fn they_do_not_wait_for_ever() {
        let mut announcing = Announcing::default();
        assert!((0..=INPUTS_MAX).all(|_| !announcing.is_due()), "nothing waits");
        announcing.sort(vec![(NodeId(1), marks(1))]);
        assert!((0..INPUTS_MAX).all(|_| !announcing.is_due()));
        assert!(announcing.is_due());
        announcing.take();
        assert!(!announcing.is_due());
    }
}
