//! One partition's part of the index: sorted runs that join without holes of their own making.
//!
//! Answers "where are these offsets" and nothing else.

use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::Offset;

use super::objects::{BlockPlace, FetchUnit, ObjectName, Objects};

/// A stretch of one partition: a block in an object, or a declared hole. 48 bytes; its place in the object is 16 more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) last_timestamp: u64,
    pub(super) last_checksum: u64,
    pub(super) object: u32,
    pub(super) place: u32,
    pub(super) kind: RunKind,
}

const _: () = assert!(size_of::<Run>() + size_of::<BlockPlace>() <= 64, "a block costs at most 64 bytes");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunKind {
    Block,
    Hole(HoleReason),
}

/// A declared hole: `[from, to)` holds no messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoleRange {
    /// First offset.
    pub from: Offset,
    /// End, exclusive.
    pub to: Offset,
    /// Why.
    pub reason: HoleReason,
}

/// Where to find one block, and how to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRead {
    /// First offset in the block.
    pub base: Offset,
    /// End of its offsets, exclusive.
    pub end: Offset,
    /// The object that holds it.
    pub object: ObjectName,
    /// Its place there.
    pub place: BlockPlace,
    number: u32,
}

/// One step of a cold read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColdStep {
    /// Read a block.
    Block(BlockRead),
    /// Declare a hole.
    Hole(HoleRange),
}

/// Blocks and holes, in offset order, without anything between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdPlan {
    /// What to read and declare.
    pub steps: Vec<ColdStep>,
    /// End of the last step; the offset asked for where there is none.
    pub next: Offset,
}

/// Where one partition stands in the bucket.
#[derive(Debug, Default)]
pub struct PartitionIndex {
    runs: Vec<Run>,
    trim: Offset,
    end: Offset,
    cut: u32,
}

const _: () = assert!(size_of::<PartitionIndex>() + 24 <= 80, "an idle partition costs at most 100 bytes with its key");

impl PartitionIndex {
    /// A partition of which everything below `end` lies outside the log.
    pub(super) fn starting_at(trim: Offset, end: Offset, cut: u32) -> Self {
        Self { runs: Vec::new(), trim, end, cut }
    }

    pub(super) fn push(&mut self, run: Run) {
        assert_eq!(run.base, self.end, "R16: a run begins where the partition ends");
        self.end = run.end;
        if self.runs.is_empty() {
            // Of many partitions most hold one run, and room for the usual four would be most of what they take.
            self.runs.reserve_exact(1);
        }
        self.runs.push(run);
    }

    pub(super) fn set_cut(&mut self, cut: u32) {
        self.cut = self.cut.max(cut);
    }

    /// Moves the trim point, which never goes back (R17), and returns the objects whose blocks fell below it.
    pub(super) fn trim_to(&mut self, trim: Offset) -> Vec<u32> {
        self.trim = self.trim.max(trim.min(self.end));
        let gone = self.runs.partition_point(|run| run.end <= self.trim);
        self.runs.drain(..gone).filter(|run| run.kind == RunKind::Block).map(|run| run.object).collect()
    }

    /// First offset that is not trimmed.
    pub fn trim(&self) -> Offset {
        self.trim
    }

    /// First offset whose place is known here; below it the data is trimmed or lies outside the log.
    pub fn start(&self) -> Offset {
        self.runs.first().map_or(self.end, |run| run.base)
    }

    /// End of the partition in the bucket, holes included: `stored`.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Which history the end belongs to.
    pub fn cut(&self) -> u32 {
        self.cut
    }

    /// The identity of the message at `offset`, where the index happens to know it: at the end of a block.
    pub fn identity(&self, offset: Offset) -> Option<MessageIdentity> {
        let after = self.runs.partition_point(|run| run.end <= offset);
        let run = self.runs.get(after).filter(|run| run.kind == RunKind::Block && run.end == offset.plus(1))?;
        Some(MessageIdentity { offset, base_timestamp: run.last_timestamp, checksum: run.last_checksum })
    }

    pub(super) fn at(&self, offset: Offset, objects: &Objects) -> Option<ColdStep> {
        let index = self.runs.partition_point(|run| run.end <= offset);
        self.runs.get(index).filter(|run| run.base <= offset).map(|run| step(run, objects))
    }

    /// The first block with a batch appended at or after `timestamp`.
    pub(super) fn at_timestamp(&self, timestamp: u64, objects: &Objects) -> Option<BlockRead> {
        // Iggy's broker clock may step back, so the runs are scanned; holes carry no time of their own.
        let blocks = self.runs.iter().filter(|run| run.kind == RunKind::Block);
        let mut late = blocks.filter(|run| run.last_timestamp >= timestamp && run.end > self.trim);
        late.next().map(|run| block(run, objects))
    }

    /// The newest block.
    pub(super) fn last_block(&self, objects: &Objects) -> Option<BlockRead> {
        let newest = self.runs.iter().rev().find(|run| run.kind == RunKind::Block);
        newest.map(|run| block(run, objects))
    }

    /// What to read from `start` on, until the blocks hold `bytes_max` or number `blocks_max`; always one step if there
    /// is one.
    pub(super) fn plan_cold(&self, start: Offset, bytes_max: u64, blocks_max: usize, objects: &Objects) -> ColdPlan {
        let mut plan = ColdPlan { steps: Vec::new(), next: start };
        let first = self.runs.partition_point(|run| run.end <= start);
        let (mut bytes, mut blocks) = (0, 0);
        for run in self.runs[first..].iter().skip_while(|run| run.base > start) {
            let step = step(run, objects);
            plan.steps.push(step);
            plan.next = run.end;
            if let ColdStep::Block(block) = step {
                bytes += u64::from(block.place.bytes);
                blocks += 1;
            }
            if bytes >= bytes_max || blocks >= blocks_max {
                break;
            }
        }
        plan
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }
}

pub(super) fn unit(block: &BlockRead, objects: &Objects) -> FetchUnit {
    objects.unit(block.number, block.object, block.place)
}

fn step(run: &Run, objects: &Objects) -> ColdStep {
    match run.kind {
        RunKind::Block => ColdStep::Block(block(run, objects)),
        RunKind::Hole(reason) => ColdStep::Hole(HoleRange { from: run.base, to: run.end, reason }),
    }
}

fn block(run: &Run, objects: &Objects) -> BlockRead {
    BlockRead {
        base: run.base,
        end: run.end,
        object: objects.name(run.object),
        place: objects.place(run.object, run.place),
        number: run.object,
    }
}
