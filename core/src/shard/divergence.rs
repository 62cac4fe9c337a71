//! Partitions whose source differs from what the shard holds (PROTOCOL R15), for people.
//!
//! It decides nothing: what does not continue a partition is refused whether it stands here or not. A partition leaves
//! when a chunk continues it again, or with its owner; a source that still differs is found again.

use std::collections::BTreeMap;

use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::PartitionKey;

/// How many are named in a status; the rest is counted.
const LISTED_MAX: usize = 32;

/// One offset, two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// What the ring holds.
    pub ring: MessageIdentity,
    /// What the source holds.
    pub source: MessageIdentity,
}

/// All of a shard: at most one for each of its partitions.
#[derive(Debug, Default)]
pub(crate) struct Divergences {
    found: BTreeMap<PartitionKey, Divergence>,
}

impl Divergences {
    /// Takes a finding; answers whether it is news.
    pub(crate) fn found(&mut self, partition: PartitionKey, divergence: Divergence) -> bool {
        self.found.insert(partition, divergence) != Some(divergence)
    }

    /// The source goes on from where the partition stands.
    pub(crate) fn continued(&mut self, partition: &PartitionKey) {
        self.found.remove(partition);
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// The first of them, in key order.
    pub(crate) fn listed(&self) -> Vec<(PartitionKey, Divergence)> {
        self.found.iter().take(LISTED_MAX).map(|(partition, divergence)| (*partition, *divergence)).collect()
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::ids::Offset;

    use super::*;

    fn divergence(checksum: u64) -> Divergence {
        let message = |checksum| MessageIdentity { offset: Offset(7), base_timestamp: 1, checksum };
        Divergence { ring: message(0), source: message(checksum) }
    }

    #[test]
    fn each_finding_is_news_once_and_leaves_when_the_source_goes_on() {
        let partition = "1/2/3".parse().expect("a partition");
        let mut divergences = Divergences::default();
        assert!(divergences.found(partition, divergence(1)));
        assert!(!divergences.found(partition, divergence(1)));
        assert!(divergences.found(partition, divergence(2)));
        assert_eq!(divergences.listed(), [(partition, divergence(2))]);
        divergences.continued(&partition);
        assert_eq!(divergences.len(), 0);
        for number in 0..1_000 {
            divergences.found(format!("1/2/{number}").parse().expect("a partition"), divergence(1));
        }
        assert_eq!((divergences.len(), divergences.listed().len()), (1_000, LISTED_MAX));
    }
}
