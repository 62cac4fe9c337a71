//! Where restored messages come from: pages of a partition, in order, with what the ring lacks left out.

use async_trait::async_trait;
use kennel_client::{Client, FetchError, FetchRequest, Message};
use kennel_protocol::ids::{Offset, PartitionKey};

/// Messages of one page, bytes: what a node answers at most.
const PAGE_BYTES: u32 = 4 << 20;

/// A run of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In offset order; none where there is a hole.
    pub messages: Vec<Message>,
    /// Where to go on.
    pub next: Offset,
    /// End of what may be read.
    pub committed: Offset,
}

/// Something that partitions can be read from: the ring, and a list of messages in tests.
#[async_trait]
pub trait Origin: Send + Sync {
    /// What stands from an offset on. What was trimmed there is passed over.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn page(&self, partition: PartitionKey, from: Offset) -> Result<Page, FetchError>;
}

#[async_trait]
impl Origin for Client {
    async fn page(&self, partition: PartitionKey, from: Offset) -> Result<Page, FetchError> {
        let request = FetchRequest { bytes_max: PAGE_BYTES, ..FetchRequest::at(partition, from) };
        match self.fetch(request).await {
            Ok(fetched) => {
                let (messages, next, committed) = (fetched.messages().collect(), fetched.next, fetched.committed);
                Ok(Page { messages, next, committed })
            }
            Err(FetchError::Trimmed { first, .. }) if first > from => {
                Ok(Page { messages: Vec::new(), next: first, committed: first })
            }
            Err(error) => Err(error),
        }
    }
}
