//! Durations and sizes with units, the only form in which configuration takes them.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A duration such as `400ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A size in bytes such as `64 MiB`, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"400ms\" or \"2s\" (units: us, ms, s, m, h)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        humantime::parse_duration(text).map(Span).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64 MiB\" or \"1 GB\" (units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        let unit = text.trim().ends_with(['b', 'B']) || text.trim() == "0";
        let size = text.parse::<ByteSize>().ok().filter(|_| unit);
        size.map(|size| Size(size.as_u64())).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Size, E> {
        if number == 0 { Ok(Size(0)) } else { Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Size, E> {
        if number == 0 { Ok(Size(0)) } else { Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)) }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
        let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
        T::deserialize(deserializer)
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(read("400ms"), Ok(Span(Duration::from_millis(400))));
        assert_eq!(read("1m 30s"), Ok(Span(Duration::from_secs(90))));
        for bad in ["400", "", "12 parsecs", "-1s", "1e3s"] {
            let error = read::<Span>(bad).expect_err(bad).to_string();
            assert!(error.contains("a duration such as \"400ms\""), "{error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(read("64 MiB"), Ok(Size(64 << 20)));
        assert_eq!(read("64MB"), Ok(Size(64_000_000)));
        assert_eq!(read("0"), Ok(Size(0)));
        for bad in ["64", "", "64 parsecs", "-1 MiB", "MiB"] {
            let error = read::<Size>(bad).expect_err(bad).to_string();
            assert!(error.contains("a size such as \"64 MiB\""), "{error}");
        }
    }
}
