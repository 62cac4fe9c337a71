//! The target over Iggy's SDK. The SDK is told not to reconnect by itself: it would send again what may have arrived.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use iggy::prelude::{
    Consumer, Identifier, IggyError, IggyExpiry, IggyMessage, MessageClient, PartitionClient, Partitioning,
    PollingStrategy, StreamClient, TcpClient, TopicClient, TopicUpdateOptions,
};
use iggy_binary_protocol::codes::CREATE_TOPIC_CODE;
use iggy_binary_protocol::requests::topics::CreateTopicRequest;
use iggy_binary_protocol::{WireEncode, WireIdentifier, WireName, WireOptions};
use iggy_common::BinaryTransport;
use kennel_client::Message;
use tokio::time::timeout;

use super::plan::TopicPlan;
use super::target::{Place, Target, TargetError, TargetMessage, Topics};
use crate::live::{IggyServer, LiveError};

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// An Iggy server to write to.
pub(super) struct IggyTarget {
    server: IggyServer,
    client: TcpClient,
}

impl IggyTarget {
    /// Signs in at the first address that answers.
    pub(super) async fn connect(server: IggyServer) -> Result<Self, TargetError> {
        let client = sign_in(&server).await?;
        Ok(Self { server, client })
    }
}

async fn sign_in(server: &IggyServer) -> Result<TcpClient, TargetError> {
    let mut failed = TargetError::Unanswered("no address is set".to_owned());
    for address in &server.addresses {
        match timeout(ANSWER_WAIT, server.sign_in(address)).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error @ LiveError::Refused { .. })) => {
                return Err(TargetError::Refused { what: "the user", reason: error.to_string() });
            }
            Ok(Err(error)) => failed = TargetError::Unanswered(error.to_string()),
            Err(_) => failed = TargetError::Unanswered(format!("{address} does not answer")),
        }
    }
    Err(failed)
}

/// An answer in time. Whatever is no plain refusal may have happened.
async fn in_time<T>(what: &'static str, work: impl Future<Output = Result<T, IggyError>>) -> Result<T, TargetError> {
    match timeout(ANSWER_WAIT, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if is_refusal(&error) => Err(TargetError::Refused { what, reason: error.to_string() }),
        Ok(Err(error)) => Err(TargetError::Unanswered(error.to_string())),
        Err(_) => Err(TargetError::Unanswered(format!("{what} took longer than {ANSWER_WAIT:?}"))),
    }
}

/// Answers of the server that say no, and that asking again does not change.
fn is_refusal(error: &IggyError) -> bool {
    matches!(
        error,
        IggyError::Unauthorized
            | IggyError::InvalidCommand
            | IggyError::InvalidFormat
            | IggyError::FeatureUnavailable
            | IggyError::StreamIdNotFound(_)
            | IggyError::TopicIdNotFound(..)
            | IggyError::PartitionNotFound(..)
            | IggyError::TooBigMessagePayload
            | IggyError::TooBigUserHeaders
            | IggyError::InvalidMessagePayloadLength
            | IggyError::InvalidMessageTimestampDelta(_)
    )
}

fn named(name: &str) -> Result<Identifier, TargetError> {
    Identifier::named(name).map_err(|error| TargetError::Refused { what: "a name", reason: error.to_string() })
}

fn topic_of(place: &Place) -> Result<(Identifier, Identifier), TargetError> {
    Ok((named(&place.stream)?, named(&place.topic)?))
}

#[async_trait]
impl Topics for IggyTarget {
    async fn prepare(&mut self, topic: &TopicPlan) -> Result<(), TargetError> {
        let (stream_id, topic_id) = (named(&topic.stream)?, named(&topic.topic)?);
        if in_time("to look for a stream", self.client.get_stream(&stream_id)).await?.is_none() {
            in_time("to create a stream", self.client.create_stream(&topic.stream)).await?;
        }
        let Some(found) = in_time("to look for a topic", self.client.get_topic(&stream_id, &topic_id)).await? else {
            return self.create_topic(topic).await;
        };
        let missing = topic.partitions_count.saturating_sub(found.partitions_count);
        if missing > 0 {
            let created = self.client.create_partitions(&stream_id, &topic_id, missing);
            in_time("to create partitions", created).await?;
        }
        Ok(())
    }

