//! Clients stay on the gateway, whatever the server says of its cluster; and there are only so many of them.

use iggy::prelude::{ClusterClient, StreamClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::Endpoint;

#[tokio::test]
async fn the_gateway_is_the_only_node() {
    let rig = Rig::start(&history()).await;
    let roster = rig.client().await.get_cluster_metadata().await.expect("a roster");
    let [node] = &roster.nodes[..] else { panic!("one node: {roster:?}") };
    assert_eq!((node.ip.as_str(), node.endpoints.tcp), ("127.0.0.1", rig.gateway.address().port()));

    let advertise = Some(Endpoint { host: "kennel.example".to_owned(), port: 8090 });
    let rig = Rig::with(&history(), |settings| GatewaySettings { advertise, ..settings }).await;
    let roster = rig.client().await.get_cluster_metadata().await.expect("a roster");
    assert_eq!((roster.nodes[0].ip.as_str(), roster.nodes[0].endpoints.tcp), ("kennel.example", 8090));
}

#[tokio::test]
async fn sessions_go_to_the_node_that_decides() {
    let rig = Rig::start(&history()).await;
    let mut store = Store::default();
    store.topic((9, "elsewhere"), TOPIC, 1);
    let deciding = IggyOrigin::start(store).await;
    for node in [&deciding, &rig.origin] {
        node.say_cluster(&[deciding.address(), rig.origin.address()]);
    }
    let early = rig.client().await;
    let late = rig.client().await;
    let found = late.get_stream(&name("elsewhere")).await.expect("a reply");
    assert!(found.is_some(), "the stream is known to the node that decides only");
    let found = early.get_stream(&name(STREAM.1)).await.expect("a reply");
    assert!(found.is_some(), "a session stays where it is logged in while that does");
    assert_eq!(late.get_cluster_metadata().await.expect("a roster").nodes.len(), 1);
}

#[tokio::test]
async fn a_client_too_many_is_turned_away() {
    let rig = Rig::with(&history(), |settings| GatewaySettings { sessions_max: 1, ..settings }).await;
    let one = rig.client().await;
    let mut other = TcpStream::connect(rig.gateway.address()).await.expect("it listens");
    assert!(matches!(other.read(&mut [0]).await, Ok(0) | Err(_)), "turned away");
    assert_eq!(rig.gateway.counts().refused, 1);
    poll(&one, &request(WirePollingStrategy::first(), 1)).await;
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let rig = Rig::start(&history()).await;
    for size in [0, u32::MAX] {
        let mut socket = TcpStream::connect(rig.gateway.address()).await.expect("it listens");
        let mut header = [0; 256];
        header[48..52].copy_from_slice(&u32::to_le_bytes(size));
        socket.write_all(&header).await.expect("sent");
        assert!(matches!(socket.read(&mut [0]).await, Ok(0) | Err(_)), "closed");
    }
}

#[tokio::test]
async fn a_silent_client_is_let_go_and_stopping_ends_all() {
    let idle = Duration::from_millis(100);
    let rig = Rig::with(&history(), |settings| GatewaySettings { idle, ..settings }).await;
    let mut silent = TcpStream::connect(rig.gateway.address()).await.expect("it listens");
    assert!(matches!(silent.read(&mut [0]).await, Ok(0) | Err(_)), "closed");

    let rig = Rig::start(&history()).await;
    let mut open = TcpStream::connect(rig.gateway.address()).await.expect("it listens");
    let gateway = &rig.gateway;
    eventually("a session", || gateway.counts().sessions == 1).await;
    let counting = rig.gateway.counting();
    rig.gateway.stop().await;
    assert!(matches!(open.read(&mut [0]).await, Ok(0) | Err(_)), "closed");
    assert_eq!(counting.counts().sessions, 0);
}
