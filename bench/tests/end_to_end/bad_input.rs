//! What people get wrong: each is refused by the program itself, in one line that says what to do, within seconds.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kennel_core::shipper::Until;
use kennel_protocol::frame::{FrameHeader, FrameKind};
use kennel_protocol::ids::ProcessId;
use kennel_protocol::wire::ErrorCode;
use kennel_s3_server::Always;
use kennel_transport::certs::{CertificateFiles, Overwrite, create_development_ca};
use kennel_transport::frames::FrameWriteError;
use kennel_transport::lane::Lane;
use kennel_transport::quic::{QuicEndpoint, QuicSettings};
use tokio::time::{sleep, timeout};
use wal_shipper::ship::Ring;

use crate::support::bucket::{TestBucket, s3_assignments};
use crate::support::cluster::Cluster;
use crate::support::node::free_address;
use crate::support::programs::{output, program, refusal};
use crate::support::source::{FIXTURE_MESSAGES, fixtures};

/// A dead endpoint shows itself at once; whoever starts a node does not wait longer than this for the verdict.
const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn keys_and_values_that_cannot_be() {
    let cases: [(&str, &[&str]); 10] = [
        ("flush.intervall=400ms", &["flush.intervall", "did you mean `flush.interval`"]),
        ("bukket.url=file:///tmp", &["bukket.url"]),
        ("journal.size=lots", &["journal.size", "64 MiB"]),
        ("journal.size=1 MiB", &["journal.size", "64.0 MiB"]),
        ("flush.interval=soon", &["flush.interval", "400ms"]),
        ("flush.interval=5s", &["flush.interval", "200ms", "800ms"]),
        ("timing.owner_timeout=100ms", &["timing.owner_timeout", "timing.heartbeat"]),
        ("cluster.seeds=[\"somewhere\"]", &["cluster.seeds", "host:port"]),
        ("listen.quic=0.0.0.0:0", &["listen.quic", "listen.advertise"]),
        ("bucket.url=ftp://host", &["bucket.url", "s3://"]),
    ];
    for (assignment, words) in cases {
        says(&refusal(&[assignment.to_owned()]).await, words);
    }
}

