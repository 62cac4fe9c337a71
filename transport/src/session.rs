//! Sessions: one authenticated peer, many lanes of frames.
//!
//! The traits here are what daemons and the client hold; [`crate::quic`] and [`crate::loopback`] implement them, and one
//! conformance suite runs over both. A session knows nothing of what its frames mean.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use kennel_protocol::wire::Role;

use crate::close::{Advice, CloseCode, SessionError};
use crate::frames::{FrameSink, FrameSource};
use crate::lane::Lane;

/// A connection to one authenticated peer.
///
/// It ends when either side closes it, when the peer falls silent, or when the last handle of one side is gone: the
/// session itself and every half of every lane count as handles.
#[async_trait]
pub trait Session: fmt::Debug + Send + Sync {
    /// Who is on the other side.
    fn peer(&self) -> &Peer;

    /// Opens a lane. Waits while the peer allows no further one.
    ///
    /// # Cancel safety
    /// Safe: a lane that was opened in vain is given up, and the peer's accept passes over it.
    async fn open(&self, lane: Lane) -> Result<LaneStream, SessionError>;

    /// The next lane that the peer opened, in the order of opening.
    ///
    /// # Cancel safety
    /// Safe: no lane is lost.
    async fn accept(&self) -> Result<LaneStream, SessionError>;

    /// Ends the session at once: frames in flight may or may not arrive. The first close counts; `reason` is for people
    /// and is cut at [`REASON_BYTES_MAX`].
    fn close(&self, code: CloseCode, reason: &str);

    /// Waits for the end and says why.
    ///
    /// # Cancel safety
    /// Safe.
    async fn closed(&self) -> SessionError;
}

/// Takes sessions that others open.
#[async_trait]
pub trait Listener: fmt::Debug + Send {
    /// The next peer whose certificate was accepted. Those that were not are logged and refused.
    ///
    /// # Cancel safety
    /// Safe: no session is lost.
    async fn accept(&mut self) -> Result<Arc<dyn Session>, ListenerClosed>;

    /// Where it listens; the port is the real one even if the system chose it.
    fn local_address(&self) -> SocketAddr;

    /// Takes no further sessions; those that were accepted live on.
    fn close(&mut self);
}

/// Opens sessions to others.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens a session to the node at `address`.
    ///
    /// # Cancel safety
    /// Safe: a half-open connection is dropped.
    async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Session>, ConnectError>;
}

/// Both directions of one lane.
#[derive(Debug)]
pub struct LaneStream {
    /// What it is for.
    pub lane: Lane,
    /// Which side opened it.
    pub opener: Opener,
    /// Frames to the peer.
    pub sink: FrameSink,
    /// Frames from the peer.
    pub source: FrameSource,
}

/// Which side opened a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opener {
    /// This side, by [`Session::open`].
    Here,
    /// The peer; it came through [`Session::accept`].
    Peer,
}

/// Who is on the other side of a session, as far as the transport can vouch for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it sends from.
    pub address: SocketAddr,
    /// Its certificate's common name; empty if it has none.
    pub common_name: String,
    /// What its certificate says that it may be.
    pub role_hint: Option<Role>,
}

impl Peer {
    /// Whether its certificate lets it act in a role. Every certificate of the CA may read; to ship or to be a node takes
    /// a certificate that says so.
    pub fn may_act_as(&self, role: Role) -> bool {
        role == Role::Client || self.role_hint == Some(role)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.common_name)
    }
}

/// Longest reason that travels with a close, bytes: it must fit one packet.
pub const REASON_BYTES_MAX: usize = 512;

/// The listener was closed: there will be no further session. Stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the listener is closed")]
pub struct ListenerClosed;

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time, or the session ended before it began.
    #[error("no session with {address}")]
    Failed {
        /// Whom we tried.
        address: SocketAddr,
        /// What happened.
        #[source]
        source: SessionError,
    },
    /// This side cannot connect there: its own endpoint is closed or the address is of another kind. Fix.
    #[error("cannot connect to {address} from here: {reason}")]
    Impossible {
        /// Whom we tried.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

impl ConnectError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Failed { source, .. } => source.advice(),
            Self::Impossible { .. } => Advice::Fix,
        }
    }
}

/// Cuts a reason at a character boundary below [`REASON_BYTES_MAX`].
pub(crate) fn bounded_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(role_hint: Option<Role>) -> Peer {
        Peer { address: SocketAddr::from(([127, 0, 0, 1], 1)), common_name: String::new(), role_hint }
    }

    #[test]
    fn reading_is_for_all_and_the_rest_takes_a_certificate() {
        for hint in [None, Some(Role::Node), Some(Role::Shipper), Some(Role::Client)] {
            assert!(peer(hint).may_act_as(Role::Client));
            assert_eq!(peer(hint).may_act_as(Role::Node), hint == Some(Role::Node));
            assert_eq!(peer(hint).may_act_as(Role::Shipper), hint == Some(Role::Shipper));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "ä".repeat(REASON_BYTES_MAX);
        let cut = bounded_reason(&format!("x{long}")).len();
        assert_eq!(cut, REASON_BYTES_MAX - 1);
        assert_eq!(bounded_reason("short"), "short");
    }
}
