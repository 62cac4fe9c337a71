//! What the proxy does wrong, and to whom.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::random::Random;

/// A way in which a bucket misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BucketFault {
    /// Every request waits before it is forwarded.
    Slow {
        /// So long.
        millis: u32,
    },
    /// Bodies pass slowly.
    Narrow {
        /// So many.
        kilobytes_per_second: u64,
    },
    /// The connection is closed and nothing is forwarded.
    ResetBefore {
        /// So many requests of a hundred.
        percent: u8,
    },
    /// The request is forwarded, and the connection is closed instead of an answer.
    LostAnswer {
        /// So many requests of a hundred.
        percent: u8,
    },
    /// A PUT is forwarded later, whether or not anybody still waits for its answer.
    Late {
        /// So much later.
        millis: u32,
        /// So many PUTs of a hundred.
        percent: u8,
    },
    /// An error is answered and nothing is forwarded.
    Refuse {
        /// Which.
        status: u16,
        /// So many requests of a hundred.
        percent: u8,
    },
    /// A PUT is never forwarded and never answered.
    StuckPuts {
        /// So many PUTs of a hundred.
        percent: u8,
    },
    /// Nothing is forwarded and nothing is answered.
    Blackhole,
}

impl fmt::Display for BucketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow { millis } => write!(f, "takes {millis} ms longer"),
            Self::Narrow { kilobytes_per_second } => write!(f, "passes {kilobytes_per_second} kB/s"),
            Self::ResetBefore { percent } => write!(f, "resets {percent}% of the requests"),
            Self::LostAnswer { percent } => write!(f, "loses {percent}% of its answers"),
            Self::Late { millis, percent } => write!(f, "performs {percent}% of the PUTs {millis} ms late"),
            Self::Refuse { status, percent } => write!(f, "answers {status} to {percent}% of the requests"),
            Self::StuckPuts { percent } => write!(f, "never answers {percent}% of the PUTs"),
            Self::Blackhole => f.write_str("never answers"),
        }
    }
}

/// What is to be done with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Waited before anything else.
    pub(super) pause: Duration,
    /// Bytes of a body that pass in a second; 0 for no bound.
    pub(super) bytes_per_second: u64,
    /// What then.
    pub(super) fate: Fate,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is forwarded and answered.
    Pass,
    /// The connection is closed.
    Reset,
    /// It is forwarded after so long, then the connection is closed.
    Unanswered(Duration),
    /// This status is answered.
    Refused(u16),
    /// Nothing, ever.
    Silence,
}

/// Which faults are on, by node. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct BucketFaults {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    on: BTreeMap<u8, Vec<BucketFault>>,
    random: Random,
    hits: u64,
}

impl BucketFaults {
    /// None, and chance from a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State { on: BTreeMap::new(), random: Random(seed), hits: 0 })) }
    }

    /// Turns a fault on for a node.
    pub fn add(&self, node: u8, fault: BucketFault) {
        self.lock().on.entry(node).or_default().push(fault);
    }

    /// Turns it off again, once for each time that it was turned on.
    pub fn remove(&self, node: u8, fault: BucketFault) {
        let mut state = self.lock();
        let Some(faults) = state.on.get_mut(&node) else { return };
        if let Some(at) = faults.iter().position(|on| *on == fault) {
            faults.remove(at);
        }
    }

    /// Turns everything off.
    pub fn clear(&self) {
        self.lock().on.clear();
    }

    /// How many requests were not simply passed on so far.
    pub fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// Draws a request's lot. The gravest fault that hits it decides what becomes of it.
    pub(super) fn judge(&self, node: u8, is_put: bool) -> Verdict {
        let mut state = self.lock();
        let State { on, random, hits } = &mut *state;
        let mut verdict = Verdict { pause: Duration::ZERO, bytes_per_second: 0, fate: Fate::Pass };
        for fault in on.get(&node).into_iter().flatten() {
            let fate = match *fault {
                BucketFault::Slow { millis } => {
                    verdict.pause += Duration::from_millis(millis.into());
                    continue;
                }
                BucketFault::Narrow { kilobytes_per_second } => {
                    verdict.bytes_per_second = kilobytes_per_second * 1_000;
                    continue;
                }
                BucketFault::ResetBefore { percent } => random.percent(percent.into()).then_some(Fate::Reset),
                BucketFault::LostAnswer { percent } => {
                    random.percent(percent.into()).then_some(Fate::Unanswered(Duration::ZERO))
                }
                BucketFault::Late { millis, percent } => {
                    let late = Fate::Unanswered(Duration::from_millis(millis.into()));
                    (is_put && random.percent(percent.into())).then_some(late)
                }
                BucketFault::Refuse { status, percent } => {
                    random.percent(percent.into()).then_some(Fate::Refused(status))
                }
                BucketFault::StuckPuts { percent } => {
                    (is_put && random.percent(percent.into())).then_some(Fate::Silence)
                }
                BucketFault::Blackhole => Some(Fate::Silence),
            };
            verdict.fate = graver(verdict.fate, fate);
        }
        *hits += u64::from(verdict.fate != Fate::Pass);
        verdict
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn graver(one: Fate, other: Option<Fate>) -> Fate {
    let weight = |fate: &Fate| match fate {
        Fate::Pass => 0,
        Fate::Refused(_) => 1,
        Fate::Reset => 2,
        Fate::Unanswered(_) => 3,
        Fate::Silence => 4,
    };
    other.filter(|other| weight(other) > weight(&one)).unwrap_or(one)
}
