//! What clients read through a gateway is what they read from the server, and most of it does not come from there.

use futures::StreamExt;
use iggy::prelude::{
    AutoCommit, Consumer, IggyMessage, MessageClient, Partitioning, PollingStrategy, SendMessagesResponse,
};

use super::*;
use crate::EmptyPolls;

#[tokio::test]
async fn polls_by_every_strategy_are_those_of_the_server() {
    let rig = Rig::start(&history()).await;
    let (client, direct) = (rig.client().await, rig.direct().await);
    let mut polls = 0;
    for count in [1, 3, 10, 25, 1000] {
        for strategy in [
            WirePollingStrategy::offset(0),
            WirePollingStrategy::offset(7),
            WirePollingStrategy::offset(29),
            WirePollingStrategy::offset(30),
            WirePollingStrategy::timestamp(0),
            WirePollingStrategy::timestamp(1500),
            WirePollingStrategy::timestamp(3000),
            WirePollingStrategy::first(),
            WirePollingStrategy::last(),
            WirePollingStrategy::next(),
        ] {
            let request = request(strategy.clone(), count);
            assert_eq!(poll(&client, &request).await, poll(&direct, &request).await, "{strategy:?} x {count}");
            polls += 1;
        }
    }
    let counts = rig.gateway.counts();
    assert_eq!((counts.served, counts.mismatches), (polls, 0), "{counts:?}");
    assert_eq!(rig.origin.polls(), polls + 1, "of those through the gateway only the comparison came to the server");
}

#[tokio::test]
async fn next_goes_on_behind_the_stored_offset() {
    use iggy::prelude::ConsumerOffsetClient;
    let rig = Rig::start(&history()).await;
    let (client, direct) = (rig.client().await, rig.direct().await);
    let (stream, topic) = (name(STREAM.1), name(TOPIC.1));
    let consumer = Consumer::new(Identifier::numeric(7).expect("a number"));
    client.store_consumer_offset(&consumer, &stream, &topic, Some(0), 14).await.expect("stored");
    let next = request(WirePollingStrategy::next(), 4);
    let body = poll(&client, &next).await;
    assert_eq!(body, poll(&direct, &next).await);
    assert_eq!((told(&body).0, rig.served()), (4, 1));
}

#[tokio::test]
async fn typed_polls_and_consumers_see_every_message_once() {
    let rig = Rig::start(&history()).await;
    let client = rig.client().await;
    let polled = client
        .poll_messages(
            &name(STREAM.1),
            &name(TOPIC.1),
            Some(0),
            &Consumer::default(),
            &PollingStrategy::offset(5),
            20,
            false,
        )
        .await
        .expect("a reply");
    let offsets: Vec<u64> = polled.messages.iter().map(|message| message.header.offset).collect();
    assert_eq!(offsets, (5..25).collect::<Vec<u64>>());

    let mut consumer = client
        .consumer("reader", STREAM.1, TOPIC.1, 0)
        .expect("a consumer")
        .auto_commit(AutoCommit::Disabled)
        .polling_strategy(PollingStrategy::offset(0))
        .batch_length(7)
        .build();
    consumer.init().await.expect("the topic is there");
    for offset in 0..30 {
        let message = consumer.next().await.expect("more").expect("a message").message;
        assert_eq!(message.header.offset, offset);
        assert_eq!(message.payload, format!("message {offset}"));
    }
    assert!(rig.served() >= 5, "{:?}", rig.gateway.counts());
}

#[tokio::test]
async fn what_changes_something_is_left_to_the_server() {
    let rig = Rig::start(&history()).await;
    let (client, polls) = (rig.client().await, rig.origin.polls());
    let stores = PollMessagesRequest { auto_commit: true, ..request(WirePollingStrategy::next(), 3) };
    let group = WireConsumer::consumer_group(WireIdentifier::numeric(7));
    let group = PollMessagesRequest { consumer: group, ..request(WirePollingStrategy::offset(0), 3) };
    for request in [&stores, &group] {
        poll(&client, request).await;
    }
    assert_eq!((rig.served(), rig.origin.polls()), (0, polls + 2));
    assert_eq!((rig.forwarded("auto_commit"), rig.forwarded("group")), (1, 1));
}

