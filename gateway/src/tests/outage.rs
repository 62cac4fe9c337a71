//! The server dies, stays away, and comes back.

use iggy::prelude::{IggyError, StreamClient, SystemClient};

use super::*;

fn start() -> PollMessagesRequest {
    request(WirePollingStrategy::offset(0), 5)
}

#[tokio::test]
async fn an_allowed_session_reads_on_and_logs_in_again_when_the_server_is_back() {
    let mut rig = Rig::start(&history()).await;
    let client = rig.client().await;
    let before = poll(&client, &start()).await;
    rig.origin.kill().await;
    assert_eq!(poll(&client, &start()).await, before);
    assert_eq!(told(&poll(&client, &request(WirePollingStrategy::offset(30), 5)).await), (0, 29));
    client.ping().await.expect("a heartbeat");
    let error = client.get_stream(&name(STREAM.1)).await.expect_err("there is no server");
    assert!(matches!(error, IggyError::ConnectionClosed), "{error:?}");
    let other = PollMessagesRequest { partition_id: Some(1), ..start() };
    client.send_binary_request(POLL_MESSAGES_CODE, other.to_bytes()).await.expect_err("nothing is known of it");
    let counts = rig.gateway.counts();
    assert!(counts.served_without_origin >= 2 && counts.sessions == 1, "{counts:?}");

    rig.origin.revive().await;
    let gateway = &rig.gateway;
    eventually("the session ends", || gateway.counts().sessions_total > 1 || gateway.counts().sessions == 0).await;
    assert_eq!(poll(&client, &start()).await, before);
    assert!(client.get_stream(&name(STREAM.1)).await.expect("a reply").is_some());
}

#[tokio::test]
async fn who_was_allowed_nothing_is_not_kept_waiting() {
    let mut rig = Rig::start(&history()).await;
    let client = rig.client().await;
    assert_eq!(rig.gateway.counts().sessions, 1);
    rig.origin.kill().await;
    let gateway = &rig.gateway;
    eventually("its connection is closed", || gateway.counts().sessions == 0).await;
    drop(client);
    let socket = tokio::net::TcpStream::connect(rig.gateway.address()).await.expect("the gateway listens");
    let mut byte = [0];
    assert!(matches!(tokio::io::AsyncReadExt::read(&mut { socket }, &mut byte).await, Ok(0) | Err(_)), "turned away");
    assert!(rig.gateway.counts().refused >= 1);
}

#[tokio::test]
async fn an_open_port_is_no_server() {
    let mut rig = Rig::start(&history()).await;
    let client = rig.client().await;
    let before = poll(&client, &start()).await;
    rig.origin.kill().await;
    // Whoever takes connections and says nothing: a server that is just ending, or a balancer before one.
    let port = tokio::net::TcpListener::bind(rig.origin.address()).await.expect("the port is free");
    assert_eq!(poll(&client, &start()).await, before);
    assert_eq!(rig.gateway.counts().sessions, 1);
    drop(port);
    assert_eq!(poll(&client, &start()).await, before);
}

#[tokio::test]
async fn reading_without_a_server_ends() {
    let reads_without_origin = Duration::from_millis(300);
    let verdict = Duration::from_millis(100);
    let mut rig = Rig::with(&history(), |settings| GatewaySettings {
        reads_without_origin,
        verdict,
        compare_every: verdict,
        ..settings
    })
    .await;
    let client = rig.client().await;
    poll(&client, &start()).await;
    rig.origin.kill().await;
    tokio::time::sleep(verdict).await;
    poll(&client, &start()).await;
    tokio::time::sleep(reads_without_origin).await;
    let error = client.send_binary_request(POLL_MESSAGES_CODE, start().to_bytes()).await.expect_err("too late");
    assert!(matches!(error, IggyError::ConnectionClosed), "{error:?}");
}

#[tokio::test]
async fn a_server_that_restarted_at_once_makes_clients_log_in_again() {
    let mut rig = Rig::start(&history()).await;
    let client = rig.client().await;
    let before = poll(&client, &start()).await;
    rig.origin.kill().await;
    rig.origin.revive().await;
    assert_eq!(poll(&client, &start()).await, before);
    assert!(client.get_stream(&name(STREAM.1)).await.expect("a reply").is_some());
}
