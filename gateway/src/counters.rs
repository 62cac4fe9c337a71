//! What a gateway has done since its start, and how long answers took.
//!
//! Counts are plain numbers that whoever runs a gateway copies into its metrics; answers are timed where they happen, by
//! whatever recorder the process has installed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// From a poll to its answer, by who answered.
pub const POLL_SECONDS: &str = "kennel_gateway_poll_seconds";

/// Counts of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sessions: AtomicU64,
    sessions_total: AtomicU64,
    refused: AtomicU64,
    served: AtomicU64,
    served_messages: AtomicU64,
    served_bytes: AtomicU64,
    served_without_origin: AtomicU64,
    verdicts: AtomicU64,
    denials: AtomicU64,
    mismatches: AtomicU64,
    passed: AtomicU64,
    /// By label, of which there are a few.
    forwarded: Mutex<BTreeMap<&'static str, u64>>,
}

/// What a gateway has done since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayCounts {
    /// Open sessions.
    pub sessions: u64,
    /// Sessions so far.
    pub sessions_total: u64,
    /// Connections that were turned away because there were too many, or because there was no server.
    pub refused: u64,
    /// Polls answered from the ring.
    pub served: u64,
    /// Messages in those answers.
    pub served_messages: u64,
    /// Bytes of those messages, with their headers.
    pub served_bytes: u64,
    /// Polls answered from the ring while the server was away.
    pub served_without_origin: u64,
    /// Polls that the server answered, by the reason.
    pub forwarded: BTreeMap<&'static str, u64>,
    /// Requests that are no polls, and passed.
    pub passed: u64,
    /// Times that the server let a session poll.
    pub verdicts: u64,
    /// Times that it did not.
    pub denials: u64,
    /// Comparisons in which server and ring held different messages at an offset.
    pub mismatches: u64,
}

impl Counters {
    pub(crate) fn session_began(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.sessions_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn session_ended(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn served(&self, messages: u32, bytes: usize, has_origin: bool, taken: Duration) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.served_messages.fetch_add(messages.into(), Ordering::Relaxed);
        self.served_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if !has_origin {
            self.served_without_origin.fetch_add(1, Ordering::Relaxed);
        }
        metrics::histogram!(POLL_SECONDS, "answered" => "ring").record(taken);
    }

    pub(crate) fn forwarded(&self, reason: &'static str, taken: Duration) {
        // Held for one addition; the list has as many entries as there are reasons.
        *self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
        metrics::histogram!(POLL_SECONDS, "answered" => "origin").record(taken);
    }

    pub(crate) fn passed(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn verdict(&self, may: bool) {
        if may { &self.verdicts } else { &self.denials }.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn mismatch(&self) {
        self.mismatches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> GatewayCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GatewayCounts {
            sessions: read(&self.sessions),
            sessions_total: read(&self.sessions_total),
            refused: read(&self.refused),
            served: read(&self.served),
            served_messages: read(&self.served_messages),
            served_bytes: read(&self.served_bytes),
            served_without_origin: read(&self.served_without_origin),
            forwarded: self.forwarded.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            passed: read(&self.passed),
            verdicts: read(&self.verdicts),
            denials: read(&self.denials),
            mismatches: read(&self.mismatches),
        }
    }
}
