//! The SDK's own client behind a gateway in this process.

use futures::StreamExt;
use iggy::prelude::{AutoCommit, IggyMessage, Partitioning};
use iggy_common::{Aes256GcmEncryptor, EncryptorKind};
use kennel_client::iggy::{ConnectedClient, connect};

use super::*;

async fn connected(rig: &Rig, encryptor: Option<Arc<EncryptorKind>>) -> ConnectedClient {
    connect(&rig.connection_string(), encryptor, Arc::clone(&rig.ring) as _).await.expect("a client")
}

#[tokio::test]
async fn a_consumer_reads_through_the_ring_with_one_line_changed() {
    let rig = Rig::start(&history()).await;
    let client = connected(&rig, None).await;
    let consumer = client.consumer("a consumer", STREAM.1, TOPIC.1, 0).expect("names");
    let consumer = consumer.auto_commit(AutoCommit::Disabled).polling_strategy(PollingStrategy::offset(3));
    let mut consumer = consumer.batch_length(7).build();
    consumer.init().await.expect("the topic is there");
    for expected in 3..30 {
        let received = consumer.next().await.expect("a stream").expect("a message");
        assert_eq!(received.message.header.offset, expected);
        assert_eq!(received.message.payload, format!("message {expected}"));
    }
    assert!(client.gateway().counts().served > 0);
    drop(consumer);
    client.close().await.expect("it ends");
}

#[tokio::test]
async fn the_ring_holds_what_the_client_encrypted_and_the_client_reads_it() {
    let rig = Rig::start(&[]).await;
    let encryptor = Aes256GcmEncryptor::new(&[7; 32]).expect("a key of 32 bytes");
    let encryptor = Arc::new(EncryptorKind::Aes256Gcm(encryptor));
    let client = connected(&rig, Some(encryptor)).await;
    let (stream, topic) = (name(STREAM.1), name(TOPIC.1));
    let mut messages = [IggyMessage::from("a secret")];
    let sent = client.send_messages(&stream, &topic, &Partitioning::partition_id(0), &mut messages).await;
    sent.expect("the server takes it");
    // What a shipper does.
    let raw = poll(&rig.direct().await, PollingStrategy::first(), 1).await.messages.remove(0);
    assert_ne!(raw.payload, "a secret");
    let stored = BatchBuilder::new(PartitionId(0), Offset(0), raw.header.timestamp);
    let stored = stored.origin_timestamp(raw.header.origin_timestamp).message(kennel_protocol::batch::MessageParts {
        id: raw.header.id,
        timestamp_delta: 0,
        payload: &raw.payload,
        user_headers: &[],
    });
    rig.ring.append(key(), stored.build());
    let polled = poll(&*client, PollingStrategy::first(), 1).await;
    assert_eq!(polled.messages[0].payload, "a secret");
    assert_eq!(client.gateway().counts().served, 1);
}
