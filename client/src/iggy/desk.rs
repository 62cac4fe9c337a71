//! Decides about polls: the ring answers what it can answer faithfully, of topics that the server lets this client
//! poll, and of partitions in which server and ring were lately found to hold the same.
//!
//! The same rules as a gateway's session, for one client in its own process. Nothing here holds a connection: whoever
//! asks brings an [`Origin`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use iggy_binary_protocol::requests::consumer_offsets::GetConsumerOffsetRequest;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::responses::consumer_offsets::ConsumerOffsetResponse;
use iggy_binary_protocol::{Operation, WireDecode, WireEncode, WirePollingStrategy, codes, lookup_command};
use iggy_common::IggyError;
use kennel_gateway::poll::{self, ForwardReason, Poll, PollAnswer, PollStart, Reach, Served};
use kennel_gateway::ring::Ring;
use kennel_gateway::{COMPARE_EVERY, EmptyPolls, Proofs, Standing, VERDICT, Verdicts, Written};
use kennel_protocol::batch::batches;
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::FetchFrom;
use tokio::time::Instant;

use super::counts::Counters;

/// Length of the head of a poll's reply.
const HEAD_BYTES: usize = 16;

/// How a [`super::CacheTransport`] weighs ring and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// How long the server's word that this client may poll a topic is believed. Shorter: rights that were taken away
    /// end sooner, and more polls go to the server.
    pub verdict: Duration,
    /// How long it is believed that ring and server hold the same messages of a partition.
    pub compare_every: Duration,
    /// Who answers a poll behind which the ring has no more messages. With the ring, what others have sent shows some
    /// milliseconds later than at the server; what this client has sent shows at once.
    pub empty_polls: EmptyPolls,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { verdict: VERDICT, compare_every: COMPARE_EVERY, empty_polls: EmptyPolls::Ring }
    }
}

/// The Iggy server, as this client is logged in to it.
#[async_trait]
pub(super) trait Origin: Sync {
    async fn poll(&self, request: &PollMessagesRequest) -> Result<Bytes, IggyError>;
    async fn ask(&self, code: u32, body: Bytes) -> Result<Bytes, IggyError>;
}

/// What is known of ring and server, and what follows for a poll.
#[derive(Debug)]
pub(super) struct Desk {
    ring: Arc<dyn Ring>,
    settings: CacheSettings,
    verdicts: Mutex<Verdicts>,
    written: Mutex<Written>,
    proofs: Proofs,
    pub(super) counters: Counters,
}

/// Why the server has to answer.
#[derive(Debug)]
enum Stop {
    /// In a word, for the counts.
    Because(&'static str),
    /// It has answered already, and not well.
    Failed(IggyError),
}

impl From<ForwardReason> for Stop {
    fn from(reason: ForwardReason) -> Self {
        Self::Because(reason.label())
    }
}

/// What a request changes, as far as reads are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Messages are sent.
    Send,
    /// Another user may be logged in afterwards.
    Session,
    /// Streams, topics, partitions or rights are changed.
    Change,
    /// Nothing.
    Other,
}

impl Desk {
    pub(super) fn new(ring: Arc<dyn Ring>, settings: CacheSettings) -> Self {
        let (verdicts, written) = (Mutex::default(), Mutex::default());
        Self { ring, settings, verdicts, written, proofs: Proofs::default(), counters: Counters::default() }
    }

    /// The body of the reply to a poll.
    pub(super) async fn poll(&self, origin: &dyn Origin, request: &PollMessagesRequest) -> Result<Bytes, IggyError> {
        let because = match Poll::plain(request) {
            Ok(poll) => match self.look_up(origin, request, poll).await {
                Ok(body) => return Ok(body),
                Err(Stop::Because(reason)) => reason,
                Err(Stop::Failed(error)) => return Err(error),
            },
            Err(reason) => reason.label(),
        };
        self.counters.forwarded(because);
        self.forward(origin, request).await
    }

