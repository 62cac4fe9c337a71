//! Answers that a node writes into memory of the reader, by RDMA where there is a card.
//!
//! A reader asks once in a session whether the node has the same provider. Then each of its fetches may carry the advert
//! of one landing, and the answer says what became of that. What an advert means is for the fabric to know: here it is a
//! bounded run of bytes.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::wire::{Fetch, Fetched};

/// A reader asks whether the node places answers by its provider.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct FabricRequest {
    /// The reader's provider: both sides must have the same one.
    pub provider: String,
}

/// Whether it does.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct FabricOffer {
    /// The provider that was asked for; `None` where the node's fabric is off, does not work, or is another's.
    pub provider: Option<String>,
}

/// Asks for batches of one partition, and says where they may be written.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct FetchInto {
    /// What is asked for.
    pub fetch: Fetch,
    /// The landing, for this answer and no other.
    pub advert: AdvertBytes,
}

/// An encoded advert. It holds a key to memory of the reader, so it travels inside of TLS and is not shown in logs.
#[derive(Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AdvertBytes(pub Vec<u8>);

impl fmt::Debug for AdvertBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdvertBytes(..)")
    }
}

impl fmt::Debug for ArchivedAdvertBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdvertBytes(..)")
    }
}

/// The answer to a [`FetchInto`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    /// As a fetch is answered. Its batches are empty where they lie in the landing.
    pub fetched: Fetched,
    /// What became of the landing.
    pub outcome: LandingOutcome,
}

/// What became of a landing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum LandingOutcome {
    /// So many bytes of batches lie in it, from its first byte on. The node is done with it.
    Placed(u32),
    /// Nothing was written into it, nor will be. The batches are in the payload.
    Untouched,
    /// An attempt failed or did not end in time: something may have been written, or may still be. The batches are in the
    /// payload, and the reader must not use the landing again under its key.
    Unknown,
}
