//! Forbidden things, tried: each must be refused, and leave the landing as it was.

use std::fmt;

use serde::Serialize;

use super::{deadline, pattern, wait};
use crate::advert::LandingAdvert;
use crate::endpoint::Endpoint;
use crate::error::FabricError;
use crate::library::Library;
use crate::settings::EndpointSettings;
use crate::sys::Kind;

/// Bytes of an attempt.
const BYTES: usize = 4 << 10;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// A write under a key that nobody gave out.
    WriteWithAnotherKey,
    /// A write that ends behind the landing's end.
    WriteBeyondTheEnd,
    /// A read of a landing, which permits writes only.
    ReadALanding,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Refused, with the library's words.
    Refused(String),
    /// Nothing was heard, and nothing was done: safe, but the node waits for its deadline.
    NoAnswer,
    /// It was done. The provider protects nothing.
    Permitted,
    /// It was reported as refused, and the landing was written.
    WrittenAllTheSame,
}

/// One attempt and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What was tried.
    pub attempt: Attempt,
    /// What came of it.
    pub verdict: Verdict,
}

impl Attempt {
    pub(super) const ALL: [Self; 3] = [Self::WriteWithAnotherKey, Self::WriteBeyondTheEnd, Self::ReadALanding];
}

impl Verdict {
    /// Whether nothing forbidden was done.
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NoAnswer)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = match self.attempt {
            Attempt::WriteWithAnotherKey => "write with another key",
            Attempt::WriteBeyondTheEnd => "write beyond the landing's end",
            Attempt::ReadALanding => "read of a landing",
        };
        match &self.verdict {
            Verdict::Refused(reason) => write!(f, "{attempt}: refused ({reason})"),
            Verdict::NoAnswer => write!(f, "{attempt}: not done, but never answered"),
            Verdict::Permitted => write!(f, "{attempt}: PERMITTED"),
            Verdict::WrittenAllTheSame => write!(f, "{attempt}: said to be refused, and WRITTEN"),
        }
    }
}

/// Tries one thing, between endpoints of its own.
pub(super) fn attempt(
    library: &Library,
    settings: &EndpointSettings,
    attempt: Attempt,
) -> Result<Refusal, FabricError> {
    let (node, reader) = (Endpoint::open(library, settings)?, Endpoint::open(library, settings)?);
    let mut landing = reader.landing()?;
    let advert = landing.advert();
    // A write that is permitted comes first: a refusal says something only where something else is not refused.
    let before = pattern(advert.bytes as usize, 1);
    wait(node.place(advert.clone(), vec![before.clone()], deadline()))?;
    let (kind, forged) = forged(attempt, advert);
    let begun = node.begin(kind, forged, vec![pattern(BYTES, 2)], deadline())?;
    let result = wait(begun).map_err(|_| FabricError::Closed)?;
    let bytes = landing.bytes();
    let untouched = landing.filled(bytes)? == before;
    let verdict = match result {
        Ok(_) => Verdict::Permitted,
        Err(_) if !untouched => Verdict::WrittenAllTheSame,
        Err(FabricError::Deadline) => Verdict::NoAnswer,
        Err(error) => Verdict::Refused(reason(&error)),
    };
    Ok(Refusal { attempt, verdict })
}

/// What the attempt asks for, instead of what it was given.
fn forged(attempt: Attempt, advert: LandingAdvert) -> (Kind, LandingAdvert) {
    match attempt {
        Attempt::WriteWithAnotherKey => (Kind::Write, LandingAdvert { key: !advert.key, ..advert }),
        Attempt::WriteBeyondTheEnd => {
            // Half of it lies inside.
            let address = advert.address + u64::from(advert.bytes) - BYTES as u64 / 2;
            (Kind::Write, LandingAdvert { address, ..advert })
        }
        Attempt::ReadALanding => (Kind::Read, advert),
    }
}

fn reason(error: &FabricError) -> String {
    match error {
        FabricError::Transfer { text, .. } => text.clone(),
        error => error.to_string(),
    }
}
