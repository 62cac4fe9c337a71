//! Hello and welcome: the first exchange of every session, on a lane of its own.
//!
//! It agrees on a version and checks cluster and role against the certificate. It knows what may stop a session from
//! beginning, and nothing of what the session is for.

use kennel_protocol::ids::{ClusterId, NodeId, ProcessId};
use kennel_protocol::wire::codec::WireDecodeError;
use kennel_protocol::wire::{ErrorCode, Hello, Message, Role, Welcome, WireError};
use tokio::time::{Instant, timeout_at};

use crate::close::{Advice, CloseCode, SessionError};
use crate::frames::{FrameReadError, FrameSource, FrameWriteError};
use crate::lane::Lane;
use crate::session::{Peer, Session};

/// What a node says of itself, and what it asks of those who come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloPolicy {
    /// Lowest wire version that this node speaks.
    pub version_min: u16,
    /// Highest wire version that this node speaks.
    pub version_max: u16,
    /// Its cluster: a hello that names another is refused.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
    /// This start of its process.
    pub process: ProcessId,
    /// The cluster's fixed shard count.
    pub shard_count: u16,
}

/// Why a session did not begin. It was closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer refused us; the code says what to do.
    #[error("the peer refused the hello with {:?}: {}", .0.code, .0.message)]
    RefusedByPeer(WireError),
    /// We refused the peer.
    #[error("refused the peer's hello with {:?}: {}", .0.code, .0.message)]
    Refused(WireError),
    /// The peer's certificate does not say that it is a node. Fix: the address, or the node's certificate.
    #[error("the certificate `{common_name}` is not a node's")]
    NotANode {
        /// The name in the certificate.
        common_name: String,
    },
    /// The exchange was not over in time. Retry.
    #[error("no answer to the hello in time")]
    Late,
    /// The peer sent something else than the exchange asks for. Fix: one side is not of this product or version.
    #[error("the peer sent {found} where {expected} was due")]
    Unexpected {
        /// What was due.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A message of the exchange cannot be read. Fix: the sender.
    #[error("a message of the hello cannot be read")]
    Undecodable(#[source] WireDecodeError),
    /// The lane of the exchange broke.
    #[error("the hello could not be received")]
    Read(#[source] FrameReadError),
    /// The lane of the exchange broke.
    #[error("the hello could not be sent")]
    Write(#[source] FrameWriteError),
    /// The session ended.
    #[error("the session ended before the hello")]
    Session(#[source] SessionError),
}

impl HandshakeError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::RefusedByPeer(error) | Self::Refused(error) => error.code.into(),
            Self::NotANode { .. } | Self::Unexpected { .. } | Self::Undecodable(_) => Advice::Fix,
            Self::Late => Advice::Retry,
            Self::Read(error) => error.advice(),
            Self::Write(error) => error.advice(),
            Self::Session(error) => error.advice(),
        }
    }

    /// What the session is closed with, where this side found the fault.
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Refused(error) => error.code.into(),
            Self::NotANode { .. } => ErrorCode::NotAllowed.into(),
            Self::Unexpected { .. } | Self::Undecodable(_) => ErrorCode::Malformed.into(),
            Self::Late => ErrorCode::Busy.into(),
            _ => CloseCode::DONE,
        }
    }
}

/// Says hello to a node and returns its welcome. On an error the session is closed.
///
/// # Cancel safety
/// Not safe: the peer may have taken the hello. Close the session.
pub async fn handshake_client(
    session: &dyn Session,
    hello: Hello,
    deadline: Instant,
) -> Result<Welcome, HandshakeError> {
    let exchange = timeout_at(deadline, say_hello(session, hello)).await;
    closing_on_error(session, exchange.unwrap_or(Err(HandshakeError::Late)))
}

/// Takes the hello of a session that was accepted, and answers it. On an error the peer has been told and the session is
/// closed.
///
/// # Cancel safety
/// Not safe: the hello may have been taken. Close the session.
pub async fn handshake_server(
    session: &dyn Session,
    policy: &HelloPolicy,
    deadline: Instant,
) -> Result<(Hello, Welcome), HandshakeError> {
    let exchange = timeout_at(deadline, answer_hello(session, policy)).await;
    closing_on_error(session, exchange.unwrap_or(Err(HandshakeError::Late)))
}

/// What a hello from `peer` deserves. Pure.
pub fn welcome(policy: &HelloPolicy, peer: &Peer, hello: &Hello) -> Result<Welcome, WireError> {
    let refuse = |code, message| Err(WireError { code, message, offset: None, node: Some(policy.node) });
    let version = policy.version_max.min(hello.version_max);
    if version < policy.version_min.max(hello.version_min) {
        let (ours, theirs) = ((policy.version_min, policy.version_max), (hello.version_min, hello.version_max));
        let message =
            format!("this node speaks wire versions {} to {}, you {} to {}", ours.0, ours.1, theirs.0, theirs.1);
        return refuse(ErrorCode::VersionWindow, message);
    }
    if let Some(cluster) = hello.cluster
        && cluster != policy.cluster
    {
        let message = format!("this node is of cluster {}, you mean {cluster}", policy.cluster);
        return refuse(ErrorCode::WrongCluster, message);
    }
    if !peer.may_act_as(hello.role) {
        let message = format!("the certificate `{}` does not allow the role {:?}", peer.common_name, hello.role);
        return refuse(ErrorCode::NotAllowed, message);
    }
    if (hello.role == Role::Node) != hello.node.is_some() {
        return refuse(ErrorCode::Malformed, "a node names its id in the hello, and only a node does".to_owned());
    }
    let HelloPolicy { cluster, node, process, shard_count, .. } = *policy;
    Ok(Welcome { version, cluster, node, process, shard_count })
}

