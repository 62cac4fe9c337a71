//! What only QUIC has: certificates, sockets and the wish for jumbo packets.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kennel_transport::certs::{CertificateFiles, DevelopmentCa, Overwrite, create_development_ca};
use kennel_transport::close::{Advice, CloseCode, SessionError};
use kennel_transport::lane::Lane;
use kennel_transport::quic::{BindError, QuicEndpoint, QuicListener, QuicSettings};
use kennel_transport::session::{ConnectError, Connector, Listener, Session};
use kennel_transport::tls::{ALPN, SERVER_NAME, TlsIdentity};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn authority(dir: &Path) -> DevelopmentCa {
    create_development_ca(dir, &[], Overwrite::Refuse).expect("a CA")
}

fn endpoint(ca: &DevelopmentCa, files: &CertificateFiles) -> QuicEndpoint {
    let identity = TlsIdentity::load(&ca.ca, &files.certificate, &files.key).expect("an identity");
    QuicEndpoint::bind(ANY, &identity, QuicSettings::default()).expect("a free port")
}

/// A session from an endpoint to a listener, seen from both sides.
async fn meet(from: &QuicEndpoint, to: &mut QuicListener) -> (Arc<dyn Session>, Arc<dyn Session>) {
    let (connector, address) = (from.connector(), to.local_address());
    let (there, here) = tokio::join!(connector.connect(address), to.accept());
    (there.expect("a session"), here.expect("a session"))
}

#[tokio::test]
async fn a_node_of_another_ca_is_refused_in_one_line() {
    let (dir, other_dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (ca, other) = (authority(dir.path()), authority(other_dir.path()));
    let (node, reader) = (endpoint(&ca, &ca.node), endpoint(&other, &other.client));
    let mut listener = node.listen().expect("a listener");
    let error = reader.connector().connect(listener.local_address()).await.expect_err("another CA");
    assert_eq!(error.advice(), Advice::Fix);
    let line = error.source().expect("a cause").to_string();
    assert_eq!(line, "no mutual trust: we refuse the peer's certificate: it was issued by another CA");
    assert!(timeout(Duration::from_millis(200), listener.accept()).await.is_err(), "nobody came in");
}

#[tokio::test]
async fn a_reader_does_not_pass_for_a_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let (pretender, reader) = (endpoint(&ca, &ca.client), endpoint(&ca, &ca.client));
    let listener = pretender.listen().expect("a listener");
    let error = reader.connector().connect(listener.local_address()).await.expect_err("a client's certificate");
    assert!(matches!(error, ConnectError::Failed { source: SessionError::NotTrusted { .. }, .. }), "{error:?}");
}

/// A connection as a stranger would make it, who trusts the CA but holds no certificate of it.
async fn connect_without_certificate(ca: &DevelopmentCa, address: SocketAddr) -> quinn::ConnectionError {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ca.ca).expect("the CA")).expect("the CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("TLS 1.3")));
    let endpoint = quinn::Endpoint::client(ANY).expect("a free port");
    // In TLS 1.3 the connecting side is done before its certificate, or the lack of it, was judged.
    match endpoint.connect_with(config, address, SERVER_NAME).expect("a connection").await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_certificate() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let node = endpoint(&ca, &ca.node);
    let mut listener = node.listen().expect("a listener");
    let error = connect_without_certificate(&ca, listener.local_address()).await;
    assert!(error.to_string().contains("116"), "certificate_required, not {error}");
    assert!(timeout(Duration::from_millis(200), listener.accept()).await.is_err(), "nobody came in");
}

