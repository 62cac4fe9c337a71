//! The mutants, in the order of the rules that they break.

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

/// All of them. `within` is some four times the worst that was seen, or more.
pub const MUTANTS: &[Mutant] = &[
    driver("restart-keeps-the-process", "R4", DriverFlaw::RestartKeepsTheProcess, 10_000),
    driver("amnesiac-keeps-its-id", "R5", DriverFlaw::AmnesiacKeepsItsId, 10_000),
    core("any-journal-answers", "R5", Flaw::AnyJournalAnswers, 10_000),
    core("ignores-min-copies", "R7", Flaw::IgnoresMinCopies, 10_000),
    core("first-seal-is-enough", "R8", Flaw::FirstSealIsEnough, 10_000),
    core("seals-last-copyset-only", "R8", Flaw::SealsLastCopysetOnly, 10_000),
    core("shortest-answer-is-the-tail", "R8", Flaw::ShortestAnswerIsTheTail, 10_000),
    core("takes-below-promise", "R9", Flaw::TakesBelowPromise, 10_000),
    driver("seal-answers-leave-early", "R9", DriverFlaw::SealAnswersLeaveEarly, 10_000),
    core("ignores-fence", "R9", Flaw::IgnoresFence, 10_000),
    core("adopts-unheld", "R10", Flaw::AdoptsUnheld, 10_000),
    core("opens-unadopted", "R11", Flaw::OpensUnadopted, 10_000),
    core("forgets-before-the-opening", "R11", Flaw::ForgetsBeforeTheOpening, 10_000),
    core("forgets-committed", "R11", Flaw::ForgetsCommitted, 10_000),
    driver("journal-forgets-all", "R11", DriverFlaw::JournalForgetsAll, 10_000),
    driver("acts-before-the-disk", "R12", DriverFlaw::ActsBeforeTheDisk, 10_000),
    core("own-journal-is-enough", "R12", Flaw::OwnJournalIsEnough, 10_000),
    core("follower-takes-holes", "R12", Flaw::FollowerTakesHoles, 10_000),
    core("follower-answers-for-holes", "R12", Flaw::FollowerAnswersForHoles, 10_000),
    core("serves-beyond-committed", "DESIGN 2.3", Flaw::ServesBeyondCommitted, 10_000),
    core("acks-duplicates", "R13", Flaw::AcksDuplicates, 10_000),
    core("takes-gaps", "R16", Flaw::TakesGaps, 10_000),
    core("forgets-seal-object", "R18", Flaw::ForgetsSealObject, 10_000),
    core("seals-above-the-highest", "R18", Flaw::SealsAboveTheHighest, 10_000),
    core("unknown-is-failed", "R20", Flaw::UnknownIsFailed, 10_000),
    core("retry-differs", "R20", Flaw::RetryDiffers, 10_000),
    core("stores-out-of-order", "R21", Flaw::StoresOutOfOrder, 10_000),
    core("collected-is-a-gap", "R22", Flaw::CollectedIsAGap, 10_000),
    driver("caches-manifests", "R22", DriverFlaw::CachesManifests, 10_000),
    driver("deletes-unvalidated", "R24", DriverFlaw::DeletesUnvalidated, 10_000),
    driver("deletes-seals", "R24", DriverFlaw::DeletesSeals, 10_000),
    driver("bucket-overwrites", "R30", DriverFlaw::BucketOverwrites, 10_000),
];
