//! A lane of questions: many at once, answered as they become ready; and follows, which push until the lane ends.
//!
//! Answers leave in pieces as they lie in memory: nothing is put together only to be sent.

use std::future::ready;
use std::sync::Arc;

use kennel_protocol::frame::Frame;
use kennel_protocol::wire::codec::WireDecodeError;
use kennel_protocol::wire::{ErrorCode, Fetch, FetchFrom, Follow, Message, Role};
use kennel_transport::frames::{FrameSink, FrameWriteError};
use kennel_transport::session::LaneStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::answers::Answers;
use super::serve::{Guest, refuse};

/// Questions of one lane that are being answered at once. More wait in the lane.
const QUESTIONS_MAX: usize = 64;

/// Answers that wait for the transport.
const ANSWERS_MAX: usize = 16;

/// How long a follow waits for news before it looks again whether somebody still listens.
const FOLLOW_WAIT_MILLIS: u32 = 10_000;

/// Answers until the lane ends.
///
/// What is known without waiting is answered by the task that read the question: a switch to another one costs more than
/// most answers. Everything else, and every follow, gets a task of its own.
pub(super) async fn run(answers: Arc<Answers>, guest: Guest, lane: LaneStream) {
    let LaneStream { mut sink, mut source, .. } = lane;
    sink.speak(guest.version);
    let (replies, mut answered) = mpsc::channel(ANSWERS_MAX);
    let mut desk = Desk { answers, guest, replies, tasks: JoinSet::new() };
    loop {
        let is_full = desk.is_full();
        let reply = tokio::select! {
            Some(reply) = answered.recv() => Some(reply),
            Some(_) = desk.tasks.join_next(), if is_full => None,
            asked = source.next(), if !is_full => {
                let Ok(Some(question)) = asked else { break };
                let Ok(reply) = desk.take(question).await else { break };
                reply
            }
        };
        let Some(reply) = reply else { continue };
        if send(&mut sink, reply, &mut answered).await.is_err() {
            break;
        }
    }
    desk.tasks.shutdown().await;
}

/// Where the questions of one lane are answered.
struct Desk {
    answers: Arc<Answers>,
    guest: Guest,
    /// What tasks have answered.
    replies: mpsc::Sender<Frame>,
    tasks: JoinSet<()>,
}

impl Desk {
    /// Whether the next question waits in the lane.
    fn is_full(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.len() >= QUESTIONS_MAX
    }

    /// Answers a question, or gives it to a task and returns nothing.
    async fn take(&mut self, question: Frame) -> Result<Option<Frame>, WireDecodeError> {
        let correlation = question.correlation;
        let message = Message::decode(question)?;
        let (answers, guest) = (Arc::clone(&self.answers), self.guest.clone());
        if let Message::Follow(follow) = message {
            let replies = self.replies.clone();
            self.tasks.spawn(async move { push(&answers, follow, correlation, &replies).await });
            return Ok(None);
        }
        let mut answer = Box::pin(async move { answer(&answers, message, &guest, correlation).await });
        tokio::select! {
            biased;
            reply = &mut answer => return Ok(Some(reply)),
            () = ready(()) => {}
        }
        let replies = self.replies.clone();
        self.tasks.spawn(async move { drop(replies.send(answer.await).await) });
        Ok(None)
    }
}

async fn answer(answers: &Answers, question: Message, guest: &Guest, correlation: u64) -> Frame {
    // What is found stands in the node's status: readers may not put it there.
    if matches!(question, Message::CompareRequest(_)) && guest.role != Role::Shipper {
        return Message::Error(refuse(ErrorCode::NotAllowed, "only shippers compare", None)).encode(correlation);
    }
    answers.frame(question, guest, correlation).await
}

async fn send(sink: &mut FrameSink, reply: Frame, others: &mut mpsc::Receiver<Frame>) -> Result<(), FrameWriteError> {
    sink.feed(reply).await?;
    // Small answers that are ready go together.
    while let Ok(reply) = others.try_recv() {
        sink.feed(reply).await?;
    }
    sink.flush().await
}

/// Pushes batches as they commit, until an error or until nobody takes them.
async fn push(answers: &Answers, follow: Follow, correlation: u64, replies: &mpsc::Sender<Frame>) {
    let mut fetch = Fetch {
        partition: follow.partition,
        from: follow.from,
        bytes_max: follow.bytes_max,
        messages_max: u32::MAX,
        wait_millis: FOLLOW_WAIT_MILLIS,
        epoch: follow.epoch,
        last: follow.last,
        forwarded: false,
    };
    loop {
        match answers.fetch(fetch).await {
            Ok(fetched) => {
                let (start, next) = fetched.range();
                fetch.from = FetchFrom::Offset(next);
                fetch.last = fetched.last().or(fetch.last);
                fetch.epoch = fetch.epoch.max(fetched.epoch());
                let gone = if next > start {
                    replies.send(fetched.into_followed(correlation)).await.is_err()
                } else {
                    replies.is_closed()
                };
                if gone {
                    return;
                }
            }
            Err(error) => {
                drop(replies.send(Message::Error(error).encode(correlation)).await);
                return;
            }
        }
    }
}
