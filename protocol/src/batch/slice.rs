//! Cuts a batch down to the messages that a poll asked for, exactly as Iggy does.

use bytes::Bytes;

use crate::batch::builder::stamp;
use crate::batch::{BATCH_HEADER_BYTES, BatchError, BatchView};
use crate::ids::Offset;

/// The part of a batch from offset `from` on, at most `count` messages of it; `None` if nothing is left.
///
/// The header keeps its base and times; length, count and checksum are written anew. This is for replies to Iggy's
/// own polls, which count messages: everywhere else batches stay whole.
pub fn slice(view: &BatchView<'_>, from: Offset, count: u32) -> Result<Option<Bytes>, BatchError> {
    let mut kept: Option<(usize, usize, u32)> = None;
    for message in view.messages() {
        let message = message?;
        if message.offset() < from {
            continue;
        }
        let start = message.position() - view.position();
        let (first, _, messages) = kept.unwrap_or((start, start, 0));
        if messages == count {
            break;
        }
        kept = Some((first, start + message.frame().len(), messages + 1));
    }
    let Some((first, end, messages)) = kept else { return Ok(None) };
    let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + end - first);
    bytes.extend_from_slice(&view.bytes()[..BATCH_HEADER_BYTES]);
    bytes.extend_from_slice(&view.bytes()[first..end]);
    stamp(&mut bytes, messages);
    Ok(Some(Bytes::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::ids::PartitionId;

    fn batch() -> Bytes {
        (0..5).fold(BatchBuilder::new(PartitionId(0), Offset(100), 9), |batch, _| batch.payload(b"payload")).build()
    }

    #[test]
    fn slices_verify_and_keep_their_base() {
        let bytes = batch();
        let view = BatchView::parse(&bytes, 0).expect("a batch");
        let cut = slice(&view, Offset(102), 2).expect("valid").expect("two messages");
        let cut = BatchView::parse(&cut, 0).expect("a batch");
        let summary = cut.verify().expect("a valid slice");
        assert_eq!((summary.first.offset, summary.last.offset), (Offset(102), Offset(103)));
        assert_eq!((cut.header().base_offset, cut.is_whole(), cut.end_if_dense()), (Offset(100), false, Offset(104)));
    }

    #[test]
    fn all_of_it_is_the_same_bytes_and_none_of_it_is_none() {
        let bytes = batch();
        let view = BatchView::parse(&bytes, 0).expect("a batch");
        assert_eq!(slice(&view, Offset(0), u32::MAX).expect("valid"), Some(bytes.clone()));
        assert_eq!(slice(&view, Offset(105), 1).expect("valid"), None);
        assert_eq!(slice(&view, Offset(100), 0).expect("valid"), None);
    }
}