    /// Lets the server answer. That it does, is worth knowing.
    async fn forward(&self, origin: &dyn Origin, request: &PollMessagesRequest) -> Result<Bytes, IggyError> {
        let (started, generation) = (Instant::now(), self.proofs.generation());
        let reply = origin.poll(request).await;
        let topic = topic(request);
        match &reply {
            Ok(_) => lock(&self.verdicts).allow(&topic, started, generation),
            Err(_) => lock(&self.verdicts).deny(&topic),
        }
        reply
    }

    async fn look_up(&self, origin: &dyn Origin, request: &PollMessagesRequest, poll: Poll) -> Result<Bytes, Stop> {
        let located = self.ring.locate(&poll.stream, &poll.topic, poll.partition).await;
        let partition = located.map_err(ForwardReason::from)?.ok_or(ForwardReason::UnknownPartition)?;
        self.admit(origin, request, partition).await?;
        let poll = if poll.needs_stored_offset() {
            poll.with_stored_offset(stored_offset(origin, request).await?)
        } else {
            poll
        };
        let (head, records, served) = match poll::answer(&*self.ring, &poll).await {
            PollAnswer::Served { head, records, served } => (head, records, served),
            PollAnswer::Forward(reason) => return Err(reason.into()),
        };
        // The names may mean another life of the partition by now, which nobody has compared.
        if served.partition != partition {
            return Err(Stop::Because("doubted"));
        }
        if let Some(reason) = self.objection(&poll, &served) {
            return Err(Stop::Because(reason));
        }
        self.counters.served(served.messages, served.bytes);
        // The one copy of a body: the SDK takes replies in one piece.
        let mut body = BytesMut::with_capacity(HEAD_BYTES + served.bytes);
        body.extend_from_slice(&head);
        for record in &records {
            body.extend_from_slice(record);
        }
        Ok(body.freeze())
    }

    /// Whether the client may poll the topic and the ring be trusted with the partition, after asking if need be.
    async fn admit(
        &self,
        origin: &dyn Origin,
        request: &PollMessagesRequest,
        partition: PartitionKey,
    ) -> Result<(), Stop> {
        let (now, generation) = (Instant::now(), self.proofs.generation());
        let may = lock(&self.verdicts).allows(&topic(request), now, self.settings.verdict, generation);
        match (may, self.proofs.standing(partition, now, self.settings.compare_every)) {
            (true, Standing::Proven) => Ok(()),
            (_, Standing::Distrusted) => Err(Stop::Because("doubted")),
            _ => self.probe(origin, request, partition).await,
        }
    }

    /// Polls the ring's newest message at the server, as this client.
    async fn probe(
        &self,
        origin: &dyn Origin,
        request: &PollMessagesRequest,
        partition: PartitionKey,
    ) -> Result<(), Stop> {
        let read = self.ring.read(partition, FetchFrom::Last, 1).await.map_err(ForwardReason::from)?;
        let newest = read.batches.iter().filter_map(|run| messages(run).last()).last();
        // Without a message there is nothing to compare, and hardly anything to serve.
        let ours = newest.ok_or(Stop::Because("doubted"))?;
        let (started, generation) = (Instant::now(), self.proofs.generation());
        let strategy = WirePollingStrategy::offset(ours.offset.0);
        let reply = self.forward(origin, &PollMessagesRequest { strategy, count: 1, ..request.clone() }).await;
        let reply = reply.map_err(Stop::Failed)?;
        match messages(reply.get(HEAD_BYTES..).unwrap_or_default()).next() {
            Some(theirs) if theirs == ours => {
                self.proofs.same(partition, started, generation);
                Ok(())
            }
            Some(theirs) if theirs.offset == ours.offset => {
                self.counters.mismatch();
                tracing::warn!(%partition, offset = %ours.offset, "server and ring hold different messages: the server answers");
                self.proofs.differs(partition, Instant::now());
                Err(Stop::Because("doubted"))
            }
            // The server has let go of it, or does not show it yet.
            _ => {
                self.proofs.unclear(partition, Instant::now());
                Err(Stop::Because("doubted"))
            }
        }
    }

