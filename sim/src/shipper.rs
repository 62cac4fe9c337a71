//! A simple shipper: the ring is its cursor. It decides what to send; the world carries it.

use core::time::Duration;

use kennel_core::shard::SessionId;
use kennel_core::time::Instant;
use kennel_protocol::entry::MessageIdentity;
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
    /// The message that the ring ends with, as the owner said.
    ring_last: Option<MessageIdentity>,
    /// Ring and source hold different messages: nothing moves any more (PROTOCOL R15).
    diverged: bool,
}

impl Cursor {
    const START: Self = Self {
        next: Offset(0),
        committed: Offset(0),
        stored: Offset(0),
        ring_next: Offset(0),
        ring_last: None,
        diverged: false,
    };
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
    /// Was told where a partition continues, not how far it is stored: to be asked.
    unsure: bool,
    /// Sees the source late.
    lagging: bool,
    /// Its process is stopped until then.
    pub asleep_until: Instant,
    stream: Stream,
}

impl Shipper {
    /// A shipper that knows nothing.
    pub fn new(partitions: usize, lagging: bool, stream: Stream) -> Self {
        Self {
            session: None,
            epoch: Epoch(0),
            cursors: vec![Cursor::START; partitions],
            asked: None,
            heard: Instant::default(),
            moved: Instant::default(),
            correlation: 0,
            unsure: false,
            lagging,
            asleep_until: Instant::default(),
            stream,
        }
    }

    /// A new connection: asks where the partitions stand.
    pub fn connect(&mut self, now: Instant, session: SessionId, sources: &[Partition]) -> ShipperSays {
        self.session = Some(session);
        (self.heard, self.moved) = (now, now);
        self.ask(sources)
    }

    fn ask(&mut self, sources: &[Partition]) -> ShipperSays {
        self.correlation += 1;
        self.asked = Some(self.correlation);
        self.unsure = false;
        let partitions = sources.iter().filter(|source| !source.deleted).map(|source| source.key).collect();
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
            if self.unsure {
                return Some(self.ask(sources));
            }
            self.rewind(now);
        }
        for (cursor, source) in self.cursors.iter_mut().zip(sources) {
            cursor.diverged |= source.lost_any() && !ring_equals_source(cursor.ring_last, source);
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
        pairs.all(|(cursor, source)| {
            // It has yet to look at what the source has now.
            let looks = source.lost_any() && !ring_equals_source(cursor.ring_last, source);
            cursor.diverged || source.deleted || (!looks && cursor.stored >= self.visible_end(source))
        })
    }

    /// Whether it found that the ring holds another history than a source.
    pub fn has_diverged(&self, partition: usize) -> bool {
        self.cursors[partition].diverged
    }

    /// Its process starts again and knows nothing; the ring is the cursor.
    pub fn restart(&mut self, partitions: usize) {
        self.session = None;
        self.epoch = Epoch(0);
        let diverged: Vec<bool> = self.cursors.iter().map(|cursor| cursor.diverged).collect();
        self.cursors = vec![Cursor::START; partitions];
        for (cursor, diverged) in self.cursors.iter_mut().zip(diverged) {
            cursor.diverged = diverged;
        }
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
            self.mark(now, marks, sources)?;
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
            self.mark(now, marks, sources)?;
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
                    self.unsure = true;
                }
                ShipProblem::Diverged { ring, .. } if sources[index].identity(ring.offset) != Some(*ring) => {
                    self.cursors[index].diverged = true;
                    no_false_divergence(&sources[index], *ring)?;
                }
                ShipProblem::Diverged { .. } | ShipProblem::Corrupt => {
                    let what = format!("{partition}: {problem:?}, and the source is one history");
                    return Err(Violation::new("no_false_divergence", what));
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self, now: Instant, marks: &PartitionMarks, sources: &[Partition]) -> Result<(), Violation> {
        let Some(index) = place(marks, sources) else { return Ok(()) };
        let cursor = &mut self.cursors[index];
        if let Some(last) = marks.last.filter(|_| !ring_equals_source(marks.last, &sources[index])) {
            cursor.diverged = true;
            no_false_divergence(&sources[index], last)?;
        }
        cursor.ring_last = marks.last;
        if marks.committed > cursor.committed || marks.stored > cursor.stored {
            self.moved = now;
        }
        cursor.committed = cursor.committed.max(marks.committed);
        cursor.stored = cursor.stored.max(marks.stored);
        cursor.ring_next = marks.next;
        cursor.next = cursor.next.max(marks.committed);
        Ok(())
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
            if cursor.diverged || source.deleted {
                continue;
            }
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

/// Whether the message that the ring ends with is the source's. A source that ends below is only behind (PROTOCOL R15).
fn ring_equals_source(ring: Option<MessageIdentity>, source: &Partition) -> bool {
    let behind = |last: MessageIdentity| source.lost_any() && last.offset >= source.end();
    ring.is_none_or(|last| behind(last) || source.identity(last.offset) == Some(last))
}

/// PROTOCOL R15: nothing has diverged from a source that never lost anything.
fn no_false_divergence(source: &Partition, ring: MessageIdentity) -> Result<(), Violation> {
    Violation::unless(source.lost_any(), "no_false_divergence", || {
        format!("{}: the ring has {ring:?}, and the source is one history", source.key)
    })
}

fn place(marks: &PartitionMarks, sources: &[Partition]) -> Option<usize> {
    sources.iter().position(|source| source.key == marks.partition)
}
