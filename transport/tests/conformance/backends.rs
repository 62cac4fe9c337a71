//! The backends under test: each makes sessions between a reader (`near`) and a node (`far`).

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use kennel_protocol::wire::Role;
use kennel_transport::certs::{CertificateFiles, DevelopmentCa, Overwrite, create_development_ca};
use kennel_transport::loopback::{LoopbackIdentity, LoopbackNetwork};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::session::{Connector, LaneStream, Listener, Session};
use kennel_transport::tls::TlsIdentity;

/// Both ends of one session.
pub(crate) struct Pair {
    /// The side that connected, with a reader's certificate.
    pub(crate) near: Arc<dyn Session>,
    /// The side that accepted, with a node's certificate.
    pub(crate) far: Arc<dyn Session>,
    /// Listeners and endpoints, which must outlive the session.
    _keep: Box<dyn Any + Send>,
}

impl Pair {
    /// Opens a lane and returns both ends of it.
    pub(crate) async fn lane(&self, lane: kennel_transport::lane::Lane) -> (LaneStream, LaneStream) {
        let near = self.near.open(lane).await.expect("a lane");
        let far = self.far.accept().await.expect("the lane");
        assert_eq!((near.lane, far.lane), (lane, lane));
        (near, far)
    }
}

/// Makes sessions.
#[async_trait]
pub(crate) trait Backend: Sync {
    async fn connect(&self) -> Pair;
}

async fn meet(listener: &mut dyn Listener, connector: &dyn Connector) -> (Arc<dyn Session>, Arc<dyn Session>) {
    let address = listener.local_address();
    let (near, far) = tokio::join!(connector.connect(address), listener.accept());
    (near.expect("a session"), far.expect("a session"))
}

/// QUIC between two sockets of this host.
pub(crate) struct Quic {
    _dir: tempfile::TempDir,
    ca: DevelopmentCa,
}

impl Quic {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = create_development_ca(dir.path(), &[], Overwrite::Refuse).expect("a CA");
        Self { _dir: dir, ca }
    }

    fn identity(&self, files: &CertificateFiles) -> TlsIdentity {
        TlsIdentity::load(&self.ca.ca, &files.certificate, &files.key).expect("an identity")
    }
}

#[async_trait]
impl Backend for Quic {
    async fn connect(&self) -> Pair {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind =
            |files| QuicEndpoint::bind(any, &self.identity(files), QuicSettings::default()).expect("a free port");
        let (node, reader) = (bind(&self.ca.node), bind(&self.ca.client));
        let mut listener = node.listen().expect("a listener");
        let (near, far) = meet(&mut listener, &reader.connector()).await;
        Pair { near, far, _keep: Box::new((node, reader, listener)) }
    }
}

/// Queues in this process.
pub(crate) struct Loopback {
    network: LoopbackNetwork,
}

impl Loopback {
    pub(crate) fn new() -> Self {
        Self { network: LoopbackNetwork::new() }
    }
}

#[async_trait]
impl Backend for Loopback {
    async fn connect(&self) -> Pair {
        let identity = |name: &str, role| LoopbackIdentity { common_name: name.into(), role: Some(role) };
        let mut listener = self.network.listen(identity("kennel node", Role::Node));
        let connector = self.network.connector(identity("kennel client", Role::Client));
        let (near, far) = meet(&mut listener, &connector).await;
        Pair { near, far, _keep: Box::new(listener) }
    }
}
