//! What can go wrong, in the reader's terms, and what to do about each.

use kennel_fabric::FabricError;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::{ErrorCode, WireError};
use kennel_transport::close::Advice;
use kennel_transport::handshake::HandshakeError;
use kennel_transport::quic::BindError;
use kennel_transport::rpc::CallError;

/// Why there is no connection to the ring.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address was given. Fix the settings.
    #[error("no address of a node was given")]
    NoAddress,
    /// This side cannot open a socket. Fix.
    #[error("no socket can be opened")]
    Bind(#[source] BindError),
    /// The fabric is required and cannot be had here. Fix what the source names, or do not require it.
    #[error("no fabric, which is required")]
    Fabric(#[source] FabricError),
    /// None of the nodes answered; the source tells of the last one. Wait and retry, or fix the addresses.
    #[error("none of the {tried} nodes answered")]
    Unreachable {
        /// How many were tried.
        tried: usize,
        /// What happened at the last.
        #[source]
        source: NodeError,
    },
}

/// Why one node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No session came up.
    #[error("no session")]
    Session(#[source] kennel_transport::session::ConnectError),
    /// The session came up and the node, or we, refused it.
    #[error("no agreement with the node")]
    Handshake(#[source] HandshakeError),
    /// The session broke before it was of use.
    #[error("the session broke")]
    Broken(#[source] kennel_transport::close::SessionError),
    /// A question was not answered.
    #[error("no answer")]
    Call(#[source] CallError),
    /// The connection did not come up in time.
    #[error("no connection in time")]
    Late,
    /// The node answered with another message than was asked for. Fix the node.
    #[error("the node answered {found} where {expected} was due")]
    Unexpected {
        /// What was due.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
}

/// Why a fetch brought nothing. Transient troubles were retried, elsewhere and again, before one of these came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The offset is below the trim point: its messages are gone by policy. Stop, or go on at `first`.
    #[error("partition {partition} begins at {first}; what lies below is trimmed")]
    Trimmed {
        /// Which partition.
        partition: PartitionKey,
        /// First offset that is left.
        first: Offset,
    },
    /// The ring does not know the partition. Check the ids, or wait until something is shipped to it.
    #[error("the ring knows no partition {0}")]
    UnknownPartition(PartitionKey),
    /// The log ends at `to`, below what was read: an operator accepted a loss. Stop; what lies above `to` was never
    /// durable, and other messages may come there.
    #[error("partition {partition} ends at {to}, below what was read of it")]
    Rewound {
        /// Which partition.
        partition: PartitionKey,
        /// Where it ends.
        to: Offset,
    },
    /// The ring holds another message at `at` than was read there: the source issued the offset twice. Stop and
    /// compare; the message read belongs to another history.
    #[error("partition {partition} holds another message at {at} than was read")]
    Diverged {
        /// Which partition.
        partition: PartitionKey,
        /// Where.
        at: Offset,
    },
    /// Stored data is damaged. Stop and tell an operator.
    #[error("partition {partition} is damaged: {message}")]
    Corrupt {
        /// Which partition.
        partition: PartitionKey,
        /// What the node said.
        message: String,
    },
    /// No node could answer until the patience ran out: owners missing, nodes overloaded, the bucket away. Wait and
    /// retry.
    #[error("no node could answer in time: {message}")]
    Unavailable {
        /// What the last node said.
        code: ErrorCode,
        /// In its words.
        message: String,
    },
    /// No node could be reached until the patience ran out. Wait and retry.
    #[error("no node could be reached in time")]
    Unreachable(#[source] Option<NodeError>),
    /// The ring refuses the request as such. Fix the request, the certificate or the version.
    #[error("the ring refuses the request: {message}")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// In the node's words.
        message: String,
    },
}

impl FetchError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Trimmed { .. } | Self::Rewound { .. } | Self::Diverged { .. } | Self::Corrupt { .. } => Advice::Stop,
            Self::UnknownPartition(_) | Self::Refused { .. } => Advice::Fix,
            Self::Unavailable { .. } | Self::Unreachable(_) => Advice::Wait,
        }
    }

    /// What an error of a node means to the reader once it is not retried any more.
    pub(crate) fn from_wire(partition: PartitionKey, error: WireError) -> Self {
        let WireError { code, message, offset, .. } = error;
        match (code, offset) {
            (ErrorCode::OffsetTrimmed, Some(first)) => Self::Trimmed { partition, first },
            (ErrorCode::Rewound, Some(to)) => Self::Rewound { partition, to },
            (ErrorCode::Diverged, Some(at)) => Self::Diverged { partition, at },
            (ErrorCode::UnknownPartition, _) => Self::UnknownPartition(partition),
            (ErrorCode::Corrupt, _) => Self::Corrupt { partition, message },
            _ if is_transient(code) => Self::Unavailable { code, message },
            _ => Self::Refused { code, message },
        }
    }
}

/// Whether another node, or the same one later, may do better.
pub(crate) fn is_transient(code: ErrorCode) -> bool {
    matches!(Advice::from(code), Advice::Retry | Advice::Wait)
}
