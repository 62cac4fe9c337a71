//! What readers could see: every committed entry, on whichever node, against the truth and against each other.

use std::collections::BTreeMap;

use kennel_protocol::entry::{EntryHead, EntryKind, NumberedEntry};
use kennel_protocol::ids::{Epoch, Lsn, Offset, PartitionKey};

use super::Violation;
use crate::source::{Partition, body_checksum};
use crate::stream::mix;

/// A run of offsets that hold messages, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    base: Offset,
    end: Offset,
    hole: bool,
}

/// Everything that was ever readable.
#[derive(Debug, Default)]
pub struct Reads {
    entries: BTreeMap<(Epoch, Lsn), u64>,
    runs: BTreeMap<PartitionKey, Vec<Run>>,
    ends: BTreeMap<PartitionKey, Offset>,
    /// Where each process's readers stand: epoch and next entry.
    positions: BTreeMap<(usize, u64), (Epoch, Lsn)>,
    /// Where they stand in each partition.
    followed: BTreeMap<(usize, u64, PartitionKey), (Epoch, Offset)>,
    /// What was readable of partitions that have had more than one history.
    told: Vec<EntryHead>,
}

impl Reads {
    /// A process says that its readers will not get the entries of an epoch below a number.
    pub fn skipped(&mut self, process: (usize, u64), epoch: Epoch, below: Lsn) {
        let position = self.positions.entry(process).or_insert((epoch, Lsn(0)));
        *position = (*position).max((epoch, below));
    }

    /// Where the readers of a process stand: in which epoch, and before which entry.
    pub fn position(&self, process: (usize, u64)) -> Option<(Epoch, Lsn)> {
        self.positions.get(&process).copied()
    }

    /// PROTOCOL R26: a process makes entries readable in order, once each per epoch, and says which it leaves out.
    pub fn readable_in_order(
        &mut self,
        process: (usize, u64),
        epoch: Epoch,
        entries: &[NumberedEntry],
    ) -> Result<(), Violation> {
        let position = self.positions.entry(process).or_insert((epoch, Lsn(0)));
        let wrong = |what: &str, lsn: Lsn| {
            let what = format!("process {process:?}: {what} at entry {lsn} of epoch {epoch}");
            Err(Violation::new("readable_in_order", what))
        };
        if position.0 > epoch {
            return wrong("an older epoch", Lsn(0));
        }
        if position.0 < epoch {
            *position = (epoch, Lsn(0));
        }
        for numbered in entries {
            if numbered.lsn < position.1 {
                return wrong("a step back", numbered.lsn);
            }
            if numbered.lsn > position.1 {
                return wrong("a step ahead that nobody was told of", numbered.lsn);
            }
            position.1 = numbered.lsn.next();
        }
        Ok(())
    }

    /// DESIGN 2.2: whoever follows a partition on one node through one epoch meets no step back, and no gap but over what
    /// is stored: there the bucket goes on. `stored` is asked for only if there is a gap.
    pub fn followed_without_a_gap(
        &mut self,
        (node, boot): (usize, u64),
        epoch: Epoch,
        head: &EntryHead,
        stored: impl FnOnce() -> Offset,
    ) -> Result<(), Violation> {
        if !matches!(head.kind, EntryKind::Chunk | EntryKind::Hole(_)) {
            return Ok(());
        }
        let before = self.followed.insert((node, boot, head.partition), (epoch, head.end));
        let expected = before.filter(|(last, _)| *last == epoch).map_or(head.base, |(_, end)| end);
        let goes_on = head.base == expected || (head.base > expected && head.base <= stored());
        Violation::unless(goes_on, "followed_without_a_gap", || {
            format!("readers on node {node} in epoch {epoch} stand at {expected} and get {head:?}")
        })
    }

    /// Keeps what readers saw of a source that loses messages, for [`one_history`].
    pub fn remember(&mut self, head: &EntryHead) {
        self.told.push(head.clone());
    }

    /// What readers saw of such sources.
    pub fn told(&self) -> &[EntryHead] {
        &self.told
    }

