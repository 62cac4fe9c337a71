//! What a client and a fetch can be told.

use std::net::SocketAddr;
use std::time::Duration;

use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{ClusterId, Epoch, Offset, PartitionKey};
use kennel_protocol::limits::{FETCH_BYTES_DEFAULT, FETCH_BYTES_MAX};
use kennel_protocol::wire::FetchFrom;

use crate::fabric::FabricSettings;

/// How a client finds and treats the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Nodes to begin with, the one on this host first: the first that answers is asked first from then on.
    pub addresses: Vec<SocketAddr>,
    /// The cluster that is meant; `None` for whichever is found.
    pub cluster: Option<ClusterId>,
    /// How long a request may look for an answer, its own wait apart. Raise it to sit out longer outages.
    pub patience: Duration,
    /// How long one node may take to answer, the request's own wait apart, before another is asked.
    pub answer_timeout: Duration,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// Whether to read from memory that a node on this host shares, where one does. Batches that come from there were
    /// verified by the node, and are known by a checksum to be what it wrote; and what they say of where a partition ends
    /// is as old as they are.
    pub local: bool,
    /// How to take large answers by RDMA, from nodes that place them; `None` for not at all. What the fabric carries is not
    /// encrypted: `docs/FABRIC.md` says what that asks of the network.
    pub fabric: Option<FabricSettings>,
}

impl ClientSettings {
    /// Thirty seconds of patience, five for one answer, three for a connection.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            cluster: None,
            patience: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            local: true,
            fabric: None,
        }
    }
}

/// What to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRequest {
    /// Whose log.
    pub partition: PartitionKey,
    /// Where to start.
    pub from: FetchFrom,
    /// At most this many bytes, but always one whole batch. The ring caps it at 8 MiB.
    pub bytes_max: u32,
    /// Stop after the batch that reaches this many messages.
    pub messages_max: u32,
    /// How long to wait for the first message.
    pub wait: Duration,
    /// How long to look for an answer; `None` for as long as the client does.
    pub patience: Option<Duration>,
    /// The newest epoch that the reader has seen: no older node may answer. From the last [`crate::Fetched`]; 0 at
    /// first.
    pub epoch: Epoch,
    /// The last message that the reader has: the ring refuses to go on from another. From the last
    /// [`crate::Fetched`]; `None` at first.
    pub last: Option<MessageIdentity>,
}

impl FetchRequest {
    /// One MiB from `from` on, without waiting.
    pub fn new(partition: PartitionKey, from: FetchFrom) -> Self {
        let bytes_max = u32::try_from(FETCH_BYTES_DEFAULT).expect("the default fits");
        let wait = Duration::ZERO;
        Self { partition, from, bytes_max, messages_max: u32::MAX, wait, patience: None, epoch: Epoch(0), last: None }
    }

    /// One MiB from an offset on, without waiting.
    pub fn at(partition: PartitionKey, offset: Offset) -> Self {
        Self::new(partition, FetchFrom::Offset(offset))
    }

    /// Waits up to `wait` for the first message.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Looks for an answer so long, whatever the client's own patience.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub(crate) fn bytes_wanted(&self) -> u32 {
        self.bytes_max.min(u32::try_from(FETCH_BYTES_MAX).expect("the limit fits"))
    }
}
