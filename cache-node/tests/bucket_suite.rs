//! One suite for every store that Kennel runs on, and what must hold when an S3 store misbehaves.
//!
//! The suite runs on memory, on a directory, on our own S3 server, and on Ceph's radosgw where
//! `KENNEL_RADOSGW_ENDPOINT` names one (`tests/radosgw/start` prints it).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_node::bucket::{
    Bucket, BucketError, BucketSettings, BucketTimeouts, CreateOutcome, ProbeError, Secret, Suffix, establish_cluster,
};
use cache_node::random;
use futures::future::join_all;
use futures::{StreamExt, stream};
use kennel_s3_server::{Always, Fault, FaultRule, Operation, RunningServer, Server, ServerSettings};

/// Creates of one key at once.
const RACERS: usize = 32;
/// Keys raced for. Stores that are merely sloppy show within 20 rounds; those that ignore the condition in the first.
const ROUNDS: usize = 40;
/// More than one page of a listing, and more than one bulk delete.
const MANY_KEYS: usize = 1_050;
/// Creates in flight while the many keys are written.
const WRITERS: usize = 32;

mod suite {
    use super::*;

    /// Everything that any store must do.
    pub(super) async fn run(bucket: &Bucket) {
        one_racer_wins(bucket).await;
        what_was_created_is_read_back(bucket).await;
        ranges_are_exact(bucket).await;
        an_empty_object_is_an_object(bucket).await;
        absent_is_none(bucket).await;
        listings_join_their_pages(bucket).await;
        a_folder_is_not_a_prefix_of_a_name(bucket).await;
        deletion_confirms_what_is_gone(bucket).await;
        bad_keys_are_refused(bucket).await;
        prefixes_do_not_see_each_other(bucket).await;
        the_probe_accepts(bucket).await;
    }

    async fn one_racer_wins(bucket: &Bucket) {
        for round in 0..ROUNDS {
            let key = format!("race/{round:04}");
            let racers = (0..RACERS).map(|racer| {
                let (bucket, key) = (bucket.clone(), key.clone());
                let body = Bytes::from(format!("{round} {racer} {:x}", random::id()));
                tokio::spawn(async move { (bucket.create(&key, vec![body.clone()]).await, body) })
            });
            let mut winners = Vec::new();
            for outcome in join_all(racers).await {
                match outcome.expect("a racer does not panic") {
                    (CreateOutcome::Done, body) => winners.push(body),
                    (CreateOutcome::Exists, _) => {}
                    (other, _) => panic!("round {round}: {other:?}"),
                }
            }
            assert_eq!(winners.len(), 1, "round {round} has several winners, or none: {winners:?}");
            assert_eq!(read(bucket, &key).await, winners[0], "round {round}: another body than the winner's");
        }
    }

    async fn what_was_created_is_read_back(bucket: &Bucket) {
        let pieces = [body_of(70_000, 1), Bytes::new(), body_of(1, 2), body_of(3_000_000, 3)];
        created(bucket.create("whole/pieces", pieces.to_vec()).await);
        assert_eq!(read(bucket, "whole/pieces").await, pieces.concat());
        let head = bucket.head("whole/pieces").await.expect("a head").expect("an object");
        assert_eq!(head.size, pieces.concat().len() as u64);
        let age = millis_now().abs_diff(head.modified_millis);
        assert!(age < 600_000, "the store's clock is {age} ms from ours, or its unit is not milliseconds");
        let background = bucket.background();
        assert_eq!(read(&background, "whole/pieces").await, pieces.concat());
    }

    async fn ranges_are_exact(bucket: &Bucket) {
        let body = body_of(10_000, 4);
        created(bucket.create("ranges/object", vec![body.clone()]).await);
        for (start, end) in [(0, 1), (0, 10_000), (9_999, 10_000), (4_000, 5_000)] {
            let part = bucket.get_range("ranges/object", start as u64..end as u64).await.expect("a range");
            assert_eq!(part.expect("an object"), body.slice(start..end));
        }
        for range in [9_999..10_001, 10_000..10_001, 20_000..20_010] {
            let refused = bucket.get_range("ranges/object", range.clone()).await;
            assert!(matches!(refused, Err(BucketError::Range { size: 10_000, .. })), "{range:?}: {refused:?}");
        }
        for length in [1, 256, 10_000, 20_000] {
            let wanted = body.slice(body.len().saturating_sub(length)..);
            let suffix = bucket.get_suffix("ranges/object", length as u64).await.expect("a suffix");
            assert_eq!(suffix, Some(Suffix { bytes: wanted, object_size: 10_000 }), "last {length}");
        }
    }

