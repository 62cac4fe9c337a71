//! A lane of questions: many at once, answered as they become ready; and follows, which push until the lane ends.
//!
//! Answers leave in pieces as they lie in memory: nothing is put together only to be sent.

use std::sync::Arc;

use kennel_protocol::frame::Frame;
use kennel_protocol::wire::{ErrorCode, Fetch, FetchFrom, Follow, Message, Role};
use kennel_transport::frames::FrameSink;
use kennel_transport::session::LaneStream;
use tokio::sync::{Semaphore, mpsc};
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
pub(super) async fn run(answers: Arc<Answers>, guest: Guest, mut lane: LaneStream) {
    let (replies, queue) = mpsc::channel(ANSWERS_MAX);
    let writer = tokio::spawn(write(lane.sink, queue));
    let turns = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut tasks = JoinSet::new();
    while let Ok(Some(frame)) = lane.source.next().await {
        let correlation = frame.correlation;
        let Ok(message) = Message::decode(frame) else { break };
        let turn = Arc::clone(&turns).acquire_owned().await.expect("the semaphore is never closed");
        let (answers, guest, replies) = (Arc::clone(&answers), guest.clone(), replies.clone());
        tasks.spawn(async move {
            match message {
                // What is found stands in the node's status: readers may not put it there.
                Message::CompareRequest(_) if guest.role != Role::Shipper => {
                    let error = refuse(ErrorCode::NotAllowed, "only shippers compare", None);
                    drop(replies.send(Message::Error(error).encode(correlation)).await);
                }
                Message::Follow(follow) => push(&answers, follow, correlation, &replies).await,
                message => drop(replies.send(answers.frame(message, &guest, correlation).await).await),
            }
            drop(turn);
        });
        while tasks.try_join_next().is_some() {}
    }
    tasks.shutdown().await;
    drop(replies);
    drop(writer.await);
}

async fn write(mut sink: FrameSink, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if sink.feed(frame).await.is_err() {
            return;
        }
        // Small answers that are ready go together.
        while let Ok(frame) = queue.try_recv() {
            if sink.feed(frame).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
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
