//! The listener: takes connections, gives each a session, and ends them together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::Instrument as _;

use crate::counters::{Counters, GatewayCounts};
use crate::error::GatewayError;
use crate::frame::REQUEST_BYTES_MAX;
use crate::origin::Origin;
use crate::ring::Ring;
use crate::session::Session;
use crate::settings::{Endpoint, GatewaySettings};
use crate::tls;
use crate::verdicts::Proofs;
use crate::wire::Wire;

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after a failed accept: it fails for want of file descriptors, and they come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running gateway. Dropping it ends its sessions; [`Gateway::stop`] also waits for them.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// What all sessions of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: GatewaySettings,
    pub(crate) ring: Arc<dyn Ring>,
    pub(crate) origin: Origin,
    pub(crate) proofs: Proofs,
    pub(crate) counters: Counters,
}

impl Gateway {
    /// Starts to listen. The server behind it may be away: it is dialed for every session.
    ///
    /// # Errors
    /// If the address cannot be listened on, or a certificate cannot be used.
    ///
    /// # Cancel safety
    /// Safe: a start that is given up leaves nothing.
    pub async fn start(settings: GatewaySettings, ring: Arc<dyn Ring>) -> Result<Self, GatewayError> {
        let acceptor = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let origin = Origin::new(&settings)?;
        let failed = |source| GatewayError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared =
            Arc::new(Shared { settings, ring, origin, proofs: Proofs::default(), counters: Counters::default() });
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(Arc::clone(&shared).serve(listener, acceptor, stopped));
        tracing::info!(%address, origin = shared.settings.origin, "the gateway listens");
        Ok(Self { address, shared, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done.
    pub fn counts(&self) -> GatewayCounts {
        self.shared.counters.counts()
    }

    /// What reads the counts after the gateway was moved elsewhere.
    pub fn counting(&self) -> Counting {
        Counting { address: self.address, shared: Arc::clone(&self.shared) }
    }

    /// Closes the listener and all sessions, and waits for them.
    ///
    /// # Cancel safety
    /// Safe: what is left ends by itself.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::error!(error = %error, "the gateway's listener panicked");
        }
    }
}

/// Reads the counts of a gateway.
#[derive(Debug, Clone)]
pub struct Counting {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Counting {
    /// What the gateway has done.
    pub fn counts(&self) -> GatewayCounts {
        self.shared.counters.counts()
    }

    /// Whether its server can be reached, as far as sessions have tried.
    pub fn has_origin(&self) -> bool {
        !*self.shared.origin.watch().borrow()
    }

    /// Where its server is, as it was told.
    pub fn origin(&self) -> &str {
        &self.shared.settings.origin
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shared {
    async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        acceptor: Option<TlsAcceptor>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let places = Arc::new(Semaphore::new(self.settings.sessions_max));
        let mut sessions = JoinSet::new();
        let looking = self.origin.look();
        tokio::pin!(looking);
        loop {
            let accepted = tokio::select! {
                // Also when the gateway was dropped.
                _ = stopped.changed() => break,
                never = &mut looking => match never {},
                Some(ended) = sessions.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be taken");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%peer, most = self.settings.sessions_max, "a client was turned away: too many sessions");
                self.counters.refused();
                continue;
            };
            let session = Arc::clone(&self).take(socket, acceptor.clone());
            let span = tracing::debug_span!("gateway_session", %peer);
            sessions.spawn(async move { (session.await, place).0 }.instrument(span));
        }
        drop(listener);
        sessions.shutdown().await;
    }

    /// From a connection to the end of its session.
    async fn take(self: Arc<Self>, socket: TcpStream, acceptor: Option<TlsAcceptor>) {
        let local = socket.local_addr().ok();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(error = %error, "the client is gone");
            return;
        }
        let client = match acceptor {
            None => Wire::new(socket, REQUEST_BYTES_MAX),
            Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
                Ok(Ok(socket)) => Wire::new(socket, REQUEST_BYTES_MAX),
                Ok(Err(error)) => return tracing::debug!(error = %error, "the client's TLS handshake failed"),
                Err(_) => return tracing::debug!("the client did not end its TLS handshake"),
            },
        };
        let address = self.advertised(local);
        match self.origin.dial().await {
            Ok(origin) => Session::new(self, client, origin, address).run().await,
            Err(error) => {
                // A client of a server that is away is not taken either, and tries again.
                self.counters.refused();
                self.origin.is_away();
                tracing::debug!(error = &error as &dyn std::error::Error, "a client was turned away");
            }
        }
    }

    /// Where clients reach the gateway.
    fn advertised(&self, local: Option<SocketAddr>) -> Endpoint {
        let local = local.unwrap_or(self.settings.listen);
        let here = || Endpoint { host: local.ip().to_canonical().to_string(), port: local.port() };
        self.settings.advertise.clone().unwrap_or_else(here)
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = %error, "a session of the gateway panicked");
    }
}
