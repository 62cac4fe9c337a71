//! What a shard machine tells people. Never needed for correctness.

use kennel_protocol::ids::{Epoch, Lsn, PartitionKey};

use super::divergence::Divergence;

/// Something that people should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A newer epoch fenced this one.
    Fenced {
        /// The epoch that ended.
        epoch: Epoch,
        /// The newer one.
        by: Epoch,
    },
    /// The epoch opened.
    Opened {
        /// Which.
        epoch: Epoch,
        /// How many entries were adopted.
        adopted: Lsn,
        /// How many journals answered, of how many.
        answered: (u8, u8),
    },
    /// A take-over waits: too few journals of the past answer (PROTOCOL R2).
    PastUnreachable {
        /// The epoch whose journals are missing.
        epoch: Epoch,
        /// How many answered.
        answered: usize,
        /// How many are needed.
        needed: usize,
    },
    /// An attempt to own the shard came to nothing for now; another will follow.
    Abandoned(Setback),
    /// A manifest was written under an epoch above every claim found (PROTOCOL R30). Once is a race with another
    /// claimant; again and again means that claims were deleted from the bucket.
    ClaimMissing {
        /// The newest claim found.
        newest: Epoch,
        /// The epoch of the manifest.
        seen: Epoch,
    },
    /// A source differs from what the ring holds (PROTOCOL R15). Said once for each finding.
    Diverged(PartitionKey, Divergence),
    /// The shard halted.
    Halted(String),
}

/// Why an attempt to own the shard came to nothing (PROTOCOL R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// This node hears the owner again.
    OwnerHeard,
    /// Another node hears the owner, or is about to own the shard.
    OwnerHeardElsewhere,
    /// Another node knows a newer epoch.
    NewerEpoch,
    /// A newer claim was found in the bucket.
    NewerClaim,
    /// The bucket did not answer, or not in time.
    Bucket,
    /// Too few journals of the copy set to be named answered in time.
    CopiesSilent,
    /// Another claim stood first, or the own one stood and its epoch did not open in time.
    NotOpened,
}
