//! What any store must do, as one list of checks over a bucket.

use std::time::Duration;

use bytes::Bytes;
use cache_node::bucket::{Bucket, BucketError, CreateOutcome, Suffix};
use cache_node::random;
use futures::future::join_all;
use futures::{StreamExt, stream};

use crate::{body_of, created, read};

/// Creates of one key at once.
const RACERS: usize = 32;
/// Keys raced for. Stores that are merely sloppy show within 20 rounds; those that ignore the condition in the first.
const ROUNDS: usize = 40;
/// Three pages of a listing, and three bulk deletes (F36): the page in the middle begins and ends with a token.
const MANY_KEYS: usize = 2_500;
/// Creates in flight while the many keys are written.
const WRITERS: usize = 32;

/// Everything that any store must do.
pub(crate) async fn run(bucket: &Bucket) {
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

/// F36.
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

fn millis_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a date before the year 292277026")
}
