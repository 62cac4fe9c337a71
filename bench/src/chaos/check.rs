//! What a reader must see: the source's messages, one after the other, from where it began.

use std::cmp::Ordering;

use kennel_client::Fetched;
use kennel_protocol::checksum::checksum;

use super::source::{PROOF_BYTES, SourcePartition, proof};
use super::violation::Violation;

/// Follows one reader of one partition.
#[derive(Debug, Clone)]
pub(super) struct Check {
    next: u64,
    /// The hash of the last payload, once there is one.
    last: Option<u64>,
}

impl Check {
    /// A reader that begins at `offset`.
    pub(super) fn at(offset: u64) -> Self {
        Self { next: offset, last: (offset == 0).then_some(0) }
    }

    /// What is due.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Takes an answer. Whatever is wrong with it comes back; the check goes on behind it.
    pub(super) fn take(&mut self, source: &SourcePartition, fetched: &Fetched) -> Vec<Violation> {
        let partition = source.key;
        let holes = fetched.holes.iter().map(|hole| Violation::Hole { partition, from: hole.from.0, to: hole.to.0 });
        let mut found: Vec<_> = holes.collect();
        for message in fetched.messages() {
            found.extend(self.message(source, message.offset.0, &message.payload));
        }
        found
    }

    /// Takes one message.
    fn message(&mut self, source: &SourcePartition, offset: u64, payload: &[u8]) -> Option<Violation> {
        let (partition, due) = (source.key, self.next);
        let bytes = self.look(source, offset, payload);
        match offset.cmp(&due) {
            Ordering::Less => Some(Violation::Duplicate { partition, due, came: offset }),
            Ordering::Greater => Some(Violation::Gap { partition, due, came: offset }),
            Ordering::Equal => bytes,
        }
    }

    fn look(&mut self, source: &SourcePartition, offset: u64, payload: &[u8]) -> Option<Violation> {
        let partition = source.key;
        let differs = |what| Some(Violation::OtherBytes { partition, offset, what });
        let before = if offset == self.next { self.last } else { None };
        let hash = checksum(payload);
        (self.next, self.last) = (offset + 1, Some(hash));
        let written = source.end();
        if offset >= written {
            return Some(Violation::Invented { partition, offset, written });
        }
        let Some(found) = payload.get(..PROOF_BYTES) else { return differs("the payload's length") };
        let place = proof(&partition, offset, 0);
        if found[..PROOF_BYTES - 8] != place[..PROOF_BYTES - 8] {
            return differs("the payload's own place");
        }
        if before.is_some_and(|before| found != proof(&partition, offset, before)) {
            return differs("the hash of the message before");
        }
        if source.hash(offset) != Some(hash) {
            return differs("the payload");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::source::testing::{payloads, written};

    /// What a reader is told that gets these messages of a source of ten, and these bytes for some.
    fn verdict(offsets: &[u64], change: impl Fn(u64, &mut Vec<u8>)) -> Option<Violation> {
        let (_directory, source) = written(10);
        let partition = &source.partitions[0];
        let payloads = payloads(&source, 0);
        let mut check = Check::at(offsets[0]);
        offsets.iter().find_map(|offset| {
            let at = usize::try_from(*offset).expect("small");
            let mut payload = payloads.get(at).unwrap_or(&payloads[9]).clone();
            change(*offset, &mut payload);
            check.message(partition, *offset, &payload)
        })
    }

    #[test]
    fn what_the_source_wrote_passes_from_anywhere() {
        assert_eq!(verdict(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], |_, _| {}), None);
        assert_eq!(verdict(&[4, 5, 6], |_, _| {}), None);
    }

    #[test]
    fn everything_else_is_named() {
        assert!(matches!(verdict(&[0, 1, 3], |_, _| {}), Some(Violation::Gap { due: 2, came: 3, .. })));
        assert!(matches!(verdict(&[0, 1, 1], |_, _| {}), Some(Violation::Duplicate { due: 2, came: 1, .. })));
        assert!(matches!(verdict(&[9, 10], |_, _| {}), Some(Violation::Invented { offset: 10, written: 10, .. })));
        let flip = |at: usize| move |offset: u64, payload: &mut Vec<u8>| payload[at] ^= u8::from(offset == 2);
        let cases = [
            (0, "the payload's own place"),
            (12, "the payload's own place"),
            (PROOF_BYTES - 1, "the hash of the message before"),
        ];
        for (at, expected) in cases {
            let seen = verdict(&[1, 2], flip(at));
            assert!(
                matches!(seen, Some(Violation::OtherBytes { offset: 2, what, .. }) if what == expected),
                "{seen:?}"
            );
        }
        let short = verdict(&[2], |_, payload| payload.truncate(5));
        assert!(matches!(short, Some(Violation::OtherBytes { what: "the payload's length", .. })), "{short:?}");
        let longer = verdict(&[2], |_, payload| payload.push(0));
        assert!(matches!(longer, Some(Violation::OtherBytes { what: "the payload", .. })), "{longer:?}");
        // A chain that goes on from other bytes is found although each of its messages is whole.
        let other = verdict(&[2, 3], |offset, payload| payload.extend((offset == 2).then_some(7)));
        assert!(other.is_some());
    }
}
