//! When the ring is believed: never before the server has let this session poll, and never where the two differ.

use iggy::prelude::{IggyError, StreamClient};

use super::*;

async fn refused(client: &IggyClient, request: &PollMessagesRequest) -> IggyError {
    client.send_binary_request(POLL_MESSAGES_CODE, request.to_bytes()).await.expect_err("a refusal")
}

fn start() -> PollMessagesRequest {
    request(WirePollingStrategy::offset(0), 5)
}

#[tokio::test]
async fn who_may_not_poll_is_told_so_by_the_server() {
    let rig = Rig::start(&history()).await;
    rig.origin.deny_polls(true);
    let client = rig.client().await;
    assert!(matches!(refused(&client, &start()).await, IggyError::Unauthorized));
    rig.origin.deny_polls(false);
    assert_eq!(told(&poll(&client, &start()).await).0, 5);
    assert_eq!(rig.served(), 1);
}

#[tokio::test]
async fn a_right_that_was_taken_ends_within_a_verdict() {
    let verdict = Duration::from_millis(200);
    let rig = Rig::with(&history(), |settings| GatewaySettings { verdict, ..settings }).await;
    let client = rig.client().await;
    poll(&client, &start()).await;
    rig.origin.deny_polls(true);
    poll(&client, &start()).await;
    tokio::time::sleep(verdict).await;
    assert!(matches!(refused(&client, &start()).await, IggyError::Unauthorized));
}

#[tokio::test]
async fn one_session_s_right_is_not_another_s() {
    let rig = Rig::start(&history()).await;
    let (one, other) = (rig.client().await, rig.client().await);
    poll(&one, &start()).await;
    rig.origin.deny_polls(true);
    assert!(matches!(refused(&other, &start()).await, IggyError::Unauthorized));
    assert_eq!(told(&poll(&one, &start()).await).0, 5, "its verdict still stands");
}

#[tokio::test]
async fn a_change_or_a_login_ends_what_was_found_before() {
    use iggy::prelude::UserClient;
    let rig = Rig::start(&history()).await;
    let (client, other) = (rig.client().await, rig.client().await);
    poll(&client, &start()).await;
    let polls = rig.origin.polls();
    poll(&client, &start()).await;
    assert_eq!(rig.origin.polls(), polls);
    // The server in the process does not know how; that it was asked is enough.
    other.purge_stream(&name(STREAM.1)).await.expect_err("not here");
    poll(&client, &start()).await;
    assert_eq!(rig.origin.polls(), polls + 1);
    client.login_user("iggy", "iggy").await.expect("logged in");
    poll(&client, &start()).await;
    assert_eq!(rig.origin.polls(), polls + 2);
}

#[tokio::test]
async fn a_ring_that_holds_other_messages_is_not_read() {
    let rig = Rig::start(&history()).await;
    rig.origin.store(|store| {
        store.purge(PARTITION);
        store.append(PARTITION, &batch(0, 30, 9_000));
    });
    let (client, direct) = (rig.client().await, rig.direct().await);
    assert_eq!(poll(&client, &start()).await, poll(&direct, &start()).await);
    assert_eq!(poll(&client, &start()).await, poll(&direct, &start()).await);
    let counts = rig.gateway.counts();
    assert_eq!((counts.served, counts.mismatches, rig.forwarded("doubted")), (0, 1, 2), "{counts:?}");
}

#[tokio::test]
async fn a_ring_that_knows_more_than_the_server_is_not_read() {
    let rig = Rig::start(&history()).await;
    rig.origin.store(|store| {
        store.purge(PARTITION);
        store.append(PARTITION, &batch(0, 10, 1000));
    });
    let (client, direct) = (rig.client().await, rig.direct().await);
    let whole = request(WirePollingStrategy::offset(0), 1000);
    assert_eq!(poll(&client, &whole).await, poll(&direct, &whole).await);
    assert_eq!(rig.served(), 0);
}

#[tokio::test]
async fn what_the_ring_does_not_know_the_server_answers() {
    let rig = Rig::start(&[]).await;
    rig.origin.store(|store| store.append(PARTITION, &batch(0, 10, 1000)));
    let (client, direct) = (rig.client().await, rig.direct().await);
    assert_eq!(poll(&client, &start()).await, poll(&direct, &start()).await);
    assert_eq!(rig.forwarded("unknown_partition"), 1);
    rig.ring.append(key(), Bytes::new());
    assert_eq!(poll(&client, &start()).await, poll(&direct, &start()).await);
    assert_eq!(rig.forwarded("doubted"), 1);
}
