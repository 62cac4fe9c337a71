//! Answers written into readers' memory: when that is tried, and what a reader is told of it.
//!
//! A failure here never fails an answer: it is counted, and the batches go inline. Only what certainly was not begun is
//! called untouched; else the reader is told to give the landing up. The decision is made for each session, so that one
//! reader whose card has gone costs nobody else anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kennel_fabric::limits::PIECES_MAX;
use kennel_fabric::{Breaker, EndpointSettings, FabricError, LandingAdvert, LastingEndpoint, Library};
use kennel_protocol::wire::{AdvertBytes, FabricOffer, FabricRequest, LandingOutcome};

use crate::config::FabricSettings;
use crate::http::FabricReport;

/// Bytes of one send buffer: of a usual answer.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// What places answers.
#[derive(Debug)]
pub(crate) struct Fabric {
    endpoint: LastingEndpoint,
    placed_bytes_min: u64,
    placement_timeout: Duration,
    /// Answers for landings that went inline all the same.
    inline: AtomicU64,
}

/// A reader's session, as far as its landings are concerned.
#[derive(Debug, Default)]
pub(crate) struct FabricGuest {
    breaker: Mutex<Breaker>,
}

impl Fabric {
    /// Opens the fabric. Blocks, with a card some tenths of a second.
    fn open(settings: &FabricSettings) -> Result<Self, FabricError> {
        let library = Library::load(settings.choice.library.as_deref())?;
        let send_bytes = usize::try_from(settings.send_bytes).expect("checked to be at most 4 GiB");
        let endpoint = EndpointSettings {
            choice: settings.choice.clone(),
            // Nobody writes a node's memory.
            landing_bytes: 1,
            landing_count: 0,
            send_bytes: SEND_BUFFER_BYTES,
            send_count: send_bytes / SEND_BUFFER_BYTES,
            always_copy: false,
        };
        Ok(Self {
            endpoint: LastingEndpoint::open(library, endpoint)?,
            placed_bytes_min: settings.placed_bytes_min,
            placement_timeout: settings.placement_timeout,
            inline: AtomicU64::new(0),
        })
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
        if !matches!(outcome, LandingOutcome::Placed(_)) {
            self.inline.fetch_add(1, Ordering::Relaxed);
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
        if guest.learn(placed.as_ref().map(|_| ()), Instant::now()) {
            self.endpoint.breaker_opened();
        }
        outcome(&placed.map(|placed| placed.len))
    }

    /// For people.
    pub(crate) fn report(&self) -> FabricReport {
        let (provider, counters) = (self.endpoint.provider(), self.endpoint.counters());
        FabricReport {
            provider: provider.name.clone(),
            domain: provider.domain.clone(),
            placed: counters.placed,
            placed_bytes: counters.placed_bytes,
            inline: self.inline.load(Ordering::Relaxed),
            failed: counters.failed,
            quarantined: counters.quarantined,
            breaker_opens: counters.breaker_opens,
            reopened: self.endpoint.reopened(),
        }
    }
}

impl FabricGuest {
    /// Takes in how a placement went. Returns whether this opened the breaker.
    fn learn(&self, placed: Result<(), &FabricError>, now: Instant) -> bool {
        match placed {
            Ok(()) => self.breaker().succeeded(),
            // The node has as much to do as it may: that says nothing of the reader.
            Err(FabricError::Busy | FabricError::NoSendBuffer) => {}
            Err(_) => return self.breaker().failed(now),
        }
        false
    }

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

/// What a reader is told of its landing.
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
        let (guest, now) = (FabricGuest::default(), Instant::now());
        assert!(!guest.learn(Err(&FabricError::Busy), now), "that is the node's own state");
        assert!(guest.breaker().allows(now));
        assert!(guest.learn(Err(&transfer()), now));
        assert!(!guest.learn(Err(&transfer()), now), "it is open already");
        assert!(!guest.breaker().allows(now));
        assert!(guest.breaker().allows(now + Duration::from_secs(1)));
        assert!(!guest.learn(Ok(()), now + Duration::from_secs(1)));
        assert!(guest.breaker().allows(now + Duration::from_secs(1)));
    }
}
