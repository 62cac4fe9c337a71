//! What to read and send next: round robin over shards and partitions, within the budgets.

use bytes::Bytes;
use kennel_protocol::entry::{EntryHead, EntryKind, HoleReason, MessageIdentity};
use kennel_protocol::ids::{NodeId, Offset, PartitionKey, ShardId};
use kennel_protocol::wire::{Ship, ShipChunk};

use super::comparing::{Otherwise, message_at};
use super::contract::{Effect, Effects, PartitionNews, PartitionProblem, SourceAnswer, SourceRead, SourceRest, Ticket};
use super::partition::{Ending, Flown, Phase, weight};
use super::{PendingRead, Shipper};
use crate::time::Instant;

impl Shipper {
    /// Restores "everything that may be under way is under way".
    pub(super) fn pump(&mut self, now: Instant, effects: &mut Effects) {
        self.ask_view(now, effects);
        self.connect(effects);
        self.ask_positions(now, effects);
        self.ask_comparisons(now, effects);
        self.start_reads(effects);
        let open: Vec<(ShardId, NodeId)> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.sendable.is_empty())
            .filter_map(|(shard, lane)| Some((*shard, lane.open_to(&self.sessions)?)))
            .collect();
        for (shard, node) in open {
            self.send(now, shard, node, effects);
        }
    }

    /// Lists a partition for reading if it could be read.
    pub(super) fn list_ready(&mut self, partition: PartitionKey) {
        let track = self.tracks.get_mut(&partition).expect("a partition that was named has a track");
        if !track.in_ready && track.wants_read(self.config.partition_bytes_in_flight_max) {
            track.in_ready = true;
            self.lanes.get_mut(&track.shard).expect("a track's shard has a lane").ready.push_back(partition);
        }
    }

    fn start_reads(&mut self, effects: &mut Effects) {
        let shards: Vec<ShardId> =
            self.lanes.iter().filter(|(_, lane)| !lane.ready.is_empty()).map(|(shard, _)| *shard).collect();
        let first = shards.iter().position(|shard| self.turn.is_none_or(|turn| *shard > turn)).unwrap_or(0);
        let mut idle = 0;
        let mut order = shards.iter().cycle().skip(first);
        while idle < shards.len() && self.reads.len() < self.config.reads_max {
            let shard = *order.next().expect("a cycle over a non-empty list has no end");
            if self.start_read(shard, effects) {
                self.turn = Some(shard);
                idle = 0;
            } else {
                idle += 1;
            }
        }
    }

    /// Starts the shard's next read, if it is open, has one, and the budgets allow it.
    fn start_read(&mut self, shard: ShardId, effects: &mut Effects) -> bool {
        let reserved = u64::from(self.config.read_bytes);
        let fits = |held: u64, max: u64| held == 0 || held + reserved <= max;
        let lane = self.lanes.get_mut(&shard).expect("the caller listed it");
        if lane.open_to(&self.sessions).is_none()
            || !fits(lane.held, self.config.shard_bytes_in_flight_max)
            || !fits(self.status.bytes_held, self.config.bytes_in_flight_max)
        {
            return false;
        }
        while let Some(partition) = lane.ready.pop_front() {
            let track = self.tracks.get_mut(&partition).expect("a listed partition has a track");
            track.in_ready = false;
            if !track.wants_read(self.config.partition_bytes_in_flight_max) {
                continue;
            }
            let ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            track.reading = Some(ticket);
            lane.reads += 1;
            lane.held += reserved;
            self.status.bytes_held += reserved;
            // What lies below the source's start is declared, not read.
            let from = track.cursor.max(track.source.start);
            self.reads.insert(ticket, PendingRead { partition, shard, from, reserved });
            effects.push(Effect::ReadSource(SourceRead { ticket, partition, from, bytes_max: self.config.read_bytes }));
            return true;
        }
        false
    }

    pub(super) fn take_read(&mut self, answer: SourceAnswer, effects: &mut Effects) {
        let Some(read) = self.reads.remove(&answer.ticket) else { return };
        let partition = read.partition;
        let lane = self.lanes.get_mut(&read.shard).expect("a read's shard has a lane");
        lane.reads -= 1;
        lane.held -= read.reserved;
        self.status.bytes_held -= read.reserved;
        let Some(track) = self.tracks.get_mut(&partition) else { return };
        if track.reading != Some(answer.ticket) {
            // The partition was rewound meanwhile; somebody else may use the freed budget.
            return;
        }
        track.reading = None;
        let cursor = track.cursor;
        if cursor < read.from {
            self.put_in_box(start_hole(partition, cursor, read.from), effects);
        }
        for chunk in answer.chunks {
            let expected = self.tracks[&partition].cursor;
            if chunk.head.base != expected {
                return self.take_misaligned(partition, &chunk, effects);
            }
            self.put_in_box(chunk, effects);
        }
        self.take_rest(partition, answer.rest, effects);
    }

    /// The source's batch does not start where the log ends: other batches, or another history.
    fn take_misaligned(&mut self, partition: PartitionKey, chunk: &ShipChunk, effects: &mut Effects) {
        let track = &self.tracks[&partition];
        let (expected, base) = (track.cursor, chunk.head.base);
        if expected != track.marks.next && base < expected {
            // The source changed while it was read: begin again where the ring stands.
            return self.unplace(partition);
        }
        match expected.0.checked_sub(1).and_then(|before| message_at(&chunk.body, Offset(before))) {
            Some(source) => self.doubt(partition, source, Otherwise::Misaligned { expected, base }),
            None => self.stop(partition, PartitionProblem::Misaligned { expected, base }, effects),
        }
    }

    fn take_rest(&mut self, partition: PartitionKey, rest: SourceRest, effects: &mut Effects) {
        let track = self.tracks.get_mut(&partition).expect("the caller found it");
        match rest {
            SourceRest::More => {}
            SourceRest::Exhausted { end, last } => {
                let cursor = track.cursor;
                let resumed = track.source.end.is_some_and(|announced| announced > cursor);
                // The source grew after this read looked: the announcement is newer than the answer.
                track.ending = (!resumed).then_some(Ending::Exhausted { end: end.min(cursor) });
                let differs =
                    |ring: &MessageIdentity| last.is_some_and(|last| ring.offset == last.offset && *ring != last);
                let uneven = track.marks.last.as_ref().is_some_and(differs);
                match last {
                    // Nothing left to ship could carry this message to the owner (PROTOCOL R15).
                    Some(last) if end < cursor => self.doubt(partition, last, Otherwise::Behind { end }),
                    Some(last) if uneven => self.doubt(partition, last, Otherwise::Even),
                    None if end < cursor => {
                        effects.report(partition, PartitionNews::Behind { end, next: cursor, same: false });
                    }
                    _ => {}
                }
            }
            SourceRest::Damaged(damage) => {
                // What is before the damage is still shipped, so the partition goes on moving until it has arrived.
                track.ending = Some(Ending::Damaged { end: track.cursor });
                if !core::mem::replace(&mut track.damaged, true) {
                    self.status.stopped += 1;
                    effects.report(partition, PartitionNews::Stopped(PartitionProblem::Damaged(damage)));
                }
            }
        }
        self.list_ready(partition);
        self.settle(partition);
    }

    fn put_in_box(&mut self, chunk: ShipChunk, effects: &mut Effects) {
        let partition = chunk.head.partition;
        let track = self.tracks.get_mut(&partition).expect("a chunk's partition has a track");
        let lane = self.lanes.get_mut(&track.shard).expect("a track's shard has a lane");
        let weight = weight(&chunk);
        if let EntryKind::Hole(reason) = chunk.head.kind {
            effects.report(partition, PartitionNews::Hole { from: chunk.head.base, to: chunk.head.end, reason });
        }
        track.cursor = chunk.head.end;
        track.boxed.push_back(chunk);
        track.boxed_bytes += weight;
        lane.boxed += weight;
        lane.held += weight;
        self.status.bytes_held += weight;
        if !track.in_sendable {
            track.in_sendable = true;
            lane.sendable.push_back(partition);
        }
    }

    /// Sends full frames, and a frame that is not full if nothing could fill it soon.
    fn send(&mut self, now: Instant, shard: ShardId, node: NodeId, effects: &mut Effects) {
        loop {
            let lane = &self.lanes[&shard];
            // Chunks end at batch boundaries, so a read is a little less than a frame.
            let full = lane.boxed >= self.config.ship_bytes_target / 4 * 3;
            if lane.sendable.is_empty() || !(full || lane.reads == 0 || lane.flying.is_empty()) {
                return;
            }
            let chunks = self.unbox(now, shard);
            if chunks.is_empty() {
                return;
            }
            let epoch = self.lanes[&shard].epoch;
            effects.push(Effect::Send { node, ship: Ship { shard, epoch, chunks } });
        }
    }

    /// Takes chunks for one frame out of their boxes: partitions in turn, each with all it has that fits.
    fn unbox(&mut self, now: Instant, shard: ShardId) -> Vec<ShipChunk> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        while let Some(partition) = self.lanes[&shard].sendable.front().copied() {
            let track = self.tracks.get_mut(&partition).expect("a listed partition has a track");
            let lane = self.lanes.get_mut(&shard).expect("the caller found it");
            while let Some(chunk) = track.boxed.front() {
                let size = chunk.body.len() as u64;
                let fits = bytes + size <= self.config.ship_bytes_target && chunks.len() < self.config.ship_chunks_max;
                if !fits && !chunks.is_empty() {
                    return chunks;
                }
                let chunk = track.boxed.pop_front().expect("it was just looked at");
                let weight = weight(&chunk);
                bytes += size;
                track.boxed_bytes -= weight;
                track.flight_bytes += weight;
                track.flight.push_back(Flown { end: chunk.head.end, weight });
                lane.boxed -= weight;
                if lane.flying.is_empty() {
                    lane.progress_at = now;
                }
                lane.flying.insert(partition);
                self.status.bytes_sent += size;
                chunks.push(chunk);
            }
            track.in_sendable = false;
            lane.sendable.pop_front();
            if track.phase == Phase::Moving {
                self.settle(partition);
            }
        }
        chunks
    }
}

/// Declares that the source holds nothing below its start (PROTOCOL R16).
fn start_hole(partition: PartitionKey, from: Offset, start: Offset) -> ShipChunk {
    let reason = if from == Offset(0) { HoleReason::ImportStart } else { HoleReason::SourceRetention };
    ShipChunk { head: EntryHead::hole(partition, from, start, reason), body: Bytes::new() }
}
