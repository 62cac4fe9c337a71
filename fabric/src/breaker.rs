//! When to leave the fabric alone: after trouble for one second, then five, then thirty.
//!
//! Pure: time is an argument. One breaker for each peer, or one for an endpoint; its holder counts what it opens.

use std::time::{Duration, Instant};

/// How long to leave it alone the first, the second and every further time. The first forgives a peer that restarts;
/// the last costs a cluster with a broken fabric one failed probe in half a minute.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Whether the fabric may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// All is well.
    #[default]
    Closed,
    /// Nothing is tried until then. `step` is the pause after that.
    Open { until: Instant, step: usize },
    /// One may try. If nothing is heard of it, another may after the same pause again.
    Probing { until: Instant, step: usize },
}

impl Breaker {
    /// A breaker that lets everything through.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to use the fabric now. After a pause exactly one caller is told yes, and must report how it went.
    pub fn allows(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until, step } | State::Probing { until, step } if now >= until => {
                self.state = State::Probing { until: now + PAUSES[step], step };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    /// It worked.
    pub fn succeeded(&mut self) {
        // What was under way when the breaker opened says nothing about what is so since.
        if !matches!(self.state, State::Open { .. }) {
            self.state = State::Closed;
        }
    }

    /// It did not. Returns whether this opened the breaker, for whoever counts.
    pub fn failed(&mut self, now: Instant) -> bool {
        let step = match self.state {
            State::Closed => 0,
            State::Probing { step, .. } => (step + 1).min(PAUSES.len() - 1),
            State::Open { .. } => return false,
        };
        self.state = State::Open { until: now + PAUSES[step], step };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_last_and_begin_anew_after_success() {
        let (mut breaker, mut now) = (Breaker::new(), Instant::now());
        for pause in [1, 5, 30, 30] {
            assert!(breaker.allows(now));
            assert!(breaker.failed(now));
            assert!(!breaker.failed(now), "it is open already");
            now += Duration::from_secs(pause);
            assert!(!breaker.allows(now.checked_sub(Duration::from_millis(1)).expect("later")), "{pause}");
        }
        assert!(breaker.allows(now));
        breaker.succeeded();
        assert!(breaker.allows(now) && breaker.allows(now), "closed lets all through");
        assert!(breaker.failed(now));
        assert!(breaker.allows(now + PAUSES[0]), "the first pause again");
    }

    #[test]
    fn one_probe_at_a_time_and_a_lost_one_does_not_hold_it_for_ever() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        breaker.failed(now);
        assert!(breaker.allows(now + PAUSES[0]));
        assert!(!breaker.allows(now + PAUSES[0]), "one is under way");
        assert!(breaker.allows(now + 2 * PAUSES[0]), "nothing was heard of it");
    }

    #[test]
    fn a_late_success_of_before_does_not_close_it() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        breaker.failed(now);
        breaker.succeeded();
        assert!(!breaker.allows(now));
    }
}
