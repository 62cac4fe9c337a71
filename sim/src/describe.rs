//! Short words for long things, for the people who read a trace.

use kennel_core::shard::{BucketRequest, Input, Persist, SlotBody, Then};
use kennel_protocol::entry::{Entry, NumberedEntry};
use kennel_protocol::ids::Lsn;
use kennel_protocol::wire::{CopySource, PartitionMarks, ShardMessage, ShipAck, ShipChunk};

use crate::event::NodeSays;

/// What a machine is told.
pub fn input(input: &Input) -> String {
    match input {
        Input::Peer { from, message } => format!("n{from}: {}", message_of(message)),
        Input::Ship { session, ship } => {
            let chunks: Vec<String> = ship.chunks.iter().map(chunk).collect();
            format!("session {}: Ship e{} {}", session.0, ship.epoch, chunks.join(" "))
        }
        Input::Positions { session, .. } => format!("session {}: Positions?", session.0),
        Input::Placement(placement) => {
            let nodes: Vec<String> = placement.candidates.iter().map(|node| format!("n{node}")).collect();
            format!("Placement {}", nodes.join(" "))
        }
        Input::Loaded { epoch, from, bodies } => format!("Loaded e{epoch}/{from}: {} bodies", bodies.len()),
        other => format!("{other:?}"),
    }
}

/// What a machine wants done.
pub fn then(then: &Then) -> String {
    match then {
        Then::Send { to, message } => format!("n{to}: {}", message_of(message)),
        Then::Ack { session, ack } => format!("session {}: {}", session.0, ack_of(ack)),
        Then::Positions { session, answer, .. } => {
            let marks = answer.as_ref().map(|answer| (answer.epoch, marks(&answer.marks)));
            format!("session {}: Positions {marks:?}", session.0)
        }
        Then::Bucket { id, request: wanted } => format!("bucket {}: {}", id.0, request(wanted)),
        Then::Committed { epoch, entries } => format!("Committed e{epoch} {}", run(entries)),
        Then::Skipped { epoch, below } => format!("Skipped e{epoch} below {below}"),
        other => format!("{other:?}"),
    }
}

/// What a journal is given.
pub fn persist(persist: &Persist) -> String {
    match persist {
        Persist::Entry { epoch, lsn, entry, .. } => format!("e{epoch}/{lsn} {}", entry_of(entry)),
        Persist::Adopted { epoch, lsn, source_epoch, source_lsn } => {
            format!("e{epoch}/{lsn} = e{source_epoch}/{source_lsn}")
        }
        Persist::Sealed(epoch) => format!("sealed below {epoch}"),
    }
}

/// What the bucket is asked.
pub fn request(request: &BucketRequest) -> String {
    match request {
        BucketRequest::CreateSlot { epoch, slot, body } => match body.as_ref() {
            SlotBody::Log { entries, .. } => format!("create log e{epoch}/{slot} {}", run(entries)),
            SlotBody::Open(record) => {
                let ends: Vec<String> = record.partitions.iter().map(|state| state.end.to_string()).collect();
                let (gathered, adopted) = (record.gathered, record.adopted);
                format!("create open e{epoch} gathered e{gathered} adopted {adopted} ends {}", ends.join(" "))
            }
            SlotBody::Seal(seal) => format!("create seal e{epoch}/{slot} by e{}", seal.by),
        },
        BucketRequest::CreateClaim(claim) => {
            let copies: Vec<String> = claim.copyset.copies.iter().map(|(_, node)| format!("n{node}")).collect();
            format!("create claim e{} of n{} copies {}", claim.epoch, claim.node, copies.join(" "))
        }
        other => format!("{other:?}"),
    }
}

/// What a node says to a shipper.
pub fn node_says(says: &NodeSays) -> String {
    match says {
        NodeSays::Ack(ack) => ack_of(ack),
        NodeSays::Positions { answer: Some(answer), .. } => {
            format!("Positions e{} {}", answer.epoch, marks(&answer.marks))
        }
        NodeSays::Positions { answer: None, .. } => "Positions: not the owner".to_owned(),
    }
}

fn message_of(message: &ShardMessage) -> String {
    match message {
        ShardMessage::Copy(copy) => {
            let sources: Vec<String> = copy.entries.iter().map(|entry| source(entry.lsn, &entry.source)).collect();
            let (epoch, committed, stored) = (copy.stamp.epoch, copy.committed, copy.stored);
            let flags =
                format!("{}{}", if copy.open { " open" } else { "" }, if copy.released { " released" } else { "" });
            format!("Copy e{epoch} committed {committed} stored {stored}{flags} [{}]", sources.join(" "))
        }
        ShardMessage::CopyAck(ack) => {
            let (epoch, durable, expected) = (ack.stamp.epoch, ack.durable, ack.expected);
            format!(
                "CopyAck e{epoch} durable {durable} expected {expected} inline {} fenced {:?}",
                ack.inline, ack.fenced
            )
        }
        ShardMessage::Pulled(pulled) => {
            format!("Pulled e{} of e{} {}", pulled.stamp.epoch, pulled.gather, run(&pulled.entries))
        }
        ShardMessage::Ask(ask) => format!("Ask e{} round {}", ask.stamp.epoch, ask.round),
        ShardMessage::AskAnswer(answer) => {
            let (epoch, newest, hears) = (answer.stamp.epoch, answer.newest, answer.hears_owner);
            format!("AskAnswer e{epoch} round {} newest {newest} hears {hears}", answer.round)
        }
        ShardMessage::Seal(seal) => format!("Seal e{} gather e{}", seal.stamp.epoch, seal.gather),
        ShardMessage::SealAnswer(answer) => {
            let (epoch, gather, fenced) = (answer.stamp.epoch, answer.gather, answer.fenced);
            format!("SealAnswer e{epoch} of e{gather} {}..{} fenced {fenced:?}", answer.from, answer.end)
        }
        ShardMessage::Pull(pull) => {
            format!("Pull e{} of e{} {}..{}", pull.stamp.epoch, pull.gather, pull.from, pull.end)
        }
    }
}

fn source(lsn: Lsn, source: &CopySource) -> String {
    match source {
        CopySource::Inline(entry) => format!("{lsn} {}", entry_of(entry)),
        CopySource::Adopt { epoch, lsn: from } => format!("{lsn} = e{epoch}/{from}"),
    }
}

fn run(entries: &[NumberedEntry]) -> String {
    let entries: Vec<String> =
        entries.iter().map(|numbered| format!("{} {}", numbered.lsn, entry_of(&numbered.entry))).collect();
    entries.join(", ")
}

fn entry_of(entry: &Entry) -> String {
    let head = &entry.head;
    format!("p{} {:?} {}..{}", head.partition.partition, head.kind, head.base, head.end)
}

fn chunk(chunk: &ShipChunk) -> String {
    let head = &chunk.head;
    format!("p{} {:?} {}..{}", head.partition.partition, head.kind, head.base, head.end)
}

fn ack_of(ack: &ShipAck) -> String {
    format!("Ack e{} {} {:?} {:?}", ack.epoch, marks(&ack.marks), ack.problems, ack.refusal)
}

fn marks(marks: &[PartitionMarks]) -> String {
    let marks: Vec<String> = marks
        .iter()
        .map(|mark| format!("p{} {}<={}<={}", mark.partition.partition, mark.stored, mark.committed, mark.next))
        .collect();
    marks.join(" ")
}
