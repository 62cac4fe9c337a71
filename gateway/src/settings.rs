//! What a gateway is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Sessions at once, unless told otherwise: each takes two sockets and some tens of KiB.
pub const SESSIONS_MAX: usize = 1024;

/// How long the server's word that a session may poll a topic is believed.
pub const VERDICT: Duration = Duration::from_secs(3);

/// How long it is believed that ring and server hold the same messages of a partition.
pub const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// How long a session reads on from the ring while the server is away.
pub const READS_WITHOUT_ORIGIN: Duration = Duration::from_mins(15);

/// How long a client may be silent. Iggy's SDKs send a heartbeat every five seconds.
pub const IDLE: Duration = Duration::from_mins(5);

/// Everything that a gateway is told.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Where it listens (TCP).
    pub listen: SocketAddr,
    /// The Iggy server behind it, `host:port` of its TCP listener.
    pub origin: String,
    /// The `host:port` under which clients reach the gateway. `None`: the address that a client has connected to.
    pub advertise: Option<Endpoint>,
    /// Certificate and key (PEM) for clients that connect by TLS. `None`: plain TCP.
    pub tls: Option<GatewayTls>,
    /// How the server is reached by TLS. `None`: plain TCP.
    pub origin_tls: Option<OriginTls>,
    /// Who answers a poll behind which the ring has no more messages.
    pub empty_polls: EmptyPolls,
    /// How long the server's word that a session may poll a topic is believed.
    pub verdict: Duration,
    /// How long it is believed that ring and server hold the same messages of a partition.
    pub compare_every: Duration,
    /// How long a session reads on from the ring while the server is away.
    pub reads_without_origin: Duration,
    /// How long a client may be silent.
    pub idle: Duration,
    /// Sessions at once.
    pub sessions_max: usize,
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What the gateway presents to its clients.
#[derive(Debug, Clone)]
pub struct GatewayTls {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Whom the gateway trusts as its server.
#[derive(Debug, Clone)]
pub struct OriginTls {
    /// The authority that signed the server's certificate, PEM.
    pub ca: PathBuf,
    /// The name in the server's certificate.
    pub name: String,
}

/// Who answers a poll behind which the ring has no more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyPolls {
    /// The ring: a consumer at the end costs the server nothing, and what others have sent shows some milliseconds
    /// later. What a session has itself sent it sees at once.
    Ring,
    /// The server, always.
    Origin,
}

impl GatewaySettings {
    /// Listens at `listen` for the server at `origin`; everything else as it is by default.
    pub fn new(listen: SocketAddr, origin: impl Into<String>) -> Self {
        Self {
            listen,
            origin: origin.into(),
            advertise: None,
            tls: None,
            origin_tls: None,
            empty_polls: EmptyPolls::Ring,
            verdict: VERDICT,
            compare_every: COMPARE_EVERY,
            reads_without_origin: READS_WITHOUT_ORIGIN,
            idle: IDLE,
            sessions_max: SESSIONS_MAX,
        }
    }
}

impl core::str::FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let no = || NoEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(no());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| no())? })
    }
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(formatter, "[{host}]:{port}") } else { write!(formatter, "{host}:{port}") }
    }
}

/// A text that names no host and port. Fix it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not host:port")]
pub struct NoEndpoint(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_and_ports() {
        let endpoint = |host: &str, port| Ok(Endpoint { host: host.to_owned(), port });
        assert_eq!("kennel.example:8090".parse(), endpoint("kennel.example", 8090));
        assert_eq!("[::1]:80".parse(), endpoint("::1", 80));
        for wrong in ["", "host", ":80", "host:", "host:70000"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
