//! What must hold when an S3 store, the network, or a person's settings misbehave.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_node::bucket::{BucketError, BucketSettings, CreateOutcome, ProbeError, Secret, establish_cluster};
use kennel_s3_server::{Always, Fault, FaultRule, Operation, Server, ServerSettings};

use crate::{body_of, connect, created, impatient, read, s3_settings, settings_of, start_server};

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
async fn a_full_server_writes_nothing() {
    let server = Server::start(ServerSettings { bytes_max: 10, ..ServerSettings::default() }).await.expect("a server");
    let bucket = connect(&settings_of(&server)).await;
    let outcome = bucket.create("object", vec![body_of(11, 1)]).await;
    assert!(matches!(outcome, CreateOutcome::Unknown(BucketError::Throttled { .. })), "{outcome:?}");
    assert_eq!(server.contents.objects("kennel"), []);
}
