//! Says in the log why a ring takes no more for now, seldom enough to be read.

use std::collections::BTreeMap;
use std::time::Duration;

use kennel_protocol::ids::ShardId;
use kennel_protocol::wire::{ShipAck, ShipRefusal};
use tokio::time::Instant;

/// A shard that is held back on and off says so once in this time.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// When each shard's owner was last quoted.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    told: BTreeMap<ShardId, Instant>,
}

impl HeldBack {
    /// Looks at what an owner says, and passes on what people should know.
    pub(super) fn look(&mut self, ack: &ShipAck) {
        let why = match ack.refusal {
            Some(ShipRefusal::JournalFull) => "the journal is full until the bucket has taken more",
            Some(ShipRefusal::UploadsBehind) => "too many bytes wait for the bucket",
            Some(ShipRefusal::NotOwner | ShipRefusal::Halted) | None => return,
        };
        if self.is_due(ack.shard, Instant::now()) {
            tracing::warn!(shard = %ack.shard, why, "the ring takes no more for now; waiting");
        }
    }

    fn is_due(&mut self, shard: ShardId, now: Instant) -> bool {
        let due = self.told.get(&shard).is_none_or(|told| now.duration_since(*told) >= AGAIN_AFTER);
        if due {
            self.told.insert(shard, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_is_quoted_now_and_then() {
        let mut held_back = HeldBack::default();
        let start = Instant::now();
        let mut told = |shard, after| held_back.is_due(ShardId(shard), start + after);
        assert!(told(0, Duration::ZERO) && told(1, Duration::ZERO));
        assert!(!told(0, AGAIN_AFTER / 2));
        assert!(told(0, AGAIN_AFTER) && !told(0, AGAIN_AFTER));
    }
}
