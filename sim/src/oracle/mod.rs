//! What must hold, as named checks. Each cites the rule of the protocol that it watches.
//!
//! The oracle sees everything that the machines can not: the truth at the source, all disks and every object that
//! ever stood in the bucket. It never steers the world.

pub mod journaled;
pub mod log;
pub mod marks;
pub mod objects;
pub mod reads;

pub use journaled::{is_on_a_quorum, promise_is_kept, seal_answer_is_durable};
pub use log::LogReader;
pub use marks::Marks;
pub use objects::Objects;
pub use reads::Reads;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which: the name of the check.
    pub rule: &'static str,
    /// How.
    pub what: String,
}

impl Violation {
    /// A rule was broken.
    pub fn new(rule: &'static str, what: String) -> Self {
        Self { rule, what }
    }

    /// Breaks the rule unless `holds`.
    pub fn unless(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(rule, what())) }
    }
}

/// Everything that the oracle remembers.
#[derive(Debug, Default)]
pub struct Oracle {
    /// What owners said to shippers.
    pub marks: Marks,
    /// What readers could see.
    pub reads: Reads,
    /// What was asked of the bucket.
    pub objects: Objects,
    /// The shard's log as it stands for ever.
    pub log: LogReader,
}