    async fn an_empty_object_is_an_object(bucket: &Bucket) {
        created(bucket.create("empty/object", Vec::new()).await);
        assert_eq!(read(bucket, "empty/object").await, Bytes::new());
        let suffix = bucket.get_suffix("empty/object", 64).await.expect("a suffix");
        assert_eq!(suffix, Some(Suffix { bytes: Bytes::new(), object_size: 0 }));
        let range = bucket.get_range("empty/object", 0..1).await;
        assert!(matches!(range, Err(BucketError::Range { size: 0, .. })), "{range:?}");
        let again = bucket.create("empty/object", vec![Bytes::from_static(b"more")]).await;
        assert!(matches!(again, CreateOutcome::Exists), "{again:?}");
    }

    async fn absent_is_none(bucket: &Bucket) {
        assert_eq!(bucket.get("absent/object").await.expect("an answer"), None);
        assert_eq!(bucket.get_range("absent/object", 0..10).await.expect("an answer"), None);
        assert_eq!(bucket.get_suffix("absent/object", 10).await.expect("an answer"), None);
        assert_eq!(bucket.head("absent/object").await.expect("an answer"), None);
        let listing = bucket.list("absent", 10).await.expect("a listing");
        assert!(listing.entries.is_empty() && listing.complete, "{listing:?}");
    }

    async fn listings_join_their_pages(bucket: &Bucket) {
        let keys: Vec<_> = (0..MANY_KEYS).map(|number| format!("many/{number:020}")).collect();
        let outcomes = stream::iter(keys.clone()).map(|key| async move {
            created(bucket.create(&key, vec![Bytes::from(key.clone())]).await);
        });
        outcomes.buffer_unordered(WRITERS).collect::<Vec<_>>().await;

        let all = bucket.list("many", usize::MAX).await.expect("a listing");
        assert!(all.complete);
        assert_eq!(all.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), keys);
        assert!(all.entries.iter().all(|entry| entry.size == 25), "sizes differ");

        let mut seen = Vec::new();
        loop {
            let start = seen.last().cloned().unwrap_or_else(|| "many/".to_owned() + "!");
            let page = bucket.list_after("many", &start, 400).await.expect("a page");
            seen.extend(page.entries.into_iter().map(|entry| entry.key));
            if page.complete {
                break;
            }
        }
        assert_eq!(seen, keys);

