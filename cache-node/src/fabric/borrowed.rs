//! Landings that another node has lent this one in a session, and the copies that are written into them.
//!
//! They are asked for ahead, beside the copies: a copy that finds none goes over QUIC, and so does everything while the
//! other node's fabric is off, broken, or of an older version. What is not used for a while is given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kennel_fabric::{Breaker, LandingAdvert};
use kennel_protocol::limits::LANDINGS_MAX;
use kennel_protocol::wire::{Copy, LandingId, LandingOutcome, Landings, LandingsRequest, Message, PlacedCopy};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::{CallError, Caller};
use kennel_transport::session::Session;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{Fabric, learn, outcome};

/// Landings that are wanted at hand: two windows of copies of one shard.
const WANTED: usize = 16;

/// More are asked for where fewer are left.
const LEFT_MIN: usize = WANTED / 2;

/// How long a copy may take. Behind it wait the owner's signs of life, which followers miss after half a second.
const COPY_PATIENCE: Duration = Duration::from_millis(200);

/// How long the other node may take to answer. It answers at once.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait before more is asked of a node that had nothing to lend, or did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What was not used for so long is given back: while landings are lent, their node looks at them every few milliseconds.
const IDLE: Duration = Duration::from_secs(5);

/// The landings of one session.
#[derive(Debug)]
pub(crate) struct Borrowed {
    fabric: Arc<Fabric>,
    state: Mutex<State>,
    /// There is something to ask for or to give back.
    due: Notify,
}

#[derive(Debug)]
struct State {
    free: Vec<(LandingId, LandingAdvert)>,
    given_up: Vec<LandingId>,
    /// An answer was lost, and with it the names of what was lent.
    is_unclear: bool,
    /// A copy failed: where the other node's endpoint was opened anew, those of the old one would fail one after the other.
    is_doubtful: bool,
    used: Instant,
    breaker: Breaker,
}

/// A landing from when a copy takes it until the message about it is sent. Dropped before, it is given up.
#[derive(Debug)]
#[must_use]
pub(crate) struct Taken {
    landing: Option<(LandingId, LandingAdvert)>,
    of: Arc<Borrowed>,
}

impl Borrowed {
    pub(crate) fn new(fabric: Arc<Fabric>) -> Arc<Self> {
        Arc::new(Self { fabric, state: Mutex::new(State::new(Instant::now())), due: Notify::new() })
    }

    /// A landing for so many bytes, if they are worth one and it may be had now.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        if bytes < self.fabric.placed_bytes_min() {
            return None;
        }
        let mut state = self.state();
        let landing = state.take(bytes, Instant::now());
        if state.free.len() < LEFT_MIN {
            self.due.notify_one();
        }
        Some(Taken { landing: Some(landing?), of: Arc::clone(self) })
    }

    /// Asks for landings as they are wanted, until the session is over or the other node lends none.
    ///
    /// # Cancel safety
    /// Safe: the end of the session frees what is lent.
    pub(crate) async fn keep(self: Arc<Self>, session: Arc<dyn Session>, version: u16) {
        self.due.notified().await;
        let Ok(lane) = session.open(Lane::Read).await else { return };
        let (caller, _) = Caller::new(lane);
        let caller = caller.speaking(version);
        while let Some(pause) = self.ask(&caller).await {
            sleep(pause).await;
            self.need().await;
        }
    }

    /// Waits until there is something to ask for or to give back.
    async fn need(&self) {
        loop {
            let called = timeout(IDLE, self.due.notified()).await.is_ok();
            if called || self.state().is_idle(Instant::now()) {
                return;
            }
        }
    }

    /// Gives back, asks, and takes what comes. Returns how long to wait before the next time.
    async fn ask(&self, caller: &Caller) -> Option<Duration> {
        let request = self.state().request(self.fabric.endpoint.provider().name.clone(), Instant::now());
        let wanted = request.wanted.into();
        let deadline = Instant::now() + ANSWER_PATIENCE;
        match caller.call(Message::LandingsRequest(request), deadline).await {
            Ok(Message::Landings(landings)) => self.state().arrived(landings, wanted),
            Err(error) if !matches!(error, CallError::Refused(_)) && caller.over().is_none() => {
                self.state().is_unclear = true;
                Some(ASK_AGAIN)
            }
            _ => None,
        }
    }

    /// A value of a few lists: each change is whole before the lock is let go of.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            free: Vec::new(),
            given_up: Vec::new(),
            is_unclear: false,
            is_doubtful: false,
            used: now,
            breaker: Breaker::new(),
        }
    }

    fn take(&mut self, bytes: usize, now: Instant) -> Option<(LandingId, LandingAdvert)> {
        self.used = now;
        let at = self.free.iter().rposition(|(_, advert)| bytes <= advert.bytes as usize)?;
        self.breaker.allows(now.into_std()).then(|| self.free.swap_remove(at))
    }

    /// What to ask the other node for, and to give back to it.
    fn request(&mut self, provider: String, now: Instant) -> LandingsRequest {
        let anew = std::mem::take(&mut self.is_unclear);
        if anew {
            self.free.clear();
            self.given_up.clear();
        }
        let is_idle = self.is_idle(now);
        let gives_back = std::mem::take(&mut self.is_doubtful) || is_idle;
        let unused = if gives_back { self.free.drain(..).map(|(id, _)| id).collect() } else { Vec::new() };
        let wanted = if is_idle { 0 } else { WANTED.saturating_sub(self.free.len()) };
        let wanted = u16::try_from(wanted).expect("a few");
        let given_up_max = self.given_up.len().min(LANDINGS_MAX);
        let given_up = self.given_up.drain(..given_up_max).collect();
        LandingsRequest { provider, wanted, anew, unused, given_up }
    }

    /// Takes what was lent. Returns how long to wait before more is asked for; nothing where that is of no use.
    fn arrived(&mut self, landings: Landings, wanted: usize) -> Option<Duration> {
        let Landings { offered, lent } = landings;
        let pause = if lent.len() < wanted { ASK_AGAIN } else { Duration::ZERO };
        for lent in lent {
            match LandingAdvert::decode(&lent.advert.0) {
                Ok(advert) => self.free.push((lent.id, advert)),
                Err(_) => self.given_up.push(lent.id),
            }
        }
        offered.then_some(pause)
    }

    /// Whether there is something that was not used for a while.
    fn is_idle(&self, now: Instant) -> bool {
        !self.free.is_empty() && now.duration_since(self.used) >= IDLE
    }
}

