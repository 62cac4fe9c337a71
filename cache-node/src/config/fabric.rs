//! The `[fabric]` section: keys as people write them, and what they mean together.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use kennel_fabric::FabricChoice;
use serde::Deserialize;

use super::error::ConfigError;
use super::parse::{Check, set};
use super::settings::FabricSettings;
use super::units::{Size, Span};

/// Below, a placement costs more than the packets that it saves; above, nothing that a reader may ask for is placed.
const PLACED_BYTES_MIN: RangeInclusive<u64> = (4 << 10)..=(8 << 20);
/// Below, a connection that is made anew is not waited for; above, readers have asked elsewhere by then (after five
/// seconds).
const PLACEMENT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(4);
/// The largest answer but the largest single batch; and as much as anybody locks.
const SEND_BYTES: RangeInclusive<u64> = (8 << 20)..=(4 << 30);
/// Several of the smallest copies that are worth placing; and the largest frame.
const LANDING_BYTES: RangeInclusive<u64> = (64 << 10)..=(64 << 20);
/// None for a node that takes no copies so; and as many registrations as cards have for sure.
const LANDING_COUNT: RangeInclusive<usize> = 0..=1024;

#[derive(Deserialize)]
pub(super) struct Fabric {
    mode: Mode,
    library: PathBuf,
    provider: String,
    domain: String,
    source: String,
    placed_bytes_min: Size,
    placement_timeout: Span,
    send_bytes: Size,
    landing_bytes: Size,
    landing_count: usize,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Off,
    Auto,
    Require,
}

/// What the fabric is told; `None` if it is off.
pub(super) fn settings(check: &Check<'_>, keys: Fabric) -> Result<Option<FabricSettings>, ConfigError> {
    let placed_bytes_min = check.size("fabric.placed_bytes_min", keys.placed_bytes_min.0, PLACED_BYTES_MIN)?;
    let placement_timeout = check.span("fabric.placement_timeout", keys.placement_timeout.0, PLACEMENT_TIMEOUT)?;
    let send_bytes = check.size("fabric.send_bytes", keys.send_bytes.0, SEND_BYTES)?;
    let landing_bytes = check.size("fabric.landing_bytes", keys.landing_bytes.0, LANDING_BYTES)?;
    let landing_count = check.within("fabric.landing_count", keys.landing_count, LANDING_COUNT)?;
    Ok((keys.mode != Mode::Off).then(|| FabricSettings {
        required: keys.mode == Mode::Require,
        choice: FabricChoice {
            library: (!keys.library.as_os_str().is_empty()).then_some(keys.library),
            provider: set(keys.provider),
            domain: set(keys.domain),
            source: set(keys.source),
        },
        placed_bytes_min,
        placement_timeout,
        send_bytes,
        landing_bytes,
        landing_count,
    }))
}
