//! What is committed lies on a quorum of disks (PROTOCOL R12), and what is promised on one (R9).

use kennel_core::shard::Persist;
use kennel_protocol::ids::{Epoch, JournalId, Lsn};
use kennel_protocol::object::Claim;
use kennel_protocol::wire::ShardMessage;

use super::Violation;
use crate::journal::Journal;

/// PROTOCOL R11, R12: an entry that is adopted or called committed is durable in a quorum of the claim's journals. A
/// journal that has been lost since counts: it may have held the entry.
pub fn is_on_a_quorum<'a>(
    claim: &Claim,
    epoch: Epoch,
    lsn: Lsn,
    journals: impl Fn(JournalId) -> Option<&'a Journal>,
) -> Result<(), Violation> {
    let holds = |id: JournalId| journals(id).is_none_or(|journal| journal.has_durably(epoch, lsn));
    let held = claim.copyset.copies.iter().filter(|(id, _)| holds(*id)).count();
    Violation::unless(held >= usize::from(claim.copyset.quorum), "is_on_a_quorum", || {
        format!("entry {lsn} of epoch {epoch} counts as kept and lies on {held} of {:?}", claim.copyset)
    })
}

/// PROTOCOL R9: a journal that promised a newer epoch takes nothing of an older one any more.
pub fn promise_is_kept(journal: &Journal, persist: &Persist) -> Result<(), Violation> {
    let (Persist::Entry { epoch, .. } | Persist::Adopted { epoch, .. } | Persist::Sealed(epoch)) = persist;
    Violation::unless(*epoch >= journal.promised(), "promise_is_kept", || {
        format!("epoch {} was promised and {} comes", journal.promised(), crate::describe::persist(persist))
    })
}

/// PROTOCOL R9: when a journal's answer to a seal leaves, its promise and every entry that it names are on the disk.
pub fn seal_answer_is_durable(journal: &Journal, message: &ShardMessage) -> Result<(), Violation> {
    let ShardMessage::SealAnswer(answer) = message else { return Ok(()) };
    if answer.fenced.is_some() {
        return Ok(());
    }
    let promised = journal.promised_durably(answer.stamp.epoch);
    let missing = (answer.from.0..answer.end.0).map(Lsn).find(|lsn| !journal.has_durably(answer.gather, *lsn));
    Violation::unless(promised && missing.is_none(), "seal_answer_is_durable", || {
        format!("{answer:?}: promised {promised}, entry {missing:?} is not on the disk")
    })
}
