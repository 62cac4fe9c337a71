//! The live source over Iggy's own SDK: TCP, numeric ids, raw polls whose batches are passed on as they came.
//!
//! The SDK is told not to reconnect by itself: a new session is the watch's sign that a partition which is shorter now
//! lost messages, rather than that it was purged. Where the server is a cluster, the SDK's sign-in moves the session to
//! the node that the cluster's metadata names first.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use iggy::prelude::{
    AutoLogin, Client, Credentials, IggyError, TcpClient, TcpClientConfig, TcpClientReconnectionConfig,
};
use iggy_binary_protocol::codes::{
    DELETE_CONSUMER_OFFSET_CODE, GET_CONSUMER_OFFSET_CODE, GET_STREAM_CODE, GET_STREAMS_CODE, GET_TOPIC_CODE,
    POLL_MESSAGES_CODE, STORE_CONSUMER_OFFSET_CODE,
};
use iggy_binary_protocol::requests::consumer_offsets::{
    DeleteConsumerOffsetRequest, GetConsumerOffsetRequest, StoreConsumerOffsetRequest,
};
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::requests::streams::GetStreamRequest;
use iggy_binary_protocol::requests::topics::GetTopicRequest;
use iggy_binary_protocol::responses::consumer_offsets::get_consumer_offset::ConsumerOffsetResponse;
use iggy_binary_protocol::responses::streams::get_stream::{GetStreamResponse, TopicHeader};
use iggy_binary_protocol::responses::streams::{GetStreamsResponse, StreamResponse};
use iggy_binary_protocol::responses::topics::get_topic::{GetTopicResponse, PartitionResponse};
use iggy_binary_protocol::{AckLevel, WireConsumer, WireDecode, WireEncode, WireIdentifier, WirePollingStrategy};
use iggy_common::BinaryTransport;
use kennel_protocol::ids::{Offset, PartitionId, StreamId, TopicId};
use tokio::time::timeout;

use super::secret::Password;
use super::source::{
    LiveError, LiveSession, LiveSource, PartitionPlace, PartitionSeen, Poll, Polled, StreamSeen, TopicPlace, TopicSeen,
    Totals,
};

/// How long connecting and signing in may take. A host that is gone answers nothing, and the system would wait for minutes.
const SIGN_IN_WAIT: Duration = Duration::from_secs(5);

/// How long an answer may take: a poll of 64 MiB over a slow disk, or a store while the cluster chooses who leads.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A poll's answer before its batches: partition, last offset, count.
const POLL_HEAD_BYTES: usize = 16;

/// How Iggy says that messages are kept for ever.
const NEVER_EXPIRES: u64 = u64::MAX;

/// Whom shippers are when they poll: nothing is stored for a poll that commits nothing.
const POLLING_CONSUMER: u32 = 1;

/// Where an Iggy server is, and who we are to it.
#[derive(Debug, Clone)]
pub struct IggyServer {
    /// Addresses of it, or of the nodes of its cluster, as `host:port`: tried in this order.
    pub addresses: Vec<String>,
    /// Who signs in.
    pub username: String,
    /// With what.
    pub password: Password,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Whose name its certificate must bear; the address if empty.
    pub tls_name: String,
    /// Who signed its certificate; the usual authorities if `None`.
    pub tls_ca: Option<String>,
}

impl IggyServer {
    /// A session that does not come back by itself.
    pub(crate) async fn sign_in(&self, address: &str) -> Result<TcpClient, LiveError> {
        let reconnection = TcpClientReconnectionConfig { enabled: false, ..TcpClientReconnectionConfig::default() };
        let config = TcpClientConfig {
            server_address: address.to_owned(),
            tls_enabled: self.tls,
            tls_domain: self.tls_name.clone(),
            tls_ca_file: self.tls_ca.clone(),
            auto_login: AutoLogin::Enabled(Credentials::UsernamePassword(
                self.username.clone(),
                self.password.reveal().into(),
            )),
            reconnection,
            // A question is one small segment, and its answer is waited for.
            nodelay: true,
            ..TcpClientConfig::default()
        };
        let opened = match TcpClient::create(Arc::new(config)) {
            Ok(client) => client.connect().await.map(|()| client),
            Err(error) => Err(error),
        };
        opened.map_err(|error| {
            let (address, reason) = (address.to_owned(), error.to_string());
            match error {
                IggyError::InvalidCredentials
                | IggyError::InvalidUsername
                | IggyError::InvalidPassword
                | IggyError::UserInactive
                | IggyError::Unauthenticated => LiveError::Refused { address, user: self.username.clone(), reason },
                _ => LiveError::Unreachable { address, reason },
            }
        })
    }
}

