//! Reading on and on: every message once, in order, whichever node answers.

use std::time::Duration;

use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::FetchFrom;

use crate::client::Client;
use crate::error::FetchError;
use crate::fetched::Fetched;
use crate::settings::FetchRequest;

/// How long one fetch of a follower waits for news. Long enough to be cheap when idle, short enough that a node
/// which fell silent is noticed.
const WAIT: Duration = Duration::from_secs(10);

/// Reads a partition on and on. Made by [`Client::follow`].
///
/// It remembers the last message and the newest epoch, so a node that knows less, or other bytes, cannot answer it
/// (PROTOCOL R26).
#[derive(Debug)]
pub struct Follower {
    client: Client,
    request: FetchRequest,
    /// Whether there is more to read than was read: then it waits for nothing.
    is_behind: bool,
}

impl Follower {
    pub(crate) fn new(client: Client, partition: PartitionKey, from: FetchFrom) -> Self {
        Self { client, request: FetchRequest::new(partition, from), is_behind: false }
    }

    /// What one answer may hold at most, bytes.
    pub fn set_bytes_max(&mut self, bytes_max: u32) {
        self.request.bytes_max = bytes_max;
    }

    /// Goes on at `offset`, whatever was read before: the reader's decision after [`FetchError::Trimmed`].
    pub fn skip_to(&mut self, offset: Offset) {
        self.request.from = FetchFrom::Offset(offset);
        self.request.last = None;
    }

    /// Where it goes on; `None` until the first answer, unless it began at an offset.
    pub fn position(&self) -> Option<Offset> {
        match self.request.from {
            FetchFrom::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// The next messages, or declared holes; waits until there are any. After an error whose advice is to wait, call
    /// it again: it goes on where it was.
    ///
    /// # Cancel safety
    /// Safe: messages that were not returned are read again by the next call.
    pub async fn next(&mut self) -> Result<Fetched, FetchError> {
        loop {
            let wait = if self.is_behind { Duration::ZERO } else { WAIT };
            let fetched = self.client.fetch(self.request.waiting(wait)).await?;
            self.is_behind = !fetched.is_empty() && fetched.next < fetched.committed;
            self.request.from = FetchFrom::Offset(fetched.next);
            self.request.epoch = self.request.epoch.max(fetched.epoch);
            // A hole has no message: the one before it still vouches for the history.
            self.request.last = fetched.last.or(self.request.last);
            if !fetched.is_empty() {
                return Ok(fetched);
            }
        }
    }
}
