//! What can go wrong at the start of a gateway, and how a session ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::wire::WireError;

/// Why a gateway does not start. All of them: fix the setting that the line names.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address cannot be listened on.
    #[error("the gateway cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of certificates cannot be read.
    #[error("{} cannot be read as {expected}", path.display())]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not go together, or TLS cannot use them.
    #[error("certificate and key of the gateway cannot be used")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The name is none that a certificate could carry.
    #[error("`{0}` is no name of a server")]
    ServerName(String),
}

/// Why the server cannot be spoken to. Wait, and dial again.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection, or no handshake.
    #[error("the Iggy server at {address} cannot be reached")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the Iggy server at {address} does not take the connection")]
    Late {
        /// Where.
        address: String,
    },
}

/// How a session ended, other than by its client closing the connection. The client connects again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The client's connection failed.
    #[error("the client's connection failed")]
    Client(#[source] WireError),
    /// The server cannot be reached and there is nothing to read from the ring.
    #[error("there is no server")]
    NoOrigin(#[source] DialError),
    /// The server closed the connection, and takes new ones: the client has to log in again.
    #[error("the server ended the session")]
    OriginEnded,
    /// The server was away and is back: the client has to log in again.
    #[error("the server is back and does not know the session")]
    OriginBack,
    /// The client said nothing for too long.
    #[error("the client was silent for too long")]
    Idle,
}
