//! Polls: answered from the ring where that is faithful and allowed, by the server otherwise.
//!
//! Before the ring answers, the server has lately let this very session poll this topic, and was lately found to hold
//! the same newest message of the partition as the ring. One short poll of that message, made in the session's name,
//! says both. Where it does not say so, the client's own poll goes to the server.

use bytes::Bytes;
use iggy_binary_protocol::codes::{GET_CONSUMER_OFFSET_CODE, POLL_MESSAGES_CODE};
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_binary_protocol::responses::consumer_offsets::ConsumerOffsetResponse;
use iggy_binary_protocol::{WireDecode, WireEncode, WirePollingStrategy};
use kennel_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, MESSAGE_HEADER_BYTES, batches};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::FetchFrom;
use tokio::time::Instant;

use super::{Session, Trouble};
use crate::error::SessionError;
use crate::frame::{POLL_HEAD_BYTES, PollHead, u32_at, u64_at};
use crate::poll::{self, ForwardReason, Poll, PollAnswer, PollStart, Reach, Served};
use crate::settings::EmptyPolls;
use crate::verdicts::Standing;
use crate::wire::{Incoming, Pieces};

/// Bytes of strategy, count and flag at the end of a poll: before them it is a question for the stored offset.
const POLL_TAIL_BYTES: usize = 9 + 4 + 1;

/// Where the frame of a message has its offset, counted from the batch's base.
const OFFSET_DELTA_AT: usize = 24;

/// A plain poll.
struct Asked {
    request: PollMessagesRequest,
    poll: Poll,
    /// Stream and topic as they stand in the request.
    topic: Bytes,
    /// The question for the stored offset of the same consumer.
    stored: Bytes,
}

/// An answer from the ring.
struct Answer {
    head: [u8; POLL_HEAD_BYTES],
    records: Vec<Bytes>,
    served: Served,
}

/// Why a poll is not answered from the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The ring, or the kind of poll.
    Poll(ForwardReason),
    /// It is longer than a poll, or no poll.
    Malformed,
    /// The server did not let the session poll the topic, or has not been asked lately.
    NoVerdict,
    /// Server and ring differ in the partition, or could not be compared.
    Doubted,
    /// The ring may lack what the session sent.
    OwnWrites,
    /// There is nothing to read, and the server shall say so.
    Empty,
    /// The ring ends before the offset that is asked for.
    Beyond,
    /// The server did not tell the stored offset.
    NoStoredOffset,
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Self::Poll(reason) => reason.label(),
            Self::Malformed => "malformed",
            Self::NoVerdict => "no_verdict",
            Self::Doubted => "doubted",
            Self::OwnWrites => "own_writes",
            Self::Empty => "empty",
            Self::Beyond => "beyond",
            Self::NoStoredOffset => "no_stored_offset",
        }
    }
}

/// Why a look at the ring ended.
enum Stop {
    Because(Reason),
    Trouble(Trouble),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<ForwardReason> for Stop {
    fn from(reason: ForwardReason) -> Self {
        Self::Because(Reason::Poll(reason))
    }
}

impl Session {
    pub(super) async fn poll(&mut self, request: Incoming) -> Result<(), SessionError> {
        let started = Instant::now();
        let asked = parse(&request);
        let stop = match &asked {
            Ok(asked) => match self.look_up(&request, asked).await {
                Ok(answer) => return self.serve(&request, answer, started).await,
                Err(stop) => stop,
            },
            Err(reason) => Stop::Because(*reason),
        };
        match (stop, asked) {
            // Only now is it known that the server is away: the ring may do.
            (Stop::Trouble(Trouble::Origin), Ok(asked)) => {
                self.lost().await?;
                match self.look_up(&request, &asked).await {
                    Ok(answer) => self.serve(&request, answer, started).await,
                    Err(_) => self.refuse(request).await,
                }
            }
            (Stop::Trouble(trouble), _) => self.recover(trouble, request).await,
            (Stop::Because(_), _) if self.origin.is_none() => self.refuse(request).await,
            (Stop::Because(reason), asked) => self.forward(request, asked.ok(), reason, started).await,
        }
    }

