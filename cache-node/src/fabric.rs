//! Answers written into readers' memory, and copies into followers': when that is tried, and what the other side is told.
//!
//! A failure here never fails an answer: it is counted, and the batches go inline. Only what certainly was not begun is
//! called untouched; else the reader is told to give the landing up. The decision is made for each session, so that one
//! reader whose card has gone costs nobody else anything.

mod borrowed;
mod lent;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kennel_fabric::limits::PIECES_MAX;
use kennel_fabric::{Breaker, EndpointSettings, FabricError, LandingAdvert, LastingEndpoint, Library};
use kennel_protocol::limits::LANDINGS_MAX;
use kennel_protocol::wire::{
    AdvertBytes, FabricOffer, FabricRequest, LandingId, LandingOutcome, Landings, LandingsRequest, PlacedCopy,
    ShardMessage,
};

use crate::config::FabricSettings;
use crate::http::FabricReport;
use crate::node::bodies_hold;
use lent::Lent;

pub(crate) use borrowed::{Borrowed, Taken};

/// Bytes of one send buffer: of a usual answer.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// What places answers.
#[derive(Debug)]
pub(crate) struct Fabric {
    endpoint: LastingEndpoint,
    placed_bytes_min: u64,
    placement_timeout: Duration,
    /// Landings that one other node may have at once: half, so that two owners get as many.
    lent_max: usize,
    next_lent: AtomicU64,
    answers: Moved,
    copies: Moved,
    copies_landed: AtomicU64,
    copies_refused: AtomicU64,
    /// Answers for landings that went inline all the same.
    inline: AtomicU64,
}

/// What was placed and confirmed.
#[derive(Debug, Default)]
struct Moved {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// The session of a reader, as far as its landings are concerned; of a node, as far as those are that were lent to it.
#[derive(Debug, Default)]
pub(crate) struct FabricGuest {
    breaker: Mutex<Breaker>,
    lent: Lent,
}

impl Fabric {
    /// Opens the fabric. Blocks, with a card some tenths of a second.
    fn open(settings: &FabricSettings) -> Result<Self, FabricError> {
        let library = Library::load(settings.choice.library.as_deref())?;
        let send_bytes = usize::try_from(settings.send_bytes).expect("checked to be at most 4 GiB");
        let endpoint = EndpointSettings {
            choice: settings.choice.clone(),
            landing_bytes: usize::try_from(settings.landing_bytes).expect("checked to be some MiB"),
            landing_count: settings.landing_count,
            send_bytes: SEND_BUFFER_BYTES,
            send_count: send_bytes / SEND_BUFFER_BYTES,
            always_copy: false,
        };
        Ok(Self {
            endpoint: LastingEndpoint::open(library, endpoint)?,
            placed_bytes_min: settings.placed_bytes_min,
            placement_timeout: settings.placement_timeout,
            lent_max: settings.landing_count.div_ceil(2).min(LANDINGS_MAX),
            next_lent: AtomicU64::new(0),
            answers: Moved::default(),
            copies: Moved::default(),
            copies_landed: AtomicU64::new(0),
            copies_refused: AtomicU64::new(0),
            inline: AtomicU64::new(0),
        })
    }

    /// Below, nothing is placed.
    pub(crate) fn placed_bytes_min(&self) -> usize {
        usize::try_from(self.placed_bytes_min).unwrap_or(usize::MAX)
    }

    /// Offers to place, if the reader has the same provider.
    pub(crate) fn offer(&self, request: FabricRequest) -> FabricOffer {
        let provider = Some(request.provider).filter(|provider| *provider == self.endpoint.provider().name);
        FabricOffer { provider }
    }

    /// Places an answer, if it is worth it and can be.
    ///
    /// # Cancel safety
    /// Dropped, it goes on: what was begun ends by itself.
    pub(crate) async fn place(&self, guest: &FabricGuest, advert: &AdvertBytes, pieces: Vec<Bytes>) -> LandingOutcome {
        let outcome = self.try_place(guest, advert, pieces).await;
        match outcome {
            LandingOutcome::Placed(bytes) => self.answers.placed(bytes.into()),
            _ => drop(self.inline.fetch_add(1, Ordering::Relaxed)),
        }
        outcome
    }

    async fn try_place(&self, guest: &FabricGuest, advert: &AdvertBytes, pieces: Vec<Bytes>) -> LandingOutcome {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let Ok(advert) = LandingAdvert::decode(&advert.0) else { return LandingOutcome::Untouched };
        let fits = bytes >= self.placed_bytes_min && bytes <= advert.bytes.into() && pieces.len() <= PIECES_MAX;
        if !fits || !guest.breaker().allows(Instant::now()) {
            return LandingOutcome::Untouched;
        }
        let deadline = Instant::now() + self.placement_timeout;
        let placed = self.endpoint.place(advert, pieces, deadline).await;
        if let Err(error) = &placed {
            tracing::debug!(error = error as &dyn std::error::Error, "an answer was not placed");
        }
        if learn(&mut guest.breaker(), placed.as_ref().map(|_| ()), Instant::now()) {
            self.endpoint.breaker_opened();
        }
        outcome(&placed.map(|placed| placed.len))
    }

    /// Takes back landings that another node has no use for, and lends what it wants and there is.
    pub(crate) fn lend(&self, guest: &FabricGuest, request: &LandingsRequest) -> Landings {
        guest.lent.take_back(request);
        let offered = self.lent_max > 0 && request.provider == self.endpoint.provider().name;
        let mut lent = Vec::new();
        while offered && lent.len() < request.wanted.into() && guest.lent.count() < self.lent_max {
            let Ok(landing) = self.endpoint.landing() else { break };
            let id = LandingId(self.next_lent.fetch_add(1, Ordering::Relaxed));
            lent.push(guest.lent.lend(id, landing));
        }
        Landings { offered, lent }
    }