        let deleted = bucket.delete_many(&keys).await;
        assert!(deleted.unconfirmed.is_empty(), "{:?}", deleted.first_error);
        assert_eq!(deleted.confirmed, keys);
        assert!(bucket.list("many", 1).await.expect("a listing").entries.is_empty());
    }

    async fn a_folder_is_not_a_prefix_of_a_name(bucket: &Bucket) {
        created(bucket.create("folder/1/object", vec![]).await);
        created(bucket.create("folder/10/object", vec![]).await);
        let listing = bucket.list("folder/1", 10).await.expect("a listing");
        assert_eq!(listing.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["folder/1/object"]);
    }

    async fn deletion_confirms_what_is_gone(bucket: &Bucket) {
        created(bucket.create("gone/1", vec![Bytes::from_static(b"1")]).await);
        let keys = ["gone/1".to_owned(), "gone/never-there".to_owned()];
        let deleted = bucket.delete_many(&keys).await;
        assert_eq!(deleted.confirmed, keys, "{:?}", deleted.first_error);
        assert_eq!(bucket.get("gone/1").await.expect("an answer"), None);
    }

    async fn bad_keys_are_refused(bucket: &Bucket) {
        for key in ["../outside", "a//b", "a/../b"] {
            let outcome = bucket.create(key, vec![]).await;
            assert!(matches!(outcome, CreateOutcome::Failed(BucketError::InvalidKey { .. })), "{key}: {outcome:?}");
            assert!(matches!(bucket.get(key).await, Err(BucketError::InvalidKey { .. })), "{key}");
        }
    }

    async fn prefixes_do_not_see_each_other(bucket: &Bucket) {
        let [one, two] = ["one", "two"].map(|name| {
            let prefix = format!("neighbours-{:x}/{name}", random::id());
            bucket.under(&prefix).expect("a valid prefix")
        });
        created(one.create("object", vec![Bytes::from_static(b"one")]).await);
        assert_eq!(two.get("object").await.expect("an answer"), None);
        created(two.create("object", vec![Bytes::from_static(b"two")]).await);
        assert_eq!(read(&one, "object").await, "one");
        assert_eq!(one.list("", 10).await.expect("a listing").entries.len(), 1);
    }

    async fn the_probe_accepts(bucket: &Bucket) {
        let report = bucket.probe().await.expect("a good store");
        assert_eq!((report.decided, report.left_over), (report.rounds, 0), "{report:?}");
        assert!(report.elapsed < Duration::from_secs(2), "{report:?}");
        assert!(bucket.list("probe", 1).await.expect("a listing").entries.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    suite::run(&connect(&BucketSettings::at(format!("memory://{:x}/a/prefix", random::id()))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory() {
    let directory = tempfile::tempdir().expect("a directory");
    suite::run(&connect(&BucketSettings::at(format!("file://{}", directory.path().display()))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_s3_server() {
    let server = start_server().await;
    suite::run(&connect(&settings_of(&server)).await).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn radosgw() {
    let Ok(endpoint) = std::env::var("KENNEL_RADOSGW_ENDPOINT") else {
        println!("SKIPPED: KENNEL_RADOSGW_ENDPOINT is not set; tests/radosgw/start starts a server and prints it");
        return;
    };
    let url = format!("s3://kennel/{:x}", random::id());
    suite::run(&connect(&s3_settings(&endpoint, &url)).await).await;
}

#[tokio::test]
async fn a_name_in_memory_is_one_bucket() {
    let url = format!("memory://{:x}", random::id());
    let [one, two] = [connect(&BucketSettings::at(&url)).await, connect(&BucketSettings::at(&url)).await];
    created(one.create("object", vec![Bytes::from_static(b"shared")]).await);
    assert_eq!(read(&two, "object").await, "shared");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_reads_back_as_ones_own() {
    for fault in [Fault::LostAnswer, Fault::RefuseAfterEffect(503), Fault::RefuseAfterEffect(500)] {
        let server = start_server().await;
        let bucket = connect(&settings_of(&server)).await;
        server.faults.add(FaultRule::next_put("slot", fault));
        let mine = body_of(100, 7);
        let outcome = bucket.create("slot", vec![mine.clone()]).await;
        assert!(matches!(outcome, CreateOutcome::Unknown(_)), "{fault}: {outcome:?}");
        assert_eq!(server.faults.hits(), 1, "{fault}: the client tried again by itself");
        assert_eq!(read(&bucket, "slot").await, mine, "{fault}");
        let again = bucket.create("slot", vec![mine]).await;
        assert!(matches!(again, CreateOutcome::Exists), "{fault}: {again:?}");
    }
}

#[tokio::test]
async fn what_did_not_happen_is_absent_and_can_be_sent_again() {
    for fault in [Fault::Reset, Fault::Refuse(409), Fault::Refuse(500), Fault::Refuse(503), Fault::Refuse(429)] {
        let server = start_server().await;
        let bucket = connect(&settings_of(&server)).await;
        server.faults.add(FaultRule::next_put("slot", fault));
        let outcome = bucket.create("slot", vec![Bytes::from_static(b"mine")]).await;
        assert!(matches!(outcome, CreateOutcome::Unknown(_)), "{fault}: {outcome:?}");
        assert_eq!(bucket.get("slot").await.expect("an answer"), None, "{fault}");
        created(bucket.create("slot", vec![Bytes::from_static(b"mine")]).await);
    }
}

#[tokio::test]
async fn a_refused_permission_is_a_failure() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    server.faults.add(FaultRule::next_put("slot", Fault::Refuse(403)));
    let outcome = bucket.create("slot", vec![Bytes::from_static(b"mine")]).await;
    assert!(matches!(outcome, CreateOutcome::Failed(BucketError::Denied { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_late_put_does_not_overwrite() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    let late = Duration::from_millis(200);
    for key in ["taken", "free"] {
        server.faults.add(FaultRule::next_put(key, Fault::LateEffect(late)));
        let outcome = bucket.create(key, vec![Bytes::from_static(b"late")]).await;
        assert!(matches!(outcome, CreateOutcome::Unknown(_)), "{key}: {outcome:?}");
        assert_eq!(bucket.get(key).await.expect("an answer"), None, "{key}");
    }
    created(bucket.create("taken", vec![Bytes::from_static(b"early")]).await);
    tokio::time::sleep(late * 2).await;
    assert_eq!(read(&bucket, "taken").await, "early");
    assert_eq!(read(&bucket, "free").await, "late", "an unknown write may still happen");
}

#[tokio::test]
async fn time_outs_are_not_answers() {
    let server = start_server().await;
    let bucket = connect(&impatient(settings_of(&server))).await;
    server.faults.add(FaultRule::every_request(Fault::Stall(Duration::from_mins(1))));
    let (created, read, sized) = tokio::join!(bucket.create("k", vec![]), bucket.get("k"), bucket.head("k"));
    assert!(matches!(created, CreateOutcome::Unknown(BucketError::Timeout { .. })), "{created:?}");
    assert!(matches!(read, Err(BucketError::Timeout { .. })), "{read:?}");
    assert!(matches!(sized, Err(BucketError::Timeout { .. })), "{sized:?}");
}

#[tokio::test]
async fn a_create_that_never_had_its_turn_was_not_sent() {
    let server = start_server().await;
    let mut settings = impatient(settings_of(&server));
    settings.limits.puts = 1;
    // The first holds the only turn until there is no time left for an attempt of the second.
    settings.timeouts.attempt = settings.timeouts.overall * 2 / 3;
    let bucket = connect(&settings).await;
    server.faults.add(FaultRule::next_put("", Fault::Stall(Duration::from_mins(1))));
    let (first, second) = tokio::join!(bucket.create("first", vec![]), bucket.create("second", vec![]));
    assert!(matches!(first, CreateOutcome::Unknown(BucketError::Timeout { .. })), "{first:?}");
    assert!(matches!(second, CreateOutcome::Failed(BucketError::Busy { .. })), "{second:?}");
}

#[tokio::test]
async fn reads_ride_over_hiccups_and_are_counted_as_billed() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    created(bucket.create("object", vec![Bytes::from_static(b"body")]).await);
    for fault in [Fault::Refuse(503), Fault::Refuse(500)] {
        let rule = FaultRule { operation: Some(Operation::Get), ..FaultRule::next_put("object", fault) };
        server.faults.add(rule);
    }
    assert_eq!(read(&bucket, "object").await, "body");
    let counted = bucket.counters().snapshot();
    assert_eq!((counted.put, counted.get), (1, 3), "{counted:?}");
    assert_eq!((counted.bytes_put, counted.bytes_got), (4, 4), "{counted:?}");
}

#[tokio::test]
async fn a_failed_bulk_delete_confirms_nothing() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    created(bucket.create("object", vec![]).await);
    server.faults.add(FaultRule {
        operation: Some(Operation::Delete),
        times: None,
        ..FaultRule::next_put("", Fault::Refuse(400))
    });
    let deleted = bucket.delete_many(&["object".to_owned()]).await;
    assert!(deleted.confirmed.is_empty(), "{deleted:?}");
    assert_eq!(deleted.unconfirmed, ["object"]);
    assert!(matches!(deleted.first_error, Some(BucketError::Rejected { .. })), "{deleted:?}");
}

#[tokio::test]
async fn a_cluster_is_established_through_lost_answers() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    for fault in [Fault::Reset, Fault::Refuse(409), Fault::LostAnswer] {
        server.faults.add(FaultRule::next_put("/cluster", fault));
    }
    let first = establish_cluster(&bucket, 8, None).await.expect("an identity");
    assert_eq!(server.faults.hits(), 3);
    assert_eq!(establish_cluster(&bucket, 8, Some(first.cluster)).await.expect("the same identity"), first);
}

#[tokio::test]
async fn the_probe_refuses_a_store_that_ignores_conditions() {
    let server = start_server().await;
    server.faults.set_always(Always { conditions_are_ignored: true, ..Always::default() });
    let refused = connect(&settings_of(&server)).await.probe().await;
    assert!(matches!(refused, Err(ProbeError::SeveralWinners { winners: 2.. })), "{refused:?}");
    assert_eq!(server.contents.objects("kennel"), [], "scratch objects stayed behind");
}

#[tokio::test]
async fn the_probe_names_the_missing_list_permission() {
    let server = start_server().await;
    server.faults.set_always(Always { absent_is_forbidden: true, ..Always::default() });
    let bucket = connect(&settings_of(&server)).await;
    let absent = bucket.get("absent").await;
    assert!(matches!(absent, Err(BucketError::Denied { .. })), "{absent:?}");
    let refused = bucket.probe().await.expect_err("an absent key must read as absent");
    assert!(matches!(refused, ProbeError::AbsentIsForbidden { .. }), "{refused:?}");
    assert!(refused.to_string().contains("s3:ListBucket"), "{refused}");
}

#[tokio::test]
async fn the_probe_survives_lost_answers_but_wants_one_verdict() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    server.faults.add(FaultRule { times: Some(8), ..FaultRule::next_put("/0", Fault::LostAnswer) });
    let report = bucket.probe().await.expect("two rounds are decided");
    assert_eq!(report.decided, report.rounds - 1, "{report:?}");
    server.faults.add(FaultRule { times: None, ..FaultRule::next_put("probe/", Fault::LostAnswer) });
    let undecided = bucket.probe().await;
    assert!(matches!(undecided, Err(ProbeError::Undecided { .. })), "{undecided:?}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_everywhere() {
    let server = start_server().await;
    for (id, secret) in [("kennel", "wrong"), ("nobody", "kennel-secret")] {
        let settings = BucketSettings {
            access_key_id: Some(id.to_owned()),
            secret_access_key: Some(Secret::new(secret)),
            ..settings_of(&server)
        };
        let bucket = connect(&settings).await;
        let read = bucket.get("object").await;
        assert!(matches!(read, Err(BucketError::Denied { .. })), "{read:?}");
        let created = bucket.create("object", vec![]).await;
        assert!(matches!(created, CreateOutcome::Failed(BucketError::Denied { .. })), "{created:?}");
        let probed = bucket.probe().await;
        assert!(matches!(probed, Err(ProbeError::Bucket { source: BucketError::Denied { .. } })), "{probed:?}");
    }
    assert_eq!(server.contents.objects("kennel"), []);
}

#[tokio::test]
async fn a_missing_bucket_is_not_an_absent_object() {
    let server = start_server().await;
    let bucket = connect(&s3_settings(&server.endpoint(), "s3://elsewhere/prefix")).await;
    let outcome = bucket.create("object", vec![]).await;
    assert!(matches!(outcome, CreateOutcome::Failed(BucketError::NotFoundBucket { .. })), "{outcome:?}");
    let answers = [
        bucket.get("object").await.map(|found| found.is_some()),
        bucket.get_suffix("object", 1).await.map(|found| found.is_some()),
        bucket.head("object").await.map(|found| found.is_some()),
        bucket.list("", 1).await.map(|listing| !listing.entries.is_empty()),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(BucketError::NotFoundBucket { .. })), "{answer:?}");
    }

    let directory = tempfile::tempdir().expect("a directory");
    let bucket = connect(&BucketSettings::at(format!("file://{}", directory.path().display()))).await;
    drop(directory);
    let answer = bucket.get("object").await;
    assert!(matches!(answer, Err(BucketError::NotFoundBucket { .. })), "{answer:?}");
}

#[tokio::test]
async fn an_unreachable_endpoint_is_said_within_the_time_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener that never answers");
    let silent_endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let closed_endpoint = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    for endpoint in [&silent_endpoint, &closed_endpoint] {
        let settings = impatient(s3_settings(endpoint, "s3://kennel"));
        let bucket = connect(&settings).await;
        let start = Instant::now();
        let read = bucket.get("object").await.expect_err("nobody answers");
        let outcome = bucket.create("object", vec![]).await;
        assert!(start.elapsed() < settings.timeouts.overall * 2 + Duration::from_secs(1), "{:?}", start.elapsed());
        if *endpoint == closed_endpoint {
            assert!(matches!(read, BucketError::Unreachable { .. }), "{read:?}");
            assert!(matches!(outcome, CreateOutcome::Failed(BucketError::Unreachable { .. })), "{outcome:?}");
        } else {
            assert!(matches!(read, BucketError::Timeout { .. }), "{read:?}");
            assert!(matches!(outcome, CreateOutcome::Unknown(BucketError::Timeout { .. })), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_read_beyond_the_limit_is_refused_before_it_is_read() {
    let mut settings = BucketSettings::at(format!("memory://{:x}", random::id()));
    settings.limits.read_bytes_max = 10;
    let bucket = connect(&settings).await;
    created(bucket.create("object", vec![body_of(11, 1)]).await);
    let refused = bucket.get("object").await;
    assert!(matches!(refused, Err(BucketError::TooLarge { size: 11, limit: 10, .. })), "{refused:?}");
    let refused = bucket.get_range("object", 0..11).await;
    assert!(matches!(refused, Err(BucketError::TooLarge { .. })), "{refused:?}");
    assert!(bucket.get_range("object", 0..10).await.expect("a range").is_some());
}

#[tokio::test]
async fn a_full_server_writes_nothing() {
    let server = Server::start(ServerSettings { bytes_max: 10, ..ServerSettings::default() }).await.expect("a server");
    let bucket = connect(&settings_of(&server)).await;
    let outcome = bucket.create("object", vec![body_of(11, 1)]).await;
    assert!(matches!(outcome, CreateOutcome::Unknown(BucketError::Throttled { .. })), "{outcome:?}");
    assert_eq!(server.contents.objects("kennel"), []);
}

#[tokio::test]
async fn every_key_is_listed_once_under_the_whole_prefix() {
    let server = start_server().await;
    let bucket = connect(&settings_of(&server)).await;
    created(bucket.create("claims/0/1", vec![Bytes::from_static(b"claim")]).await);
    let keys: BTreeSet<_> = server.contents.objects("kennel").into_iter().map(|object| object.key).collect();
    assert_eq!(keys, BTreeSet::from(["a/prefix/claims/0/1".to_owned()]));
}

async fn start_server() -> RunningServer {
    Server::start(ServerSettings::default()).await.expect("a server")
}

fn settings_of(server: &RunningServer) -> BucketSettings {
    s3_settings(&server.endpoint(), "s3://kennel/a/prefix")
}

/// Both our server and the script for radosgw accept this one key.
fn s3_settings(endpoint: &str, url: &str) -> BucketSettings {
    BucketSettings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("kennel".to_owned()),
        secret_access_key: Some(Secret::new("kennel-secret")),
        allow_http: true,
        ..BucketSettings::at(url)
    }
}

fn impatient(settings: BucketSettings) -> BucketSettings {
    let timeouts = BucketTimeouts {
        connect: Duration::from_millis(200),
        attempt: Duration::from_millis(300),
        overall: Duration::from_millis(900),
    };
    BucketSettings { timeouts, ..settings }
}

async fn connect(settings: &BucketSettings) -> Bucket {
    Bucket::connect(settings).await.expect("a bucket")
}

async fn read(bucket: &Bucket, key: &str) -> Bytes {
    bucket.get(key).await.expect("an answer").expect("an object")
}

#[expect(clippy::needless_pass_by_value, reason = "an outcome ends here")]
fn created(outcome: CreateOutcome) {
    assert!(matches!(outcome, CreateOutcome::Done), "{outcome:?}");
}

/// `length` bytes that differ by position and by `seed`; their period is prime.
fn body_of(length: usize, seed: u8) -> Bytes {
    (0..=250_u8).cycle().take(length).map(|byte| byte ^ seed).collect()
}

fn millis_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a date before the year 292277026")
}
