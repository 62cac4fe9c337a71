//! `CacheTransport`: what is read through the ring, and what is not.

use std::time::Duration;

use iggy_common::{
    ConsumerGroupClient, ConsumerOffsetClient, IggyMessage, IggyTimestamp, Partitioning, StreamClient, SystemClient,
};
use kennel_client::iggy::EmptyPolls;

use super::*;

fn strategies() -> Vec<PollingStrategy> {
    vec![
        PollingStrategy::offset(0),
        PollingStrategy::offset(7),
        PollingStrategy::offset(10),
        PollingStrategy::first(),
        PollingStrategy::last(),
        PollingStrategy::next(),
        PollingStrategy::timestamp(IggyTimestamp::from(0)),
        PollingStrategy::timestamp(IggyTimestamp::from(1001)),
        PollingStrategy::timestamp(IggyTimestamp::from(3000)),
    ]
}

#[tokio::test]
async fn every_strategy_reads_the_same_through_the_ring() {
    let rig = Rig::start(&history()).await;
    let (direct, cached) = (rig.direct().await, rig.cached().await);
    let mut polls = 0;
    for strategy in strategies() {
        for count in [1, 4, 10, 15, 1000] {
            let expected = told(&poll(&direct, strategy, count).await);
            assert_eq!(told(&poll(&cached, strategy, count).await), expected, "{strategy:?}, {count}");
            polls += 1;
        }
    }
    assert_eq!(cached.counts().served, polls, "{:?}", cached.counts());
    assert_eq!(rig.origin.polls(), polls + 1, "one poll asked whether the others are allowed");
}

#[tokio::test]
async fn next_goes_on_behind_the_offset_that_the_server_stored() {
    let rig = Rig::start(&history()).await;
    let cached = rig.cached().await;
    for expected in [0..4, 4..8, 8..12] {
        let polled = poll(&cached, PollingStrategy::next(), 4).await;
        assert_eq!(offsets(&polled), expected.clone().collect::<Vec<_>>());
        let (stream, topic) = (name(STREAM.1), name(TOPIC.1));
        let stored = cached.store_consumer_offset(&consumer(), &stream, &topic, Some(0), expected.end - 1).await;
        stored.expect("the server stores it");
    }
    assert_eq!(cached.counts().served, 3);
}

#[tokio::test]
async fn polls_that_change_something_and_everything_else_go_to_the_server() {
    let rig = Rig::start(&history()).await;
    let cached = rig.cached().await;
    let (stream, topic) = (name(STREAM.1), name(TOPIC.1));
    let first = PollingStrategy::first();
    let polled = cached.poll_messages(&stream, &topic, Some(0), &consumer(), &first, 5, true).await;
    assert_eq!(offsets(&polled.expect("an answer")), [0, 1, 2, 3, 4]);
    assert_eq!((forwarded(&cached, "auto_commit"), cached.counts().served), (1, 0));
    cached.ping().await.expect("a heartbeat passes");
}

#[tokio::test]
async fn what_the_client_has_sent_it_reads_at_once() {
    let rig = Rig::start(&history()).await;
    let cached = rig.cached().await;
    assert_eq!(offsets(&poll(&cached, PollingStrategy::last(), 1).await), [29]);
    let mut messages = [IggyMessage::from("a new one")];
    let (stream, topic) = (name(STREAM.1), name(TOPIC.1));
    let sent = cached.send_messages(&stream, &topic, &Partitioning::partition_id(0), &mut messages).await;
    sent.expect("the server takes it");
    assert_eq!(offsets(&poll(&cached, PollingStrategy::offset(29), 10).await), [29, 30]);
    assert_eq!(offsets(&poll(&cached, PollingStrategy::last(), 1).await), [30]);
    assert_eq!(forwarded(&cached, "own_writes"), 2);
    assert_eq!(offsets(&poll(&cached, PollingStrategy::offset(5), 2).await), [5, 6], "what is complete is the ring's");
    assert_eq!(forwarded(&cached, "own_writes"), 2);
}

