//! How long S3 takes, as a model: log-normal first bytes, a bandwidth per connection, and a ceiling on requests.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use crate::faults::Operation;

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326;
/// No single request is delayed longer than this, however unlucky the draw.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// The latency of a store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyModel {
    /// Median until a PUT is answered.
    pub put_p50: Duration,
    /// 99th percentile of the same.
    pub put_p99: Duration,
    /// Median until the first byte of any other answer.
    pub get_p50: Duration,
    /// 99th percentile of the same.
    pub get_p99: Duration,
    /// Bytes a second and connection towards the store.
    pub put_bytes_per_second: f64,
    /// Bytes a second and connection from the store.
    pub get_bytes_per_second: f64,
}

impl LatencyModel {
    /// S3 Standard inside its region.
    pub fn s3_standard() -> Self {
        Self {
            put_p50: Duration::from_millis(80),
            put_p99: Duration::from_millis(250),
            get_p50: Duration::from_millis(30),
            get_p99: Duration::from_millis(150),
            put_bytes_per_second: 80e6,
            get_bytes_per_second: 90e6,
        }
    }
}

/// Requests a second above which the store answers 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRates {
    /// PUT and DELETE.
    pub puts_max: u32,
    /// GET, HEAD and LIST.
    pub gets_max: u32,
}

impl RequestRates {
    /// What S3 grants to one prefix before it divides it.
    pub fn s3_prefix() -> Self {
        Self { puts_max: 3_500, gets_max: 5_500 }
    }
}

/// The dice and the clock of a server. Draws come in order of requests from one seed.
#[derive(Debug)]
pub(crate) struct Weather {
    model: Option<LatencyModel>,
    rates: Option<RequestRates>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Pcg64,
    window: Instant,
    puts: u32,
    gets: u32,
}

impl Weather {
    pub(crate) fn new(model: Option<LatencyModel>, rates: Option<RequestRates>, seed: u64) -> Self {
        let state = State { random: Pcg64::seed_from_u64(seed), window: Instant::now(), puts: 0, gets: 0 };
        Self { model, rates, state: Mutex::new(state) }
    }

    /// A uniform draw from [0, 1).
    pub(crate) fn chance(&self) -> f64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        uniform(&mut state.random)
    }

    /// Until the answer's first byte.
    pub(crate) fn first_byte(&self, operation: Operation) -> Duration {
        let Some(model) = self.model else { return Duration::ZERO };
        let (p50, p99) = match operation {
            Operation::Put => (model.put_p50, model.put_p99),
            _ => (model.get_p50, model.get_p99),
        };
        let sigma = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / NORMAL_P99;
        let normal = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            normal(&mut state.random)
        };
        Duration::try_from_secs_f64(p50.as_secs_f64() * (sigma * normal).exp()).map_or(DELAY_MAX, |d| d.min(DELAY_MAX))
    }

    /// For the body on its way in.
    pub(crate) fn upload(&self, bytes: u64) -> Duration {
        self.model.map_or(Duration::ZERO, |model| transfer(bytes, model.put_bytes_per_second))
    }

    /// For the body on its way out.
    pub(crate) fn download(&self, bytes: u64) -> Duration {
        self.model.map_or(Duration::ZERO, |model| transfer(bytes, model.get_bytes_per_second))
    }

    /// Whether the store would answer 503 to one request more in this second.
    pub(crate) fn is_throttled(&self, operation: Operation) -> bool {
        let Some(rates) = self.rates else { return false };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window.elapsed() >= Duration::from_secs(1) {
            (state.window, state.puts, state.gets) = (Instant::now(), 0, 0);
        }
        let (count, max) = match operation {
            Operation::Put | Operation::Delete => (&mut state.puts, rates.puts_max),
            Operation::Get | Operation::Head | Operation::List => (&mut state.gets, rates.gets_max),
        };
        *count = count.saturating_add(1);
        *count > max
    }
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of a draw are plenty")]
fn uniform(random: &mut Pcg64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A standard normal draw, by Box and Muller.
fn normal(random: &mut Pcg64) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(random)).cos()
}

#[expect(clippy::cast_precision_loss, reason = "bodies are far below 2^53 bytes")]
fn transfer(bytes: u64, bytes_per_second: f64) -> Duration {
    Duration::try_from_secs_f64(bytes as f64 / bytes_per_second).unwrap_or(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_has_the_percentiles_that_it_names() {
        let weather = Weather::new(Some(LatencyModel::s3_standard()), None, 7);
        let mut delays: Vec<_> = (0..10_000).map(|_| weather.first_byte(Operation::Put)).collect();
        delays.sort();
        let (p50, p99) = (delays[5_000].as_millis(), delays[9_900].as_millis());
        assert!((76..=84).contains(&p50), "p50 is {p50} ms");
        assert!((225..=275).contains(&p99), "p99 is {p99} ms");
    }

    #[test]
    fn one_seed_gives_one_weather() {
        let draws = |seed| {
            let weather = Weather::new(Some(LatencyModel::s3_standard()), None, seed);
            (0..100).map(|_| weather.first_byte(Operation::Get)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    #[test]
    fn requests_beyond_the_rate_are_throttled() {
        let weather = Weather::new(None, Some(RequestRates { puts_max: 2, gets_max: 1 }), 0);
        let puts: Vec<_> = (0..3).map(|_| weather.is_throttled(Operation::Put)).collect();
        assert_eq!(puts, [false, false, true]);
        assert!(!weather.is_throttled(Operation::Get));
    }
}