#[async_trait]
impl LiveSource for IggyServer {
    async fn connect(&self) -> Result<Box<dyn LiveSession>, LiveError> {
        let mut failed = LiveError::Unreachable { address: String::new(), reason: "no address is set".to_owned() };
        for address in &self.addresses {
            match in_time(SIGN_IN_WAIT, address, self.sign_in(address)).await {
                Ok(client) => return Ok(Box::new(IggySession { client, address: address.clone() })),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// What comes in time, or that nothing did: the session is then not to be used again.
async fn in_time<T>(
    wait: Duration,
    address: &str,
    work: impl Future<Output = Result<T, LiveError>>,
) -> Result<T, LiveError> {
    let late = || LiveError::Unreachable { address: address.to_owned(), reason: format!("no answer within {wait:?}") };
    timeout(wait, work).await.unwrap_or_else(|_| Err(late()))
}

/// One TCP connection that has signed in.
struct IggySession {
    client: TcpClient,
    address: String,
}

impl IggySession {
    async fn ask(&self, question: &'static str, code: u32, request: Bytes) -> Result<Bytes, LiveError> {
        in_time(ANSWER_WAIT, &self.address, self.ask_long(question, code, request)).await
    }

    async fn ask_long(&self, question: &'static str, code: u32, request: Bytes) -> Result<Bytes, LiveError> {
        self.client.send_raw_with_response(code, request).await.map_err(|error| {
            let reason = error.to_string();
            match error {
                IggyError::Disconnected
                | IggyError::NotConnected
                | IggyError::ClientShutdown
                | IggyError::CannotEstablishConnection
                | IggyError::EmptyResponse
                | IggyError::StaleClient
                | IggyError::TcpError
                | IggyError::ConnectionClosed
                | IggyError::Unauthenticated
                | IggyError::TransientNotCommitted
                | IggyError::TransientNotAccepted => LiveError::Unreachable { address: self.address.clone(), reason },
                _ => LiveError::Denied { question, reason },
            }
        })
    }
}

#[async_trait]
impl LiveSession for IggySession {
    async fn streams(&self) -> Result<Vec<StreamSeen>, LiveError> {
        const QUESTION: &str = "GetStreams";
        let answer = self.ask(QUESTION, GET_STREAMS_CODE, Bytes::new()).await?;
        Ok(decode::<GetStreamsResponse>(QUESTION, &answer)?.streams.iter().map(stream_seen).collect())
    }

    async fn topics(&self, stream: StreamId) -> Result<Option<Vec<TopicSeen>>, LiveError> {
        const QUESTION: &str = "GetStream";
        let request = GetStreamRequest { stream_id: WireIdentifier::Numeric(stream.0) };
        let answer = self.ask(QUESTION, GET_STREAM_CODE, request.to_bytes()).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        let topics = decode::<GetStreamResponse>(QUESTION, &answer)?.topics;
        Ok(Some(topics.iter().map(topic_seen).collect()))
    }

    async fn partitions(&self, topic: TopicPlace) -> Result<Option<(TopicSeen, Vec<PartitionSeen>)>, LiveError> {
        const QUESTION: &str = "GetTopic";
        let request = GetTopicRequest {
            stream_id: WireIdentifier::Numeric(topic.stream.0),
            topic_id: WireIdentifier::Numeric(topic.topic.0),
        };
        let answer = self.ask(QUESTION, GET_TOPIC_CODE, request.to_bytes()).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        let GetTopicResponse { topic, partitions } = decode(QUESTION, &answer)?;
        Ok(Some((topic_seen(&topic), partitions.iter().map(partition_seen).collect())))
    }

    async fn poll(&self, poll: Poll) -> Result<Polled, LiveError> {
        const QUESTION: &str = "PollMessages";
        let request = PollMessagesRequest {
            consumer: WireConsumer::consumer(WireIdentifier::Numeric(POLLING_CONSUMER)),
            stream_id: WireIdentifier::Numeric(poll.place.topic.stream.0),
            topic_id: WireIdentifier::Numeric(poll.place.topic.topic.0),
            partition_id: Some(poll.place.partition.0),
            strategy: WirePollingStrategy::offset(poll.from.0),
            count: poll.count,
            auto_commit: false,
        };
        let answer = self.ask(QUESTION, POLL_MESSAGES_CODE, request.to_bytes()).await?;
        if answer.is_empty() {
            // How a server says that it does not know the partition.
            return Err(LiveError::Denied { question: QUESTION, reason: "there is no such partition".to_owned() });
        }
        let head: &[u8; POLL_HEAD_BYTES] = answer.first_chunk().ok_or_else(|| LiveError::Unreadable {
            question: QUESTION,
            reason: format!("{} bytes are no poll's answer", answer.len()),
        })?;
        let current = u64::from_le_bytes(*head[4..].first_chunk().expect("12 bytes hold an offset"));
        Ok(Polled { current: Offset(current), batches: answer.slice(POLL_HEAD_BYTES..) })
    }

    async fn stored_offset(&self, consumer: &str, place: PartitionPlace) -> Result<Option<Offset>, LiveError> {
        const QUESTION: &str = "GetConsumerOffset";
        let (stream_id, topic_id, partition_id) = wire(place);
        let request = GetConsumerOffsetRequest { consumer: named(consumer)?, stream_id, topic_id, partition_id };
        let answer = self.ask(QUESTION, GET_CONSUMER_OFFSET_CODE, request.to_bytes()).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        Ok(Some(Offset(decode::<ConsumerOffsetResponse>(QUESTION, &answer)?.stored_offset)))
    }

    async fn store_offset(&self, consumer: &str, place: PartitionPlace, last: Offset) -> Result<(), LiveError> {
        let (stream_id, topic_id, partition_id) = wire(place);
        let request = StoreConsumerOffsetRequest {
            consumer: named(consumer)?,
            stream_id,
            topic_id,
            partition_id,
            offset: last.0,
            ack: AckLevel::Quorum,
        };
        self.ask("StoreConsumerOffset", STORE_CONSUMER_OFFSET_CODE, request.to_bytes()).await.map(drop)
    }

    async fn delete_offset(&self, consumer: &str, place: PartitionPlace) -> Result<(), LiveError> {
        let (stream_id, topic_id, partition_id) = wire(place);
        let request = DeleteConsumerOffsetRequest {
            consumer: named(consumer)?,
            stream_id,
            topic_id,
            partition_id,
            ack: AckLevel::Quorum,
        };
        self.ask("DeleteConsumerOffset", DELETE_CONSUMER_OFFSET_CODE, request.to_bytes()).await.map(drop)
    }
}

fn decode<T: WireDecode>(question: &'static str, answer: &[u8]) -> Result<T, LiveError> {
    T::decode_from(answer).map_err(|error| LiveError::Unreadable { question, reason: error.to_string() })
}

fn named(consumer: &str) -> Result<WireConsumer, LiveError> {
    let name = WireIdentifier::named(consumer);
    name.map(WireConsumer::consumer)
        .map_err(|error| LiveError::Denied { question: "a consumer's offset", reason: error.to_string() })
}

fn wire(place: PartitionPlace) -> (WireIdentifier, WireIdentifier, Option<u32>) {
    let TopicPlace { stream, topic } = place.topic;
    (WireIdentifier::Numeric(stream.0), WireIdentifier::Numeric(topic.0), Some(place.partition.0))
}

fn stream_seen(stream: &StreamResponse) -> StreamSeen {
    StreamSeen {
        id: StreamId(stream.id),
        name: stream.name.as_str().to_owned(),
        created_at: stream.created_at,
        topics: stream.topics_count,
        totals: Totals { bytes: stream.size_bytes, messages: stream.messages_count },
    }
}

fn topic_seen(topic: &TopicHeader) -> TopicSeen {
    TopicSeen {
        id: TopicId(topic.id),
        name: topic.name.as_str().to_owned(),
        created_at: topic.created_at,
        partitions: topic.partitions_count,
        // 0 is the server's own default, which it does not tell.
        message_expiry_micros: Some(topic.message_expiry).filter(|expiry| ![0, NEVER_EXPIRES].contains(expiry)),
        totals: Totals { bytes: topic.size_bytes, messages: topic.messages_count },
    }
}

fn partition_seen(partition: &PartitionResponse) -> PartitionSeen {
    let totals = Totals { bytes: partition.size_bytes, messages: partition.messages_count };
    // The last offset is 0 before the first message and after it; one read between a commit's two steps is as before it.
    let empty = partition.current_offset == 0 && partition.messages_count != 1;
    let end = if empty { Offset(0) } else { Offset(partition.current_offset).plus(1) };
    PartitionSeen { id: PartitionId(partition.id), created_at: partition.created_at, end, totals }
}
