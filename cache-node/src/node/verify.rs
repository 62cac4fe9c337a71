//! What comes in is checked before a machine sees it: the bytes against the heads, the heads against the bytes.

use kennel_protocol::batch::inspect_chunk;
use kennel_protocol::entry::{EntryHead, EntryKind};
use kennel_protocol::ids::{PartitionKey, ShardId};
use kennel_protocol::wire::{CopySource, ShardMessage, Ship, ShipChunk, ShipProblem};

/// Checks every chunk of a ship; keeps those that hold and says which do not.
///
/// After a bad chunk the later ones of its partition are left out as well: they would only be answered as gaps.
pub(super) fn verified_ship(ship: Ship, shard_count: u16) -> (Ship, Vec<(PartitionKey, ShipProblem)>) {
    let Ship { shard, epoch, chunks } = ship;
    let mut problems: Vec<(PartitionKey, ShipProblem)> = Vec::new();
    let mut verified = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let partition = chunk.head.partition;
        if problems.iter().any(|(bad, _)| *bad == partition) {
            continue;
        }
        match verified_chunk(chunk, shard, shard_count) {
            Some(chunk) => verified.push(chunk),
            None => problems.push((partition, ShipProblem::Corrupt)),
        }
    }
    (Ship { shard, epoch, chunks: verified }, problems)
}

/// The chunk under the head that its own bytes give; `None` if it is not what it says.
fn verified_chunk(chunk: ShipChunk, shard: ShardId, shard_count: u16) -> Option<ShipChunk> {
    let ShipChunk { head, body } = chunk;
    let fits = head.check().is_ok() && head.partition.shard(shard_count) == shard;
    match head.kind {
        EntryKind::Chunk if fits => {
            let found = inspect_chunk(head.partition, &body).ok()?;
            let said = EntryHead { previous: None, cut: 0, ..head.clone() };
            (found == said).then(|| ShipChunk { head: EntryHead { previous: head.previous, ..found }, body })
        }
        EntryKind::Hole(_) if fits && body.is_empty() => Some(ShipChunk { head, body }),
        _ => None,
    }
}

/// Whether every body in a message between nodes is the one that its head names.
pub(crate) fn bodies_hold(message: &ShardMessage) -> bool {
    match message {
        ShardMessage::Copy(copy) => copy.entries.iter().all(|entry| match &entry.source {
            CopySource::Inline(entry) => entry.verify_body().is_ok(),
            CopySource::Adopt { .. } => true,
        }),
        ShardMessage::Pulled(pulled) => pulled.entries.iter().all(|numbered| numbered.entry.verify_body().is_ok()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kennel_protocol::builder::BatchBuilder;
    use kennel_protocol::ids::{Epoch, Offset};

    use super::*;

    fn chunk(base: u64) -> ShipChunk {
        let partition: PartitionKey = "0/0/0".parse().expect("a partition");
        let body = BatchBuilder::new(partition.partition, Offset(base), 7).payload(b"one").payload(b"two").build();
        ShipChunk { head: inspect_chunk(partition, &body).expect("a valid batch"), body }
    }

    fn ship(chunks: Vec<ShipChunk>) -> (Ship, Vec<(PartitionKey, ShipProblem)>) {
        verified_ship(Ship { shard: ShardId(0), epoch: Epoch(1), chunks }, 1)
    }

    fn flipped(body: &Bytes) -> Bytes {
        let mut bytes = BytesMut::from(&body[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes.freeze()
    }

    #[test]
    fn good_chunks_pass_and_bad_ones_stop_their_partition() {
        let (taken, problems) = ship(vec![chunk(0), chunk(2)]);
        assert_eq!((taken.chunks.len(), problems.len()), (2, 0));

        let bad = ShipChunk { body: flipped(&chunk(2).body), ..chunk(2) };
        let (taken, problems) = ship(vec![chunk(0), bad, chunk(4)]);
        assert_eq!(taken.chunks.len(), 1);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_head_that_says_more_than_its_bytes_is_refused() {
        let mut lying = chunk(0);
        lying.head.end = Offset(9);
        assert_eq!(ship(vec![lying]).1.len(), 1);
    }
}
