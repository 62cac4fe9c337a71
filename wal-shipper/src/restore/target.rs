//! The seams to the server that is written to. Two stand behind them: Iggy's SDK, and a server in memory that loses answers.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use kennel_client::Message;

use super::plan::TopicPlan;

/// One partition of the target, by names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The stream's name.
    pub stream: String,
    /// The topic's name.
    pub topic: String,
    /// The partition's id.
    pub partition: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stream, self.topic, self.partition)
    }
}

/// A message as the target gives it back. Offset and time of arrival are the target's own and are not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMessage {
    /// Its producer's id for it.
    pub id: u128,
    /// When its producer made it, microseconds since 1970.
    pub origin_timestamp: u64,
    /// What it says.
    pub payload: Bytes,
    /// Its user headers, as Iggy encodes them.
    pub user_headers: Bytes,
}

/// Why the target did not do, or say, what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It cannot be reached, or did not answer: what was sent may have arrived. Ask what it has, on a new session.
    #[error("no answer from the Iggy server ({0})")]
    Unanswered(String),
    /// It refuses. Fix: its reason says what.
    #[error("the Iggy server refuses {what} ({reason})")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
}

/// Where topics are made ready, and left as they shall stay.
#[async_trait]
pub trait Topics: Send {
    /// Creates what is missing of a topic: its stream, itself, partitions.
    ///
    /// # Cancel safety
    /// Safe to repeat: what is there already is left as it is.
    async fn prepare(&mut self, topic: &TopicPlan) -> Result<(), TargetError>;

    /// Sets how long a topic's messages are kept, microseconds from their arrival at the target.
    ///
    /// # Cancel safety
    /// Safe to repeat.
    async fn set_expiry(&mut self, topic: &TopicPlan, micros: u64) -> Result<(), TargetError>;
}

/// Partitions that can be written to. One question at a time.
#[async_trait]
pub trait Target: Send + Sync {
    /// Opens a new session; the old one is given up.
    ///
    /// # Cancel safety
    /// Safe: call it again.
    async fn reconnect(&mut self) -> Result<(), TargetError>;

    /// How many messages a partition holds, if it holds all that it ever got; `None` if its beginning is gone.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn count(&mut self, place: &Place) -> Result<Option<u64>, TargetError>;

    /// At most `count` messages from an offset on.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn read(&mut self, place: &Place, from: u64, count: u32) -> Result<Vec<TargetMessage>, TargetError>;

    /// Appends messages as one batch.
    ///
    /// # Cancel safety
    /// Not safe: it may have happened. Ask [`Target::count`].
    async fn send(&mut self, place: &Place, messages: &[Message]) -> Result<(), TargetError>;
}
