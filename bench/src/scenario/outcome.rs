//! What a run found, as it is written to a file and read again by `bench compare`.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::file::Scenario;

/// Of this layout. A file of another one is refused.
pub(super) const FORMAT: u32 = 1;

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of this layout: a file of another one is refused.
    pub format: u32,
    /// What was asked for.
    pub scenario: Scenario,
    /// Where.
    pub environment: Environment,
    /// The load and each kind of reader.
    pub groups: Vec<GroupOutcome>,
    /// What each round took of the machine.
    pub usage: Vec<RoundUsage>,
    /// What the bucket was asked.
    pub bucket: BucketUse,
    /// When something was made to go wrong, seconds since the first round began, and what.
    pub faults: Vec<(f64, String)>,
    /// What was compared.
    pub proof: Proof,
}

/// What one kind of work did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupOutcome {
    /// "ship", "read hot", ...
    pub name: String,
    /// What times mean, for people.
    pub timed: String,
    /// Whether work came by the clock. Then a time counts from when the work was due, not from when it was begun.
    pub open_loop: bool,
    /// Payload a second that was asked for, bytes; 0: as much as goes.
    pub offered_bytes_per_second: f64,
    /// Of each round.
    pub rounds: Vec<RoundOutcome>,
    /// Of all rounds: share of operations, and the time within which it was done, microseconds.
    pub percentiles: Vec<(f64, f64)>,
    /// Second by second.
    pub series: Vec<Second>,
    /// Answers by the tier that they came from.
    pub tiers: BTreeMap<String, u64>,
    /// What failed and was tried again, in all rounds.
    pub errors: u64,
    /// The last of them.
    pub last_error: Option<String>,
}

/// One round of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundOutcome {
    /// Batches acknowledged or answers read.
    pub operations: u64,
    /// Operations a second.
    pub operations_per_second: f64,
    /// Messages a second.
    pub messages_per_second: f64,
    /// Bytes a second: payload of what is shipped, batches of what is read.
    pub bytes_per_second: f64,
    /// Half take no longer, microseconds.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1,000.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// One second of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
    /// Of what was due in this second, microseconds; 0 if nothing was.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
}

/// What the two sides took in a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundUsage {
    /// Cores that the nodes kept busy together. 0 where they run elsewhere or inside this process.
    pub nodes_cores: f64,
    /// Cores that this process kept busy: load, readers, and the comparing.
    pub bench_cores: f64,
    /// Memory of the nodes together at the end, bytes.
    pub nodes_resident_bytes: u64,
    /// Memory of this process at the end, bytes.
    pub bench_resident_bytes: u64,
    /// Share of the processors' time that the machine's host withheld, 0 to 1.
    #[serde(default)]
    pub withheld: f64,
}

/// Requests to the bucket over all rounds, as the nodes count them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketUse {
    /// How long was counted, seconds.
    pub seconds: f64,
    /// Requests by what they were.
    pub requests: BTreeMap<String, u64>,
    /// What they cost at the price list of S3 Standard, US dollars.
    pub cost_usd: f64,
}

/// What was compared with what was shipped, byte for byte by checksum, and its order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Messages that readers got during the rounds.
    pub messages_during: u64,
    /// Messages that were read back afterwards: everything that was acknowledged.
    pub messages_after: u64,
    /// What was not as it must be. Empty, or the product is broken.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Reads one.
    ///
    /// # Errors
    /// If the file is none, or of another layout.
    pub fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let outcome: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `bench run --json` writes", path.display()))?;
        ensure!(outcome.format == FORMAT, "{} has layout {}, this program {FORMAT}", path.display(), outcome.format);
        Ok(outcome)
    }
}

/// The median of some numbers; 0 of none.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
