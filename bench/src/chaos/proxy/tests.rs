//! Each fault, seen from a node's side and from the bucket's.

use std::time::Instant;

use cache_node::bucket::{Bucket, BucketSettings, BucketTimeouts, CreateOutcome, Secret};
use kennel_s3_server::{RunningServer, Server, ServerSettings};

use super::*;

/// How long a node of these tests waits for an answer.
const ATTEMPT: Duration = Duration::from_millis(700);
const BODY: Bytes = Bytes::from_static(b"mine");

struct Setup {
    server: RunningServer,
    proxy: Proxy,
    /// As node 1 reaches it.
    bucket: Bucket,
}

impl Setup {
    async fn with(faults: &[BucketFault]) -> Self {
        let server = Server::start(ServerSettings::default()).await.expect("a server");
        let proxy = Proxy::start([127, 0, 0, 1].into(), 2, server.address, 7).await.expect("a proxy");
        for fault in faults {
            proxy.faults.add(1, *fault);
        }
        let bucket = connect(&proxy, 1).await;
        Self { server, proxy, bucket }
    }

    async fn create(&self, key: &str) -> CreateOutcome {
        self.bucket.create(key, vec![BODY]).await
    }

    /// Whether the object is really there.
    fn has(&self, key: &str) -> bool {
        self.server.contents.body("kennel", &format!("t/{key}")).is_some()
    }
}

async fn connect(proxy: &Proxy, node: u8) -> Bucket {
    let settings = BucketSettings {
        endpoint: Some(proxy.endpoint(node)),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("kennel".to_owned()),
        secret_access_key: Some(Secret::new("kennel-secret")),
        allow_http: true,
        timeouts: BucketTimeouts { connect: ATTEMPT, attempt: ATTEMPT, overall: ATTEMPT * 2 },
        ..BucketSettings::at("s3://kennel/t")
    };
    Bucket::connect(&settings).await.expect("settings that work")
}

#[tokio::test]
async fn without_faults_everything_passes_untouched() {
    let setup = Setup::with(&[]).await;
    assert!(matches!(setup.create("a").await, CreateOutcome::Done));
    assert!(matches!(setup.create("a").await, CreateOutcome::Exists));
    assert_eq!(setup.bucket.get("a").await.expect("an answer"), Some(BODY));
    assert_eq!(setup.bucket.get("b").await.expect("an answer"), None);
    assert_eq!(setup.bucket.head("a").await.expect("an answer").map(|head| head.size), Some(BODY.len() as u64));
    assert_eq!(setup.proxy.faults.hits(), 0);
}

/// F1: the PUT took effect and nobody was told.
#[tokio::test]
async fn a_lost_answer_is_an_object_that_is_there() {
    let setup = Setup::with(&[BucketFault::LostAnswer { percent: 100 }]).await;
    let outcome = setup.create("a").await;
    assert!(matches!(outcome, CreateOutcome::Unknown(_)), "{outcome:?}");
    assert!(setup.has("a"));
    setup.proxy.faults.remove(1, BucketFault::LostAnswer { percent: 100 });
    assert!(matches!(setup.create("a").await, CreateOutcome::Exists));
}

/// F2: a conflict, or another error, while nothing landed.
#[tokio::test]
async fn a_refusal_leaves_nothing_behind() {
    for status in [409, 500, 503] {
        let fault = BucketFault::Refuse { status, percent: 100 };
        let setup = Setup::with(&[fault]).await;
        let outcome = setup.create("a").await;
        assert!(matches!(outcome, CreateOutcome::Unknown(_)), "{status}: {outcome:?}");
        assert!(!setup.has("a"), "{status}");
        setup.proxy.faults.clear();
        assert!(matches!(setup.create("a").await, CreateOutcome::Done), "{status}");
    }
}

#[tokio::test]
async fn a_reset_before_the_bucket_leaves_nothing_behind() {
    let setup = Setup::with(&[BucketFault::ResetBefore { percent: 100 }]).await;
    assert!(matches!(setup.create("a").await, CreateOutcome::Unknown(_)));
    assert!(!setup.has("a"));
    assert_eq!(setup.proxy.faults.hits(), 1);
}

/// F16, F18: the bucket is away for one node, and there for another.
#[tokio::test]
async fn a_blackhole_hits_its_node_alone_and_ends() {
    let setup = Setup::with(&[BucketFault::Blackhole]).await;
    let other = connect(&setup.proxy, 2).await;
    let (cut_off, served) = tokio::join!(setup.create("a"), other.create("b", vec![BODY]));
    assert!(matches!(cut_off, CreateOutcome::Unknown(_)), "{cut_off:?}");
    assert!(matches!(served, CreateOutcome::Done), "{served:?}");
    assert!(setup.bucket.get("b").await.is_err());
    assert!(!setup.has("a"));
    setup.proxy.faults.clear();
    assert_eq!(setup.bucket.get("b").await.expect("an answer"), Some(BODY));
}

/// F17: the bucket is slow.
#[tokio::test]
async fn slow_and_narrow_ways_take_their_time() {
    for fault in [BucketFault::Slow { millis: 200 }, BucketFault::Narrow { kilobytes_per_second: 100 }] {
        let setup = Setup::with(&[fault]).await;
        let started = Instant::now();
        let outcome = setup.bucket.create("a", vec![Bytes::from(vec![0; 20_000])]).await;
        assert!(matches!(outcome, CreateOutcome::Done), "{outcome:?}");
        assert!(started.elapsed() >= Duration::from_millis(200), "{fault}: {:?}", started.elapsed());
    }
}

/// F17: PUTs that are stuck for ever, while reads are served.
#[tokio::test]
async fn a_stuck_put_is_never_answered_and_reads_are() {
    let setup = Setup::with(&[BucketFault::StuckPuts { percent: 100 }]).await;
    assert!(matches!(setup.create("a").await, CreateOutcome::Unknown(_)));
    assert_eq!(setup.bucket.get("a").await.expect("an answer"), None);
    assert!(!setup.has("a"));
}

/// F1: the PUT is performed after its sender has given up.
#[tokio::test]
async fn a_late_put_lands_when_nobody_waits_for_it() {
    let setup = Setup::with(&[BucketFault::Late { millis: 300, percent: 100 }]).await;
    assert!(matches!(setup.create("a").await, CreateOutcome::Unknown(_)));
    assert!(!setup.has("a"), "not yet");
    sleep(Duration::from_millis(600)).await;
    assert!(setup.has("a"));
}
