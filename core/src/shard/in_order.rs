//! Keeps what changes a node itself in the order of the machine's calls, for drivers.
//!
//! What a call wants done waits for the call's own persists. A later call without persists waits for nothing, and would
//! overtake it: for messages that is meant, for what readers see it would be a gap. Shippers are told of commits in the
//! same order: an acknowledgement comes after what it acknowledges can be read here. It knows nothing of disks.

use std::collections::VecDeque;

use super::io::{PersistId, Then};

/// What is held back behind lists that wait for the disk.
#[derive(Debug, Default)]
pub struct InOrder {
    /// The newest list on its way to the disk that something local waits for.
    newest: Option<PersistId>,
    held: VecDeque<(PersistId, Vec<Then>)>,
}

impl InOrder {
    /// A call's persists are on their way, and `then` waits for them. Lists become durable in the order of their ids.
    pub fn submitted(&mut self, id: PersistId, then: &[Then]) {
        if then.iter().any(Then::is_local) {
            self.newest = Some(id);
        }
    }

    /// What a call without persists wants: returns what starts now, in its order, and holds the rest.
    pub fn at_once(&mut self, then: Vec<Then>) -> Vec<Then> {
        let Some(behind) = self.newest else { return then };
        let (held, now): (Vec<_>, Vec<_>) = then.into_iter().partition(|one| one.is_local() || one.tells_of_commits());
        if !held.is_empty() {
            self.held.push_back((behind, held));
        }
        now
    }

    /// A list is durable and what waited for it was started: returns what was held back behind it.
    pub fn durable(&mut self, id: PersistId) -> Vec<Then> {
        self.newest = self.newest.filter(|newest| *newest > id);
        let mut released = Vec::new();
        while let Some((_, held)) = self.held.pop_front_if(|(behind, _)| *behind <= id) {
            released.extend(held);
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::{Epoch, Lsn};

    use super::super::io::SessionId;
    use super::*;

    fn shown() -> Then {
        Then::Committed { epoch: Epoch(1), entries: Vec::new() }
    }

    fn freed() -> Then {
        Then::Free { epoch: Epoch(1), below: Lsn(3) }
    }

    fn told() -> Then {
        Then::Positions { session: SessionId(1), correlation: 1, answer: None }
    }

    #[test]
    fn what_readers_see_waits_for_what_they_are_to_see_before() {
        let mut order = InOrder::default();
        order.submitted(PersistId(1), &[shown()]);
        assert!(matches!(order.at_once(vec![shown(), freed()])[..], [Then::Free { .. }]));
        order.submitted(PersistId(2), &[]);
        assert_eq!(order.at_once(vec![shown()]).len(), 0);
        assert_eq!(order.durable(PersistId(1)).len(), 2);
        assert_eq!(order.at_once(vec![shown()]).len(), 1, "list 2 holds nothing that anybody sees");
        assert_eq!(order.durable(PersistId(2)).len(), 0);
    }

    #[test]
    fn a_shipper_hears_of_a_commit_after_readers_can_see_it() {
        let mut order = InOrder::default();
        order.submitted(PersistId(1), &[shown()]);
        assert!(order.at_once(vec![shown(), told()]).is_empty());
        assert!(order.at_once(vec![told()]).is_empty(), "it may tell of what list 1 is to show");
        let released = order.durable(PersistId(1));
        assert!(matches!(released[..], [Then::Committed { .. }, Then::Positions { .. }, Then::Positions { .. }]));
        order.submitted(PersistId(2), &[told()]);
        assert_eq!(order.at_once(vec![told()]).len(), 1, "list 2 shows nothing");
    }

    #[test]
    fn nothing_waits_where_nothing_is_under_way() {
        let mut order = InOrder::default();
        assert_eq!(order.at_once(vec![shown(), freed()]).len(), 2);
        order.submitted(PersistId(7), &[freed()]);
        assert_eq!(order.at_once(vec![shown()]).len(), 1);
    }
}
