//! The sending half of a lane: who has something to send hands it to the transport at once, and a task goes on where the
//! transport has no room.
//!
//! ```text
//! idle ──send──> the transport took all ──> idle
//!         └────> it had no room ──> the task has the sink, frames queue ──> all taken ──> idle
//! ```
//! Frames leave in the order of [`Outbox::send`], whichever way they go. A task between every sender and the transport
//! would cost each question a switch between threads.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::LaneOver;
use super::tasks::Pending;
use crate::frames::{FrameSink, FrameWriteError, SealedFrame};

/// A frame that waits for the transport, with the room that it takes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: SealedFrame,
    pub(super) room: OwnedSemaphorePermit,
}

/// Nothing is sent any more; why is known to [`Pending`].
#[derive(Debug)]
pub(super) struct OutboxOver;

/// Frames on their way out.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// The task has something to do.
    due: Notify,
    pending: Pending,
}

#[derive(Debug)]
struct State {
    /// There while the transport has taken all that was sent.
    sink: Option<FrameSink>,
    /// On its way to the task: a sink that holds what the transport had no room for.
    unfinished: Option<(FrameSink, OwnedSemaphorePermit)>,
    /// What came while the task had the sink. Bounded by the room that each frame holds.
    queue: VecDeque<Outgoing>,
    /// The last who could send has gone.
    is_closed: bool,
    is_broken: bool,
}

/// What the task finds to do.
enum Due {
    GoOn(FrameSink, OwnedSemaphorePermit),
    Finish(FrameSink),
    Nothing,
}

impl Outbox {
    /// Takes a lane's sending half over, and starts its task.
    pub(super) fn start(sink: FrameSink, pending: Pending) -> Arc<Self> {
        let (sink, queue) = (Some(sink), VecDeque::new());
        let state = State { sink, unfinished: None, queue, is_closed: false, is_broken: false };
        let outbox = Arc::new(Self { state: Mutex::new(state), due: Notify::new(), pending });
        tokio::spawn(Arc::clone(&outbox).run());
        outbox
    }

    /// Hands a frame to the transport, or queues it. Never waits.
    pub(super) fn send(&self, outgoing: Outgoing) -> Result<(), OutboxOver> {
        let mut state = self.state();
        if state.is_broken {
            return Err(OutboxOver);
        }
        let Some(mut sink) = state.sink.take() else {
            state.queue.push_back(outgoing);
            return Ok(());
        };
        let Outgoing { frame, room } = outgoing;
        match at_once(sink.send_sealed(frame)) {
            Some(Ok(())) => state.sink = Some(sink),
            // Nothing lay in the sink before, so it has the whole frame, and what the transport did not take goes with
            // the task's flush.
            None => {
                state.unfinished = Some((sink, room));
                self.due.notify_one();
            }
            Some(Err(error)) => {
                drop(state);
                self.break_off(error);
                return Err(OutboxOver);
            }
        }
        Ok(())
    }

    /// Nobody sends any more: what is queued goes, and then the lane's direction is finished.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.due.notify_one();
    }

    /// Goes on where the transport had no room, until the outbox is closed or the lane breaks.
    async fn run(self: Arc<Self>) {
        loop {
            let due = self.state().due();
            match due {
                Due::Nothing => self.due.notified().await,
                Due::Finish(mut sink) => return sink.finish(),
                Due::GoOn(sink, room) => {
                    if let Err(error) = self.go_on(sink, room).await {
                        return self.break_off(error);
                    }
                }
            }
        }
    }

    /// Hands over what the sink holds and what comes meanwhile, and puts the sink back.
    async fn go_on(&self, mut sink: FrameSink, room: OwnedSemaphorePermit) -> Result<(), FrameWriteError> {
        // Room is given back once the transport has the bytes.
        let mut rooms = vec![room];
        loop {
            sink.flush().await?;
            rooms.clear();
            let queued = {
                let mut state = self.state();
                if state.queue.is_empty() {
                    state.sink = Some(sink);
                    return Ok(());
                }
                std::mem::take(&mut state.queue)
            };
            // All of them share the flush.
            for Outgoing { frame, room } in queued {
                sink.feed_sealed(frame).await?;
                rooms.push(room);
            }
        }
    }

    fn break_off(&self, error: FrameWriteError) {
        // First the reason, then the end, which makes senders ask for it.
        self.pending.end(LaneOver::Write(error));
        let mut state = self.state();
        state.is_broken = true;
        state.queue.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What panics under this lock is a sink, and that has been taken out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn due(&mut self) -> Due {
        if let Some((sink, room)) = self.unfinished.take() {
            return Due::GoOn(sink, room);
        }
        if self.is_closed
            && let Some(sink) = self.sink.take()
        {
            Due::Finish(sink)
        } else {
            Due::Nothing
        }
    }
}

/// What a future comes to without waiting.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
