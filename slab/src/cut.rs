//! A run of batches as records: cut between batches, so that readers of any size find a place to begin.
//!
//! Trusts its input: every byte was verified where it entered the node.

use bytes::Bytes;
use kennel_protocol::batch::{BatchView, batches};
use kennel_protocol::checksum::checksum;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Epoch, Offset, PartitionKey};

use crate::layout::RecordHead;

/// A record takes no further batch that would make it longer than this: small enough to stay in a processor's cache
/// between copy and checksum, large enough that a look-up is nothing beside it.
pub const RECORD_BYTES_TARGET: usize = 64 << 10;

/// What all records of a run share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunMarks {
    /// Whose log.
    pub partition: PartitionKey,
    /// The epoch that the node speaks for.
    pub epoch: Epoch,
    /// First offset that is not trimmed.
    pub trim: Offset,
    /// End of what is in the bucket.
    pub stored: Offset,
    /// End of what may be read.
    pub committed: Offset,
}

/// The records of a run that begins at `base`, in order. `previous` is the message before it, if it is known.
///
/// Ends early where batches do not follow each other without gaps: readers ask the node for what is declared there.
pub fn records(
    marks: RunMarks,
    base: Offset,
    previous: Option<MessageIdentity>,
    run: &Bytes,
) -> impl Iterator<Item = (RecordHead, Bytes)> {
    let mut views = batches(run).map_while(Result::ok).peekable();
    let mut state = Some((base, previous));
    std::iter::from_fn(move || {
        let (base, previous) = state.take()?;
        let first = views.next_if(|view| follows(view, base))?;
        let (from, mut last) = (first.position(), first);
        while let Some(next) = views.next_if(|view| {
            follows(view, last.end_if_dense()) && view.position() + view.bytes().len() - from <= RECORD_BYTES_TARGET
        }) {
            last = next;
        }
        let body = run.slice(from..last.position() + last.bytes().len());
        let newest = newest(&last)?;
        let RunMarks { partition, epoch, trim, stored, committed } = marks;
        let head = RecordHead {
            partition,
            base,
            end: last.end_if_dense(),
            epoch,
            trim,
            stored,
            committed,
            previous,
            last: newest,
            body_bytes: u32::try_from(body.len()).ok()?,
            body_checksum: checksum(&body),
        };
        state = Some((head.end, Some(newest)));
        Some((head, body))
    })
}

fn follows(view: &BatchView<'_>, end: Offset) -> bool {
    view.is_whole() && view.first_offset() == end
}

/// The last message of a batch, if its messages are dense.
fn newest(view: &BatchView<'_>) -> Option<MessageIdentity> {
    let last = view.messages().last()?.ok()?.identity();
    (last.offset.plus(1) == view.end_if_dense()).then_some(last)
}

#[cfg(test)]
mod tests {
    use kennel_protocol::batch::BatchBuilder;
    use kennel_protocol::ids::PartitionId;

    use super::*;

    fn batch(base: u64, count: u64, payload: usize) -> Bytes {
        let builder = BatchBuilder::new(PartitionId(0), Offset(base), base + 1);
        (0..count).fold(builder, |batch, _| batch.payload(&vec![7; payload])).build()
    }

    fn cut(base: u64, run: &[Bytes]) -> Vec<(RecordHead, Bytes)> {
        let partition = "1/1/0".parse().expect("a partition");
        let zero = Offset(0);
        let marks = RunMarks { partition, epoch: Epoch(3), trim: zero, stored: zero, committed: Offset(999) };
        records(marks, Offset(base), None, &Bytes::from(run.concat())).collect()
    }

    #[test]
    fn small_batches_share_a_record_and_records_follow_each_other() {
        let run: Vec<_> = (0..40).map(|number| batch(100 + number * 4, 4, 1000)).collect();
        let records = cut(100, &run);
        assert!(records.len() > 1 && records.len() < 10, "{}", records.len());
        assert!(records.iter().all(|(head, body)| body.len() <= RECORD_BYTES_TARGET && head.epoch == Epoch(3)));
        assert_eq!(records.iter().map(|(_, body)| &body[..]).collect::<Vec<_>>().concat(), run.concat());
        assert_eq!((records[0].0.base, records[0].0.previous), (Offset(100), None));
        for pair in records.windows(2) {
            assert_eq!((pair[1].0.base, pair[1].0.previous), (pair[0].0.end, Some(pair[0].0.last)));
        }
        assert_eq!(records.last().expect("some").0.end, Offset(260));
    }

    #[test]
    fn a_long_batch_is_a_record_of_its_own() {
        let records = cut(0, &[batch(0, 1, 10), batch(1, 2, 100_000), batch(3, 1, 10)]);
        let ranges: Vec<_> = records.iter().map(|(head, _)| (head.base.0, head.end.0)).collect();
        assert_eq!(ranges, [(0, 1), (1, 3), (3, 4)]);
    }

    #[test]
    fn a_run_that_begins_elsewhere_or_leaves_something_out_ends_there() {
        assert!(cut(1, &[batch(0, 3, 10)]).is_empty(), "no record begins inside a batch");
        let records = cut(0, &[batch(0, 3, 10), batch(5, 3, 10)]);
        assert_eq!(records.last().map(|(head, _)| head.end), Some(Offset(3)));
        assert!(cut(0, &[Bytes::from_static(b"no batch")]).is_empty());
    }
}
