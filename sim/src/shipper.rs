//! A simple shipper: the ring is its cursor. It decides what to send; the world carries it.

use core::time::Duration;

use kennel_core::shard::SessionId;
use kennel_core::time::Instant;
use kennel_protocol::ids::{Epoch, Offset, ShardId};
use kennel_protocol::wire::{
    PartitionMarks, Positions, PositionsRequest, Ship, ShipAck, ShipChunk, ShipProblem, ShipRefusal,
};

use crate::event::{NodeSays, ShipperSays};
use crate::oracle::Violation;
use crate::plan::Workload;
use crate::source::Partition;
use crate::stream::Stream;

/// Silence after which a shipper asks again, and after twice of which it looks for another owner.
const SILENCE: Duration = Duration::from_millis(600);
/// How far behind a lagging twin sees the source.
const LAG: u64 = 20;

/// Where one partition stands for a shipper.
#[derive(Debug, Clone)]
struct Cursor {
    next: Offset,
    committed: Offset,
    stored: Offset,
    /// What the owner said last that it takes next: the window begins there or at what is committed.
    ring_next: Offset,
}

/// One shipper.
#[derive(Debug)]
pub struct Shipper {
    /// The connection to the node that is believed to be the owner.
    pub session: Option<SessionId>,
    epoch: Epoch,
    cursors: Vec<Cursor>,
    asked: Option<u64>,
    heard: Instant,
    moved: Instant,
    correlation: u64,
    /// Sees the source late.
    lagging: bool,
    stream: Stream,
}

impl Shipper {
    /// A shipper that knows nothing.
    pub fn new(partitions: usize, lagging: bool, stream: Stream) -> Self {
        let zero = Offset(0);
        let cursor = Cursor { next: zero, committed: zero, stored: zero, ring_next: zero };
        Self {
            session: None,
            epoch: Epoch(0),
            cursors: vec![cursor; partitions],
            asked: None,
            heard: Instant::default(),
            moved: Instant::default(),
            correlation: 0,
            lagging,
            stream,
        }
    }

    /// A new connection: asks where the partitions stand.
    pub fn connect(&mut self, now: Instant, session: SessionId, sources: &[Partition]) -> ShipperSays {
        self.session = Some(session);
        self.correlation += 1;
        self.asked = Some(self.correlation);
        (self.heard, self.moved) = (now, now);
        let partitions = sources.iter().map(|source| source.key).collect();
        let request = PositionsRequest { shard: ShardId(0), partitions };
        ShipperSays::Positions { correlation: self.correlation, request }
    }

    /// Looks what to do on a connection. Gives it up after long silence.
    pub fn act(&mut self, now: Instant, workload: &Workload, sources: &[Partition]) -> Option<ShipperSays> {
        if now.since(self.heard) > SILENCE * 2 || (self.asked.is_some() && now.since(self.heard) > SILENCE) {
            self.session = None;
            return None;
        }
        if self.asked.is_some() {
            return None;
        }
        if now.since(self.moved) > SILENCE {
            self.rewind(now);
        }
        let chunks = self.cut(workload, sources);
        if chunks.is_empty() {
            let waits = self.cursors.iter().any(|cursor| cursor.stored < cursor.next);
            self.heard = if waits { self.heard } else { now };
            return None;
        }
        Some(ShipperSays::Ship(Ship { shard: ShardId(0), epoch: self.epoch, chunks }))
    }

    /// Takes what the node said. Marks that fall are a broken promise unless `loss_allowed`.
    pub fn hear(&mut self, now: Instant, says: NodeSays, sources: &[Partition]) -> Result<(), Violation> {
        match says {
            NodeSays::Positions { correlation, .. } if self.asked != Some(correlation) => Ok(()),
            NodeSays::Positions { answer: Some(positions), .. } => self.positions(now, &positions, sources),
            NodeSays::Positions { answer: None, .. } => {
                self.session = None;
                Ok(())
            }
            NodeSays::Ack(ack) => self.ack(now, &ack, sources),
        }
    }

    /// Whether everything that the source has is in the bucket, as far as this shipper was told.
    pub fn is_done(&self, sources: &[Partition]) -> bool {
        let mut pairs = self.cursors.iter().zip(sources);
        pairs.all(|(cursor, source)| cursor.stored >= self.visible_end(source))
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.session = None;
    }

    /// The lagging twin has caught up.
    pub fn catch_up(&mut self) {
        self.lagging = false;
    }

