//! Where the partitions of a shard stand, as their owner knows it.
//!
//! Asserted wherever a mark moves: `trim <= end`, `stored <= committed <= end` (DESIGN 1).

use std::num::NonZeroU64;

use kennel_protocol::entry::{EntryHead, EntryKind, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::object::{IndexEntry, PartitionState};
use kennel_protocol::wire::PartitionMarks;

use super::io::SessionId;
use crate::partitions::PartitionMap;

/// How many shippers of one partition get its marks unasked. More than one is rare; a third asks for positions.
const SESSIONS_PER_PARTITION: usize = 2;

/// One partition: 88 bytes, and its key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) trim: Offset,
    pub(crate) stored: Offset,
    pub(crate) committed: Offset,
    pub(crate) end: Offset,
    pub(crate) last: Option<MessageIdentity>,
    pub(crate) cut: u32,
    /// Numbers of sessions, newest first.
    sessions: [Option<NonZeroU64>; SESSIONS_PER_PARTITION],
}

const _: () = assert!(size_of::<Row>() <= 88, "an owner has one for every idle partition");

impl Row {
    /// Remembers who ships the partition, newest first.
    pub(crate) fn shipped_by(&mut self, session: SessionId) {
        let Some(session) = NonZeroU64::new(session.0) else { return };
        if !self.sessions.contains(&Some(session)) {
            self.sessions.rotate_right(1);
            self.sessions[0] = Some(session);
        }
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.iter().flatten().map(|session| SessionId(session.get()))
    }

    fn check(&self) {
        assert!(self.stored <= self.committed, "stored <= committed: {self:?}");
        assert!(self.committed <= self.end, "committed <= tail end: {self:?}");
        assert!(self.trim <= self.end, "trim <= tail end: {self:?}");
    }
}

/// An entry that does not continue its partition: the log would have a gap (PROTOCOL R16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotContiguous {
    pub(crate) partition: PartitionKey,
    pub(crate) end: Offset,
    pub(crate) base: Offset,
}

/// All partitions of a shard, in key order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: PartitionMap<Row>,
}

impl Table {
    /// The partitions of an open record or a manifest: all of it is in the bucket.
    pub(crate) fn stored_at(states: &[PartitionState]) -> Self {
        let row = |state: &PartitionState| Row {
            trim: state.trim,
            stored: state.end,
            committed: state.end,
            end: state.end,
            last: state.last,
            cut: state.cut,
            ..Row::default()
        };
        Self { rows: states.iter().map(|state| (state.partition, row(state))).collect() }
    }

    /// The partitions as an open record states them.
    pub(crate) fn states(&self) -> Vec<PartitionState> {
        let state = |(partition, row): (&PartitionKey, &Row)| PartitionState {
            partition: *partition,
            trim: row.trim,
            end: row.end,
            last: row.last,
            cut: row.cut,
        };
        self.rows.iter().map(state).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&PartitionKey, &Row)> {
        self.rows.iter()
    }

    pub(crate) fn row(&self, partition: &PartitionKey) -> Option<&Row> {
        self.rows.get(partition)
    }

    pub(crate) fn row_mut(&mut self, partition: PartitionKey) -> &mut Row {
        self.rows.get_or_insert_with(partition, Row::default)
    }

    /// Takes an entry of a log object: it is stored.
    pub(crate) fn apply_stored(&mut self, entry: &IndexEntry) -> Result<(), NotContiguous> {
        let row = self.rows.get_or_insert_with(entry.partition, Row::default);
        advance(row, entry.partition, entry.kind, (entry.base, entry.end), entry.last, entry.cut)?;
        row.committed = row.end;
        row.stored = row.end;
        Ok(())
    }

    /// Takes an entry at the tail: appended, not more.
    pub(crate) fn append(&mut self, head: &EntryHead) -> Result<(), NotContiguous> {
        let row = self.rows.get_or_insert_with(head.partition, Row::default);
        advance(row, head.partition, head.kind, (head.base, head.end), head.last, head.cut)
    }

    /// The entry is committed.
    pub(crate) fn committed(&mut self, head: &EntryHead) -> &Row {
        let row = self.row_mut(head.partition);
        if moves_end(head.kind) {
            row.committed = row.committed.max(head.end);
        }
        row.check();
        row
    }

    /// The entry is in the bucket.
    pub(crate) fn stored(&mut self, head: &EntryHead) -> &Row {
        let row = self.row_mut(head.partition);
        if moves_end(head.kind) {
            row.stored = row.stored.max(head.end);
        }
        row
    }

    pub(crate) fn marks(&self, partition: &PartitionKey) -> PartitionMarks {
        let row = self.rows.get(partition).cloned().unwrap_or_default();
        PartitionMarks {
            partition: *partition,
            next: row.end,
            committed: row.committed,
            stored: row.stored,
            last: row.last,
        }
    }

    /// Raises every partition's cut: a forced take-over may have lost something (PROTOCOL R2).
    pub(crate) fn raise_cuts(&mut self) {
        for row in self.rows.values_mut() {
            row.cut += 1;
        }
    }
}

/// Whether an entry of this kind moves the end of its partition.
fn moves_end(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Chunk | EntryKind::Hole(_))
}

fn advance(
    row: &mut Row,
    partition: PartitionKey,
    kind: EntryKind,
    (base, end): (Offset, Offset),
    last: Option<MessageIdentity>,
    cut: u32,
) -> Result<(), NotContiguous> {
    match kind {
        EntryKind::Trim => row.trim = row.trim.max(end.min(row.end)),
        EntryKind::Cut if base == row.end => row.last = None,
        EntryKind::Chunk | EntryKind::Hole(_) if base == row.end => {
            assert!(base <= end, "a range does not end before it begins");
            row.end = end;
            row.last = last;
        }
        EntryKind::Chunk | EntryKind::Hole(_) | EntryKind::Cut => {
            return Err(NotContiguous { partition, end: row.end, base });
        }
    }
    row.cut = row.cut.max(cut);
    Ok(())
}
