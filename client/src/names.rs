//! Finding partitions by the names of their streams and topics.
//!
//! Names are the catalogue's; which life of its ids a partition is in comes with them. It reads nothing of a partition.

use std::fmt;
use std::str::FromStr;

use kennel_protocol::ids::{PartitionId, PartitionKey};

use crate::client::Client;
use crate::error::FetchError;

/// A partition as people write it: `stream/topic/partition`, stream and topic each by name or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionName {
    /// The stream, by its name or its id.
    pub stream: String,
    /// The topic, by its name or its id.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
}

/// Text that names no partition. Fix: write `stream/topic/partition`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no partition: write stream/topic/partition, stream and topic by name or id")]
pub struct ParseNameError {
    /// What was written.
    pub text: String,
}

impl FromStr for PartitionName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let fail = || ParseNameError { text: text.to_owned() };
        // Names may hold slashes only in Iggy's mind; where they do, ids serve.
        let parts: Vec<&str> = text.split('/').collect();
        let [stream, topic, partition] = parts[..] else { return Err(fail()) };
        if stream.is_empty() || topic.is_empty() {
            return Err(fail());
        }
        let partition = partition.parse().map_err(|_| fail())?;
        Ok(Self { stream: stream.to_owned(), topic: topic.to_owned(), partition })
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stream, self.topic, self.partition)
    }
}

impl Client {
    /// The partition that is called so now, in its present life; `None` if the ring knows no such name. Where nothing is
    /// called so, a number is taken for an id. A catalogue that has not changed is not sent again, so asking is cheap.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn locate(
        &self,
        stream: &str,
        topic: &str,
        partition: PartitionId,
    ) -> Result<Option<PartitionKey>, FetchError> {
        Ok(self.catalog(None).await?.and_then(|catalog| catalog.locate(stream, topic, partition)))
    }

    /// As [`Self::locate`], of a name in one piece.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn locate_name(&self, name: &PartitionName) -> Result<Option<PartitionKey>, FetchError> {
        self.locate(&name.stream, &name.topic, name.partition).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_name_a_partition() {
        let name: PartitionName = "orders/eu-west/7".parse().expect("a name");
        assert_eq!((name.stream.as_str(), name.topic.as_str(), name.partition), ("orders", "eu-west", PartitionId(7)));
        assert_eq!(name.to_string(), "orders/eu-west/7");
        for wrong in ["orders", "orders/eu", "orders/eu/x", "/eu/1", "orders//1", "a/b/c/1", ""] {
            assert!(wrong.parse::<PartitionName>().is_err(), "{wrong}");
        }
    }
}
