//! The shipper's own library, pointed at a test's cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kennel_core::shipper::{PartitionNews, ShipperConfig, ShipperStatus, Until};
use kennel_protocol::ids::{PartitionKey, ProcessId};
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use kennel_transport::tls::TlsIdentity;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wal_shipper::ship::{Ring, ShipReport, Watcher, ship};
use wal_shipper::source::{Mapping, catalog, scan};

/// How long a whole import of a test may take, take-overs included.
const PATIENCE: Duration = Duration::from_secs(90);

/// A shipper that can reach a ring.
#[derive(Debug, Clone)]
pub(crate) struct TestShipper {
    pub(crate) identity: TlsIdentity,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl TestShipper {
    /// Ships everything, and fails unless all of it got there.
    pub(crate) async fn ship(&self, data_dir: &Path, until: Until) -> ShipReport {
        self.ship_named(data_dir, &Mapping::default(), until).await
    }

    /// Ships everything under the names of a mapping, and fails unless all of it got there.
    pub(crate) async fn ship_named(&self, data_dir: &Path, mapping: &Mapping, until: Until) -> ShipReport {
        let report = self.ship_with(data_dir, mapping, until, &mut Silent).await;
        assert!(report.finished, "{report:?}");
        assert_eq!(report.status.stopped, 0, "{:?}", report.news);
        report
    }

    /// Ships everything; `watcher` looks on.
    pub(crate) async fn ship_watched(&self, data_dir: &Path, until: Until, watcher: &mut dyn Watcher) -> ShipReport {
        self.ship_with(data_dir, &Mapping::default(), until, watcher).await
    }

    /// The ring as a shipper sees it.
    pub(crate) fn ring(&self) -> Ring {
        let endpoint = QuicEndpoint::bind_any(&self.identity, QuicSettings::default()).expect("a free port");
        Ring::new(Arc::new(endpoint.connector()), self.addresses.clone(), ProcessId(7))
    }

    async fn ship_with(
        &self,
        data_dir: &Path,
        mapping: &Mapping,
        until: Until,
        watcher: &mut dyn Watcher,
    ) -> ShipReport {
        let found = scan(data_dir).expect("a data directory");
        let catalog = catalog(&found, mapping, 0).expect("names");
        let ring = self.ring();
        let config = ShipperConfig { until, progress_timeout: Duration::from_secs(1), ..ShipperConfig::default() };
        let shipping = ship(ring, PATIENCE, config, &found, &catalog, watcher, core::future::pending());
        let shipped = timeout(PATIENCE, shipping).await;
        shipped.expect("shipping came to its end in time").expect("the ring could be reached")
    }
}

/// Looks away.
#[derive(Debug)]
pub(crate) struct Silent;

impl Watcher for Silent {
    fn progress(&mut self, _status: &ShipperStatus) {}
    fn news(&mut self, _partition: PartitionKey, _news: &PartitionNews) {}
}

/// Says once that so many bytes are committed.
#[derive(Debug)]
pub(crate) struct Milestone {
    bytes: u64,
    reached: Option<oneshot::Sender<()>>,
}

impl Milestone {
    pub(crate) fn at(bytes: u64) -> (Self, oneshot::Receiver<()>) {
        let (reached, waiting) = oneshot::channel();
        (Self { bytes, reached: Some(reached) }, waiting)
    }
}

impl Watcher for Milestone {
    fn progress(&mut self, status: &ShipperStatus) {
        if status.bytes_committed >= self.bytes
            && let Some(reached) = self.reached.take()
        {
            // Whoever waited may have given up.
            let _ = reached.send(());
        }
    }

    fn news(&mut self, _partition: PartitionKey, _news: &PartitionNews) {}
}
