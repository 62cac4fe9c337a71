//! One partition's part of the index: sorted runs that join without holes of their own making.
//!
//! Answers "where are these offsets" and nothing else.

use kennel_protocol::entry::{HoleReason, MessageIdentity};
use kennel_protocol::ids::Offset;

use super::objects::{BlockPlace, FetchUnit, ObjectName, ObjectNumber, Objects};

/// A stretch of one partition, from where the one before it ends: a block in an object, or a declared hole. 32 bytes; its
/// place in the object is 16 more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) end: Offset,
    pub(super) last_timestamp: u64,
    pub(super) last_checksum: u64,
    pub(super) kind: RunKind,
}

const _: () = assert!(size_of::<Run>() + size_of::<BlockPlace>() <= 48, "a block costs at most 48 bytes");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunKind {
    /// Which of an object's places.
    Block {
        object: ObjectNumber,
        place: u32,
    },
    Hole(HoleReason),
}

impl RunKind {
    fn object(self) -> Option<ObjectNumber> {
        match self {
            Self::Block { object, .. } => Some(object),
            Self::Hole(_) => None,
        }
    }
}

/// Of many partitions most hold one run: it lies here.
#[derive(Debug)]
enum Runs {
    One(Run),
    Many(Vec<Run>),
}

impl Default for Runs {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Runs {
    fn push(&mut self, run: Run) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, run]),
            Self::Many(runs) if runs.is_empty() => *self = Self::One(run),
            Self::Many(runs) => runs.push(run),
        }
    }

    /// Forgets the first `gone`.
    fn drop_first(&mut self, gone: usize) {
        match self {
            Self::One(_) if gone > 0 => *self = Self::default(),
            Self::One(_) => {}
            Self::Many(runs) => {
                runs.drain(..gone);
                match runs[..] {
                    [] => *self = Self::default(),
                    [last] => *self = Self::One(last),
                    _ => {}
                }
            }
        }
    }

    fn as_slice(&self) -> &[Run] {
        match self {
            Self::One(run) => std::slice::from_ref(run),
            Self::Many(runs) => runs,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(runs) => runs.capacity() * size_of::<Run>(),
        }
    }
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
    number: ObjectNumber,
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
    runs: Runs,
    /// Where the first run begins; without runs, where the partition ends.
    start: Offset,
    trim: Offset,
    cut: u32,
}

const _: () = assert!(size_of::<PartitionIndex>() + 24 <= 88, "a partition of one block costs so much, with its key");

impl PartitionIndex {
    /// A partition of which everything below `end` lies outside the log.
    pub(super) fn starting_at(trim: Offset, end: Offset, cut: u32) -> Self {
        Self { runs: Runs::default(), start: end, trim, cut }
    }

    pub(super) fn push(&mut self, base: Offset, run: Run) {
        assert_eq!(base, self.end(), "R16: a run begins where the partition ends");
        self.runs.push(run);
    }

    pub(super) fn set_cut(&mut self, cut: u32) {
        self.cut = self.cut.max(cut);
    }

    /// Moves the trim point, which never goes back (R17), and returns the objects whose blocks fell below it.
    pub(super) fn trim_to(&mut self, trim: Offset) -> Vec<ObjectNumber> {
        self.trim = self.trim.max(trim.min(self.end()));
        let gone = self.after(self.trim);
        let objects = self.runs()[..gone].iter().filter_map(|run| run.kind.object()).collect();
        self.start = self.base(gone);
        self.runs.drop_first(gone);
        objects
    }

    /// First offset that is not trimmed.
    pub fn trim(&self) -> Offset {
        self.trim
    }

    /// First offset whose place is known here; below it the data is trimmed or lies outside the log.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// End of the partition in the bucket, holes included: `stored`.
    pub fn end(&self) -> Offset {
        self.base(self.runs().len())
    }

    /// Which history the end belongs to.
    pub fn cut(&self) -> u32 {
        self.cut
    }

    /// The identity of the message at `offset`, where the index happens to know it: at the end of a block.
    pub fn identity(&self, offset: Offset) -> Option<MessageIdentity> {
        let run = self.runs().get(self.after(offset))?;
        let known = run.kind.object().is_some() && run.end == offset.plus(1);
        let identity = MessageIdentity { offset, base_timestamp: run.last_timestamp, checksum: run.last_checksum };
        known.then_some(identity)
    }

    pub(super) fn at(&self, offset: Offset, objects: &Objects) -> Option<ColdStep> {
        let index = self.after(offset);
        let known = index < self.runs().len() && self.base(index) <= offset;
        known.then(|| self.step(index, objects))
    }

    /// The first block with a batch appended at or after `timestamp`.
    pub(super) fn at_timestamp(&self, timestamp: u64, objects: &Objects) -> Option<BlockRead> {
        // Iggy's broker clock may step back, so the runs are scanned; holes carry no time of their own.
        let late = |run: &Run| run.last_timestamp >= timestamp && run.end > self.trim;
        let mut runs = self.runs().iter().enumerate();
        runs.find_map(|(index, run)| self.block(index, objects).filter(|_| late(run)))
    }

    /// The newest block.
    pub(super) fn last_block(&self, objects: &Objects) -> Option<BlockRead> {
        (0..self.runs().len()).rev().find_map(|index| self.block(index, objects))
    }

    /// What to read from `start` on, until the blocks hold `bytes_max` or number `blocks_max`; always one step if there
    /// is one.
    pub(super) fn plan_cold(&self, start: Offset, bytes_max: u64, blocks_max: usize, objects: &Objects) -> ColdPlan {
        let mut plan = ColdPlan { steps: Vec::new(), next: start };
        if start < self.start {
            return plan;
        }
        let (mut bytes, mut blocks) = (0, 0);
        for index in self.after(start)..self.runs().len() {
            let step = self.step(index, objects);
            plan.steps.push(step);
            plan.next = self.runs()[index].end;
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
        self.runs.heap_bytes()
    }

    fn runs(&self) -> &[Run] {
        self.runs.as_slice()
    }

    /// How many runs end at or below an offset.
    fn after(&self, offset: Offset) -> usize {
        self.runs().partition_point(|run| run.end <= offset)
    }

    /// Where a run begins; for the one after the last, where the partition ends.
    fn base(&self, index: usize) -> Offset {
        index.checked_sub(1).map_or(self.start, |before| self.runs()[before].end)
    }

    fn step(&self, index: usize, objects: &Objects) -> ColdStep {
        let Run { end, kind, .. } = self.runs()[index];
        let from = self.base(index);
        match kind {
            RunKind::Block { object, place } => {
                let (name, place) = (objects.name(object), objects.place(object, place));
                ColdStep::Block(BlockRead { base: from, end, object: name, place, number: object })
            }
            RunKind::Hole(reason) => ColdStep::Hole(HoleRange { from, to: end, reason }),
        }
    }

    fn block(&self, index: usize, objects: &Objects) -> Option<BlockRead> {
        match self.step(index, objects) {
            ColdStep::Block(block) => Some(block),
            ColdStep::Hole(_) => None,
        }
    }
}

pub(super) fn unit(block: &BlockRead, objects: &Objects) -> FetchUnit {
    objects.unit(block.number, block.object, block.place)
}
