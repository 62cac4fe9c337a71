//! The bodies of replies, by what was asked.

use bytes::Bytes;
use iggy_binary_protocol::codes::{
    GET_CLUSTER_METADATA_CODE, GET_CONSUMER_OFFSET_CODE, GET_STREAM_CODE, GET_STREAMS_CODE, GET_TOPIC_CODE, PING_CODE,
    POLL_MESSAGES_CODE,
};
use iggy_binary_protocol::requests::consumer_offsets::{
    DeleteConsumerOffsetRequest, GetConsumerOffsetRequest, StoreConsumerOffsetRequest,
};
use iggy_binary_protocol::requests::messages::{PollMessagesRequest, SendMessagesHeader};
use iggy_binary_protocol::requests::streams::GetStreamRequest;
use iggy_binary_protocol::requests::topics::GetTopicRequest;
use iggy_binary_protocol::responses::consumer_offsets::ConsumerOffsetResponse;
use iggy_binary_protocol::responses::messages::{SendMessagesConfirmationResponse, SendMessagesResponse};
use iggy_binary_protocol::responses::streams::get_stream::{GetStreamResponse, TopicHeader};
use iggy_binary_protocol::responses::streams::{GetStreamsResponse, StreamResponse};
use iggy_binary_protocol::responses::topics::get_topic::{GetTopicResponse, PartitionResponse};
use iggy_binary_protocol::responses::users::LoginRegisterResponse;
use iggy_binary_protocol::{
    IGGY_PROTOCOL_VERSION, Operation, WireConsumer, WireDecode, WireEncode, WireError, WireName, WireOptions,
    WirePartitioning,
};
use kennel_protocol::batch::BatchView;

use super::origin::State;
use super::store::{Start, StreamLog, TopicLog};
use crate::frame::u32_at;

/// Iggy's codes for errors.
pub(super) mod status {
    pub(crate) const INVALID_COMMAND: u32 = 3;
    pub(crate) const FEATURE_UNAVAILABLE: u32 = 5;
    pub(crate) const NOT_FOUND: u32 = 20;
    pub(crate) const UNAUTHORIZED: u32 = 41;
}

/// The body of a reply, or the code of an error.
pub(super) type Reply = Result<Vec<u8>, u32>;

/// Replies to what is replicated begin with a count of errors.
const NO_ERRORS: [u8; 4] = [0; 4];

/// What a login is told.
pub(super) fn registered(session: u64) -> Vec<u8> {
    let response = LoginRegisterResponse {
        user_id: 1,
        session,
        server_protocol_version: IGGY_PROTOCOL_VERSION,
        server_version: name("0.9.0-testing"),
    };
    [&NO_ERRORS[..], &response.to_bytes()].concat()
}

/// Answers what is not replicated.
pub(super) fn asked(state: &mut State, code: u32, body: &[u8]) -> Reply {
    match code {
        PING_CODE => Ok(Vec::new()),
        GET_CLUSTER_METADATA_CODE => Ok(state.roster.to_bytes().to_vec()),
        GET_STREAMS_CODE => Ok(streams(state)),
        GET_STREAM_CODE => Ok(stream(state, &decode(GetStreamRequest::decode_from(body))?)),
        GET_TOPIC_CODE => Ok(topic(state, &decode(GetTopicRequest::decode_from(body))?)),
        POLL_MESSAGES_CODE => poll(state, &decode(PollMessagesRequest::decode_from(body))?),
        GET_CONSUMER_OFFSET_CODE => stored(state, &decode(GetConsumerOffsetRequest::decode_from(body))?),
        _ => Err(status::FEATURE_UNAVAILABLE),
    }
}

/// Carries out what is replicated.
pub(super) fn told(state: &mut State, operation: u8, body: &[u8]) -> Reply {
    const SEND: u8 = Operation::SendMessages as u8;
    const STORE: u8 = Operation::StoreConsumerOffset as u8;
    const DELETE: u8 = Operation::DeleteConsumerOffset as u8;
    match operation {
        SEND => send(state, body),
        STORE => store(state, &decode(StoreConsumerOffsetRequest::decode_from(body))?),
        DELETE => forget(state, &decode(DeleteConsumerOffsetRequest::decode_from(body))?),
        _ => Err(status::FEATURE_UNAVAILABLE),
    }
}

fn poll(state: &mut State, request: &PollMessagesRequest) -> Reply {
    state.polls += 1;
    if state.deny_polls {
        return Err(status::UNAUTHORIZED);
    }
    let (stream, topic) = state.store.find(&request.stream_id, &request.topic_id).ok_or(status::NOT_FOUND)?;
    let partition = request.partition_id.unwrap_or(0);
    let key = (consumer(&request.consumer), stream, topic, partition);
    let start = match request.strategy.kind {
        1 => Start::Offset(request.strategy.value),
        2 => Start::Timestamp(request.strategy.value),
        3 => Start::Offset(0),
        4 => Start::Last,
        5 => Start::Offset(state.store.offsets.get(&key).map_or(0, |stored| stored + 1)),
        _ => return Err(status::INVALID_COMMAND),
    };
    let log = state.store.streams[&stream].topics[&topic].partitions.get(&partition).ok_or(status::NOT_FOUND)?;
    let (body, last) = log.poll(partition, start, request.count);
    if let Some(last) = last.filter(|_| request.auto_commit) {
        state.store.offsets.insert(key, last);
    }
    Ok(body)
}

