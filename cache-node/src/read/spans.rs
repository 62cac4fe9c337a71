//! Where each batch lies in a run of batches, by headers alone.
//!
//! For bytes that were verified where they entered: it walks and slices, it verifies nothing.

use kennel_protocol::batch::{BatchView, batches};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::Offset;

/// One batch's place in a run, and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First byte of the batch in the run.
    pub(crate) from: usize,
    /// End, exclusive.
    pub(crate) to: usize,
    /// First offset.
    pub(crate) base: Offset,
    /// End of its offsets, exclusive.
    pub(crate) end: Offset,
    /// When the broker appended it, microseconds since 1970.
    pub(crate) base_timestamp: u64,
}

/// The batches of a run, in order. Ends early where the bytes are no batch.
pub(crate) fn spans(run: &[u8]) -> impl Iterator<Item = Span> {
    batches(run).map_while(Result::ok).map(|view| span(&view))
}

/// The identity of the message at `offset`, if the run holds it (PROTOCOL R14).
pub(crate) fn identity_at(run: &[u8], offset: Offset) -> Option<MessageIdentity> {
    let mut views = batches(run).map_while(Result::ok);
    let view = views.find(|view| view.first_offset() <= offset && offset < view.end_if_dense())?;
    let mut messages = view.messages().map_while(Result::ok);
    messages.find(|message| message.offset() == offset).map(|message| message.identity())
}

fn span(view: &BatchView<'_>) -> Span {
    Span {
        from: view.position(),
        to: view.position() + view.bytes().len(),
        base: view.first_offset(),
        end: view.end_if_dense(),
        base_timestamp: view.header().base_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::testing::run;

    #[test]
    fn headers_give_the_places() {
        let run = run(10, &[2, 5]);
        let found: Vec<_> = spans(&run).collect();
        assert_eq!((found[0].from, found[1].to), (0, run.len()));
        assert_eq!((found[0].base, found[0].end, found[1].end), (Offset(10), Offset(12), Offset(17)));
        assert_eq!(spans(&run[..run.len() - 1]).count(), 1, "a cut batch is no batch");
    }

    #[test]
    fn identities_are_found_inside_batches() {
        let run = run(10, &[2, 5]);
        let identity = identity_at(&run, Offset(13)).expect("it is there");
        assert_eq!((identity.offset, identity.base_timestamp), (Offset(13), 12_000));
        assert_ne!(identity_at(&run, Offset(14)).map(|other| other.checksum), Some(identity.checksum));
        assert_eq!(identity_at(&run, Offset(17)), None);
    }
}
