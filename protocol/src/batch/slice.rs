//! Cuts a batch down to the messages that a poll asked for, exactly as Iggy does.

use core::ops::Range;

use bytes::Bytes;

use crate::batch::builder::stamp_header;
use crate::batch::{BATCH_HEADER_BYTES, BatchError, BatchView};
use crate::entry::MessageIdentity;
use crate::ids::Offset;

/// The part of a batch from offset `from` on, at most `count` messages of it; `None` if nothing is left.
///
/// The header keeps its base and times; length, count and checksum are written anew. This is for replies to Iggy's
/// own polls, which count messages: everywhere else batches stay whole.
pub fn slice(view: &BatchView<'_>, from: Offset, count: u32) -> Result<Option<Bytes>, BatchError> {
    let Some(sliced) = slice_in_place(view, from, count)? else { return Ok(None) };
    Ok(Some(Bytes::from([&sliced.header[..], &view.bytes()[sliced.frames]].concat())))
}

/// A slice whose messages stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicedBatch {
    /// Its header.
    pub header: Bytes,
    /// Where its frames lie, in bytes from the start of the batch that it was cut from.
    pub frames: Range<usize>,
    /// How many messages.
    pub messages: u32,
    /// Its first message.
    pub first: MessageIdentity,
    /// Its last message.
    pub last: MessageIdentity,
}

/// As [`slice()`], without copying a message: a reply is sent in pieces.
pub fn slice_in_place(view: &BatchView<'_>, from: Offset, count: u32) -> Result<Option<SlicedBatch>, BatchError> {
    let mut kept: Option<SlicedBatch> = None;
    for message in view.messages() {
        let message = message?;
        if message.offset() < from {
            continue;
        }
        if kept.as_ref().map_or(0, |kept| kept.messages) == count {
            break;
        }
        let (start, identity) = (message.position() - view.position(), message.identity());
        let kept = kept.get_or_insert_with(|| SlicedBatch {
            header: Bytes::new(),
            frames: start..start,
            messages: 0,
            first: identity,
            last: identity,
        });
        kept.frames.end = start + message.frame().len();
        kept.messages += 1;
        kept.last = identity;
    }
    Ok(kept.map(|kept| {
        let mut header = view.bytes()[..BATCH_HEADER_BYTES].to_vec();
        stamp_header(&mut header, &view.bytes()[kept.frames.clone()], kept.messages);
        SlicedBatch { header: Bytes::from(header), ..kept }
    }))
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