#[tokio::test]
async fn a_reader_of_another_ca_hears_why() {
    let (dir, other_dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (ca, other) = (authority(dir.path()), authority(other_dir.path()));
    // It trusts our CA, but its own certificate is of another one: its files are checked on loading, so mix them here.
    let mixed = other_dir.path().join("both.pem");
    let both = [&ca.ca, &other.ca].map(|path| std::fs::read_to_string(path).expect("a CA")).concat();
    std::fs::write(&mixed, both).expect("a file");
    let identity = TlsIdentity::load(&mixed, &other.client.certificate, &other.client.key).expect("an identity");
    let reader = QuicEndpoint::bind(ANY, &identity, QuicSettings::default()).expect("a free port");
    let node = endpoint(&ca, &ca.node);
    let listener = node.listen().expect("a listener");
    let error = match reader.connector().connect(listener.local_address()).await {
        Ok(session) => session.closed().await,
        Err(ConnectError::Failed { source, .. }) => source,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(error.to_string(), "no mutual trust: the peer refuses our certificate: it was issued by another CA");
}

#[tokio::test]
async fn one_socket_listens_and_connects() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let (one, two) = (endpoint(&ca, &ca.node), endpoint(&ca, &ca.node));
    let (mut one_listens, mut two_listens) = (one.listen().expect("a listener"), two.listen().expect("a listener"));
    let (there, here) = meet(&one, &mut two_listens).await;
    assert_eq!(here.peer().address, one_listens.local_address(), "the peer is seen under the port it listens on");
    let (back, accepted) = meet(&two, &mut one_listens).await;
    back.open(Lane::Control).await.expect("a lane");
    accepted.accept().await.expect("a lane");
    drop((there, here));
}

#[tokio::test]
async fn several_sockets_share_an_address_and_all_of_them_take_sessions() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let identity = TlsIdentity::load(&ca.ca, &ca.node.certificate, &ca.node.key).expect("an identity");
    let shared = QuicSettings { sockets: 2, ..QuicSettings::default() };
    let (node, other) = (QuicEndpoint::bind(ANY, &identity, shared).expect("a free port"), endpoint(&ca, &ca.node));
    let (mut listener, mut other_listens) = (node.listen().expect("a listener"), other.listen().expect("a listener"));
    let mut sessions = Vec::new();
    // The kernel chooses: that all of 32 come to one of two sockets happens once in 2^31 times.
    for _ in 0..32 {
        let reader = endpoint(&ca, &ca.client);
        let (there, here) = meet(&reader, &mut listener).await;
        let (lane, accepted) = tokio::join!(there.open(Lane::Control), here.accept());
        sessions.push((lane.expect("a lane"), accepted.expect("a lane"), there, here, reader));
    }
    let taken = node.sessions_by_socket();
    assert!(taken.len() == 2 && taken.iter().sum::<usize>() == 32 && taken.iter().all(|taken| *taken > 0), "{taken:?}");
    let (there, here) = meet(&node, &mut other_listens).await;
    assert_ne!(here.peer().address, listener.local_address(), "what it opens comes from a socket of its own");
    there.open(Lane::Control).await.expect("a lane");
    node.close(CloseCode::from(kennel_protocol::wire::ErrorCode::Stopping), "the node is stopping");
    for (.., there, _, _) in &sessions {
        assert!(matches!(there.closed().await, SessionError::ClosedByPeer { .. }));
    }
    timeout(Duration::from_secs(10), node.drained()).await.expect("nothing is left");
}

#[tokio::test]
async fn nobody_at_the_address_is_silence() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let reader = endpoint(&ca, &ca.client);
    let free = std::net::UdpSocket::bind(ANY).expect("a free port");
    let connecting = reader.connector();
    let connecting = connecting.connect(free.local_addr().expect("an address"));
    let error = connecting.await.expect_err("nobody");
    assert!(matches!(error, ConnectError::Failed { source: SessionError::Silent, .. }), "{error:?}");
    assert_eq!(error.advice(), Advice::Retry);
}

#[tokio::test]
async fn a_closed_endpoint_ends_its_sessions_and_then_stands_still() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let (node, reader) = (
        endpoint(&ca, &ca.node),
        QuicEndpoint::bind_any(
            &TlsIdentity::load(&ca.ca, &ca.client.certificate, &ca.client.key).expect("an identity"),
            QuicSettings::default(),
        )
        .expect("a free port"),
    );
    let mut listener = node.listen().expect("a listener");
    let (near, _far) = meet(&reader, &mut listener).await;
    assert_eq!(near.peer().address, listener.local_address(), "IPv4 stays IPv4 on a dual-stack socket");
    node.close(CloseCode::from(kennel_protocol::wire::ErrorCode::Stopping), "the node is stopping");
    let SessionError::ClosedByPeer { reason, .. } = near.closed().await else { panic!("not by the peer") };
    assert_eq!(reason, "the node is stopping");
    timeout(Duration::from_secs(10), node.drained()).await.expect("nothing is left");
    assert!(listener.accept().await.is_err());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = authority(dir.path());
    let taken = std::net::UdpSocket::bind(ANY).expect("a free port").local_addr().expect("an address");
    let _holder = std::net::UdpSocket::bind(taken).expect("the port");
    let identity = TlsIdentity::load(&ca.ca, &ca.node.certificate, &ca.node.key).expect("an identity");
    let error = QuicEndpoint::bind(taken, &identity, QuicSettings::default()).expect_err("taken");
    assert!(matches!(&error, BindError::Socket { address, .. } if *address == taken), "{error:?}");
    assert!(error.to_string().contains(&taken.to_string()));
}