#[tokio::test]
async fn a_file_is_refused_by_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.toml");
    std::fs::write(&file, "[flush]\ninterval = 400\n").expect("a file");
    let mut command = program("cache-node");
    command.arg("check-config").arg("--config").arg(&file);
    let output = output(command).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    says(&error, &["flush.interval", "node.toml", "400ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_others() {
    let cluster = Cluster::start(1, TestBucket::directory(), &["cluster.copies=1", "cluster.min_copies=1"]).await;
    let fresh = tempfile::tempdir().expect("a directory");
    let elsewhere = format!("node.directory={}", fresh.path().display());
    let gossip = format!("listen.gossip={}", free_address());
    let with = |own: &[&str]| {
        let own = own.iter().map(|&text| text.to_owned());
        let all = cluster.assignments_of(0).into_iter().chain([elsewhere.clone(), gossip.clone()]).chain(own);
        all.collect::<Vec<_>>()
    };
    let other_cluster = with(&["cluster.id=0123456789abcdef0123456789abcdef"]);
    says(&refusal(&other_cluster).await, &["belongs to", "0123456789abcdef0123456789abcdef", "prefix"]);
    says(&refusal(&with(&["cluster.shard_count=5"])).await, &["shard", "4", "5"]);
    let same_directory = format!("node.directory={}", cluster.directory(0).display());
    says(&refusal(&with(&[&same_directory])).await, &["in use by another process", "journal"]);
    // The one that runs did not even notice.
    cluster.shipper().ship(&fixtures(), Until::Stored).await;
    cluster.check(&fixtures(), FIXTURE_MESSAGES, None).await;
}

#[tokio::test]
async fn ports_in_use() {
    let cluster = Cluster::prepare(1, TestBucket::directory(), &[]);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (udp_address, tcp_address) = (udp.local_addr().expect("bound"), tcp.local_addr().expect("bound"));
    for (key, address) in [("quic", udp_address), ("gossip", udp_address), ("http", tcp_address)] {
        let taken = cluster.assignments_of(0).into_iter().chain([format!("listen.{key}={address}")]);
        says(&refusal(&taken.collect::<Vec<_>>()).await, &[&format!("listen.{key}"), &address.to_string()]);
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there() {
    let cluster = Cluster::prepare(1, TestBucket::directory(), &[]);
    let nobody = s3_assignments(&format!("http://{}", free_address()));
    // With the time-outs that everybody has.
    let nobody = nobody.into_iter().filter(|assignment| !assignment.contains("timeout"));
    let started = Instant::now();
    let error = refusal(&cluster.assignments_of(0).into_iter().chain(nobody).collect::<Vec<_>>()).await;
    says(&error, &["bucket", "cannot be reached", "endpoint"]);
    assert!(started.elapsed() < UNREACHABLE_PATIENCE, "it took {:?} to say: {error}", started.elapsed());
    let missing = cluster.assignments_of(0).into_iter().chain(["bucket.url=file:///nowhere/at/all".to_owned()]);
    says(&refusal(&missing.collect::<Vec<_>>()).await, &["file:///nowhere/at/all", "does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lets_two_create() {
    let cluster = Cluster::prepare(1, TestBucket::s3().await, &[]);
    cluster.bucket.faults().set_always(Always { conditions_are_ignored: true, ..Always::default() });
    says(&refusal(&cluster.assignments_of(0)).await, &["probed and refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_others() {
    let cluster = Cluster::start(1, TestBucket::memory(), &["cluster.copies=1", "cluster.min_copies=1"]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let foreign = create_development_ca(directory.path(), &[], Overwrite::Refuse).expect("certificates");
    // A node tells at once that its own do not go together.
    let alone = Cluster::prepare(1, TestBucket::memory(), &[]);
    for (key, file) in [("tls.ca", &foreign.ca), ("tls.key", &foreign.node.key)] {
        let mixed = alone.assignments_of(0).into_iter().chain([format!("{key}={}", file.display())]);
        says(&refusal(&mixed.collect::<Vec<_>>()).await, &["certificate", &file.display().to_string()]);
    }
    // A shipper of another authority, and a reader who would like to ship.
    let own = &cluster.certificates;
    let outsider = Holder { ca: &own.ca, files: &foreign.shipper };
    let mistrusting = Holder { ca: &foreign.ca, files: &foreign.shipper };
    let reader = Holder { ca: &own.ca, files: &own.client };
    for (holder, word) in [(outsider, "certificate"), (mistrusting, "certificate"), (reader, "shipper")] {
        let started = Instant::now();
        let mut import = program("wal-shipper");
        import.args(["import", "--ring", &cluster.addresses()[0].to_string()]).arg("--data-dir").arg(fixtures());
        import.arg("--ca").arg(holder.ca).arg("--cert").arg(&holder.files.certificate);
        import.arg("--key").arg(&holder.files.key);
        let output = output(import).await;
        let error = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert_eq!(output.status.code(), Some(1), "{error}");
        says(&error, &["wal-shipper: ", word]);
        assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}: {error}", started.elapsed());
    }
}

/// Who a shipper claims to be, and whom it trusts.
struct Holder<'a> {
    ca: &'a Path,
    files: &'a CertificateFiles,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_frame_ends_its_lane_and_nothing_else() {
    let cluster = Cluster::start(1, TestBucket::memory(), &["cluster.copies=1", "cluster.min_copies=1"]).await;
    let identity = cluster.identity(&cluster.certificates.shipper);
    let endpoint = QuicEndpoint::bind_any(&identity, QuicSettings::default()).expect("a free port");
    let address = cluster.addresses()[0];
    let ring = Ring::new(Arc::new(endpoint.connector()), vec![address], ProcessId(3));
    let (session, _) = ring.connect(address, None).await.expect("a welcome");
    let mut lane = session.open(Lane::Read).await.expect("a lane");
    let header = FrameHeader {
        version: 1,
        kind: FrameKind::Fetch,
        head_bytes: u32::MAX,
        payload_bytes: 0,
        correlation: 1,
        head_checksum: 0,
        payload_checksum: 0,
    };
    lane.sink.send_unframed(header.encode().to_vec().into()).await.expect("it leaves");
    let refused = timeout(Duration::from_secs(5), async {
        loop {
            if let Err(error) = lane.sink.send_unframed(vec![0; 64].into()).await {
                return error;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let refused = refused.await.expect("the node refuses it in time");
    assert_eq!(refused, FrameWriteError::StoppedByPeer { code: ErrorCode::FrameTooLarge.into() });
    // The node serves on.
    cluster.shipper().ship(&fixtures(), Until::Committed).await;
}

fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}