    /// Lets the server answer. That it lets the session poll is worth knowing.
    async fn forward(
        &mut self,
        mut request: Incoming,
        asked: Option<Asked>,
        reason: Reason,
        started: Instant,
    ) -> Result<(), SessionError> {
        tracing::trace!(reason = reason.label(), "a poll goes to the server");
        let generation = self.shared.proofs.generation();
        let reply = match self.exchange(&mut request).await {
            Ok(reply) => reply,
            Err(Trouble::Client(error)) => return Err(SessionError::Client(error)),
            Err(Trouble::Origin) => {
                self.lost().await?;
                let Some(asked) = asked else { return self.refuse(request).await };
                return match self.look_up(&request, &asked).await {
                    Ok(answer) => self.serve(&request, answer, started).await,
                    Err(_) => self.refuse(request).await,
                };
            }
        };
        if let Some(asked) = asked {
            self.judge(&asked.topic, &reply, started, generation);
        }
        self.relay(reply).await?;
        self.shared.counters.forwarded(reason.label(), started.elapsed());
        Ok(())
    }

    /// What a reply to a poll says of the session's rights.
    fn judge(&mut self, topic: &Bytes, reply: &Incoming, at: Instant, generation: crate::verdicts::Generation) -> bool {
        let may = reply.header.is_reply() && reply.header.status() == 0;
        if may {
            self.verdicts.allow(topic, at, generation);
        } else {
            self.verdicts.deny(topic);
        }
        self.shared.counters.verdict(may);
        may
    }

    async fn look_up(&mut self, request: &Incoming, asked: &Asked) -> Result<Answer, Stop> {
        let poll = &asked.poll;
        let located = self.shared.ring.locate(&poll.stream, &poll.topic, poll.partition).await;
        let partition = located.map_err(ForwardReason::from)?.ok_or(ForwardReason::UnknownPartition)?;
        self.admit(request, asked, partition).await?;
        let poll = if poll.needs_stored_offset() {
            let stored = self.stored_offset(request, asked).await?;
            poll.clone().with_stored_offset(stored)
        } else {
            poll.clone()
        };
        let answer = match poll::answer(&*self.shared.ring, &poll).await {
            PollAnswer::Served { head, records, served } => Answer { head, records, served },
            PollAnswer::Forward(reason) => return Err(reason.into()),
        };
        // The names may mean another life of the partition by now, which nobody has compared.
        if answer.served.partition != partition {
            return Err(Stop::Because(Reason::Doubted));
        }
        match self.objection(&poll, &answer.served) {
            None => Ok(answer),
            Some(reason) => Err(Stop::Because(reason)),
        }
    }

    /// Whether the session may poll the topic and the ring be trusted with the partition, after asking if need be.
    async fn admit(&mut self, request: &Incoming, asked: &Asked, partition: PartitionKey) -> Result<(), Stop> {
        let (settings, now) = (&self.shared.settings, Instant::now());
        let extension = if self.origin.is_some() { std::time::Duration::ZERO } else { settings.reads_without_origin };
        let generation = self.shared.proofs.generation();
        let may = self.verdicts.allows(&asked.topic, now, settings.verdict + extension, generation);
        let standing = self.shared.proofs.standing(partition, now, settings.compare_every + extension);
        match (may, standing) {
            (true, Standing::Proven) => Ok(()),
            (_, Standing::Distrusted) => Err(Stop::Because(Reason::Doubted)),
            _ if self.origin.is_none() => Err(Stop::Because(Reason::NoVerdict)),
            _ => self.probe(request, asked, partition).await,
        }
    }

    /// Polls the ring's newest message at the server.
    async fn probe(&mut self, request: &Incoming, asked: &Asked, partition: PartitionKey) -> Result<(), Stop> {
        let read = self.shared.ring.read(partition, FetchFrom::Last, 1).await.map_err(ForwardReason::from)?;
        let newest = read.batches.iter().flat_map(|run| batches(run)).filter_map(Result::ok).last();
        let newest = newest.and_then(|batch| batch.messages().filter_map(Result::ok).last());
        let Some(ours) = newest.map(|message| message.identity()) else {
            // There is nothing to compare, and hardly anything to serve.
            return Err(Stop::Because(Reason::Doubted));
        };
        let (started, generation) = (Instant::now(), self.shared.proofs.generation());
        let strategy = WirePollingStrategy::offset(ours.offset.0);
        let probe = PollMessagesRequest { strategy, count: 1, ..asked.request.clone() };
        let reply = self.ask(&request.header, POLL_MESSAGES_CODE, probe.to_bytes()).await?;
        if !self.judge(&asked.topic, &reply, started, generation) {
            return Err(Stop::Because(Reason::NoVerdict));
        }
        let proofs = &self.shared.proofs;
        match first_message(&reply.front) {
            Some(theirs) if theirs == ours => {
                proofs.same(partition, started, generation);
                Ok(())
            }
            Some(theirs) if theirs.offset == ours.offset => {
                self.shared.counters.mismatch();
                tracing::warn!(%partition, offset = %ours.offset, "server and ring hold different messages: the server answers");
                proofs.differs(partition, Instant::now());
                Err(Stop::Because(Reason::Doubted))
            }
            // The server has let go of it, or does not show it yet.
            _ => {
                proofs.unclear(partition, Instant::now());
                Err(Stop::Because(Reason::Doubted))
            }
        }
    }