    fn positions(&mut self, now: Instant, positions: &Positions, sources: &[Partition]) -> Result<(), Violation> {
        if positions.epoch < self.epoch {
            self.session = None;
            return Ok(());
        }
        self.asked = None;
        self.epoch = positions.epoch;
        (self.heard, self.moved) = (now, now);
        for marks in &positions.marks {
            ring_equals_source(marks, sources)?;
            self.mark(now, marks, sources);
            if let Some(index) = place(marks, sources) {
                self.cursors[index].next = marks.next;
                self.cursors[index].ring_next = marks.next;
            }
        }
        Ok(())
    }

    fn ack(&mut self, now: Instant, ack: &ShipAck, sources: &[Partition]) -> Result<(), Violation> {
        if ack.epoch < self.epoch {
            return Ok(());
        }
        self.heard = now;
        if ack.refusal == Some(ShipRefusal::NotOwner) || ack.refusal == Some(ShipRefusal::Halted) {
            self.session = None;
            return Ok(());
        }
        let newer = ack.epoch > self.epoch;
        self.epoch = ack.epoch;
        for marks in &ack.marks {
            ring_equals_source(marks, sources)?;
            self.mark(now, marks, sources);
            if let Some(index) = place(marks, sources).filter(|_| newer) {
                self.cursors[index].next = marks.next;
            }
        }
        for (partition, problem) in &ack.problems {
            let Some(index) = sources.iter().position(|source| source.key == *partition) else { continue };
            match problem {
                ShipProblem::Expected(offset) => {
                    self.cursors[index].next = *offset;
                    self.cursors[index].ring_next = *offset;
                }
                ShipProblem::Diverged { .. } | ShipProblem::Corrupt => {
                    let what = format!("{partition}: {problem:?}, and the source is one history");
                    return Err(Violation::new("no_false_divergence", what));
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self, now: Instant, marks: &PartitionMarks, sources: &[Partition]) {
        let Some(index) = place(marks, sources) else { return };
        let cursor = &mut self.cursors[index];
        if marks.committed > cursor.committed || marks.stored > cursor.stored {
            self.moved = now;
        }
        cursor.committed = cursor.committed.max(marks.committed);
        cursor.stored = cursor.stored.max(marks.stored);
        cursor.ring_next = marks.next;
        cursor.next = cursor.next.max(marks.committed);
    }

    /// Ships again what is not acknowledged, and what is not known to be stored if all of it is.
    fn rewind(&mut self, now: Instant) {
        self.moved = now;
        for cursor in &mut self.cursors {
            let unacknowledged = cursor.next > cursor.committed;
            cursor.next = if unacknowledged { cursor.committed } else { cursor.stored.min(cursor.next) };
        }
    }

    fn cut(&mut self, workload: &Workload, sources: &[Partition]) -> Vec<ShipChunk> {
        let mut chunks = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let end = self.visible_end(source);
            let cursor = &mut self.cursors[index];
            let window = cursor.committed.max(cursor.ring_next).plus(workload.window);
            while cursor.next < end && cursor.next < window && chunks.len() < 16 {
                let chunk = cut_one(&mut self.stream, workload, source, cursor.next, end);
                cursor.next = chunk.head.end;
                chunks.push(chunk);
            }
        }
        chunks
    }

    fn visible_end(&self, source: &Partition) -> Offset {
        let behind = if self.lagging { LAG } else { 0 };
        Offset(source.end().0.saturating_sub(behind).max(source.start.0))
    }
}

/// One chunk at an offset: a hole where the source has nothing, else whole batches, or a slice if polls slice.
fn cut_one(stream: &mut Stream, workload: &Workload, source: &Partition, from: Offset, end: Offset) -> ShipChunk {
    if from < source.start {
        return source.missing(from);
    }
    let wanted = from.plus(stream.between(1, workload.chunk_max));
    let mut to = from;
    while to < wanted {
        to = source.batch_end(to);
        if to >= end {
            break;
        }
    }
    let to = if workload.slices { to.min(wanted) } else { to };
    source.chunk(from, to.min(end))
}

/// PROTOCOL R15: the message that the ring ends with is the source's.
fn ring_equals_source(marks: &PartitionMarks, sources: &[Partition]) -> Result<(), Violation> {
    let Some(last) = marks.last else { return Ok(()) };
    let source = place(marks, sources).and_then(|index| sources[index].identity(last.offset));
    Violation::unless(source == Some(last), "ring_equals_source", || format!("{marks:?} and the source has {source:?}"))
}

fn place(marks: &PartitionMarks, sources: &[Partition]) -> Option<usize> {
    sources.iter().position(|source| source.key == marks.partition)
}