    /// Why an answer of the ring is not good enough, although it is right.
    fn objection(&self, poll: &Poll, served: &Served) -> Option<&'static str> {
        let is_complete = served.reach == Reach::Count && poll.start != PollStart::Last;
        if !is_complete && lock(&self.written).beyond(&served.partition, served.committed, Instant::now()) {
            return Some("own_writes");
        }
        if served.messages > 0 {
            return None;
        }
        match self.settings.empty_polls {
            EmptyPolls::Origin => Some("empty"),
            EmptyPolls::Ring => (served.next > served.committed).then_some("beyond"),
        }
    }

    /// Takes note of a request before it is sent.
    pub(super) fn asked(&self, wish: Wish) {
        if wish == Wish::Change {
            self.proofs.change();
        }
    }

    /// Takes note of a request that the server has answered, well or not.
    pub(super) fn answered(&self, wish: Wish, request: &[u8], reply: Option<&[u8]>) {
        match wish {
            // Once more: a poll may have been compared between the change and the reply.
            Wish::Change => self.proofs.change(),
            Wish::Session => lock(&self.verdicts).forget(),
            Wish::Send => {
                if let Some(reply) = reply {
                    lock(&self.written).confirmed(request, reply, Instant::now());
                }
            }
            Wish::Other => {}
        }
    }
}

/// What a command changes, by its code.
pub(super) fn wish(code: u32) -> Wish {
    match code {
        codes::LOGIN_USER_CODE
        | codes::LOGOUT_USER_CODE
        | codes::LOGIN_REGISTER_CODE
        | codes::LOGIN_REGISTER_WITH_PAT_CODE
        | codes::LOGIN_WITH_PERSONAL_ACCESS_TOKEN_CODE => Wish::Session,
        _ => match lookup_command(code).and_then(|command| command.operation) {
            Some(Operation::SendMessages) => Wish::Send,
            Some(
                Operation::CreateConsumerGroup
                | Operation::DeleteConsumerGroup
                | Operation::JoinConsumerGroup
                | Operation::LeaveConsumerGroup,
            ) => Wish::Other,
            Some(operation) if operation.is_metadata() => Wish::Change,
            // Segments are deleted by way of another operation.
            Some(Operation::DeleteSegments) => Wish::Change,
            _ => Wish::Other,
        },
    }
}

/// A topic as requests name it.
fn topic(request: &PollMessagesRequest) -> Bytes {
    let length = request.stream_id.encoded_size() + request.topic_id.encoded_size();
    let mut topic = BytesMut::with_capacity(length);
    request.stream_id.encode(&mut topic);
    request.topic_id.encode(&mut topic);
    topic.freeze()
}

/// What the server has stored for the consumer of a poll.
async fn stored_offset(origin: &dyn Origin, request: &PollMessagesRequest) -> Result<Option<Offset>, Stop> {
    let question = GetConsumerOffsetRequest {
        consumer: request.consumer.clone(),
        stream_id: request.stream_id.clone(),
        topic_id: request.topic_id.clone(),
        partition_id: request.partition_id,
    };
    let reply = origin.ask(codes::GET_CONSUMER_OFFSET_CODE, question.to_bytes()).await.map_err(Stop::Failed)?;
    if reply.is_empty() {
        return Ok(None);
    }
    let unread = |_| Stop::Because("no_stored_offset");
    ConsumerOffsetResponse::decode_from(&reply).map(|stored| Some(Offset(stored.stored_offset))).map_err(unread)
}

/// The messages of a run of batches, as far as it can be read.
fn messages(run: &[u8]) -> impl Iterator<Item = MessageIdentity> {
    let views = batches(run).map_while(Result::ok);
    views.flat_map(|view| view.messages()).map_while(Result::ok).map(|message| message.identity())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
