//! Times and amounts as they come in, by round and by second.
//!
//! A time belongs to the moment at which its work was due, an amount to the moment at which it was done. So a stall is
//! seen by everything that it held up, and a second's throughput is what really happened in it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::file::TimeSection;
use super::outcome::{GroupOutcome, RoundOutcome, Second};

/// Longest time that is told from a longer one: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;
/// What the report draws.
const PERCENTILES: [f64; 16] =
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];

/// When rounds begin and end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds {
    pub(super) start: Instant,
    pub(super) time: TimeSection,
}

impl Rounds {
    /// The first round begins after the warm-up.
    pub(super) fn from_now(time: TimeSection) -> Self {
        Self { start: Instant::now() + time.warm_up, time }
    }

    /// When the last one ends.
    pub(super) fn end(&self) -> Instant {
        self.start + self.time.round * self.time.rounds
    }

    /// When a round ends, counted from 0.
    pub(super) fn end_of(&self, round: u32) -> Instant {
        self.start + self.time.round * (round + 1)
    }

    fn offset(&self, at: Instant) -> Option<Duration> {
        (at >= self.start && at < self.end()).then(|| at - self.start)
    }

    fn round(&self, at: Instant) -> Option<usize> {
        let round = self.offset(at)?.as_nanos() / self.time.round.as_nanos();
        usize::try_from(round).ok()
    }

    fn second(&self, at: Instant) -> Option<usize> {
        usize::try_from(self.offset(at)?.as_secs()).ok()
    }
}

/// Something that was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// When it should have begun.
    pub(super) due: Instant,
    /// When it was over.
    pub(super) over: Instant,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// One group's.
#[derive(Debug)]
pub(super) struct Recorder {
    rounds: Rounds,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    of_rounds: Vec<Amounts>,
    of_seconds: Vec<Amounts>,
    tiers: BTreeMap<String, u64>,
    errors: u64,
    last_error: Option<String>,
}

#[derive(Debug)]
struct Amounts {
    times: Histogram<u64>,
    operations: u64,
    messages: u64,
    bytes: u64,
}

impl Amounts {
    fn new(digits: u8) -> Self {
        let times = Histogram::new_with_bounds(1, NANOS_MAX, digits).expect("constant bounds are valid");
        Self { times, operations: 0, messages: 0, bytes: 0 }
    }

    fn add(&mut self, messages: u64, bytes: u64) {
        self.operations += 1;
        self.messages += messages;
        self.bytes += bytes;
    }

    fn micros(&self, quantile: f64) -> f64 {
        if self.times.is_empty() { 0.0 } else { micros(self.times.value_at_quantile(quantile)) }
    }

    fn second(&self) -> Second {
        let Self { messages, bytes, .. } = *self;
        Second { messages, bytes, p50_us: self.micros(0.5), p99_us: self.micros(0.99) }
    }

