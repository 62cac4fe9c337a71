//! The `[gateway]` section: keys as people write them, and what they mean together.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use kennel_gateway::{EmptyPolls, Endpoint, GatewaySettings, GatewayTls, OriginTls};
use serde::Deserialize;

use super::error::ConfigError;
use super::parse::{Check, set};
use super::units::Span;

/// Below this every poll would cost a second one; above, a right that was taken is kept for too long.
const VERDICT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// A comparison is one short poll per partition that is read; a history that differs should not be served for minutes.
const COMPARE_EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(10);
/// A day without the server, with the rights of yesterday, is enough.
const READS_WITHOUT_ORIGIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// Iggy's SDKs send a heartbeat every five seconds, unless told otherwise.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);
/// Two sockets a session: more than this and most systems want their limits raised.
const SESSIONS: RangeInclusive<usize> = 1..=65_536;

#[derive(Deserialize)]
pub(super) struct Gateway {
    listen: String,
    origin: String,
    advertise: String,
    cert: PathBuf,
    key: PathBuf,
    origin_ca: PathBuf,
    origin_name: String,
    empty_polls: Answerer,
    verdict: Span,
    compare_every: Span,
    reads_without_origin: Span,
    idle: Span,
    sessions_max: usize,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Answerer {
    Ring,
    Origin,
}

/// What the gateway is told; `None` if it is off.
pub(super) fn settings(check: &Check<'_>, keys: Gateway) -> Result<Option<GatewaySettings>, ConfigError> {
    if keys.listen.is_empty() {
        return Ok(None);
    }
    let origin: Endpoint = endpoint(check, "gateway.origin", &keys.origin)?;
    let advertise = set(keys.advertise);
    let advertise = advertise.map(|text| endpoint(check, "gateway.advertise", &text)).transpose()?;
    let tls = both(check, "gateway.cert", "gateway.key", path(keys.cert), path(keys.key))?;
    let origin_tls =
        both(check, "gateway.origin_ca", "gateway.origin_name", path(keys.origin_ca), set(keys.origin_name))?;
    Ok(Some(GatewaySettings {
        listen: check.address("gateway.listen", &keys.listen)?,
        origin: origin.to_string(),
        advertise,
        tls: tls.map(|(cert, key)| GatewayTls { cert, key }),
        origin_tls: origin_tls.map(|(ca, name)| OriginTls { ca, name }),
        empty_polls: match keys.empty_polls {
            Answerer::Ring => EmptyPolls::Ring,
            Answerer::Origin => EmptyPolls::Origin,
        },
        verdict: check.span("gateway.verdict", keys.verdict.0, VERDICT)?,
        compare_every: check.span("gateway.compare_every", keys.compare_every.0, COMPARE_EVERY)?,
        reads_without_origin: check.span(
            "gateway.reads_without_origin",
            keys.reads_without_origin.0,
            READS_WITHOUT_ORIGIN,
        )?,
        idle: check.span("gateway.idle", keys.idle.0, IDLE)?,
        sessions_max: check.within("gateway.sessions_max", keys.sessions_max, SESSIONS)?,
    }))
}

fn endpoint(check: &Check<'_>, key: &str, text: &str) -> Result<Endpoint, ConfigError> {
    text.parse().map_err(|_| check.0.refuse(key, format!("`{text}` is not host:port, such as 127.0.0.1:8090")))
}

fn path(path: PathBuf) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then_some(path)
}

fn both<A, B>(
    check: &Check<'_>,
    one: &str,
    other: &str,
    first: Option<A>,
    second: Option<B>,
) -> Result<Option<(A, B)>, ConfigError> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, None) => Ok(None),
        _ => Err(check.0.refuse(one, format!("goes with `{other}`: set both or neither"))),
    }
}
