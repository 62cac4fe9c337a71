//! Percentiles of what was measured.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time that is told from a longer one: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;

/// Times, in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// How many there are.
    pub count: u64,
    /// Half are at most this.
    pub p50_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Figures {
    /// Of all these times.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, NANOS_MAX, 3).expect("constant bounds are valid");
        for time in times {
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(NANOS_MAX).max(1));
        }
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50_ms: millis(histogram.value_at_quantile(0.5)),
            p99_ms: millis(histogram.value_at_quantile(0.99)),
            max_ms: millis(histogram.max()),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms of {}", self.p50_ms, self.p99_ms, self.max_ms, self.count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of minutes are far below 2^53 nanoseconds")]
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Writes a report for programs.
pub(crate) fn write_json(path: Option<&Path>, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| format!("write {}", path.display()))
}

/// Says a line to a person.
#[expect(clippy::print_stdout, reason = "measurements talk to a person")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_given() {
        let figures = Figures::of((1..=1_000).map(Duration::from_millis));
        assert_eq!(figures.count, 1_000);
        assert!((figures.p50_ms - 500.0).abs() < 2.0 && (figures.p99_ms - 990.0).abs() < 2.0, "{figures:?}");
        assert!(Figures::of([]).max_ms < 0.1);
    }
}