    async fn set_expiry(&mut self, topic: &TopicPlan, micros: u64) -> Result<(), TargetError> {
        let (stream_id, topic_id) = (named(&topic.stream)?, named(&topic.topic)?);
        // What is not named is left as it is, and a server is asked for nothing that it does not know.
        let options = TopicUpdateOptions { message_expiry: Some(IggyExpiry::from(micros)), ..Default::default() };
        let updated = self.client.update_topic(&stream_id, &topic_id, &topic.topic, &options);
        in_time("to set an expiry", updated).await
    }
}

#[async_trait]
impl Target for IggyTarget {
    async fn reconnect(&mut self) -> Result<(), TargetError> {
        self.client = sign_in(&self.server).await?;
        Ok(())
    }

    async fn count(&mut self, place: &Place) -> Result<Option<u64>, TargetError> {
        let (stream_id, topic_id) = topic_of(place)?;
        let topic = in_time("to look for a topic", self.client.get_topic(&stream_id, &topic_id)).await?;
        let partition = topic.and_then(|topic| topic.partitions.into_iter().find(|found| found.id == place.partition));
        let partition = partition.ok_or_else(|| TargetError::Refused {
            what: "a partition",
            reason: format!("{place} was deleted meanwhile"),
        })?;
        // The last offset is 0 before the first message and after it.
        let end = if partition.messages_count == 0 && partition.current_offset == 0 {
            0
        } else {
            partition.current_offset + 1
        };
        Ok((partition.messages_count == end).then_some(end))
    }

    async fn read(&mut self, place: &Place, from: u64, count: u32) -> Result<Vec<TargetMessage>, TargetError> {
        let (stream_id, topic_id) = topic_of(place)?;
        let (consumer, strategy) = (Consumer::default(), PollingStrategy::offset(from));
        let polled =
            self.client.poll_messages(&stream_id, &topic_id, Some(place.partition), &consumer, &strategy, count, false);
        let polled = in_time("to read back", polled).await?;
        let messages = polled.messages.into_iter().skip_while(|message| message.header.offset < from);
        let given = messages.map(|message| TargetMessage {
            id: message.header.id,
            origin_timestamp: message.header.origin_timestamp,
            payload: message.payload,
            user_headers: message.user_headers.unwrap_or_default(),
        });
        Ok(given.collect())
    }

    async fn send(&mut self, place: &Place, messages: &[Message]) -> Result<(), TargetError> {
        let (stream_id, topic_id) = topic_of(place)?;
        let mut messages: Vec<IggyMessage> = messages.iter().map(iggy_message).collect();
        let partitioning = Partitioning::partition_id(place.partition);
        let sent = self.client.send_messages(&stream_id, &topic_id, &partitioning, &mut messages);
        in_time("messages", sent).await.map(drop)
    }
}

impl IggyTarget {
    /// The request carries no options: servers of one protocol version differ in those that they know, and refuse a topic
    /// for one that they do not.
    async fn create_topic(&self, topic: &TopicPlan) -> Result<(), TargetError> {
        let bad = |error: &dyn std::fmt::Display| TargetError::Refused { what: "a name", reason: error.to_string() };
        let request = CreateTopicRequest {
            stream_id: WireIdentifier::named(topic.stream.as_str()).map_err(|error| bad(&error))?,
            partitions_count: topic.partitions_count,
            name: WireName::new(topic.topic.as_str()).map_err(|error| bad(&error))?,
            options: WireOptions::empty(),
        };
        let created = self.client.send_raw_with_response(CREATE_TOPIC_CODE, request.to_bytes());
        in_time("to create a topic", created).await.map(drop)
    }
}

/// The message with its own id, headers and time of making. Bodies are shared.
fn iggy_message(message: &Message) -> IggyMessage {
    let mut restored = IggyMessage {
        payload: message.payload.clone(),
        user_headers: (!message.user_headers.is_empty()).then(|| Bytes::clone(&message.user_headers)),
        ..IggyMessage::default()
    };
    restored.header.id = message.id;
    restored.header.origin_timestamp = message.origin_timestamp;
    restored.header.payload_length = length(&message.payload);
    restored.header.user_headers_length = length(&message.user_headers);
    restored
}

fn length(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).expect("Iggy's own messages are far below 4 GiB")
}
