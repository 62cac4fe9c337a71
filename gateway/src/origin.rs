//! The Iggy server behind a gateway: where it is, and whether it is there.
//!
//! Every session has a connection of its own. While none can be made the server counts as away, and one task looks for
//! it; sessions only wait for its word. In a cluster sessions go to the node that decides, as clients would.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::error::{DialError, GatewayError};
use crate::frame::{Header, REPLY_BYTES_MAX};
use crate::settings::{Endpoint, GatewaySettings};
use crate::tls;
use crate::wire::{Pieces, Wire};

/// How long a connection may take to come up, handshake included. A server on the same host takes less than one
/// millisecond, one across the world some hundred.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a server may take to answer a heartbeat. Readers wait for it when their server's connection breaks.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a server that is away is looked for: first, and at most.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The server, and whether it is there.
#[derive(Debug)]
pub(crate) struct Origin {
    configured: String,
    /// The node of a cluster that decides, where it is another one than is configured.
    moved: Mutex<Option<String>>,
    tls: Option<Tls>,
    away: watch::Sender<bool>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A connection to the server.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) wire: Wire,
    pub(crate) address: SocketAddr,
}

impl Origin {
    pub(crate) fn new(settings: &GatewaySettings) -> Result<Self, GatewayError> {
        let tls = settings.origin_tls.as_ref().map(tls::connector).transpose()?;
        let tls = tls.map(|(connector, name)| Tls { connector, name });
        let (away, _) = watch::channel(false);
        Ok(Self { configured: settings.origin.clone(), moved: Mutex::new(None), tls, away })
    }

    /// A new connection: to the node that decides, else to the one that is configured.
    pub(crate) async fn dial(&self) -> Result<Connected, DialError> {
        if let Some(moved) = self.moved() {
            match self.dial_at(&moved).await {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    tracing::debug!(address = moved, error = %error, "the node that decided is gone");
                    self.set_moved(None);
                }
            }
        }
        self.dial_at(&self.configured).await
    }

    async fn dial_at(&self, address: &str) -> Result<Connected, DialError> {
        let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
        match timeout(DIAL_TIMEOUT, self.connect(address)).await {
            Ok(connected) => connected.map_err(unreachable),
            Err(_) => Err(DialError::Late { address: address.to_owned() }),
        }
    }

    async fn connect(&self, address: &str) -> std::io::Result<Connected> {
        let socket = TcpStream::connect(address).await?;
        // Requests and replies are answered one by one: waiting for more to send would wait for the other side.
        socket.set_nodelay(true)?;
        let address = socket.peer_addr()?;
        let wire = match &self.tls {
            Some(tls) => Wire::new(tls.connector.connect(tls.name.clone(), socket).await?, REPLY_BYTES_MAX),
            None => Wire::new(socket, REPLY_BYTES_MAX),
        };
        Ok(Connected { wire, address })
    }

    /// Takes note that another node decides than the one at `connected`. Returns whether new connections go there: only
    /// if it can be reached.
    pub(crate) async fn follow(&self, deciding: &Endpoint, connected: SocketAddr) -> bool {
        let address = deciding.to_string();
        if leads_to(&address, connected).await {
            return false;
        }
        let reachable = self.dial_at(&address).await.is_ok();
        if reachable {
            tracing::info!(address, "another node of the Iggy cluster decides: sessions go there");
            self.set_moved(Some(address));
        } else {
            tracing::warn!(address, "the node of the Iggy cluster that decides cannot be reached from here");
        }
        reachable
    }

    /// Whether there is a server, and not just a port that is still or already open: it answers a heartbeat.
    pub(crate) async fn answers(&self) -> Result<(), DialError> {
        let mut wire = self.dial().await?.wire;
        let asked = async {
            wire.write(Pieces::new(vec![Header::ping().bytes().clone()])).await?;
            wire.flush().await?;
            wire.incoming().await
        };
        match timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(Some(_))) => Ok(()),
            _ => Err(DialError::Late { address: self.configured.clone() }),
        }
    }

    /// Nobody could reach the server.
    pub(crate) fn is_away(&self) {
        if !self.away.send_replace(true) {
            tracing::warn!(address = self.configured, "the Iggy server is away: sessions read on from the ring");
        }
    }

    /// Tells when the server goes away, and when it is back.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// Looks for the server whenever it is away, for ever.
    pub(crate) async fn look(&self) -> std::convert::Infallible {
        let mut away = self.away.subscribe();
        loop {
            away.wait_for(|away| *away).await.expect("the sender is here");
            let mut pause = LOOK_MIN;
            while let Err(error) = self.answers().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the Iggy server is still away");
                sleep(pause).await;
                pause = (pause * 2).min(LOOK_MAX);
            }
            tracing::info!(address = self.configured, "the Iggy server is back");
            self.away.send_replace(false);
        }
    }

    fn moved(&self) -> Option<String> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_moved(&self, address: Option<String>) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// Whether an address is another spelling of the one that a connection goes to.
async fn leads_to(address: &str, connected: SocketAddr) -> bool {
    match timeout(DIAL_TIMEOUT, lookup_host(address)).await {
        Ok(Ok(mut known)) => known.any(|known| known == connected),
        Ok(Err(_)) | Err(_) => false,
    }
}
