//! Sessions over QUIC: a UDP socket that listens and connects, or several that listen and one that connects; mutual TLS always.
//!
//! This file is the endpoint. What was measured about QUIC is in `settings`; frames and lanes are above and unknown
//! here.

mod errors;
mod session;
mod settings;
mod socket;
mod udp;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectError as QuinnConnectError, EndpointConfig, Incoming, ServerConfig, VarInt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::close::{CloseCode, SessionError};
use crate::session::{ConnectError, Connector, Listener, ListenerClosed, Session, bounded_reason};
use crate::tls::{SERVER_NAME, TlsIdentity};

use errors::session_error;
use session::{QuicSession, canonical};

pub(crate) use session::{Reader, Writer};
pub use settings::{PACKET_BYTES_MAX, PACKET_BYTES_MIN, QuicSettings, SettingsError};
pub use socket::SocketBuffers;

/// How long a handshake may take, on either side: some round trips of the slowest network, and a busy peer.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// Handshakes at once and socket; each costs a millisecond of CPU. Further peers are told to come again.
const HANDSHAKES_MAX: usize = 256;

/// Sessions that wait to be accepted.
const SESSIONS_WAITING_MAX: usize = 64;

/// UDP sockets with everything that goes over them. Cheap to clone.
#[derive(Clone)]
pub struct QuicEndpoint {
    /// From which sessions are opened.
    endpoint: quinn::Endpoint,
    /// At the address; if it is one, it is the same.
    listening: Arc<[quinn::Endpoint]>,
    buffers: SocketBuffers,
    server_crypto: Arc<QuicServerConfig>,
    client_crypto: Arc<QuicClientConfig>,
    settings: Arc<QuicSettings>,
}

/// An endpoint of quinn's over a socket.
fn over(socket: UdpSocket) -> io::Result<quinn::Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(PACKET_BYTES_MAX).expect("within QUIC's bounds");
    quinn::Endpoint::new(config, None, socket, Arc::new(udp::Udp))
}

/// Why an endpoint could not be made. All of them: fix.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, forbidden or not of this host.
    #[error("UDP address {address} cannot be used")]
    Socket {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting cannot be.
    #[error("the QUIC settings cannot be used")]
    Settings(#[source] SettingsError),
    /// The TLS library lacks what QUIC needs.
    #[error("the TLS library cannot do QUIC")]
    Crypto(#[source] NoInitialCipherSuite),
}

impl QuicEndpoint {
    /// Binds `address`. Listens only once [`QuicEndpoint::listen`] is called.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(address: SocketAddr, identity: &TlsIdentity, settings: QuicSettings) -> Result<Self, BindError> {
        settings.check().map_err(BindError::Settings)?;
        let fail = |source| BindError::Socket { address, source };
        let buffer_bytes = settings.socket_buffer_bytes as usize;
        let (sockets, buffers) = socket::bind(address, settings.sockets, buffer_bytes).map_err(fail)?;
        let listening: Vec<_> = sockets.into_iter().map(over).collect::<Result<_, _>>().map_err(fail)?;
        let endpoint = if let [single] = &listening[..] {
            single.clone()
        } else {
            // Answers to what leaves from a shared address come back to any of its sockets.
            let mut any_port = address;
            any_port.set_port(0);
            let (own, _) = socket::bind(any_port, 1, buffer_bytes).map_err(fail)?;
            own.into_iter().map(over).next().expect("one was asked for").map_err(fail)?
        };
        let server_crypto = QuicServerConfig::try_from(identity.server_config()).map_err(BindError::Crypto)?;
        let client_crypto = QuicClientConfig::try_from(identity.client_config()).map_err(BindError::Crypto)?;
        Ok(Self {
            endpoint,
            listening: listening.into(),
            buffers,
            server_crypto: Arc::new(server_crypto),
            client_crypto: Arc::new(client_crypto),
            settings: Arc::new(settings),
        })
    }

    /// Binds any free port, for a side that only connects: over both IP families where the host has both.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind_any(identity: &TlsIdentity, settings: QuicSettings) -> Result<Self, BindError> {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        match Self::bind(both, identity, settings.clone()) {
            Err(BindError::Socket { .. }) => {
                Self::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), identity, settings)
            }
            other => other,
        }
    }

    /// Starts to take sessions. One listener at a time: a second one would share the sessions with the first.
    pub fn listen(&self) -> Result<QuicListener, BindError> {
        // The address kind is not known yet: each handshake gets the settings of its own path.
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let address = self.local_address().map_err(|source| BindError::Socket { address, source })?;
        let (sender, sessions) = mpsc::channel(SESSIONS_WAITING_MAX);
        let mut greeters = JoinSet::new();
        for listening in self.listening.iter() {
            listening.set_server_config(Some(self.server_config(Ipv4Addr::UNSPECIFIED.into())));
            let (listening, endpoint, sessions) = (listening.clone(), self.clone(), sender.clone());
            greeters.spawn(Greeter { listening, endpoint, sessions }.run());
        }
        Ok(QuicListener { endpoint: self.clone(), address, sessions, greeters })
    }

    /// A way to connect from here.
    pub fn connector(&self) -> QuicConnector {
        QuicConnector { endpoint: self.clone() }
    }

    /// quinn itself over this socket, with its certificates and settings, taking connections: what sessions are measured
    /// against. For an endpoint of one socket that does not listen.
    pub fn bare_server(&self) -> quinn::Endpoint {
        self.endpoint.set_server_config(Some(self.server_config(Ipv4Addr::LOCALHOST.into())));
        self.endpoint.clone()
    }

    /// The same for the side that connects to a peer of this host, and the name to connect to.
    pub fn bare_client(&self) -> (quinn::Endpoint, ClientConfig, &'static str) {
        (self.endpoint.clone(), self.client_config(Ipv4Addr::LOCALHOST.into()), SERVER_NAME)
    }

    /// Where it listens, if it does.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listening[0].local_addr().map(canonical)
    }

    /// What the kernel granted of each socket's buffers; a shortfall was logged when the endpoint was bound.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// How many sessions each socket at the address has.
    pub fn sessions_by_socket(&self) -> Vec<usize> {
        self.listening.iter().map(quinn::Endpoint::open_connections).collect()
    }

    /// Ends all sessions and takes no new ones. Asks only; see [`QuicEndpoint::drained`].
    pub fn close(&self, code: CloseCode, reason: &str) {
        for endpoint in self.all() {
            endpoint.close(VarInt::from_u32(code.number()), bounded_reason(reason).as_bytes());
        }
    }

    /// Waits until every peer had its chance to hear of the end.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn drained(&self) {
        for endpoint in self.all() {
            endpoint.wait_idle().await;
        }
    }

    /// The one that connects, and those that listen. With one socket that is the same one twice, to no harm.
    fn all(&self) -> impl Iterator<Item = &quinn::Endpoint> {
        core::iter::once(&self.endpoint).chain(self.listening.iter())
    }

    fn server_config(&self, peer: IpAddr) -> ServerConfig {
        let mut config = ServerConfig::with_crypto(self.server_crypto.clone());
        // A peer whose address changes connects again; nothing here roams.
        config.migration(false).transport_config(self.settings.transport(peer));
        config
    }

    fn client_config(&self, peer: IpAddr) -> ClientConfig {
        let mut config = ClientConfig::new(self.client_crypto.clone());
        config.transport_config(self.settings.transport(peer));
        config
    }
}

