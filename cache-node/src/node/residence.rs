//! Memory for what waits for the bucket, which all shards of a node share.
//!
//! Each shard has its share of it and, as long as others leave room, more: one busy shard keeps what it ships until it is
//! uploaded, and does not read it back from the journal. A shard that comes later gets its share at once; the one above its
//! own gives up with its next input, so that for a moment both together may be above the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory of all shards, bytes.
#[derive(Debug)]
pub(super) struct Residence {
    most: u64,
    share: u64,
    used: AtomicU64,
}

/// One shard's part.
#[derive(Debug)]
pub(super) struct Resident {
    of: Arc<Residence>,
    own: u64,
}

impl Residence {
    /// `most` bytes for `shards` shards.
    pub(super) fn new(most: u64, shards: u16) -> Arc<Self> {
        Arc::new(Self { most, share: most / u64::from(shards.max(1)), used: AtomicU64::new(0) })
    }

    /// A shard that holds nothing yet.
    pub(super) fn resident(self: &Arc<Self>) -> Resident {
        Resident { of: Arc::clone(self), own: 0 }
    }
}

impl Resident {
    /// How much the shard may keep now: what it has and what nobody has, and its share in any case.
    pub(super) fn may_keep(&self) -> u64 {
        let others = self.of.used.load(Ordering::Relaxed).saturating_sub(self.own);
        self.of.most.saturating_sub(others).max(self.of.share)
    }

    /// How much it keeps now.
    pub(super) fn keeps(&mut self, bytes: u64) {
        if bytes >= self.own {
            self.of.used.fetch_add(bytes - self.own, Ordering::Relaxed);
        } else {
            self.of.used.fetch_sub(self.own - bytes, Ordering::Relaxed);
        }
        self.own = bytes;
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.keeps(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_have_it_all_and_each_has_its_share() {
        let residence = Residence::new(100, 4);
        let (mut busy, mut other) = (residence.resident(), residence.resident());
        assert_eq!((busy.may_keep(), other.may_keep()), (100, 100));
        busy.keeps(90);
        assert_eq!((busy.may_keep(), other.may_keep()), (100, 25), "a share is there in any case");
        other.keeps(25);
        assert_eq!((busy.may_keep(), other.may_keep()), (75, 25), "who is above gives up");
        busy.keeps(60);
        assert_eq!((busy.may_keep(), other.may_keep()), (75, 40));
        drop(busy);
        assert_eq!(other.may_keep(), 100);
    }

    #[test]
    fn many_busy_ones_come_down_to_their_shares() {
        let residence = Residence::new(100, 4);
        let mut residents: Vec<_> = (0..4).map(|_| residence.resident()).collect();
        for _ in 0..20 {
            for resident in &mut residents {
                let bytes = resident.may_keep();
                resident.keeps(bytes);
            }
        }
        assert!(residence.used.load(Ordering::Relaxed) <= 100);
        assert!(residents.iter().all(|resident| resident.own >= 25));
    }
}
