//! What a live source is asked and what it answers: the seam to whatever speaks with a running Iggy server.
//!
//! Two stand behind it: the SDK ([`super::sdk`]) and the Iggy in memory of the tests. A server that can wait for news
//! of many partitions at once needs more than this, and replaces the watch, not the polls.

use async_trait::async_trait;
use bytes::Bytes;
use kennel_protocol::ids::{Offset, PartitionId, StreamId, TopicId};

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No server can be reached, or it does not answer. Retry, on a new session.
    #[error("the Iggy server at {address} cannot be reached ({reason})")]
    Unreachable {
        /// Which address, or the last of several.
        address: String,
        /// What was tried.
        reason: String,
    },
    /// It does not know us. Fix: `iggy.username` and `iggy.password_file`.
    #[error("the Iggy server at {address} refused the user `{user}` ({reason})")]
    Refused {
        /// Which address.
        address: String,
        /// Who we said that we are.
        user: String,
        /// Its reason.
        reason: String,
    },
    /// It answered the question with an error: what was asked for may be gone, or not allowed. Ask what there is.
    #[error("the Iggy server does not answer {question} ({reason})")]
    Denied {
        /// What was asked.
        question: &'static str,
        /// Its reason.
        reason: String,
    },
    /// The answer is none. Fix: server and shipper must speak the same protocol.
    #[error("the answer to {question} cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        question: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl LiveError {
    /// Whether the session is still good for other questions.
    pub fn session_stands(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Unreadable { .. })
    }
}

/// How much something holds: whenever messages come or go, it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes of batches.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

/// One stream, as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSeen {
    /// Its id: the lowest free one when it was created.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// When it was created, microseconds since 1970.
    pub created_at: u64,
    /// How many topics it has.
    pub topics: u32,
    /// What it holds.
    pub totals: Totals,
}

/// One topic, as its stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSeen {
    /// Its id in its stream.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// When it was created, microseconds since 1970.
    pub created_at: u64,
    /// How many partitions it has.
    pub partitions: u32,
    /// How long messages are kept, microseconds; `None` if for ever, or as the server is set.
    pub message_expiry_micros: Option<u64>,
    /// What it holds.
    pub totals: Totals,
}

/// One partition, as its topic lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSeen {
    /// Its id in its topic.
    pub id: PartitionId,
    /// When it was created, microseconds since 1970.
    pub created_at: u64,
    /// The offset after its last message.
    pub end: Offset,
    /// What it holds.
    pub totals: Totals,
}

/// Names a topic by ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPlace {
    /// The stream.
    pub stream: StreamId,
    /// The topic in it.
    pub topic: TopicId,
}

/// Names a partition by ids, whatever its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionPlace {
    /// The topic.
    pub topic: TopicPlace,
    /// The partition in it.
    pub partition: PartitionId,
}

/// A question for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// Of which partition.
    pub place: PartitionPlace,
    /// The first offset wanted.
    pub from: Offset,
    /// How many messages at most; at least 1.
    pub count: u32,
}

/// What a poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
    /// The partition's last offset, when it was polled. 0 also if there is none.
    pub current: Offset,
    /// Batches as Iggy keeps them, the first and the last perhaps sliced.
    pub batches: Bytes,
}

/// Opens sessions to a source.
#[async_trait]
pub trait LiveSource: Send + Sync {
    /// Connects and signs in.
    ///
    /// # Cancel safety
    /// Safe: a half-open session is dropped.
    async fn connect(&self) -> Result<Box<dyn LiveSession>, LiveError>;
}

/// One session: one question at a time. What is absent is answered with `None`.
#[async_trait]
pub trait LiveSession: Send + Sync {
    /// All streams.
    ///
    /// # Cancel safety
    /// As all questions here: a session whose question was given up must not be used again.
    async fn streams(&self) -> Result<Vec<StreamSeen>, LiveError>;

    /// A stream's topics.
    ///
    /// # Cancel safety
    /// See [`LiveSession::streams`].
    async fn topics(&self, stream: StreamId) -> Result<Option<Vec<TopicSeen>>, LiveError>;

    /// A topic and its partitions.
    ///
    /// # Cancel safety
    /// See [`LiveSession::streams`].
    async fn partitions(&self, topic: TopicPlace) -> Result<Option<(TopicSeen, Vec<PartitionSeen>)>, LiveError>;

    /// Messages of a partition.
    ///
    /// # Cancel safety
    /// See [`LiveSession::streams`].
    async fn poll(&self, poll: Poll) -> Result<Polled, LiveError>;

    /// The offset that a named consumer stored.
    ///
    /// # Cancel safety
    /// See [`LiveSession::streams`].
    async fn stored_offset(&self, consumer: &str, place: PartitionPlace) -> Result<Option<Offset>, LiveError>;

    /// Stores one for it: the last message that it no longer needs.
    ///
    /// # Cancel safety
    /// See [`LiveSession::streams`].
    async fn store_offset(&self, consumer: &str, place: PartitionPlace, last: Offset) -> Result<(), LiveError>;

    /// Forgets it.
    ///
    /// # Cancel safety
    /// See [`LiveSession::streams`].
    async fn delete_offset(&self, consumer: &str, place: PartitionPlace) -> Result<(), LiveError>;
}
