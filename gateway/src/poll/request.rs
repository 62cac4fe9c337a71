//! Which polls are plain enough to be answered away from the server.

use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::{KIND_CONSUMER, WireIdentifier};
use kennel_protocol::ids::Offset;

use crate::poll::ForwardReason;

/// The kinds of a polling strategy on the wire.
mod strategy {
    pub(super) const OFFSET: u8 = 1;
    pub(super) const TIMESTAMP: u8 = 2;
    pub(super) const FIRST: u8 = 3;
    pub(super) const LAST: u8 = 4;
    pub(super) const NEXT: u8 = 5;
}

/// A poll of one partition that changes nothing at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The stream, by number or name.
    pub stream: WireIdentifier,
    /// The topic, by number or name.
    pub topic: WireIdentifier,
    /// The partition in the topic.
    pub partition: u32,
    /// Where to begin.
    pub start: PollStart,
    /// At most this many messages.
    pub count: u32,
}

/// Where a poll begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollStart {
    /// At this offset.
    Offset(Offset),
    /// At the first batch appended at or after this time, microseconds since 1970.
    Timestamp(u64),
    /// At the oldest message.
    First,
    /// So many messages before the end as the poll may return.
    Last,
    /// Behind the consumer's stored offset.
    Next(StoredOffset),
}

/// The offset that a consumer stored at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredOffset {
    /// Nobody has asked the server yet: such a poll cannot be answered.
    Unasked,
    /// The consumer stored none.
    Missing,
    /// The last message that it is done with.
    At(Offset),
}

impl Poll {
    /// The poll in a request, if it is a plain one: of a consumer by itself, storing no offset. What is asked of groups
    /// is fenced by the server, and an offset that a poll stores is stored there.
    pub fn plain(request: &PollMessagesRequest) -> Result<Self, ForwardReason> {
        if request.consumer.kind != KIND_CONSUMER {
            return Err(ForwardReason::Group);
        }
        if request.auto_commit {
            return Err(ForwardReason::AutoCommit);
        }
        let start = match request.strategy.kind {
            strategy::OFFSET => PollStart::Offset(Offset(request.strategy.value)),
            strategy::TIMESTAMP => PollStart::Timestamp(request.strategy.value),
            strategy::FIRST => PollStart::First,
            strategy::LAST => PollStart::Last,
            strategy::NEXT => PollStart::Next(StoredOffset::Unasked),
            _ => return Err(ForwardReason::UnknownStrategy),
        };
        let (stream, topic) = (request.stream_id.clone(), request.topic_id.clone());
        // The server takes a consumer that names no partition to mean the first.
        Ok(Self { stream, topic, partition: request.partition_id.unwrap_or(0), start, count: request.count })
    }

    /// Whether the server has to be asked for the consumer's stored offset first.
    pub fn needs_stored_offset(&self) -> bool {
        self.start == PollStart::Next(StoredOffset::Unasked)
    }

    /// Fills in what the server said of the consumer's stored offset. Other polls stay as they are.
    #[must_use]
    pub fn with_stored_offset(mut self, stored: Option<Offset>) -> Self {
        if matches!(self.start, PollStart::Next(_)) {
            self.start = PollStart::Next(stored.map_or(StoredOffset::Missing, StoredOffset::At));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use iggy_binary_protocol::{WireConsumer, WirePollingStrategy};

    use super::*;

    fn request() -> PollMessagesRequest {
        PollMessagesRequest {
            consumer: WireConsumer::consumer(WireIdentifier::numeric(1)),
            stream_id: WireIdentifier::numeric(3),
            topic_id: WireIdentifier::named("events").expect("a name"),
            partition_id: None,
            strategy: WirePollingStrategy::offset(7),
            count: 5,
            auto_commit: false,
        }
    }

    #[test]
    fn a_plain_poll_names_partition_zero_if_it_names_none() {
        let poll = Poll::plain(&request()).expect("plain");
        assert_eq!((poll.partition, poll.start, poll.count), (0, PollStart::Offset(Offset(7)), 5));
        assert!(!poll.needs_stored_offset());
    }

    #[test]
    fn groups_and_polls_that_store_go_to_the_server() {
        let group = WireConsumer::consumer_group(WireIdentifier::numeric(1));
        let group = PollMessagesRequest { consumer: group, ..request() };
        assert_eq!(Poll::plain(&group), Err(ForwardReason::Group));
        assert_eq!(
            Poll::plain(&PollMessagesRequest { auto_commit: true, ..request() }),
            Err(ForwardReason::AutoCommit)
        );
        let strategy = WirePollingStrategy { kind: 6, value: 0 };
        assert_eq!(Poll::plain(&PollMessagesRequest { strategy, ..request() }), Err(ForwardReason::UnknownStrategy));
    }

    #[test]
    fn next_waits_for_the_stored_offset() {
        let next = PollMessagesRequest { strategy: WirePollingStrategy::next(), ..request() };
        let poll = Poll::plain(&next).expect("plain");
        assert!(poll.needs_stored_offset());
        let stored = poll.clone().with_stored_offset(Some(Offset(9)));
        assert_eq!(stored.start, PollStart::Next(StoredOffset::At(Offset(9))));
        assert_eq!(poll.with_stored_offset(None).start, PollStart::Next(StoredOffset::Missing));
    }
}
