//! One pair of loopback sessions: two queues of lanes and one common end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::Ended;
use super::pipe::{Pipe, Reader, Writer};
use crate::close::{CloseCode, SessionError};
use crate::frames::{FrameSink, FrameSource};
use crate::intake::Intake;
use crate::lane::Lane;
use crate::pipe::{PipeReader, PipeWriter};
use crate::session::{LaneStream, Opener, Peer, Session, bounded_reason};

/// Lanes that were opened and not yet accepted, as many as QUIC allows streams by default.
const LANES_WAITING_MAX: usize = 1024;

/// Both sides of a new session: the first talks to `near_peer`, the second to `far_peer`.
pub(super) fn pair(near_peer: Peer, far_peer: Peer) -> (LoopbackSession, LoopbackSession) {
    let shared = Arc::new(Shared { ended: watch::Sender::new(None), offered: [Offers::new(), Offers::new()] });
    let session = |side, peer| LoopbackSession {
        end: Arc::new(End { shared: shared.clone(), side }),
        peer,
        intake: Intake::default(),
    };
    (session(0, near_peer), session(1, far_peer))
}

#[derive(Debug)]
struct Shared {
    ended: watch::Sender<Option<Ended>>,
    /// Lanes that wait for each side.
    offered: [Offers; 2],
}

/// Lanes that one side opened and the other has not accepted.
#[derive(Debug)]
struct Offers {
    waiting: Mutex<VecDeque<Offer>>,
    offered: Semaphore,
    room: Semaphore,
}

#[derive(Debug)]
struct Offer {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

impl Offers {
    fn new() -> Self {
        Self { waiting: Mutex::default(), offered: Semaphore::new(0), room: Semaphore::new(LANES_WAITING_MAX) }
    }

    async fn push(&self, offer: Offer) {
        self.room.acquire().await.expect("the semaphore is never closed").forget();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(offer);
        self.offered.add_permits(1);
    }

    async fn pop(&self) -> Offer {
        self.offered.acquire().await.expect("the semaphore is never closed").forget();
        let offer = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        self.room.add_permits(1);
        offer.expect("one permit per offer")
    }
}

/// One side's hold on the session. The last one to go closes it, as with QUIC.
#[derive(Debug)]
pub(super) struct End {
    shared: Arc<Shared>,
    side: usize,
}

impl End {
    /// Why the session is over, if it is.
    pub(super) fn over(&self) -> Option<SessionError> {
        self.shared.ended.borrow().as_ref().map(|ended| ended.seen_by(self.side))
    }

    /// Waits until the session is over.
    pub(super) async fn until_over(&self) -> SessionError {
        let mut ended = self.shared.ended.subscribe();
        let ended = ended.wait_for(Option::is_some).await.expect("the sender lives in `shared`");
        ended.as_ref().expect("waited for").seen_by(self.side)
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.shared.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(Ended { by: self.side, code, reason: bounded_reason(reason).to_owned() });
            }
            first
        });
    }

    /// What this side has opened and the other accepts.
    fn offered_to_peer(&self) -> &Offers {
        &self.shared.offered[1 - self.side]
    }

    fn offered_here(&self) -> &Offers {
        &self.shared.offered[self.side]
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close(CloseCode::DONE, "");
    }
}

/// One side of a session in memory.
#[derive(Debug)]
pub(super) struct LoopbackSession {
    end: Arc<End>,
    peer: Peer,
    intake: Intake,
}

impl LoopbackSession {
    fn pipes(&self, incoming: Arc<Pipe>, outgoing: Arc<Pipe>) -> (PipeWriter, PipeReader) {
        (
            PipeWriter::Loopback(Writer::new(outgoing, self.end.clone())),
            PipeReader::Loopback(Reader::new(incoming, self.end.clone())),
        )
    }

    async fn next_pipes(&self) -> Result<(PipeWriter, PipeReader), SessionError> {
        tokio::select! {
            biased;
            error = self.end.until_over() => Err(error),
            offer = self.end.offered_here().pop() => Ok(self.pipes(offer.incoming, offer.outgoing)),
        }
    }
}

#[async_trait]
impl Session for LoopbackSession {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    async fn open(&self, lane: Lane) -> Result<LaneStream, SessionError> {
        let (incoming, outgoing) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
        outgoing.preload(Bytes::copy_from_slice(&lane.encode()));
        let (writer, reader) = self.pipes(incoming.clone(), outgoing.clone());
        tokio::select! {
            biased;
            error = self.end.until_over() => return Err(error),
            () = self.end.offered_to_peer().push(Offer { incoming: outgoing, outgoing: incoming }) => {}
        }
        let (sink, source) = (FrameSink::new(writer), FrameSource::new(reader));
        Ok(LaneStream { lane, opener: Opener::Here, sink, source })
    }

    async fn accept(&self) -> Result<LaneStream, SessionError> {
        self.intake.accept(|| self.next_pipes()).await
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.end.close(code, reason);
    }

    async fn closed(&self) -> SessionError {
        self.end.until_over().await
    }
}
