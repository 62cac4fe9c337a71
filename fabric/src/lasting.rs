//! An endpoint that is opened anew when it is of no use any more: its thread has ended, half of its landings are lost, or
//! it has refused too much in a row.
//!
//! Opening blocks, so it happens on a thread of its own, and not more often than the pauses of a [`Breaker`]: after one
//! second, five, and then every thirty. Meanwhile the old endpoint goes on as it can. What was taken from it stays valid.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use bytes::Bytes;

use crate::advert::LandingAdvert;
use crate::breaker::Breaker;
use crate::counters::CounterValues;
use crate::endpoint::Endpoint;
use crate::error::FabricError;
use crate::landing::Landing;
use crate::library::{Library, Provider};
use crate::placements::Placed;
use crate::settings::{EndpointSettings, FabricChoice};
use crate::sys::Kind;

/// Refusals in a row after which an endpoint is stuck and not busy: some seconds of a reader that asks again and again,
/// while the longest placement ends at its deadline.
const REFUSALS_MAX: u64 = 1024;

/// An endpoint for as long as the process lives. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct LastingEndpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    library: Library,
    settings: EndpointSettings,
    provider: Provider,
    state: Mutex<State>,
    /// One thread opens at a time.
    is_reopening: AtomicBool,
    refusals: AtomicU64,
    reopened: AtomicU64,
}

#[derive(Debug)]
struct State {
    endpoint: Arc<Endpoint>,
    /// What earlier endpoints counted.
    before: CounterValues,
    pauses: Breaker,
}

impl LastingEndpoint {
    /// Opens it. Blocks as [`Endpoint::open`] does.
    pub fn open(library: Library, settings: EndpointSettings) -> Result<Self, FabricError> {
        let endpoint = Arc::new(Endpoint::open(&library, &settings)?);
        let provider = endpoint.provider().clone();
        let state = State { endpoint, before: CounterValues::default(), pauses: Breaker::new() };
        // What was chosen once is what peers were told.
        let choice = FabricChoice { provider: Some(provider.name.clone()), ..settings.choice };
        let inner = Inner {
            library,
            settings: EndpointSettings { choice, ..settings },
            provider,
            state: Mutex::new(state),
            is_reopening: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Who moves the bytes. It stays the same.
    pub fn provider(&self) -> &Provider {
        &self.inner.provider
    }

    /// What happened since it was first opened.
    pub fn counters(&self) -> CounterValues {
        let state = self.inner.state();
        state.before.and_then(state.endpoint.counters().values())
    }

    /// How often it was opened anew.
    pub fn reopened(&self) -> u64 {
        self.inner.reopened.load(Ordering::Relaxed)
    }

    /// Counts that a breaker opened.
    pub fn breaker_opened(&self) {
        self.inner.state().endpoint.counters().breaker_opened();
    }

    /// A landing for one answer, if one is free now.
    pub fn landing(&self) -> Result<Landing, FabricError> {
        let landing = self.inner.endpoint().landing();
        match &landing {
            // Half of the landings that are left are still of use; fewer are not worth their asking.
            Err(FabricError::NoLanding { lost }) if 2 * lost >= self.inner.settings.landing_count.max(1) => {
                self.reopen();
            }
            Err(FabricError::Closed) => self.reopen(),
            _ => {}
        }
        landing
    }

    /// As [`Endpoint::place`].
    ///
    /// # Cancel safety
    /// Dropped, it goes on: what was begun ends by itself, and holds its bytes until then.
    pub async fn place(
        &self,
        advert: LandingAdvert,
        pieces: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<Placed, FabricError> {
        // Not [`Endpoint::place`], whose future would hold the endpoint: the last holder closes it, and closing blocks.
        let begun = self.inner.endpoint().begin(Kind::Write, advert, pieces, deadline);
        let placed = match begun {
            Ok(answer) => answer.await.unwrap_or(Err(FabricError::Closed)),
            Err(error) => Err(error),
        };
        match &placed {
            Err(FabricError::Closed) => self.reopen(),
            Err(FabricError::Busy | FabricError::NoSendBuffer) => {
                if self.inner.refusals.fetch_add(1, Ordering::Relaxed) >= REFUSALS_MAX {
                    self.reopen();
                }
            }
            _ => self.inner.refusals.store(0, Ordering::Relaxed),
        }
        placed
    }

    /// Opens another endpoint in the place of this one, on a thread of its own, unless one was opened just now.
    fn reopen(&self) {
        let now = Instant::now();
        if self.inner.is_reopening.swap(true, Ordering::AcqRel) {
            return;
        }
        let allowed = {
            let mut state = self.inner.state();
            let allowed = state.pauses.allows(now);
            if allowed {
                // The next one waits, whether this one helps or not.
                state.pauses.failed(now);
            }
            allowed
        };
        let inner = Arc::clone(&self.inner);
        let open = move || {
            inner.open_another();
            inner.is_reopening.store(false, Ordering::Release);
        };
        if !allowed || thread::Builder::new().name("kennel-fabric-open".to_owned()).spawn(open).is_err() {
            self.inner.is_reopening.store(false, Ordering::Release);
        }
    }
}

impl Inner {
    fn open_another(&self) {
        // The old one stays if there is no other: memory or a device may be short just now.
        let Ok(another) = Endpoint::open(&self.library, &self.settings) else { return };
        let old = {
            let mut state = self.state();
            let old = std::mem::replace(&mut state.endpoint, Arc::new(another));
            state.before = state.before.and_then(old.counters().values());
            old
        };
        self.refusals.store(0, Ordering::Relaxed);
        self.reopened.fetch_add(1, Ordering::Relaxed);
        // Closing blocks: here it may.
        drop(old);
    }

    fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.state().endpoint)
    }

    /// Nothing is left half-way by a panic under this lock: it is held for a few assignments.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
