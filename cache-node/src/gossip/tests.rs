//! Real sockets on loopback.

use std::time::Duration;

use kennel_core::membership::Zone;
use kennel_protocol::ids::{JournalId, ProcessId};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(node: u64, cluster: u128, seeds: &[SocketAddr]) -> GossipSettings {
    GossipSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        seeds: seeds.iter().map(ToString::to_string).collect(),
        cluster: ClusterId(cluster),
        shard_count: 8,
        interval: Duration::from_millis(50),
        member: Member {
            node: NodeId(node),
            process: ProcessId(u128::from(node)),
            journal: JournalId(u128::from(node)),
            address: format!("127.0.0.1:{node}"),
            zone: Zone::from("a"),
            weight: 100,
            draining: false,
        },
        http: format!("127.0.0.1:{}", 100 + node),
    }
}

async fn until(gossip: &Gossip, what: &str, reached: impl FnMut(&GossipView) -> bool) {
    let mut view = gossip.watch();
    let waited = tokio::time::timeout(PATIENCE, view.wait_for(reached)).await;
    assert!(waited.is_ok_and(|view| view.is_ok()), "{what}: {:?}", gossip.watch().borrow());
}

fn sees(count: usize) -> impl FnMut(&GossipView) -> bool {
    move |view| view.members.len() == count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_and_their_shards() {
    let first = Gossip::start(settings(1, 7, &[])).await.expect("it starts");
    let second = Gossip::start(settings(2, 7, &[first.address()])).await.expect("it starts");
    let third = Gossip::start(settings(3, 7, &[first.address()])).await.expect("it starts");
    for gossip in [&first, &second, &third] {
        until(gossip, "everybody sees three", sees(3)).await;
    }
    second.set_ownership(ShardId(4), Epoch(9), 17);
    third.set_ownership(ShardId(4), Epoch(8), 99);
    let newest = (NodeId(2), Ownership { epoch: Epoch(9), stored: 17 });
    until(&first, "the newest epoch wins", |view| view.shards.get(&ShardId(4)) == Some(&newest)).await;
    second.clear_ownership(ShardId(4));
    third.clear_ownership(ShardId(4));
    until(&first, "nobody owns it", |view| view.shards.is_empty()).await;

    second.stop().await;
    until(&first, "a farewell is heard", sees(2)).await;
    drop(third);
    until(&first, "silence is noticed", sees(1)).await;
}

#[tokio::test]
async fn another_cluster_is_ignored() {
    let ours = Gossip::start(settings(1, 7, &[])).await.expect("it starts");
    let theirs = Gossip::start(settings(2, 8, &[ours.address()])).await.expect("it starts");
    let friend = Gossip::start(settings(3, 7, &[ours.address()])).await.expect("it starts");
    until(&ours, "the friend is seen", sees(2)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(theirs.watch().borrow().members.len(), 1);
    assert!(ours.watch().borrow().members.iter().all(|member| member.node != NodeId(2)));
    drop(friend);
}

#[tokio::test]
async fn a_restart_replaces_the_process() {
    let stays = Gossip::start(settings(1, 7, &[])).await.expect("it starts");
    let dies = Gossip::start(settings(2, 7, &[stays.address()])).await.expect("it starts");
    until(&stays, "both are seen", sees(2)).await;
    drop(dies);
    let mut again = settings(2, 7, &[stays.address()]);
    again.member.process = ProcessId(77);
    let _returns = Gossip::start(again).await.expect("it starts");
    let returned = |view: &GossipView| view.members.iter().any(|member| member.process == ProcessId(77));
    until(&stays, "the new process is seen", returned).await;
    assert_eq!(stays.watch().borrow().members.len(), 2, "and only it");
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let first = Gossip::start(settings(1, 7, &[])).await.expect("it starts");
    let mut second = settings(2, 7, &[]);
    second.listen = first.address();
    let error = Gossip::start(second).await.expect_err("the port is taken");
    assert!(matches!(error, GossipError::Listen { .. }));
    assert!(error.to_string().contains(&first.address().to_string()), "{error}");
}