    /// A copy with the bodies that its owner has placed, after they were verified. `None` where they are not what they
    /// should be: the owner repeats what is not acknowledged.
    pub(crate) fn take_copy(&self, guest: &FabricGuest, placed: PlacedCopy) -> Option<ShardMessage> {
        let copy = guest.lent.take(placed.landing).and_then(|landing| {
            let arrived = landing.arrived(placed.body_bytes()).ok()?;
            // Out of the landing first: what was verified there could still be written.
            let bodies = Bytes::copy_from_slice(arrived.as_ref());
            let copy = ShardMessage::Copy(placed.fill(bodies).ok()?);
            bodies_hold(&copy).then(|| {
                drop(arrived.keep());
                copy
            })
        });
        let counter = if copy.is_some() { &self.copies_landed } else { &self.copies_refused };
        counter.fetch_add(1, Ordering::Relaxed);
        copy
    }

    /// For people.
    pub(crate) fn report(&self) -> FabricReport {
        let (provider, counters) = (self.endpoint.provider(), self.endpoint.counters());
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FabricReport {
            provider: provider.name.clone(),
            domain: provider.domain.clone(),
            placed: load(&self.answers.count),
            placed_bytes: load(&self.answers.bytes),
            inline: load(&self.inline),
            copies_placed: load(&self.copies.count),
            copies_placed_bytes: load(&self.copies.bytes),
            copies_landed: load(&self.copies_landed),
            copies_refused: load(&self.copies_refused),
            failed: counters.failed,
            quarantined: counters.quarantined,
            breaker_opens: counters.breaker_opens,
            reopened: self.endpoint.reopened(),
        }
    }
}

impl Moved {
    fn placed(&self, bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl FabricGuest {
    /// A breaker is one small value: a panic under this lock leaves it whole.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the fabric where that is wanted. Where it is wanted and not required, a failure is said once, and the node goes on.
///
/// # Errors
/// If it is required and cannot be had.
///
/// # Cancel safety
/// Safe: what was being opened is closed.
pub(crate) async fn open(settings: Option<&FabricSettings>) -> Result<Option<Arc<Fabric>>, FabricError> {
    let Some(settings) = settings.cloned() else { return Ok(None) };
    let required = settings.required;
    let opening = tokio::task::spawn_blocking(move || Fabric::open(&settings)).await;
    match opening.unwrap_or(Err(FabricError::Closed)) {
        Ok(fabric) => {
            let (provider, domain) = (&fabric.endpoint.provider().name, &fabric.endpoint.provider().domain);
            tracing::info!(provider, domain, "answers can be placed in readers' memory");
            Ok(Some(Arc::new(fabric)))
        }
        Err(error) if required => Err(error),
        Err(error) => {
            let reason = &error as &dyn std::error::Error;
            tracing::warn!(error = reason, "no fabric: all answers go over QUIC ([fabric])");
            Ok(None)
        }
    }
}

/// Takes in how a placement went. Returns whether this opened the breaker.
fn learn(breaker: &mut Breaker, placed: Result<(), &FabricError>, now: Instant) -> bool {
    match placed {
        Ok(()) => breaker.succeeded(),
        // The node has as much to do as it may: that says nothing of the other side.
        Err(FabricError::Busy | FabricError::NoSendBuffer) => {}
        Err(_) => return breaker.failed(now),
    }
    false
}

/// What is known of a landing.
fn outcome(placed: &Result<usize, FabricError>) -> LandingOutcome {
    match placed {
        Ok(bytes) => LandingOutcome::Placed(u32::try_from(*bytes).expect("it fitted a landing")),
        // Said before anything is begun.
        Err(FabricError::Busy | FabricError::NoSendBuffer | FabricError::TooLong { .. } | FabricError::Advert(_)) => {
            LandingOutcome::Untouched
        }
        Err(_) => LandingOutcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer() -> FabricError {
        FabricError::Transfer { code: 5, text: "gone".to_owned() }
    }

    #[test]
    fn a_landing_is_untouched_only_where_nothing_was_begun() {
        assert_eq!(outcome(&Ok(9)), LandingOutcome::Placed(9));
        for certain in [FabricError::Busy, FabricError::NoSendBuffer, FabricError::TooLong { bytes: 2, room: 1 }] {
            assert_eq!(outcome(&Err(certain)), LandingOutcome::Untouched);
        }
        for uncertain in [FabricError::Deadline, FabricError::Closed, transfer()] {
            assert_eq!(outcome(&Err(uncertain)), LandingOutcome::Unknown);
        }
    }

    #[test]
    fn a_reader_that_cannot_be_written_is_left_alone_for_a_while() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        assert!(!learn(&mut breaker, Err(&FabricError::Busy), now), "that is the node's own state");
        assert!(breaker.allows(now));
        assert!(learn(&mut breaker, Err(&transfer()), now));
        assert!(!learn(&mut breaker, Err(&transfer()), now), "it is open already");
        assert!(!breaker.allows(now));
        assert!(breaker.allows(now + Duration::from_secs(1)));
        assert!(!learn(&mut breaker, Ok(()), now + Duration::from_secs(1)));
        assert!(breaker.allows(now + Duration::from_secs(1)));
    }
}
