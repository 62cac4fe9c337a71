//! The SDK's own client, behind a gateway in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use iggy::prelude::{ClientWrapper, IggyClient, TcpClient};
use iggy_common::{Client, ConnectionString, EncryptorKind, IggyError, TcpClientConfig, TcpConnectionStringOptions};
use kennel_gateway::ring::Ring;
use kennel_gateway::{Gateway, GatewayError, GatewaySettings, OriginTls};

/// Connects to an Iggy server as `IggyClient::from_connection_string` does, with polls answered from `ring`.
///
/// A gateway on a port of the loopback stands between the client and the server, in this process. Encryption of the
/// client's own goes on above it: the ring holds what the server holds.
///
/// # Panics
/// Outside a tokio runtime, as the SDK's clients.
///
/// # Cancel safety
/// Safe: what was opened is closed.
pub async fn connect(
    connection_string: &str,
    encryptor: Option<Arc<EncryptorKind>>,
    ring: Arc<dyn Ring>,
) -> Result<ConnectedClient, IggyConnectError> {
    let options = ConnectionString::<TcpConnectionStringOptions>::from_str(connection_string);
    let mut config = TcpClientConfig::from(options.map_err(IggyConnectError::Address)?);
    let gateway = Gateway::start(gateway_settings(&config)?, ring).await.map_err(IggyConnectError::Gateway)?;
    config.server_address = gateway.address().to_string();
    config.tls_enabled = false;
    let inner = TcpClient::create(Arc::new(config)).map_err(IggyConnectError::Client)?;
    let client = IggyClient::create(ClientWrapper::Tcp(inner), None, encryptor);
    client.connect().await.map_err(IggyConnectError::Client)?;
    Ok(ConnectedClient { client, gateway })
}

/// TLS ends at the gateway: between it and the client lies nothing but this process.
fn gateway_settings(config: &TcpClientConfig) -> Result<GatewaySettings, IggyConnectError> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut settings = GatewaySettings::new(listen, config.server_address.clone());
    if config.tls_enabled {
        let ca = config.tls_ca_file.as_ref().ok_or(IggyConnectError::NoAuthority)?;
        let host = config.server_address.rsplit_once(':').map_or("", |(host, _)| host);
        let name = if config.tls_domain.is_empty() { host } else { &config.tls_domain };
        settings.origin_tls = Some(OriginTls { ca: ca.into(), name: name.to_owned() });
    }
    Ok(settings)
}

/// Iggy's own client, and the gateway that it is connected to. Use it as the client that it is.
#[derive(Debug)]
pub struct ConnectedClient {
    client: IggyClient,
    gateway: Gateway,
}

impl ConnectedClient {
    /// Disconnects the client and then ends the gateway.
    ///
    /// # Cancel safety
    /// Safe: what is left ends when it is dropped.
    pub async fn close(self) -> Result<(), IggyError> {
        let closed = self.client.shutdown().await;
        self.gateway.stop().await;
        closed
    }

    /// The gateway, for its counts.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }
}

impl Deref for ConnectedClient {
    type Target = IggyClient;

    fn deref(&self) -> &IggyClient {
        &self.client
    }
}

/// Why there is no client behind a gateway.
#[derive(Debug, thiserror::Error)]
pub enum IggyConnectError {
    /// The connection string is not one for TCP. Fix it.
    #[error("the connection string cannot be used")]
    Address(#[source] IggyError),
    /// With TLS the gateway has to be told whom to trust (`tls_ca_file`). Fix the connection string.
    #[error("the connection string names no certificate authority")]
    NoAuthority,
    /// The gateway did not start. Fix.
    #[error("the gateway in this process does not start")]
    Gateway(#[source] GatewayError),
    /// The SDK's client did not connect or log in. Wait and retry, or fix the credentials.
    #[error("the client cannot connect")]
    Client(#[source] IggyError),
}