    /// PROTOCOL R12: one place in an epoch's order holds one entry, whoever shows it.
    pub fn one_entry_per_place(&mut self, epoch: Epoch, numbered: &NumberedEntry) -> Result<(), Violation> {
        let print = fingerprint(&numbered.entry.head);
        let known = *self.entries.entry((epoch, numbered.lsn)).or_insert(print);
        Violation::unless(known == print, "one_entry_per_place", || {
            format!("entry {} of epoch {epoch} is {:?} and was another", numbered.lsn, numbered.entry.head)
        })
    }

    /// DESIGN 2.3: what was readable is never contradicted: a message stays a message, a hole a hole.
    pub fn no_dirty_read(&mut self, head: &EntryHead) -> Result<(), Violation> {
        let hole = match head.kind {
            EntryKind::Chunk => false,
            EntryKind::Hole(_) => true,
            EntryKind::Trim | EntryKind::Cut => return Ok(()),
        };
        let run = Run { base: head.base, end: head.end, hole };
        let runs = self.runs.entry(head.partition).or_default();
        let conflict = runs.iter().find(|other| other.hole != hole && other.base < run.end && run.base < other.end);
        if let Some(other) = conflict {
            let what = format!("{}: {run:?} contradicts {other:?}", head.partition);
            return Err(Violation::new("no_dirty_read", what));
        }
        match runs.iter_mut().find(|other| other.hole == hole && other.base <= run.end && run.base <= other.end) {
            Some(other) => *other = Run { base: other.base.min(run.base), end: other.end.max(run.end), hole },
            None => runs.push(run),
        }
        Ok(())
    }

    /// Somebody could read an entry.
    pub fn readable(&mut self, head: &EntryHead) {
        if matches!(head.kind, EntryKind::Chunk | EntryKind::Hole(_)) {
            let end = self.ends.entry(head.partition).or_default();
            *end = (*end).max(head.end);
        }
    }

    /// End of what was ever readable of a partition.
    pub fn end(&self, partition: PartitionKey) -> Offset {
        self.ends.get(&partition).copied().unwrap_or_default()
    }

    /// How many entries were ever readable.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing ever was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// DESIGN 2.2: an entry equals what the source committed: bounds, identities, sum and body.
pub fn equals_the_source(head: &EntryHead, source: Option<&Partition>) -> Result<(), Violation> {
    let wrong = |what: &str| Err(Violation::new("equals_the_source", format!("{what}: {head:?}")));
    let Some(source) = source else { return wrong("nobody wrote this partition") };
    match head.kind {
        EntryKind::Chunk => {}
        EntryKind::Hole(_) if head.end > source.start => return wrong("the source still has what is declared missing"),
        EntryKind::Hole(_) | EntryKind::Trim | EntryKind::Cut => return Ok(()),
    }
    if head.base >= head.end || head.base < source.origin {
        return wrong("the source never had these offsets");
    }
    if source.histories_of(head) == 0 {
        return wrong("the messages or their sum are others than the source ever had");
    }
    if head.body_checksum != body_checksum(head.partition, head.base, head.end) {
        return wrong("the body is another");
    }
    Ok(())
}

/// PROTOCOL R15: whatever a source lost and gave out again, what the ring holds of it is of one history. Answers which
/// ones it can be.
pub fn one_history<'a>(source: &Partition, heads: impl Iterator<Item = &'a EntryHead>) -> Result<u64, Violation> {
    let mut histories = u64::MAX;
    for head in heads.filter(|head| head.partition == source.key && head.kind == EntryKind::Chunk) {
        histories &= source.histories_of(head);
        Violation::unless(histories != 0, "one_history", || format!("of no history that the others are of: {head:?}"))?;
    }
    Ok(histories)
}

fn fingerprint(head: &EntryHead) -> u64 {
    let kind = match head.kind {
        EntryKind::Chunk => 1,
        EntryKind::Hole(_) => 2,
        EntryKind::Trim => 3,
        EntryKind::Cut => 4,
    };
    let place = mix(u64::from(head.partition.partition.0) ^ (kind << 32));
    mix(place ^ mix(head.base.0) ^ mix(head.end.0.rotate_left(32)) ^ u64::from(head.cut))
}
