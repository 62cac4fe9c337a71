//! Every seed that ever broke a rule, and why. They run with every test.

/// A seed that once failed.
#[derive(Debug, Clone, Copy)]
pub struct Regression {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub why: &'static str,
}

/// All of them, oldest first.
pub const REGRESSIONS: &[Regression] = &[];
