//! What is committed lies on a quorum of disks (PROTOCOL R12).

use kennel_protocol::ids::{Epoch, JournalId, Lsn};
use kennel_protocol::object::Claim;

use super::Violation;
use crate::journal::Journal;

/// PROTOCOL R12: an entry that its owner calls committed is durable in a quorum of the claim's journals. A journal that
/// has been lost since counts: it may have held the entry.
pub fn committed_is_on_a_quorum<'a>(
    claim: &Claim,
    epoch: Epoch,
    lsn: Lsn,
    journals: impl Fn(JournalId) -> Option<&'a Journal>,
) -> Result<(), Violation> {
    let holds = |id: JournalId| journals(id).is_none_or(|journal| journal.has_durably(epoch, lsn));
    let held = claim.copyset.copies.iter().filter(|(id, _)| holds(*id)).count();
    Violation::unless(held >= usize::from(claim.copyset.quorum), "committed_is_on_a_quorum", || {
        format!("entry {lsn} of epoch {epoch} is called committed and lies on {held} of {:?}", claim.copyset)
    })
}
