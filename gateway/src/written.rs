//! How far a session has written, as the server confirmed it: what a session sends it must also see.

use std::collections::HashMap;
use std::time::Duration;

use iggy_binary_protocol::WireDecode;
use iggy_binary_protocol::requests::messages::SendMessagesHeader;
use iggy_binary_protocol::responses::messages::SendMessagesResponse;
use kennel_protocol::ids::{Offset, PartitionId, PartitionKey, StreamId, TopicId};
use tokio::time::Instant;

use crate::frame::u32_at;

/// Partitions of which one session remembers how far it wrote.
const PARTITIONS_MAX: usize = 4096;

/// How long a session is careful everywhere after it sent what the server did not say the place of: longer than any
/// shipper lags without being a cause for alarm.
const UNPLACED: Duration = Duration::from_secs(5);

/// How far one session has written.
#[derive(Debug, Default)]
pub struct Written {
    ends: HashMap<(StreamId, TopicId, PartitionId), Offset>,
    unplaced_until: Option<Instant>,
}

impl Written {
    /// Takes note of a send that the server confirmed: its request as far as it is in memory, and the reply's body.
    pub fn confirmed(&mut self, request: &[u8], reply: &[u8], now: Instant) {
        let messages = messages(request);
        let confirmations = SendMessagesResponse::decode_from(reply).map(|reply| reply.confirmations);
        match (messages, confirmations) {
            (Some(messages), Ok(confirmations)) if !confirmations.is_empty() => {
                for place in confirmations {
                    let key = (StreamId(place.stream_id), TopicId(place.topic_id), PartitionId(place.partition_id));
                    let end = Offset(place.base_offset.saturating_add(messages.into()));
                    self.note(key, end, now);
                }
            }
            // The server answers a duplicate without its place.
            _ => self.unplaced_until = Some(now + UNPLACED),
        }
    }

    /// Whether the session may have written to the partition at or above `committed`.
    pub fn beyond(&mut self, partition: &PartitionKey, committed: Offset, now: Instant) -> bool {
        if self.unplaced_until.is_some_and(|until| now < until) {
            return true;
        }
        let key = (partition.stream, partition.topic, partition.partition);
        match self.ends.get(&key) {
            Some(end) if *end > committed => true,
            Some(_) => {
                self.ends.remove(&key);
                false
            }
            None => false,
        }
    }

    fn note(&mut self, key: (StreamId, TopicId, PartitionId), end: Offset, now: Instant) {
        if self.ends.len() >= PARTITIONS_MAX && !self.ends.contains_key(&key) {
            self.ends.clear();
            self.unplaced_until = Some(now + UNPLACED);
        }
        let known = self.ends.entry(key).or_insert(end);
        *known = end.max(*known);
    }
}

/// How many messages a request to send carries: its body begins with the length of what says so.
fn messages(request: &[u8]) -> Option<u32> {
    let length = (request.len() >= 4).then(|| u32_at(request, 0) as usize)?;
    let header = request.get(4..4 + length)?;
    SendMessagesHeader::decode_from(header).ok().map(|header| header.messages_count)
}

#[cfg(test)]
mod tests {
    use iggy_binary_protocol::responses::messages::SendMessagesConfirmationResponse;
    use iggy_binary_protocol::{WireEncode, WireIdentifier, WirePartitioning};
    use kennel_protocol::ids::Incarnation;

    use super::*;

    fn request(messages_count: u32) -> Vec<u8> {
        let header = SendMessagesHeader {
            stream_id: WireIdentifier::numeric(1),
            topic_id: WireIdentifier::numeric(2),
            partitioning: WirePartitioning::PartitionId(3),
            messages_count,
        };
        let header = header.to_bytes();
        [&u32::try_from(header.len()).expect("short").to_le_bytes()[..], &header, b"a batch"].concat()
    }

    fn reply(base_offset: u64) -> Vec<u8> {
        let place = SendMessagesConfirmationResponse { stream_id: 1, topic_id: 2, partition_id: 3, base_offset };
        SendMessagesResponse { confirmations: vec![place] }.to_bytes().to_vec()
    }

    fn partition() -> PartitionKey {
        PartitionKey { stream: StreamId(1), topic: TopicId(2), partition: PartitionId(3), incarnation: Incarnation(9) }
    }

    #[test]
    fn a_send_counts_until_the_ring_has_it() {
        let (mut written, now) = (Written::default(), Instant::now());
        written.confirmed(&request(5), &reply(100), now);
        written.confirmed(&request(1), &reply(7), now);
        assert!(written.beyond(&partition(), Offset(104), now));
        assert!(!written.beyond(&partition(), Offset(105), now));
        assert!(!written.beyond(&partition(), Offset(0), now), "what the ring once had it has");
    }

    #[test]
    fn a_send_without_its_place_makes_a_session_careful_everywhere() {
        let (mut written, now) = (Written::default(), Instant::now());
        written.confirmed(&request(5), &[], now);
        assert!(written.beyond(&partition(), Offset(1 << 40), now));
        assert!(!written.beyond(&partition(), Offset(0), now + UNPLACED));
    }
}