    #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
    fn round(&self, length: Duration) -> RoundOutcome {
        let of_a_second = |amount: u64| amount as f64 / length.as_secs_f64();
        RoundOutcome {
            operations: self.operations,
            operations_per_second: of_a_second(self.operations),
            messages_per_second: of_a_second(self.messages),
            bytes_per_second: of_a_second(self.bytes),
            p50_us: self.micros(0.5),
            p99_us: self.micros(0.99),
            p999_us: self.micros(0.999),
            max_us: self.micros(1.0),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of minutes are far below 2^53 nanoseconds")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

impl Recorder {
    pub(super) fn new(rounds: Rounds) -> Self {
        let seconds = (rounds.time.round * rounds.time.rounds).as_secs() + 1;
        let inner = Inner {
            of_rounds: (0..rounds.time.rounds).map(|_| Amounts::new(3)).collect(),
            of_seconds: (0..seconds).map(|_| Amounts::new(2)).collect(),
            tiers: BTreeMap::new(),
            errors: 0,
            last_error: None,
        };
        Self { rounds, inner: Mutex::new(inner) }
    }

    /// When to end.
    pub(super) fn rounds(&self) -> Rounds {
        self.rounds
    }

    /// Counts what was done, if it was due or done in a round.
    pub(super) fn done(&self, what: Done) {
        let Done { due, over, messages, bytes } = what;
        let nanos = u64::try_from(over.saturating_duration_since(due).as_nanos()).unwrap_or(NANOS_MAX).max(1);
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Some(round) = self.rounds.round(due) {
            inner.of_rounds[round].times.saturating_record(nanos);
        }
        if let Some(second) = self.rounds.second(due) {
            inner.of_seconds[second].times.saturating_record(nanos);
        }
        if let Some(round) = self.rounds.round(over) {
            inner.of_rounds[round].add(messages, bytes);
        }
        if let Some(second) = self.rounds.second(over) {
            inner.of_seconds[second].add(messages, bytes);
        }
    }

    /// Counts where an answer came from.
    pub(super) fn tier(&self, name: &str) {
        let mut inner = self.lock();
        match inner.tiers.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(inner.tiers.insert(name.to_owned(), 1)),
        }
    }

    /// Counts what failed.
    pub(super) fn failed(&self, what: String) {
        let mut inner = self.lock();
        inner.errors += 1;
        inner.last_error = Some(what);
    }

    /// Everything so far.
    pub(super) fn outcome(&self, name: String, timed: &str, offered: f64, open_loop: bool) -> GroupOutcome {
        let inner = self.lock();
        let mut all = Amounts::new(3);
        for round in &inner.of_rounds {
            all.times.add(&round.times).expect("histograms of the same bounds");
        }
        let length = self.rounds.time.round;
        GroupOutcome {
            name,
            timed: timed.to_owned(),
            open_loop,
            offered_bytes_per_second: offered,
            rounds: inner.of_rounds.iter().map(|round| round.round(length)).collect(),
            percentiles: PERCENTILES.iter().map(|&quantile| (quantile, all.micros(quantile))).collect(),
            series: inner.of_seconds.iter().map(Amounts::second).collect(),
            tiers: inner.tiers.clone(),
            errors: inner.errors,
            last_error: inner.last_error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked left numbers behind, not a state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_seen_by_all_that_it_held_up() {
        let time = TimeSection { warm_up: Duration::ZERO, round: Duration::from_secs(2), rounds: 2 };
        let rounds = Rounds { start: Instant::now(), time };
        let recorder = Recorder::new(rounds);
        let at = |millis| rounds.start + Duration::from_millis(millis);
        // Due every 100 ms for three seconds; nothing is done between 500 and 2,500.
        for due in (0..3_000).step_by(100) {
            let done = if (500..2_500).contains(&due) { 2_500 } else { due + 1 };
            recorder.done(Done { due: at(due), over: at(done), messages: 10, bytes: 100 });
        }
        let group = recorder.outcome("x".into(), "x", 0.0, true);
        assert_eq!((group.rounds[0].operations, group.rounds[1].operations), (5, 25));
        assert!(group.rounds[0].p50_us > 900_000.0 && group.rounds[0].max_us > 1_990_000.0, "{group:?}");
        assert_eq!((group.series[1].messages, group.series[2].messages), (0, 250));
        assert!(group.series[1].p50_us > 1_000_000.0);
        assert!((group.rounds[0].messages_per_second - 25.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_before_or_after_the_rounds_is_not_counted() {
        let time = TimeSection { warm_up: Duration::from_secs(1), round: Duration::from_secs(1), rounds: 1 };
        let recorder = Recorder::new(Rounds::from_now(time));
        let now = Instant::now();
        recorder.done(Done { due: now, over: now, messages: 1, bytes: 1 });
        let late = now + Duration::from_secs(5);
        recorder.done(Done { due: late, over: late, messages: 1, bytes: 1 });
        let group = recorder.outcome("x".into(), "x", 0.0, false);
        assert_eq!(group.rounds[0], RoundOutcome::default());
    }
}
