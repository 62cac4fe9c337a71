//! What owners say to shippers: `committed` and `stored` per partition and epoch (PROTOCOL R13).

use std::collections::BTreeMap;

use kennel_protocol::ids::{Epoch, Offset, PartitionKey};
use kennel_protocol::wire::PartitionMarks;

use super::Violation;

/// Lowest and highest marks that were said in one epoch.
#[derive(Debug, Clone, Copy)]
struct Said {
    committed_min: Offset,
    committed_max: Offset,
    stored_min: Offset,
    stored_max: Offset,
}

/// All marks that were ever said.
#[derive(Debug, Default)]
pub struct Marks {
    partitions: BTreeMap<PartitionKey, BTreeMap<Epoch, Said>>,
}

impl Marks {
    /// An owner said marks. `loss_allowed`: an operator may have decided a loss.
    pub fn said(&mut self, epoch: Epoch, marks: &PartitionMarks, loss_allowed: bool) -> Result<(), Violation> {
        marks_are_ordered(epoch, marks)?;
        let epochs = self.partitions.entry(marks.partition).or_default();
        let said = epochs.entry(epoch).or_insert(Said {
            committed_min: marks.committed,
            committed_max: Offset(0),
            stored_min: marks.stored,
            stored_max: Offset(0),
        });
        let before = *said;
        said.committed_min = said.committed_min.min(marks.committed);
        said.committed_max = said.committed_max.max(marks.committed);
        said.stored_min = said.stored_min.min(marks.stored);
        said.stored_max = said.stored_max.max(marks.stored);
        let news = marks.committed > before.committed_max || marks.stored > before.stored_max;
        let rewinds = marks.committed <= before.committed_min || marks.stored <= before.stored_min;
        if loss_allowed || !(news || rewinds) {
            return Ok(());
        }
        marks_only_rise(epochs, epoch, marks)
    }

    /// The highest `committed` ever said of a partition.
    pub fn acknowledged(&self) -> impl Iterator<Item = (PartitionKey, Offset)> {
        let highest = |epochs: &BTreeMap<Epoch, Said>| epochs.values().map(|said| said.committed_max).max();
        self.partitions.iter().map(move |(key, epochs)| (*key, highest(epochs).unwrap_or_default()))
    }
}

/// DESIGN 1: `stored <= committed <= tail end`.
fn marks_are_ordered(epoch: Epoch, marks: &PartitionMarks) -> Result<(), Violation> {
    let ordered = marks.stored <= marks.committed && marks.committed <= marks.next;
    Violation::unless(ordered, "marks_are_ordered", || format!("epoch {epoch} says {marks:?}"))
}

/// PROTOCOL R26: without forced take-over no mark goes back: an epoch says nothing below what any older one ever said.
fn marks_only_rise(epochs: &BTreeMap<Epoch, Said>, epoch: Epoch, marks: &PartitionMarks) -> Result<(), Violation> {
    let fell = |what: &str, other: Epoch, theirs: Offset, ours: Offset| {
        let key = marks.partition;
        let what = format!("{key}: epoch {epoch} says {what} {ours} and epoch {other} said {theirs}");
        Violation::new("marks_only_rise", what)
    };
    for (other, said) in epochs {
        if *other < epoch && said.committed_max > marks.committed {
            return Err(fell("committed", *other, said.committed_max, marks.committed));
        }
        if *other < epoch && said.stored_max > marks.stored {
            return Err(fell("stored", *other, said.stored_max, marks.stored));
        }
        if *other > epoch && said.committed_min < marks.committed {
            return Err(fell("committed", *other, said.committed_min, marks.committed));
        }
        if *other > epoch && said.stored_min < marks.stored {
            return Err(fell("stored", *other, said.stored_min, marks.stored));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(committed: u64, stored: u64) -> PartitionMarks {
        PartitionMarks {
            partition: "1/1/1".parse().expect("a key"),
            next: Offset(committed),
            committed: Offset(committed),
            stored: Offset(stored),
            last: None,
        }
    }

    #[test]
    fn a_mark_that_falls_is_seen_whoever_speaks_first() {
        let mut said = Marks::default();
        said.said(Epoch(1), &marks(10, 5), false).expect("the first word");
        assert!(said.said(Epoch(2), &marks(9, 5), false).is_err());
        let mut said = Marks::default();
        said.said(Epoch(2), &marks(9, 5), false).expect("the first word");
        assert!(said.said(Epoch(1), &marks(10, 5), false).is_err());
        said.said(Epoch(1), &marks(8, 5), false).expect("an older epoch may lie lower");
        said.said(Epoch(3), &marks(9, 4), true).expect("a loss that an operator accepted");
    }
}
