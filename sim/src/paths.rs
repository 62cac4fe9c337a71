//! The paths that every batch takes through the pure packages, one at a time and so many times: for counting instructions
//! and for profilers.
//!
//! It knows no clock. What is counted must be the same on every machine, so that growth is a change of the code.

use std::hint::black_box;

use bytes::Bytes;
use clap::ValueEnum;
use kennel_protocol::batch::{BatchBuilder, batches, inspect_chunk, slice_in_place};
use kennel_protocol::frame::{Frame, FrameHeader, Payload};
use kennel_protocol::ids::{Epoch, Offset, PartitionId, PartitionKey, ShardId};
use kennel_protocol::wire::{Fetched, Message, Served, Ship, ShipChunk};

use crate::run::run_seed;

/// Messages of the batch that is moved, and bytes of each: what the load bench reads, too.
const MESSAGES: u64 = 100;
const MESSAGE_BYTES: usize = 1_000;

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// Verifies a batch, as every reader does.
    Verify,
    /// Looks a chunk through before it is shipped.
    Inspect,
    /// Cuts a poll of 25 messages out of a batch.
    Slice,
    /// Encodes a shipment of one chunk, and decodes it with its checksums.
    Ship,
    /// Encodes an answer to a fetch, and decodes it with its checksums.
    Fetch,
    /// A whole cluster's life: the machines of shards and shippers, and the checks of the simulator.
    World,
}

impl Path {
    /// Every path.
    pub const ALL: [Self; 6] = [Self::Verify, Self::Inspect, Self::Slice, Self::Ship, Self::Fetch, Self::World];

    /// As it is written on a command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Takes it so many times.
    ///
    /// # Panics
    /// If what was built here does not verify: a bug.
    pub fn take(self, rounds: u64) {
        let partition: PartitionKey = "1/1/0".parse().expect("a partition");
        let batch = batch();
        let ship = Message::Ship(shipment(partition, &batch));
        let answer = Message::Fetched(fetched(partition, &batch));
        for round in 0..rounds {
            match self {
                Self::Verify => {
                    for view in batches(black_box(&batch)) {
                        black_box(view.and_then(|view| view.verify()).expect("whole"));
                    }
                }
                Self::Inspect => drop(black_box(inspect_chunk(partition, black_box(&batch)).expect("whole"))),
                Self::Slice => {
                    let view = batches(black_box(&batch)).next().expect("one").expect("whole");
                    black_box(slice_in_place(&view, Offset(50), 25).expect("whole"));
                }
                Self::Ship => over_the_wire(&ship),
                Self::Fetch => over_the_wire(&answer),
                Self::World => drop(black_box(run_seed(round))),
            }
        }
    }
}

fn batch() -> Bytes {
    let mut batch = BatchBuilder::new(PartitionId(0), Offset(0), 1);
    for message in 0..MESSAGES {
        batch = batch.payload(&[message.to_le_bytes()[0]; MESSAGE_BYTES]);
    }
    batch.build()
}

fn shipment(partition: PartitionKey, batch: &Bytes) -> Ship {
    let head = inspect_chunk(partition, batch).expect("it was just built");
    Ship { shard: ShardId(0), epoch: Epoch(1), chunks: vec![ShipChunk { head, body: batch.clone() }] }
}

fn fetched(partition: PartitionKey, batch: &Bytes) -> Fetched {
    let (start, end) = (Offset(0), Offset(MESSAGES));
    let (epoch, holes, served, batches) = (Epoch(1), Vec::new(), Served::Tail, batch.clone());
    Fetched { partition, epoch, start, next: end, trim: start, stored: start, committed: end, holes, served, batches }
}

/// What both ends of a session do with a message.
fn over_the_wire(message: &Message) {
    let frame = black_box(message).encode(7);
    let header = FrameHeader::decode(&frame.header().encode()).expect("it was just encoded");
    let payload = Payload::from(frame.payload.into_contiguous());
    let arrived = Frame::verify(header, frame.head, payload).expect("nothing was damaged");
    black_box(Message::decode(arrived).expect("nothing was damaged"));
}
