//! What is said about the catalogue: asking for it, and agreeing on the next one (PROTOCOL R29).
//!
//! A catalogue is an encoded [`crate::catalog::Catalog`], opaque here.
//!
//! | message | since | meaning |
//! |---|---|---|
//! | `CatalogPut`, `CatalogAck` | 1 | this one, if it is newer by its own revision than what stands |
//! | `CatalogRequest`, `Catalogued` | 2 | the newest one, if it is newer than what the asker has |
//! | `CatalogOffer`, `CatalogVerdict` | 2 | this one, if what it builds on still stands |

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::frame::{Payload, PayloadShort};
use crate::ids::Incarnation;
use crate::wire::heads::Split;

/// Names and policies as an encoded catalogue ([`crate::catalog`]), opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogPut {
    /// Iggy's metadata revision or, where none is known, the source's own counter: orders catalogues.
    pub revision: u64,
    /// The encoded catalogue.
    pub catalog: Bytes,
}

/// What became of a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct CatalogAck {
    /// The revision that now stands.
    pub revision: u64,
    /// The incarnation that the ring would give to ids it has not seen.
    pub incarnation_next: Incarnation,
}

/// Asks for the catalogue that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct CatalogRequest {
    /// The revision that the asker has: only a newer one is sent. `None` if it has none.
    pub newer_than: Option<u64>,
}

/// The catalogue that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogued {
    /// Its revision; `None` if nobody has offered one yet.
    pub revision: Option<u64>,
    /// The encoded catalogue; `None` if it is not newer than what the asker has.
    pub catalog: Option<Bytes>,
}

/// A catalogue that is to follow the one that it builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogOffer {
    /// The revision that it builds on; `None` for the first one. Its own is one more.
    pub base: Option<u64>,
    /// The encoded catalogue.
    pub catalog: Bytes,
}

/// Whether an offered catalogue stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct CatalogVerdict {
    /// Whether the offered one stands. If not, another one was quicker: read it, merge, and offer again.
    pub taken: bool,
    /// The revision that stands.
    pub revision: Option<u64>,
}

/// See [`CatalogPut`]. The catalogue is the whole payload.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct CatalogPutHead {
    pub(crate) revision: u64,
}

impl Split for CatalogPut {
    type Head = CatalogPutHead;

    fn split(&self) -> (CatalogPutHead, Payload) {
        (CatalogPutHead { revision: self.revision }, Payload::from(self.catalog.clone()))
    }

    fn join(head: CatalogPutHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        Ok(Self { revision: head.revision, catalog: payload.take(payload.len())? })
    }
}

/// See [`Catalogued`]. The catalogue, if there is one, is the whole payload.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct CataloguedHead {
    pub(crate) revision: Option<u64>,
}

impl Split for Catalogued {
    type Head = CataloguedHead;

    fn split(&self) -> (CataloguedHead, Payload) {
        (CataloguedHead { revision: self.revision }, self.catalog.clone().map(Payload::from).unwrap_or_default())
    }

    fn join(head: CataloguedHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        // No catalogue encodes to nothing.
        let catalog = if payload.is_empty() { None } else { Some(payload.take(payload.len())?) };
        Ok(Self { revision: head.revision, catalog })
    }
}

/// See [`CatalogOffer`]. The catalogue is the whole payload.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct CatalogOfferHead {
    pub(crate) base: Option<u64>,
}

impl Split for CatalogOffer {
    type Head = CatalogOfferHead;

    fn split(&self) -> (CatalogOfferHead, Payload) {
        (CatalogOfferHead { base: self.base }, Payload::from(self.catalog.clone()))
    }

    fn join(head: CatalogOfferHead, payload: &mut Payload) -> Result<Self, PayloadShort> {
        Ok(Self { base: head.base, catalog: payload.take(payload.len())? })
    }
}
