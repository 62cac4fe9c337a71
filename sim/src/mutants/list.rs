//! The mutants, in the order of the rules that they break.
//!
//! What one might miss here, and why it is no mutant:
//!
//! * *No second look at the manifest after a seal landed (R22).* A claimant reads the manifest after its claim stands,
//!   and R24 lets nobody delete for a manifest that was created later. Alone it changes nothing; `caches-manifests`
//!   breaks both looks.
//! * *The lower epoch wins (R8).* Runs of two epochs are never merged: one epoch is gathered, from several journals.
//!   `shortest-answer-is-the-tail` breaks their union.
//! * *A bucket's edge that takes Unknown for Failed (R20).* The machine tries the same bytes again either way.
//!   `unknown-is-failed` is a machine that does not.
//! * *A renewal with uploads in flight (R6).* What flies lands below the seal and counts, or is void and gathered: that
//!   costs uploads, not data.
//!
//! Written, and not noticed yet: [`Flaw::AnySealCountsAsOwn`], [`Flaw::RenewsWithoutItsTail`] (both need an owner whose
//! disk is slower than a lagging follower's answer) and [`Flaw::IgnoresDivergence`].

use kennel_core::shard::Flaw;

use super::flaw::{Broken, DriverFlaw};

/// One deliberate bug.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// What it does wrong.
    pub name: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
    /// How.
    pub broken: Broken,
    /// It must be caught within so many seeds.
    pub within: u64,
}

const fn core(name: &'static str, rule: &'static str, flaw: Flaw, within: u64) -> Mutant {
    Mutant { name, rule, broken: Broken::Core(flaw), within }
}

const fn driver(name: &'static str, rule: &'static str, flaw: DriverFlaw, within: u64) -> Mutant {
    Mutant { name, rule, broken: Broken::Driver(flaw), within }
}

/// All of them. `within` is at least twenty times the median of five rounds and four times the worst.
pub const MUTANTS: &[Mutant] = &[
    driver("restart-keeps-the-process", "R4", DriverFlaw::RestartKeepsTheProcess, 10_000),
    driver("amnesiac-keeps-its-id", "R5", DriverFlaw::AmnesiacKeepsItsId, 2000),
    core("any-journal-answers", "R5", Flaw::AnyJournalAnswers, 5000),
    core("ignores-min-copies", "R7", Flaw::IgnoresMinCopies, 500),
    core("first-seal-is-enough", "R8", Flaw::FirstSealIsEnough, 500),
    core("seals-last-copyset-only", "R8", Flaw::SealsLastCopysetOnly, 500),
    core("shortest-answer-is-the-tail", "R8", Flaw::ShortestAnswerIsTheTail, 500),
    core("takes-below-promise", "R9", Flaw::TakesBelowPromise, 5000),
    driver("seal-answers-leave-early", "R9", DriverFlaw::SealAnswersLeaveEarly, 100),
    core("ignores-fence", "R9", Flaw::IgnoresFence, 500),
    core("adopts-unheld", "R10", Flaw::AdoptsUnheld, 100),
    core("opens-unadopted", "R11", Flaw::OpensUnadopted, 100),
    core("forgets-before-the-opening", "R11", Flaw::ForgetsBeforeTheOpening, 10_000),
    core("forgets-committed", "R11", Flaw::ForgetsCommitted, 500),
    driver("journal-forgets-all", "R11", DriverFlaw::JournalForgetsAll, 100),
    driver("acts-before-the-disk", "R12", DriverFlaw::ActsBeforeTheDisk, 100),
    driver("shows-out-of-order", "DESIGN 2.2", DriverFlaw::ShowsOutOfOrder, 500),
    core("own-journal-is-enough", "R12", Flaw::OwnJournalIsEnough, 100),
    core("follower-takes-holes", "R12", Flaw::FollowerTakesHoles, 100),
    core("follower-answers-for-holes", "R12", Flaw::FollowerAnswersForHoles, 100),
    core("serves-beyond-committed", "DESIGN 2.3", Flaw::ServesBeyondCommitted, 100),
    core("acks-duplicates", "R13", Flaw::AcksDuplicates, 500),
    core("takes-gaps", "R16", Flaw::TakesGaps, 100),
    core("forgets-seal-object", "R18", Flaw::ForgetsSealObject, 100),
    core("seals-above-the-highest", "R18", Flaw::SealsAboveTheHighest, 2000),
    core("unknown-is-failed", "R20", Flaw::UnknownIsFailed, 100),
    core("retry-differs", "R20", Flaw::RetryDiffers, 500),
    core("stores-out-of-order", "R21", Flaw::StoresOutOfOrder, 500),
    core("collected-is-a-gap", "R22", Flaw::CollectedIsAGap, 500),
    driver("caches-manifests", "R22", DriverFlaw::CachesManifests, 2000),
    driver("deletes-unvalidated", "R24", DriverFlaw::DeletesUnvalidated, 1000),
    driver("deletes-seals", "R24", DriverFlaw::DeletesSeals, 1000),
    core("skips-in-silence", "R26", Flaw::SkipsInSilence, 100),
    driver("bucket-overwrites", "R30", DriverFlaw::BucketOverwrites, 100),
];
