//! The reading task of a lane with calls, and the calls that wait for answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kennel_protocol::wire::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::room::Room;
use super::{Correlation, Incoming, LaneOver};
use crate::frames::FrameSource;

/// A message that waits for its reader, with the room that it takes.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) incoming: Incoming,
    _room: OwnedSemaphorePermit,
}

/// The calls that wait for answers. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    calls: Arc<Mutex<Calls>>,
    /// What this side's correlations leave when halved.
    parity: u64,
}

#[derive(Debug)]
enum Calls {
    /// Bounded by the callers that wait: each holds one.
    Open(HashMap<Correlation, oneshot::Sender<Message>>),
    Over(LaneOver),
}

impl Pending {
    pub(super) fn new(parity: u64) -> Self {
        Self { calls: Arc::new(Mutex::new(Calls::Open(HashMap::new()))), parity }
    }

    /// Registers a call; it is forgotten when the second result is dropped.
    pub(super) fn begin(
        &self,
        correlation: Correlation,
    ) -> Result<(oneshot::Receiver<Message>, PendingCall), LaneOver> {
        let (sender, receiver) = oneshot::channel();
        match &mut *self.calls() {
            Calls::Open(calls) => calls.insert(correlation, sender),
            Calls::Over(over) => return Err(over.clone()),
        };
        Ok((receiver, PendingCall { pending: self.clone(), correlation }))
    }

    /// Why the lane is over, if it is.
    pub(super) fn over(&self) -> Option<LaneOver> {
        match &*self.calls() {
            Calls::Open(_) => None,
            Calls::Over(over) => Some(over.clone()),
        }
    }

    /// Ends the lane for all that wait; the first reason stays.
    pub(super) fn end(&self, over: LaneOver) {
        let mut calls = self.calls();
        if let Calls::Open(_) = *calls {
            *calls = Calls::Over(over);
        }
    }

    fn is_answer(&self, correlation: Correlation) -> bool {
        correlation.expects_answer() && correlation.0 % 2 == self.parity
    }

    fn answer(&self, correlation: Correlation, message: Message) {
        let waiting = self.forget(correlation);
        // A failed send means that the caller's deadline passed in this very moment.
        if waiting.is_none_or(|waiting| waiting.send(message).is_err()) {
            tracing::debug!(%correlation, "an answer came after its deadline");
        }
    }

    fn forget(&self, correlation: Correlation) -> Option<oneshot::Sender<Message>> {
        match &mut *self.calls() {
            Calls::Open(calls) => calls.remove(&correlation),
            Calls::Over(_) => None,
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Every change is one insert, remove or assignment, so a panic elsewhere cannot have left it half done.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered call. Dropping it forgets the call, whatever became of it.
#[derive(Debug)]
pub(super) struct PendingCall {
    pending: Pending,
    correlation: Correlation,
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.pending.forget(self.correlation);
    }
}

/// The reading task; it ends at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct ReaderTask(JoinHandle<()>);

impl ReaderTask {
    pub(super) fn spawn(reader: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(reader))
    }
}

impl Drop for ReaderTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Moves frames from the transport to those who wait for them until the lane ends.
pub(super) async fn read(source: FrameSource, inbound: mpsc::Sender<Received>, room: Room, pending: Pending) {
    let over = read_all(source, &inbound, &room, &pending).await;
    pending.end(over);
}

async fn read_all(
    mut source: FrameSource,
    inbound: &mpsc::Sender<Received>,
    room: &Room,
    pending: &Pending,
) -> LaneOver {
    loop {
        let frame = match source.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return LaneOver::FinishedByPeer,
            Err(error) => return LaneOver::Read(error),
        };
        let (bytes, correlation) = (frame.len(), Correlation(frame.correlation));
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                source.refuse(error.code());
                return LaneOver::Undecodable(error);
            }
        };
        if pending.is_answer(correlation) {
            pending.answer(correlation, message);
            continue;
        }
        let received = Received { incoming: Incoming { correlation, message }, _room: room.take(bytes).await };
        if inbound.send(received).await.is_err() {
            tracing::debug!(%correlation, "a message came that nobody expects");
        }
    }
}
