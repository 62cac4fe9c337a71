//! How long the messages of partitions are and where partitions end, as far as was seen: what the count of a poll is made
//! of, since Iggy takes no limit in bytes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::limits::BATCH_BYTES_MAX;

use super::source::PartitionSeen;

/// The length of a message before one was seen. Longer messages make the first answer longer than was wanted, shorter
/// ones make it shorter: 4 KiB and a read of 1 MiB are 256 messages.
const MESSAGE_BYTES_UNKNOWN: u64 = 4096;

/// The most messages of one poll: at 48 bytes each, what an empty payload takes, more than 3 MiB.
pub(super) const COUNT_MAX: u32 = 1 << 16;

/// One partition's.
#[derive(Debug, Clone, Copy)]
struct Size {
    end: Offset,
    message_bytes: u64,
    /// Batches were seen to be so long: a poll for less brings none that is known to be whole.
    count_min: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { end: Offset(0), message_bytes: MESSAGE_BYTES_UNKNOWN, count_min: 1 }
    }
}

/// Shared between whoever watches and whoever reads.
#[derive(Debug, Default)]
pub struct Sizes(Mutex<BTreeMap<PartitionKey, Size>>);

impl Sizes {
    /// The watch saw what a partition holds.
    pub fn saw(&self, partition: PartitionKey, seen: &PartitionSeen) {
        self.with(partition, |size| {
            size.end = seen.end;
            if let Some(mean) = seen.totals.bytes.checked_div(seen.totals.messages) {
                size.message_bytes = mean.max(1);
            }
        });
    }

    /// It is there no more.
    pub fn forget(&self, partition: PartitionKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// How many messages to poll for about so many bytes.
    pub fn count(&self, partition: PartitionKey, bytes: u32) -> u32 {
        self.with(partition, |size| {
            let count_for = |bytes: u64| u32::try_from(bytes / size.message_bytes).unwrap_or(u32::MAX).max(1);
            // Once longer batches do not make every poll of later, longer messages a long one.
            let count_min = size.count_min.min(count_for(BATCH_BYTES_MAX as u64));
            count_for(bytes.into()).min(COUNT_MAX).max(count_min)
        })
    }

    /// So many were too few for one batch; answers how many to try next.
    pub fn too_few(&self, partition: PartitionKey, count: u32) -> u32 {
        self.with(partition, |size| {
            size.count_min = size.count_min.max(count.saturating_mul(4));
            size.count_min
        })
    }

    /// About how many bytes the source has from an offset on.
    pub fn bytes_behind(&self, partition: PartitionKey, from: Offset) -> u64 {
        self.with(partition, |size| size.end.0.saturating_sub(from.0).saturating_mul(size.message_bytes))
    }

    /// Where the source was last seen to end.
    pub fn end(&self, partition: PartitionKey) -> Offset {
        self.with(partition, |size| size.end)
    }

    fn with<T>(&self, partition: PartitionKey, look: impl FnOnce(&mut Size) -> T) -> T {
        // Sizes are hints: whatever a panic elsewhere left is good enough.
        look(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(partition).or_default())
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::PartitionId;

    use super::*;
    use crate::live::source::Totals;

    #[test]
    fn counts_follow_what_was_seen() {
        let sizes = Sizes::default();
        let key: PartitionKey = "0/0/1".parse().expect("a partition");
        assert_eq!(sizes.count(key, 1 << 20), 256);
        let seen = |bytes, messages| PartitionSeen {
            id: PartitionId(1),
            created_at: 0,
            end: Offset(messages),
            totals: Totals { bytes, messages },
        };
        sizes.saw(key, &seen(1_000_000, 1_000));
        assert_eq!(sizes.count(key, 1 << 20), 1_048);
        assert_eq!(sizes.bytes_behind(key, Offset(900)), 100_000);
        sizes.saw(key, &seen(50_000_000, 10));
        assert_eq!(sizes.count(key, 1 << 20), 1);
        // 5 MB each: four of them may be one batch, thousands may not.
        assert_eq!(sizes.too_few(key, 1), 4);
        assert_eq!(sizes.count(key, 1 << 20), 4);
        assert_eq!(sizes.too_few(key, 1_000), 4_000);
        assert!(sizes.count(key, 1 << 20) < 20);
        sizes.saw(key, &seen(0, 0));
        sizes.saw(key, &seen(10, 10));
        assert_eq!(sizes.count(key, 1 << 20), COUNT_MAX);
        sizes.forget(key);
        assert_eq!((sizes.count(key, 1 << 20), sizes.end(key)), (256, Offset(0)));
    }
}
