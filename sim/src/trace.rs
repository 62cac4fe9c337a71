//! What happened, as a number always and as text on demand. Two runs of one seed must give the same of both.

use std::collections::VecDeque;

use kennel_core::time::Instant;

use crate::stream::mix;

/// How many lines a recording keeps: the end of a run is what explains a violation.
const LINES_MAX: usize = 20_000;

/// The fingerprint of a run and, if asked for, its text.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<VecDeque<String>>,
}

impl Trace {
    /// Keeps the fingerprint alone.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Keeps the text too.
    pub fn recording() -> Self {
        Self { lines: Some(VecDeque::new()), ..Self::default() }
    }

    /// Folds one event into the fingerprint.
    pub fn event(&mut self, now: Instant, kind: u64, what: u64) {
        self.events += 1;
        self.hash = mix(self.hash ^ now.micros() ^ (kind << 56) ^ what.rotate_left(17));
    }

    /// Records one line, built only if somebody reads it.
    pub fn line(&mut self, now: Instant, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(format!("{now} {}", text()));
    }

    /// The fingerprint of all events so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter().flatten();
        let skip = self.lines.as_ref().map_or(0, |lines| lines.len().saturating_sub(count));
        lines.skip(skip).map(String::as_str)
    }
}