#[tokio::test]
async fn who_may_not_poll_reads_nothing_from_the_ring() {
    let rig = Rig::start(&history()).await;
    let settings = CacheSettings { verdict: Duration::ZERO, ..CacheSettings::default() };
    let cached = rig.cached_with(settings).await;
    assert_eq!(offsets(&poll(&cached, PollingStrategy::first(), 1).await), [0]);
    rig.origin.deny_polls(true);
    let (stream, topic, first) = (name(STREAM.1), name(TOPIC.1), PollingStrategy::first());
    let refused = cached.poll_messages(&stream, &topic, Some(0), &consumer(), &first, 1, false).await;
    assert!(refused.is_err(), "as the server says");
    assert_eq!(cached.counts().served, 1);
}

#[tokio::test]
async fn a_ring_that_holds_something_else_is_not_believed() {
    let rig = Rig::start(&history()[..2]).await;
    rig.origin.store(|store| store.append(PARTITION, &batch(20, 10, 3000)));
    rig.ring.append(key(), batch(20, 10, 3001));
    let (direct, cached) = (rig.direct().await, rig.cached().await);
    for count in [1, 30] {
        let expected = told(&poll(&direct, PollingStrategy::first(), count).await);
        assert_eq!(told(&poll(&cached, PollingStrategy::first(), count).await), expected);
    }
    let counts = cached.counts();
    assert_eq!((counts.served, counts.mismatches, forwarded(&cached, "doubted")), (0, 1, 2));
}

#[tokio::test]
async fn a_change_ends_what_was_found_before_it() {
    let rig = Rig::start(&history()).await;
    let cached = rig.cached().await;
    poll(&cached, PollingStrategy::first(), 1).await;
    rig.origin.deny_polls(true);
    // Whether the server does it or not: it may have, and nothing is believed any more.
    drop(cached.purge_stream(&name(STREAM.1)).await);
    let (stream, topic, first) = (name(STREAM.1), name(TOPIC.1), PollingStrategy::first());
    let refused = cached.poll_messages(&stream, &topic, Some(0), &consumer(), &first, 1, false).await;
    assert!(refused.is_err(), "the server is asked again");
}

#[tokio::test]
async fn the_end_of_the_ring_is_answered_by_whom_the_settings_say() {
    let rig = Rig::start(&history()).await;
    let ring = rig.cached().await;
    let settings = CacheSettings { empty_polls: EmptyPolls::Origin, ..CacheSettings::default() };
    let origin = rig.cached_with(settings).await;
    rig.origin.store(|store| store.append(PARTITION, &batch(30, 1, 4000)));
    assert_eq!(offsets(&poll(&ring, PollingStrategy::offset(30), 5).await), [0; 0]);
    assert_eq!(offsets(&poll(&origin, PollingStrategy::offset(30), 5).await), [30]);
    assert_eq!(forwarded(&origin, "empty"), 1);
    assert_eq!(offsets(&poll(&ring, PollingStrategy::offset(31), 5).await), [0; 0]);
    assert_eq!(forwarded(&ring, "beyond"), 1, "whoever knows of more than the ring is answered by the server");
}

#[tokio::test]
async fn what_retention_removed_at_the_server_is_read_from_the_ring() {
    let rig = Rig::start(&history()).await;
    rig.origin.store(|store| store.retain_from(PARTITION, 20));
    let (direct, cached) = (rig.direct().await, rig.cached().await);
    assert_eq!(offsets(&poll(&direct, PollingStrategy::offset(5), 2).await), [20, 21], "Iggy jumps");
    assert_eq!(offsets(&poll(&cached, PollingStrategy::offset(5), 2).await), [5, 6]);
}

#[tokio::test]
async fn groups_are_the_servers() {
    let rig = Rig::start(&history()).await;
    let cached = rig.cached().await;
    let group = Consumer::group(name("a group"));
    let (stream, topic, first) = (name(STREAM.1), name(TOPIC.1), PollingStrategy::first());
    // What the server in the process makes of it does not matter: it is asked.
    drop(cached.get_consumer_groups(&stream, &topic).await);
    drop(cached.poll_messages(&stream, &topic, Some(0), &group, &first, 1, false).await);
    assert_eq!((forwarded(&cached, "group"), cached.counts().served), (1, 0));
}
