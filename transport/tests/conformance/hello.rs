//! The first exchange of a session.

use std::time::Duration;

use kennel_protocol::ids::{ClusterId, NodeId, ProcessId};
use kennel_protocol::wire::{ErrorCode, Hello, Role, WireError};
use kennel_transport::close::{Advice, SessionError};
use kennel_transport::handshake::{HandshakeError, HelloPolicy, handshake_client, handshake_server};
use tokio::time::Instant;

use crate::backends::Pair;

fn policy() -> HelloPolicy {
    HelloPolicy {
        version_min: 1,
        version_max: 3,
        cluster: ClusterId(7),
        node: NodeId(1),
        process: ProcessId(9),
        shard_count: 8,
    }
}

fn hello(role: Role) -> Hello {
    Hello {
        version_min: 1,
        version_max: 2,
        role,
        cluster: None,
        node: (role == Role::Node).then_some(NodeId(2)),
        process: ProcessId(8),
        agent: "conformance 0.1".into(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) async fn accepted(pair: Pair) {
    let policy = policy();
    let (welcomed, greeted) = tokio::join!(
        handshake_client(&*pair.near, hello(Role::Client), soon()),
        handshake_server(&*pair.far, &policy, soon()),
    );
    let (heard, answered) = greeted.expect("a hello");
    let welcome = welcomed.expect("a welcome");
    assert_eq!((welcome.version, welcome.cluster, welcome.shard_count), (2, ClusterId(7), 8));
    assert_eq!((&welcome, heard), (&answered, hello(Role::Client)));
    assert_eq!(pair.near.peer().role_hint, Some(Role::Node));
    assert_eq!(pair.far.peer().role_hint, Some(Role::Client));
    assert!(!pair.far.peer().common_name.is_empty());
}

/// F34: a peer of an older build is spoken to in its version.
pub(crate) async fn an_older_peer(pair: Pair) {
    let older = Hello { version_max: 1, ..hello(Role::Client) };
    let policy = policy();
    let (welcomed, greeted) =
        tokio::join!(handshake_client(&*pair.near, older, soon()), handshake_server(&*pair.far, &policy, soon()));
    assert_eq!((greeted.expect("a hello").1.version, welcomed.expect("a welcome").version), (1, 1));
}

async fn check_refused(pair: Pair, hello: Hello, code: ErrorCode) -> WireError {
    let policy = policy();
    let (welcomed, greeted) =
        tokio::join!(handshake_client(&*pair.near, hello, soon()), handshake_server(&*pair.far, &policy, soon()),);
    let HandshakeError::Refused(ours) = greeted.expect_err("a refusal") else { panic!("refused otherwise") };
    let told = welcomed.expect_err("a refusal");
    assert_eq!(told, HandshakeError::RefusedByPeer(ours.clone()));
    assert_eq!((ours.code, told.advice()), (code, Advice::Fix));
    // Whoever closes first, both see the end.
    pair.near.closed().await;
    pair.far.closed().await;
    ours
}

/// F34: both windows are named to whoever has to upgrade something.
pub(crate) async fn versions_apart(pair: Pair) {
    let newer = Hello { version_min: 4, version_max: 9, ..hello(Role::Client) };
    let told = check_refused(pair, newer, ErrorCode::VersionWindow).await;
    assert!(told.message.contains("1 to 3") && told.message.contains("4 to 9"), "{}", told.message);
}

pub(crate) async fn pretender(pair: Pair) {
    check_refused(pair, hello(Role::Node), ErrorCode::NotAllowed).await;
}

pub(crate) async fn silent_peer(pair: Pair) {
    let started = Instant::now();
    let late = handshake_server(&*pair.far, &policy(), started + Duration::from_millis(50)).await;
    assert_eq!(late.expect_err("no hello"), HandshakeError::Late);
    let SessionError::ClosedByPeer { code, .. } = pair.near.closed().await else { panic!("not by the peer") };
    assert_eq!(code.error(), Some(ErrorCode::Busy));
}