async fn send(client: &IggyClient, payload: &str) -> SendMessagesResponse {
    let mut messages = [payload.parse::<IggyMessage>().expect("a message")];
    let partitioning = Partitioning::partition_id(0);
    client.send_messages(&name(STREAM.1), &name(TOPIC.1), &partitioning, &mut messages).await.expect("confirmed")
}

#[tokio::test]
async fn a_session_sees_what_it_has_sent_before_the_ring_does() {
    let rig = Rig::start(&history()).await;
    let (writer, other) = (rig.client().await, rig.client().await);
    let end = request(WirePollingStrategy::offset(30), 10);
    assert_eq!(told(&poll(&writer, &end).await), (0, 29));
    assert_eq!(told(&poll(&other, &end).await), (0, 29));
    send(&writer, "one more").await;
    assert_eq!(told(&poll(&writer, &end).await), (1, 30), "its own message");
    assert_eq!(rig.forwarded("own_writes"), 1);
    // To another session the ring is a moment behind; what is complete is served to the writer as well.
    assert_eq!(told(&poll(&other, &end).await), (0, 29));
    let served = rig.served();
    assert_eq!(told(&poll(&writer, &request(WirePollingStrategy::offset(0), 30)).await).0, 30);
    assert_eq!(rig.served(), served + 1);
    assert_eq!(told(&poll(&writer, &request(WirePollingStrategy::last(), 1)).await), (1, 30));
    assert_eq!(rig.served(), served + 1);
    // Whoever asks for more than the ring has heard of is not told that there is nothing.
    assert_eq!(told(&poll(&other, &request(WirePollingStrategy::offset(31), 1)).await), (0, 30));
    assert_eq!(rig.forwarded("beyond"), 1);
}

#[tokio::test]
async fn empty_polls_are_the_servers_if_that_is_wanted() {
    let rig = Rig::with(&history(), |settings| GatewaySettings { empty_polls: EmptyPolls::Origin, ..settings }).await;
    let client = rig.client().await;
    assert_eq!(told(&poll(&client, &request(WirePollingStrategy::offset(30), 1)).await), (0, 29));
    assert_eq!((rig.served(), rig.forwarded("empty")), (0, 1));
    assert_eq!(told(&poll(&client, &request(WirePollingStrategy::offset(29), 2)).await), (1, 29));
    assert_eq!(rig.served(), 1);
}

#[tokio::test]
async fn what_the_server_let_go_of_is_read_from_the_ring() {
    let rig = Rig::start(&history()).await;
    rig.origin.store(|store| store.retain_from(PARTITION, 20));
    let (client, direct) = (rig.client().await, rig.direct().await);
    let old = request(WirePollingStrategy::offset(3), 2);
    assert_eq!(told(&poll(&direct, &old).await).0, 2, "the server jumps to what it has");
    let body = poll(&client, &old).await;
    assert_eq!(&body[16..], &cut(3, 2)[..]);
    assert_eq!(rig.served(), 1);
}

/// The record of a poll that cuts the first batch.
fn cut(from: u64, count: u32) -> Bytes {
    let batch = batch(0, 10, 1000);
    let view = kennel_protocol::batch::BatchView::parse(&batch, 0).expect("a batch");
    kennel_protocol::batch::slice(&view, Offset(from), count).expect("whole").expect("messages")
}

#[tokio::test]
async fn long_bodies_pass_in_pieces() {
    let payload = vec![7; 600 << 10];
    let big = BatchBuilder::new(PartitionId(0), Offset(0), 1).payload(&payload).payload(&payload).build();
    let rig = Rig::start(&[big]).await;
    let (client, direct) = (rig.client().await, rig.direct().await);
    let all = request(WirePollingStrategy::offset(0), 2);
    let stores = PollMessagesRequest { auto_commit: true, ..all.clone() };
    assert_eq!(poll(&client, &stores).await, poll(&direct, &all).await, "passed on");
    assert_eq!(poll(&client, &all).await, poll(&direct, &all).await, "from the ring");
    assert_eq!(rig.served(), 1);
    let text = "x".repeat(700 << 10);
    send(&client, &text).await;
    assert_eq!(told(&poll(&client, &request(WirePollingStrategy::last(), 1)).await), (1, 2));
}