async fn say_hello(session: &dyn Session, hello: Hello) -> Result<Welcome, HandshakeError> {
    let peer = session.peer();
    if peer.role_hint != Some(Role::Node) {
        return Err(HandshakeError::NotANode { common_name: peer.common_name.clone() });
    }
    let mut lane = session.open(Lane::Hello).await.map_err(HandshakeError::Session)?;
    lane.sink.send(Message::Hello(hello).encode(0)).await.map_err(HandshakeError::Write)?;
    lane.sink.finish();
    match receive(&mut lane.source, "a welcome").await? {
        Message::Welcome(welcome) => Ok(welcome),
        Message::Error(error) => Err(HandshakeError::RefusedByPeer(error)),
        _ => Err(HandshakeError::Unexpected { expected: "a welcome", found: "another message" }),
    }
}

async fn answer_hello(session: &dyn Session, policy: &HelloPolicy) -> Result<(Hello, Welcome), HandshakeError> {
    let mut lane = session.accept().await.map_err(HandshakeError::Session)?;
    if lane.lane != Lane::Hello {
        return Err(HandshakeError::Unexpected { expected: "the hello's lane", found: "another lane" });
    }
    let Message::Hello(hello) = receive(&mut lane.source, "a hello").await? else {
        return Err(HandshakeError::Unexpected { expected: "a hello", found: "another message" });
    };
    let verdict = welcome(policy, session.peer(), &hello);
    let answer = match &verdict {
        Ok(welcome) => Message::Welcome(welcome.clone()),
        Err(error) => Message::Error(error.clone()),
    };
    lane.sink.send(answer.encode(0)).await.map_err(HandshakeError::Write)?;
    lane.sink.finish();
    match verdict {
        Ok(welcome) => Ok((hello, welcome)),
        Err(error) => {
            // The session is closed next, which would outrun the answer.
            let _ = lane.sink.drained().await;
            Err(HandshakeError::Refused(error))
        }
    }
}

async fn receive(source: &mut FrameSource, expected: &'static str) -> Result<Message, HandshakeError> {
    let frame = source.next().await.map_err(HandshakeError::Read)?;
    let frame = frame.ok_or(HandshakeError::Unexpected { expected, found: "the end of the lane" })?;
    Message::decode(frame).map_err(HandshakeError::Undecodable)
}

fn closing_on_error<T>(session: &dyn Session, result: Result<T, HandshakeError>) -> Result<T, HandshakeError> {
    if let Err(error) = &result {
        session.close(error.close_code(), &error.to_string());
    }
    result
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn policy() -> HelloPolicy {
        HelloPolicy {
            version_min: 2,
            version_max: 4,
            cluster: ClusterId(7),
            node: NodeId(1),
            process: ProcessId(9),
            shard_count: 8,
        }
    }

    fn hello(role: Role) -> Hello {
        Hello {
            version_min: 1,
            version_max: 3,
            role,
            cluster: Some(ClusterId(7)),
            node: (role == Role::Node).then_some(NodeId(2)),
            process: ProcessId(8),
            agent: "test".into(),
        }
    }

    fn peer(role_hint: Option<Role>) -> Peer {
        Peer { address: SocketAddr::from(([127, 0, 0, 1], 1)), common_name: "p".into(), role_hint }
    }

    fn code(hint: Option<Role>, hello: &Hello) -> Result<u16, ErrorCode> {
        welcome(&policy(), &peer(hint), hello).map(|welcome| welcome.version).map_err(|error| error.code)
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let at = |version_min, version_max| Hello { version_min, version_max, ..hello(Role::Client) };
        assert_eq!(code(None, &at(1, 3)), Ok(3));
        assert_eq!(code(None, &at(4, 9)), Ok(4));
        assert_eq!(code(None, &at(1, 1)), Err(ErrorCode::VersionWindow));
        assert_eq!(code(None, &at(5, 9)), Err(ErrorCode::VersionWindow));
    }

    #[test]
    fn clusters_and_roles_are_checked() {
        let other = Hello { cluster: Some(ClusterId(6)), ..hello(Role::Client) };
        assert_eq!(code(None, &other), Err(ErrorCode::WrongCluster));
        assert_eq!(code(None, &Hello { cluster: None, ..other }), Ok(3));
        assert_eq!(code(Some(Role::Client), &hello(Role::Node)), Err(ErrorCode::NotAllowed));
        assert_eq!(code(None, &hello(Role::Shipper)), Err(ErrorCode::NotAllowed));
        assert_eq!(code(Some(Role::Node), &hello(Role::Node)), Ok(3));
        assert_eq!(code(Some(Role::Node), &Hello { node: None, ..hello(Role::Node) }), Err(ErrorCode::Malformed));
    }
}
