//! How much a machine carries, for those who watch that nothing grows without end.

use super::{Role, Shard};

/// Counts of everything in a machine that could grow. A shard at rest carries next to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Epochs of which entries are held, or were.
    pub runs: usize,
    /// Entries held.
    pub entries: usize,
    /// Lists of records that the journal has not called durable.
    pub unsynced: usize,
    /// Uploads that are not resolved.
    pub uploads: usize,
}

impl Shard {
    /// What the machine carries now.
    pub fn weight(&self) -> Weight {
        let runs = self.ground.holdings.runs();
        let (runs, entries) =
            runs.fold((0, 0), |(runs, entries), (_, run)| (runs + 1, entries + run.end().0 - run.from().0));
        Weight {
            runs,
            entries: usize::try_from(entries).unwrap_or(usize::MAX),
            unsynced: self.ground.holdings.unsynced(),
            uploads: if let Role::Owner(owner) = &self.role { owner.publisher().uploads() } else { 0 },
        }
    }
}
