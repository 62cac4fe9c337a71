//! Landings that this node has lent another in a session, for the other's copies.
//!
//! ```text
//! free ──lend──> lent ──a copy lies in it, and verifies──> free
//!                 ├──given back unused──────────────────> free
//!                 └──given up, or a copy that does not verify, or the session ends──> another key ──> free
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kennel_fabric::Landing;
use kennel_protocol::wire::{AdvertBytes, LandingId, LandingsRequest, LentLanding};

/// What was lent in one session. Bounded by the landings that there are.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    landings: Mutex<HashMap<LandingId, Landing>>,
}

impl Lent {
    /// Takes back what the other node has no use for any more. What it does not have is not heard of.
    pub(super) fn take_back(&self, request: &LandingsRequest) {
        let mut landings = self.landings();
        if request.anew {
            landings.clear();
        }
        for id in &request.given_up {
            // What could still be written is not used again under its key: its drop sees to that.
            drop(landings.remove(id));
        }
        for id in &request.unused {
            if let Some(landing) = landings.remove(id) {
                landing.unused();
            }
        }
    }

    /// Lends one more.
    pub(super) fn lend(&self, id: LandingId, mut landing: Landing) -> LentLanding {
        let advert = AdvertBytes(landing.advert().encode());
        self.landings().insert(id, landing);
        LentLanding { id, advert }
    }

    /// The landing that a copy lies in.
    pub(super) fn take(&self, id: LandingId) -> Option<Landing> {
        self.landings().remove(&id)
    }

    /// How many are lent.
    pub(super) fn count(&self) -> usize {
        self.landings().len()
    }

    /// Each change is one of one landing: a panic under this lock leaves the map whole.
    fn landings(&self) -> MutexGuard<'_, HashMap<LandingId, Landing>> {
        self.landings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
