//! Deliberate bugs: one rule of the protocol broken at a time, so that the simulator can prove that it would notice.
//!
//! A switch is one `if` at the place of its rule. Without the cargo feature `flaws`, which only the simulator enables,
//! nothing can be switched on and every such `if` is a constant `false`: a released daemon contains none of them.

use std::sync::Arc;

use kennel_protocol::entry::NumberedEntry;
use kennel_protocol::ids::PutId;
use kennel_protocol::object::LogHeader;

use super::io::SlotBody;

/// A rule that a machine breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// R8: a claimant is content with the first seal.
    FirstSealIsEnough,
    /// R8: a claimant gathers from the newest claim's copies alone, opened or not.
    SealsLastCopysetOnly,
    /// R8: a claimant takes the shortest of the answers for their union.
    ShortestAnswerIsTheTail,
    /// R18: a claimant puts no seal object into the older log.
    ForgetsSealObject,
    /// R18: a claimant seals above the highest slot that it saw instead of in the first gap.
    SealsAboveTheHighest,
    /// R22: a claimant takes a collected slot for a gap: it never looks at manifests.
    CollectedIsAGap,
    /// R20: an unknown PUT counts as failed, and its slot gets another object.
    UnknownIsFailed,
    /// R20: a retry has the same put id and other bytes.
    RetryDiffers,
    /// R11: an epoch opens before a quorum adopted.
    OpensUnadopted,
    /// R11: a copy forgets the older epochs before the open record stands.
    ForgetsBeforeTheOpening,
    /// R12: the owner's own journal is quorum enough.
    OwnJournalIsEnough,
    /// DESIGN 2.3: a follower shows what it holds, committed or not.
    ServesBeyondCommitted,
    /// R12: a follower takes what comes, whatever should come next.
    FollowerTakesHoles,
    /// R26: a follower that starts at what is stored does not say what it left out.
    SkipsInSilence,
    /// R12: a follower answers for the newest entry that it saw, whatever it lacks below.
    FollowerAnswersForHoles,
    /// R11: a follower forgets what is committed before it is stored.
    ForgetsCommitted,
    /// R9: a follower takes copies of an epoch below its promise.
    TakesBelowPromise,
    /// R10: entries are adopted that nobody holds.
    AdoptsUnheld,
    /// R5: an answer counts whichever journal it is from.
    AnyJournalAnswers,
    /// R13: a duplicate is acknowledged at once.
    AcksDuplicates,
    /// R16: a chunk above the end of its partition is taken.
    TakesGaps,
    /// R15: a source that differs is not noticed.
    IgnoresDivergence,
    /// R7: too few copies acknowledge by themselves.
    IgnoresMinCopies,
    /// R9: an owner goes on when a copy says that it is fenced.
    IgnoresFence,
    /// R21: a slot is stored whatever became of those below.
    StoresOutOfOrder,
    /// R27: for an owner that claims again any copy's seal counts as all.
    AnySealCountsAsOwn,
    /// R6, R27: an owner claims again before its uploads are resolved, and any copy's seal counts as all.
    RenewsWithoutItsTail,
}

/// Which rule is broken, if one is.
#[derive(Debug, Clone, Copy)]
pub struct Flaws {
    #[cfg(feature = "flaws")]
    only: Option<Flaw>,
}

impl Flaws {
    /// No rule is broken: the only choice outside of the simulator.
    pub const NONE: Self = Self {
        #[cfg(feature = "flaws")]
        only: None,
    };

    /// Breaks one rule.
    #[cfg(feature = "flaws")]
    pub const fn only(flaw: Flaw) -> Self {
        Self { only: Some(flaw) }
    }

    /// Whether this rule is broken.
    #[cfg(feature = "flaws")]
    pub(crate) fn has(self, flaw: Flaw) -> bool {
        self.only == Some(flaw)
    }

    /// Whether this rule is broken: never.
    #[cfg(not(feature = "flaws"))]
    #[expect(clippy::unused_self, reason = "as with the feature, which looks at itself")]
    pub(crate) const fn has(self, _: Flaw) -> bool {
        false
    }
}

/// What [`Flaw::UnknownIsFailed`] puts where an outcome is unknown: the same entries as another object.
pub(crate) fn renamed(body: &SlotBody, put: PutId) -> Arc<SlotBody> {
    let mut body = body.clone();
    match &mut body {
        SlotBody::Open(record) => record.put = put,
        SlotBody::Log { header, .. } => header.put = put,
        SlotBody::Seal(seal) => seal.put = put,
    }
    Arc::new(body)
}

/// What [`Flaw::RetryDiffers`] tries again with: one entry less, if there are several.
pub(crate) fn shortened(body: &Arc<SlotBody>) -> Arc<SlotBody> {
    match body.as_ref() {
        SlotBody::Log { header, entries } if entries.len() > 1 => {
            let entries: Vec<NumberedEntry> = entries[..entries.len() - 1].to_vec();
            let lsn_end = entries.last().map_or(header.lsn_from, |last| last.lsn.next());
            Arc::new(SlotBody::Log { header: LogHeader { lsn_end, ..*header }, entries })
        }
        _ => Arc::clone(body),
    }
}