impl fmt::Debug for QuicEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicEndpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Takes sessions over QUIC. Dropping it takes no further ones.
#[derive(Debug)]
pub struct QuicListener {
    endpoint: QuicEndpoint,
    address: SocketAddr,
    sessions: mpsc::Receiver<Arc<dyn Session>>,
    greeters: JoinSet<()>,
}

#[async_trait]
impl Listener for QuicListener {
    async fn accept(&mut self) -> Result<Arc<dyn Session>, ListenerClosed> {
        self.sessions.recv().await.ok_or(ListenerClosed)
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn close(&mut self) {
        for listening in self.endpoint.listening.iter() {
            listening.set_server_config(None);
        }
        self.greeters.abort_all();
        self.sessions.close();
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.close();
    }
}

/// A listener's task for one socket: handshakes run side by side, so that a slow peer holds up nobody.
struct Greeter {
    listening: quinn::Endpoint,
    endpoint: QuicEndpoint,
    sessions: mpsc::Sender<Arc<dyn Session>>,
}

impl Greeter {
    async fn run(self) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                incoming = self.listening.accept() => match incoming {
                    Some(incoming) if handshakes.len() >= HANDSHAKES_MAX => incoming.refuse(),
                    Some(incoming) => {
                        let config = Arc::new(self.endpoint.server_config(canonical(incoming.remote_address()).ip()));
                        handshakes.spawn(greet(incoming, config, self.sessions.clone()));
                    }
                    None => return,
                },
                Some(_) = handshakes.join_next() => {}
            }
        }
    }
}

/// Completes one handshake and hands the session over.
async fn greet(incoming: Incoming, config: Arc<ServerConfig>, sessions: mpsc::Sender<Arc<dyn Session>>) {
    let address = canonical(incoming.remote_address());
    match shake_hands(incoming, config).await {
        // The listener may have gone meanwhile; then the session goes too.
        Ok(session) => drop(sessions.send(Arc::new(session)).await),
        Err(error) => tracing::warn!(%address, %error, "refused a session"),
    }
}

async fn shake_hands(incoming: Incoming, config: Arc<ServerConfig>) -> Result<QuicSession, SessionError> {
    let connecting = incoming.accept_with(config).map_err(|error| session_error(&error))?;
    let connection = tokio::time::timeout(HANDSHAKE_WAIT, connecting).await.map_err(|_| SessionError::Silent)?;
    QuicSession::new(connection.map_err(|error| session_error(&error))?)
}

/// Opens sessions over QUIC. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QuicConnector {
    endpoint: QuicEndpoint,
}

#[async_trait]
impl Connector for QuicConnector {
    async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Session>, ConnectError> {
        let failed = |source| ConnectError::Failed { address, source };
        let config = self.endpoint.client_config(address.ip().to_canonical());
        let connecting = self.endpoint.endpoint.connect_with(config, address, SERVER_NAME);
        let connecting = connecting.map_err(|error| impossible(address, &error))?;
        let connection = tokio::time::timeout(HANDSHAKE_WAIT, connecting).await;
        let connection = connection.map_err(|_| failed(SessionError::Silent))?;
        let connection = connection.map_err(|error| failed(session_error(&error)))?;
        Ok(Arc::new(QuicSession::new(connection).map_err(failed)?))
    }
}

fn impossible(address: SocketAddr, error: &QuinnConnectError) -> ConnectError {
    ConnectError::Impossible { address, reason: error.to_string() }
}