impl Taken {
    /// Writes the bodies of a copy into the landing. `None` where the copy is to be sent as it is.
    ///
    /// # Cancel safety
    /// What was begun goes on, and the landing is given up.
    pub(crate) async fn place(mut self, copy: &Copy) -> Option<(PlacedCopy, Self)> {
        let (id, advert) = self.landing.clone()?;
        let fabric = &self.of.fabric;
        let (placed, bodies) = PlacedCopy::new(copy, id);
        let deadline = std::time::Instant::now() + fabric.placement_timeout.min(COPY_PATIENCE);
        let result = fabric.endpoint.place(advert, bodies.pieces().to_vec(), deadline).await;
        if learn(&mut self.of.state().breaker, result.as_ref().map(|_| ()), std::time::Instant::now()) {
            fabric.endpoint.breaker_opened();
            self.of.state().is_doubtful = true;
        }
        match outcome(&result.map(|placed| placed.len)) {
            LandingOutcome::Placed(bytes) => {
                fabric.copies.placed(bytes.into());
                Some((placed, self))
            }
            LandingOutcome::Untouched => {
                let landing = self.landing.take();
                self.of.state().free.extend(landing);
                None
            }
            LandingOutcome::Unknown => None,
        }
    }

    /// The other node was told: the landing is its own again.
    pub(crate) fn sent(mut self) {
        self.landing = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some((id, _)) = self.landing.take() {
            self.of.state().given_up.push(id);
            self.of.due.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use kennel_protocol::wire::{AdvertBytes, LentLanding};

    use super::*;

    fn lent(ids: std::ops::Range<u64>, bytes: u32) -> Vec<LentLanding> {
        let advert = LandingAdvert { fabric_address: vec![1], key: 7, address: 0, bytes };
        let lend = |id| LentLanding { id: LandingId(id), advert: AdvertBytes(advert.encode()) };
        ids.map(lend).collect()
    }

    fn asked(state: &mut State, now: Instant) -> LandingsRequest {
        state.request("tcp".to_owned(), now)
    }

    #[test]
    fn landings_are_asked_for_ahead_and_given_back_when_nothing_is_copied() {
        let now = Instant::now();
        let mut state = State::new(now);
        assert_eq!(state.take(10, now), None);
        assert_eq!(usize::from(asked(&mut state, now).wanted), WANTED);
        assert_eq!(state.arrived(Landings { offered: true, lent: lent(0..3, 100) }, WANTED), Some(ASK_AGAIN));
        assert!(state.take(101, now).is_none(), "it does not fit");
        assert!(state.take(100, now).is_some());
        assert_eq!(usize::from(asked(&mut state, now).wanted), WANTED - 2);
        let later = now + IDLE;
        assert!(state.is_idle(later));
        let request = asked(&mut state, later);
        assert_eq!((request.wanted, request.unused.len(), request.given_up.len()), (0, 2, 0));
        assert!(!state.is_idle(later), "it has nothing any more");
    }

    #[test]
    fn an_answer_that_was_lost_gives_up_all_that_it_may_have_lent() {
        let now = Instant::now();
        let mut state = State::new(now);
        state.arrived(Landings { offered: true, lent: lent(0..2, 100) }, 2);
        state.is_unclear = true;
        let request = asked(&mut state, now);
        assert!(request.anew && request.unused.is_empty() && usize::from(request.wanted) == WANTED);
        assert_eq!(state.take(10, now), None);
        assert!(!asked(&mut state, now).anew, "once is enough");
    }

    #[test]
    fn what_is_no_advert_is_given_up_and_a_node_without_a_fabric_is_not_asked_again() {
        let now = Instant::now();
        let mut state = State::new(now);
        let nonsense = vec![LentLanding { id: LandingId(9), advert: AdvertBytes(vec![1, 2, 3]) }];
        assert_eq!(state.arrived(Landings { offered: true, lent: nonsense }, 1), Some(Duration::ZERO));
        assert_eq!(asked(&mut state, now).given_up, [LandingId(9)]);
        assert_eq!(state.arrived(Landings { offered: false, lent: Vec::new() }, 1), None);
    }

    #[test]
    fn after_a_failure_copies_go_over_the_network_for_a_while() {
        let now = Instant::now();
        let mut state = State::new(now);
        state.arrived(Landings { offered: true, lent: lent(0..2, 100) }, 2);
        state.breaker.failed(now.into_std());
        state.is_doubtful = true;
        assert_eq!(state.take(10, now), None);
        let request = asked(&mut state, now);
        assert_eq!((request.unused.len(), usize::from(request.wanted)), (2, WANTED), "others instead of those");
        state.arrived(Landings { offered: true, lent: lent(2..4, 100) }, 2);
        assert!(state.take(10, now + Duration::from_secs(1)).is_some());
    }
}