    async fn stored_offset(&mut self, request: &Incoming, asked: &Asked) -> Result<Option<Offset>, Stop> {
        if self.origin.is_none() {
            return Err(Stop::Because(Reason::NoStoredOffset));
        }
        let reply = self.ask(&request.header, GET_CONSUMER_OFFSET_CODE, asked.stored.clone()).await?;
        match reply.body() {
            Some(body) if reply.header.status() == 0 && body.is_empty() => Ok(None),
            Some(body) if reply.header.status() == 0 => match ConsumerOffsetResponse::decode_from(body) {
                Ok(stored) => Ok(Some(Offset(stored.stored_offset))),
                Err(_) => Err(Stop::Because(Reason::NoStoredOffset)),
            },
            _ => Err(Stop::Because(Reason::NoStoredOffset)),
        }
    }

    /// Why an answer of the ring is not good enough, although it is right.
    fn objection(&mut self, poll: &Poll, served: &Served) -> Option<Reason> {
        let has_origin = self.origin.is_some();
        let is_complete = served.reach == Reach::Count && poll.start != PollStart::Last;
        if !is_complete && self.written.beyond(&served.partition, served.committed, Instant::now()) {
            return Some(Reason::OwnWrites);
        }
        if served.messages > 0 || !has_origin {
            return None;
        }
        if self.shared.settings.empty_polls == EmptyPolls::Origin {
            return Some(Reason::Empty);
        }
        (served.next > served.committed).then_some(Reason::Beyond)
    }

    async fn serve(&mut self, request: &Incoming, answer: Answer, started: Instant) -> Result<(), SessionError> {
        let Answer { head, records, served } = answer;
        let header = request.header.reply(self.commit, 0, POLL_HEAD_BYTES + served.bytes);
        let mut pieces = Vec::with_capacity(2 + records.len());
        pieces.push(header.bytes().clone());
        pieces.push(Bytes::copy_from_slice(&head));
        pieces.extend(records);
        self.client.write(Pieces::new(pieces)).await.map_err(SessionError::Client)?;
        self.shared.counters.served(served.messages, served.bytes, self.origin.is_some(), started.elapsed());
        Ok(())
    }
}

fn parse(request: &Incoming) -> Result<Asked, Reason> {
    let body = request.body().ok_or(Reason::Malformed)?;
    let (decoded, length) = PollMessagesRequest::decode(body).map_err(|_| Reason::Malformed)?;
    if length != body.len() {
        return Err(Reason::Malformed);
    }
    let poll = Poll::plain(&decoded).map_err(Reason::Poll)?;
    let start = decoded.consumer.encoded_size();
    let end = start + decoded.stream_id.encoded_size() + decoded.topic_id.encoded_size();
    let (topic, stored) = (body.slice(start..end), body.slice(..length - POLL_TAIL_BYTES));
    Ok(Asked { request: decoded, poll, topic, stored })
}

/// The first message in the body of a poll's reply, if there is one. Its payload may be longer than what is here.
fn first_message(body: &[u8]) -> Option<MessageIdentity> {
    PollHead::parse(body).filter(|head| head.count > 0)?;
    let batch = body.get(POLL_HEAD_BYTES..)?;
    let header = BatchHeader::decode(batch).ok()?;
    let frame = batch.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + MESSAGE_HEADER_BYTES)?;
    Some(MessageIdentity {
        offset: Offset(header.base_offset.0 + u64::from(u32_at(frame, OFFSET_DELTA_AT))),
        base_timestamp: header.base_timestamp,
        checksum: u64_at(frame, 0),
    })
}
