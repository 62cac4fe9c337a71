//! Cuts messages into batches that one request to Iggy takes. Order is kept, and nothing is left out.

use iggy_binary_protocol::batch::MAX_TIMESTAMP_DELTA_MICROS;
use kennel_client::Message;

/// A batch ends at about so many bytes: large enough that a request's fixed cost is small, and far below Iggy's limit.
pub const BATCH_BYTES_TARGET: usize = 1 << 20;

/// Messages of one batch: Iggy writes them out in thousands.
const BATCH_MESSAGES_MAX: usize = 1000;

/// Runs of messages, each fit for one request: the times at which producers made them lie within what one batch can say,
/// which is some 71 minutes.
pub fn batches(messages: &[Message]) -> Vec<&[Message]> {
    let mut cut = Vec::new();
    let mut rest = messages;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(length(rest));
        cut.push(batch);
        rest = after;
    }
    cut
}

/// Length of the first batch: at least one message.
fn length(messages: &[Message]) -> usize {
    let (mut bytes, mut earliest, mut latest) = (0, u64::MAX, 0);
    for (taken, message) in messages.iter().take(BATCH_MESSAGES_MAX).enumerate() {
        bytes += message.payload.len() + message.user_headers.len();
        earliest = earliest.min(message.origin_timestamp);
        latest = latest.max(message.origin_timestamp);
        let too_much = bytes > BATCH_BYTES_TARGET || latest - earliest > MAX_TIMESTAMP_DELTA_MICROS;
        if taken > 0 && too_much {
            return taken;
        }
    }
    messages.len().min(BATCH_MESSAGES_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kennel_protocol::ids::Offset;

    use super::*;

    fn message(offset: u64, origin_timestamp: u64, bytes: usize) -> Message {
        Message {
            offset: Offset(offset),
            timestamp: 1,
            origin_timestamp,
            id: offset.into(),
            checksum: 0,
            payload: Bytes::from(vec![0; bytes]),
            user_headers: Bytes::new(),
        }
    }

    fn cut(messages: &[Message]) -> Vec<usize> {
        let batches = batches(messages);
        assert_eq!(batches.concat(), messages, "nothing is lost or moved");
        batches.iter().map(|batch| batch.len()).collect()
    }

    #[test]
    fn batches_end_at_bytes_counts_and_spans_of_time() {
        assert!(cut(&[]).is_empty());
        let small: Vec<_> = (0..2500).map(|offset| message(offset, 5, 10)).collect();
        assert_eq!(cut(&small), [1000, 1000, 500]);
        let large: Vec<_> = (0..5).map(|offset| message(offset, 5, BATCH_BYTES_TARGET / 2)).collect();
        assert_eq!(cut(&large), [2, 2, 1]);
        let huge: Vec<_> = (0..3).map(|offset| message(offset, 5, BATCH_BYTES_TARGET * 3)).collect();
        assert_eq!(cut(&huge), [1, 1, 1], "a message that is longer goes alone");
        let hours = [0, MAX_TIMESTAMP_DELTA_MICROS, MAX_TIMESTAMP_DELTA_MICROS + 1, 0];
        let spread: Vec<_> = (0..).zip(hours).map(|(offset, time)| message(offset, time, 10)).collect();
        assert_eq!(cut(&spread), [2, 1, 1], "also where producers' clocks go back");
    }
}