fn stored(state: &State, request: &GetConsumerOffsetRequest) -> Reply {
    let (stream, topic) = state.store.find(&request.stream_id, &request.topic_id).ok_or(status::NOT_FOUND)?;
    let partition_id = request.partition_id.unwrap_or(0);
    let key = (consumer(&request.consumer), stream, topic, partition_id);
    let Some(stored_offset) = state.store.offsets.get(&key).copied() else { return Ok(Vec::new()) };
    let log = &state.store.streams[&stream].topics[&topic].partitions.get(&partition_id).ok_or(status::NOT_FOUND)?;
    let current_offset = log.end.saturating_sub(1);
    Ok(ConsumerOffsetResponse { partition_id, current_offset, stored_offset }.to_bytes().to_vec())
}

fn store(state: &mut State, request: &StoreConsumerOffsetRequest) -> Reply {
    let (stream, topic) = state.store.find(&request.stream_id, &request.topic_id).ok_or(status::NOT_FOUND)?;
    let key = (consumer(&request.consumer), stream, topic, request.partition_id.unwrap_or(0));
    state.store.offsets.insert(key, request.offset);
    Ok(NO_ERRORS.to_vec())
}

fn forget(state: &mut State, request: &DeleteConsumerOffsetRequest) -> Reply {
    let (stream, topic) = state.store.find(&request.stream_id, &request.topic_id).ok_or(status::NOT_FOUND)?;
    state.store.offsets.remove(&(consumer(&request.consumer), stream, topic, request.partition_id.unwrap_or(0)));
    Ok(NO_ERRORS.to_vec())
}

fn send(state: &mut State, body: &[u8]) -> Reply {
    let length = body.get(..4).ok_or(status::INVALID_COMMAND).map(|body| u32_at(body, 0) as usize)?;
    let header = body.get(4..4 + length).ok_or(status::INVALID_COMMAND)?;
    let header = decode(SendMessagesHeader::decode_from(header))?;
    let (stream_id, topic_id) = state.store.find(&header.stream_id, &header.topic_id).ok_or(status::NOT_FOUND)?;
    let partition_id = match header.partitioning {
        WirePartitioning::PartitionId(partition) => partition,
        WirePartitioning::Balanced | WirePartitioning::MessagesKey(_) => 0,
    };
    let batch = BatchView::parse(&body[4 + length..], 0).map_err(|_| status::INVALID_COMMAND)?;
    let (base_offset, _) = state.store.send((stream_id, topic_id, partition_id), &batch);
    let place = SendMessagesConfirmationResponse { stream_id, topic_id, partition_id, base_offset };
    Ok(SendMessagesResponse { confirmations: vec![place] }.to_bytes().to_vec())
}

fn streams(state: &State) -> Vec<u8> {
    let streams = state.store.streams.iter().map(|(id, log)| stream_header(*id, log)).collect();
    GetStreamsResponse { streams }.to_bytes().to_vec()
}

fn stream(state: &State, request: &GetStreamRequest) -> Vec<u8> {
    let Some((id, log)) = state.store.find_stream(&request.stream_id) else { return Vec::new() };
    let topics: Vec<TopicHeader> = log.topics.iter().map(|(id, topic)| topic_header(*id, topic)).collect();
    GetStreamResponse { stream: stream_header(id, log), topics }.to_bytes().to_vec()
}

fn topic(state: &State, request: &GetTopicRequest) -> Vec<u8> {
    let Some((stream, topic)) = state.store.find(&request.stream_id, &request.topic_id) else { return Vec::new() };
    let topic_log = &state.store.streams[&stream].topics[&topic];
    let partitions = topic_log.partitions.iter().map(|(id, log)| PartitionResponse {
        id: *id,
        created_at: topic_log.created_at,
        segments_count: 1,
        current_offset: log.end.saturating_sub(1),
        size_bytes: log.totals().1,
        messages_count: log.totals().0,
    });
    GetTopicResponse { topic: topic_header(topic, topic_log), partitions: partitions.collect() }.to_bytes().to_vec()
}

fn stream_header(id: u32, log: &StreamLog) -> StreamResponse {
    let (messages_count, size_bytes) = sum(log.topics.values());
    StreamResponse {
        id,
        created_at: log.created_at,
        topics_count: count(log.topics.len()),
        size_bytes,
        messages_count,
        name: name(&log.name),
        options: WireOptions::empty(),
    }
}

fn topic_header(id: u32, log: &TopicLog) -> TopicHeader {
    let (messages_count, size_bytes) = sum(core::iter::once(log));
    TopicHeader {
        id,
        created_at: log.created_at,
        partitions_count: count(log.partitions.len()),
        message_expiry: u64::MAX,
        compression_algorithm: 1,
        max_topic_size: u64::MAX,
        size_bytes,
        messages_count,
        name: name(&log.name),
        options: WireOptions::empty(),
        derived_options: WireOptions::empty(),
    }
}

fn sum<'a>(topics: impl Iterator<Item = &'a TopicLog>) -> (u64, u64) {
    let logs = topics.flat_map(|topic| topic.partitions.values());
    logs.map(super::store::Log::totals).fold((0, 0), |all, log| (all.0 + log.0, all.1 + log.1))
}

fn consumer(consumer: &WireConsumer) -> Bytes {
    consumer.to_bytes()
}

fn count(of: usize) -> u32 {
    u32::try_from(of).expect("tests are small")
}

fn name(text: &str) -> WireName {
    WireName::new(text).expect("tests give short names")
}

fn decode<T>(decoded: Result<T, WireError>) -> Result<T, u32> {
    decoded.map_err(|_| status::INVALID_COMMAND)
}
