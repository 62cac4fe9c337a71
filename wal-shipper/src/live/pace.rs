//! How long the watch rests between two rounds: as little as its share of a core allows while something moves, longer
//! and longer up to a bound while nothing does.
//!
//! A round costs the more the more topics move, so an interval alone would be too long for few and too short for many.
//! What is bounded instead is the share of a core. Knows no clock: times come as arguments.

use std::time::Duration;

/// While nothing moves, each rest is so much longer than the one before.
const GROWTH_PERCENT: u32 = 125;

/// After the last movement, rests stay short for so long: a producer that sends now and then finds the watch awake.
const AWAKE: Duration = Duration::from_millis(50);

/// What the watch may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceLimits {
    /// The shortest rest.
    pub interval_min: Duration,
    /// The longest rest: what a first message after a quiet time waits.
    pub interval_idle: Duration,
    /// The share of a core that rounds may take, in percent.
    pub core_percent: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Pace {
    limits: PaceLimits,
    rest: Duration,
    quiet: Duration,
}

impl Pace {
    /// A pace that begins awake.
    pub fn new(limits: PaceLimits) -> Self {
        Self { limits, rest: limits.interval_min, quiet: Duration::ZERO }
    }

    /// The rest after a round that cost so much of a core, took so long, and saw something move or not.
    pub fn rest(&mut self, cost: Duration, took: Duration, moved: bool) -> Duration {
        let PaceLimits { interval_min, interval_idle, core_percent } = self.limits;
        let percent = core_percent.clamp(1, 100);
        let affordable = (cost * (100 - percent) / percent).saturating_sub(took.saturating_sub(cost));
        let floor = interval_min.max(affordable);
        self.quiet = if moved { Duration::ZERO } else { self.quiet + took + self.rest };
        self.rest =
            if self.quiet < AWAKE { floor } else { (self.rest * GROWTH_PERCENT / 100).min(interval_idle).max(floor) };
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits = PaceLimits {
        interval_min: Duration::from_micros(300),
        interval_idle: Duration::from_millis(5),
        core_percent: 10,
    };

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_round_that_costs_more_rests_longer() {
        let mut pace = Pace::new(LIMITS);
        assert_eq!(pace.rest(micros(10), micros(100), true), micros(300));
        // 100 us of a core in every millisecond: 900 us not computing, of which 200 us were spent waiting for answers.
        assert_eq!(pace.rest(micros(100), micros(300), true), micros(700));
        assert_eq!(pace.rest(micros(2_000), micros(3_000), true), micros(17_000));
    }

    #[test]
    fn while_nothing_moves_rests_grow_to_a_bound_and_one_movement_ends_them() {
        let mut pace = Pace::new(LIMITS);
        let mut rests = Vec::new();
        for _ in 0..1_000 {
            rests.push(pace.rest(micros(20), micros(120), false));
        }
        assert!(rests[..90].iter().all(|rest| *rest == micros(300)), "it slept too early");
        assert!(rests.is_sorted() && rests[999] == LIMITS.interval_idle);
        assert_eq!(pace.rest(micros(20), micros(120), true), micros(300));
    }
}
