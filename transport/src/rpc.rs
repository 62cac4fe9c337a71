//! Questions and answers over one long-lived lane: many at once, each with a deadline, told apart by a correlation.
//!
//! A call that was not answered is *unknown*, never failed: it may have happened. This file knows messages as a whole
//! and none in particular.

mod outbox;
mod room;
mod tasks;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kennel_protocol::frame::{FrameError, FrameKind};
use kennel_protocol::limits::WIRE_VERSION_MIN;
use kennel_protocol::wire::codec::WireDecodeError;
use kennel_protocol::wire::{Message, WireError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::close::Advice;
use crate::frames::{FrameReadError, FrameWriteError, SealedFrame};
use crate::session::{LaneStream, Opener};

use outbox::{Outbox, Outgoing};
use room::Room;
use tasks::{Pending, PendingCall, ReaderTask, Received};

/// Bytes of frames that wait for the transport: below its send window, so that nobody overtakes whoever waits there.
const OUTGOING_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// The least room that a frame takes: what waits for the transport is bounded to 1,024 frames, too.
const OUTGOING_FRAME_MIN: usize = 2 * 1024;

/// Bytes of incoming messages that wait for [`Inbound::next`]. One message may be larger on its own.
const INBOUND_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// Incoming messages that wait for [`Inbound::next`].
const INBOUND_MAX: usize = 256;

/// Pairs a question with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correlation(u64);

impl Correlation {
    /// Of a message that is no question and no answer.
    pub const NONE: Self = Self(0);

    /// Whether the sender waits for an answer.
    pub fn expects_answer(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The asking side of a lane, and the answering one: both ends of a lane may call. Clones share the lane; when the last is
/// gone, the lane's sending direction finishes.
///
/// Must be made inside a tokio runtime: two tasks belong to a lane.
#[derive(Debug, Clone)]
pub struct Caller {
    shared: Arc<Shared>,
    /// The highest wire version that the peer is known to speak: of the kinds that may be sent unasked, and of frames.
    version: u16,
}

#[derive(Debug)]
struct Shared {
    outbox: Arc<Outbox>,
    room: Room,
    pending: Pending,
    /// The side that opened the lane asks with odd numbers, the other with even ones: they never meet.
    next_correlation: AtomicU64,
    /// Ends with the last of this and [`Inbound`].
    _reader: Arc<ReaderTask>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// What the peer sends unasked: questions, and messages that expect no answer.
///
/// It must be drained: while it is full, answers to calls wait behind it. Drop it where nothing is expected; what comes
/// then is dropped and logged.
#[derive(Debug)]
pub struct Inbound {
    received: mpsc::Receiver<Received>,
    pending: Pending,
    _reader: Arc<ReaderTask>,
}

/// A message that came unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// For [`Caller::reply`].
    pub correlation: Correlation,
    /// What it says.
    pub message: Message,
}

impl Caller {
    /// Takes a lane over.
    pub fn new(lane: LaneStream) -> (Self, Inbound) {
        let (first, parity) = match lane.opener {
            Opener::Here => (1, 1),
            Opener::Peer => (2, 0),
        };
        let pending = Pending::new(parity);
        let (inbound, received) = mpsc::channel(INBOUND_MAX);
        let outbox = Outbox::start(lane.sink, pending.clone());
        let reader = tasks::read(lane.source, inbound, Room::new(INBOUND_BYTES_MAX), pending.clone());
        let reader = Arc::new(ReaderTask::spawn(reader));
        let shared = Shared {
            outbox,
            room: Room::new(OUTGOING_BYTES_MAX),
            pending: pending.clone(),
            next_correlation: AtomicU64::new(first),
            _reader: reader.clone(),
        };
        (Self { shared: Arc::new(shared), version: WIRE_VERSION_MIN }, Inbound { received, pending, _reader: reader })
    }

    /// The same lane, to a peer with whom hello and welcome agreed on `version`. Without this word only kinds are sent that
    /// every version knows, and as every version reads them: to any other the peer would answer by closing the session.
    #[must_use]
    pub fn speaking(self, version: u16) -> Self {
        Self { version, ..self }
    }

    /// Asks, and waits for the answer until `deadline`.
    ///
    /// # Cancel safety
    /// Safe for the lane. Whether the call happened is unknown once it was polled.
    pub async fn call(&self, message: Message, deadline: Instant) -> Result<Message, CallError> {
        self.check_version(&message)?;
        let correlation = Correlation(self.shared.next_correlation.fetch_add(2, Ordering::Relaxed));
        let (answer, call) = self.shared.pending.begin(correlation).map_err(CallError::LaneOver)?;
        let queued = timeout_at(deadline, self.queue(&message, correlation)).await;
        queued.unwrap_or(Err(CallError::QueueFull))?;
        drop(message);
        let answer = timeout_at(deadline, answer).await;
        self.resolve(answer, call)
    }

    /// Sends a message that expects no answer. Waits while too much is queued. The end of the wait means queued, not
    /// arrived.
    ///
    /// # Cancel safety
    /// Safe: if it does not end, nothing was queued.
    pub async fn send(&self, message: Message) -> Result<(), CallError> {
        self.check_version(&message)?;
        self.queue(&message, Correlation::NONE).await
    }

    /// Sends a message that expects no answer, without waiting.
    ///
    /// # Errors
    /// [`CallError::QueueFull`] where [`Caller::send`] would wait, and its errors.
    pub fn try_send(&self, message: &Message) -> Result<(), CallError> {
        self.check_version(message)?;
        let frame = SealedFrame::new(message.encode(Correlation::NONE.0), self.version).map_err(CallError::TooLarge)?;
        let room = self.shared.room.try_take(frame.len().max(OUTGOING_FRAME_MIN)).ok_or(CallError::QueueFull)?;
        self.hand_over(Outgoing { frame, room })
    }

    /// Answers a question that came through [`Inbound::next`]: who asked knows the kind of the answer. Waits as [`Caller::send`] does.
    ///
    /// # Cancel safety
    /// Safe: if it does not end, nothing was queued.
    pub async fn reply(&self, to: Correlation, message: Message) -> Result<(), CallError> {
        self.queue(&message, to).await
    }

    /// Why the lane is over, if it is.
    pub fn over(&self) -> Option<LaneOver> {
        self.shared.pending.over()
    }

    fn check_version(&self, message: &Message) -> Result<(), CallError> {
        let kind = message.kind();
        let known = kind.since() <= self.version;
        if known { Ok(()) } else { Err(CallError::TooNew { kind, version: self.version }) }
    }

    async fn queue(&self, message: &Message, correlation: Correlation) -> Result<(), CallError> {
        let frame = SealedFrame::new(message.encode(correlation.0), self.version).map_err(CallError::TooLarge)?;
        let room = self.shared.room.take(frame.len().max(OUTGOING_FRAME_MIN)).await;
        self.hand_over(Outgoing { frame, room })
    }

    fn hand_over(&self, outgoing: Outgoing) -> Result<(), CallError> {
        let sent = self.shared.outbox.send(outgoing);
        sent.map_err(|_| CallError::LaneOver(self.over().unwrap_or(LaneOver::FinishedByPeer)))
    }

    fn resolve(
        &self,
        answer: Result<Result<Message, oneshot::error::RecvError>, tokio::time::error::Elapsed>,
        call: PendingCall,
    ) -> Result<Message, CallError> {
        drop(call);
        match answer {
            Ok(Ok(Message::Error(error))) => Err(CallError::Refused(error)),
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(CallError::Broken(self.over().unwrap_or(LaneOver::FinishedByPeer))),
            Err(_) => Err(CallError::Unanswered),
        }
    }
}

impl Inbound {
    /// The next message, in the order of sending.
    ///
    /// # Cancel safety
    /// Safe: no message is lost.
    pub async fn next(&mut self) -> Result<Incoming, LaneOver> {
        match self.received.recv().await {
            Some(received) => Ok(received.incoming),
            None => Err(self.pending.over().unwrap_or(LaneOver::FinishedByPeer)),
        }
    }
}

/// Why a call brought no answer, or a message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not sent: the queue had no room until the deadline. Wait.
    #[error("the queue was full until the deadline; nothing was sent")]
    QueueFull,
    /// Not sent: the peer would refuse it. Fix: ask for less at once.
    #[error("the message is too large; nothing was sent")]
    TooLarge(#[source] FrameError),
    /// Not sent: the peer speaks a version that does not know the kind. Fix: upgrade the peer, or ask another one.
    #[error(
        "a {kind:?} is not known to wire version {version}, which was agreed on; nothing was sent: upgrade the peer"
    )]
    TooNew {
        /// What was to be sent.
        kind: FrameKind,
        /// What was agreed on.
        version: u16,
    },
    /// Not sent: the lane is over. Retry on a new one.
    #[error("the lane is over; nothing was sent")]
    LaneOver(#[source] LaneOver),
    /// Unknown: it may have happened, or may still.
    #[error("no answer before the deadline; it may have happened")]
    Unanswered,
    /// Unknown: it may have happened.
    #[error("the lane broke before the answer; it may have happened")]
    Broken(#[source] LaneOver),
    /// The peer answered with an error; its code says what to do.
    #[error("the peer answered {:?}: {}", .0.code, .0.message)]
    Refused(WireError),
}

impl CallError {
    /// Whether the call may have happened all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Broken(_))
    }

    /// What to do about it. For what is unknown this holds only if doing it twice does no harm.
    pub fn advice(&self) -> Advice {
        match self {
            Self::QueueFull => Advice::Wait,
            Self::TooLarge(_) | Self::TooNew { .. } => Advice::Fix,
            Self::LaneOver(over) | Self::Broken(over) => over.advice(),
            Self::Unanswered => Advice::Retry,
            Self::Refused(error) => error.code.into(),
        }
    }
}

/// Why a lane carries no more messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneOver {
    /// The peer finished its direction. Retry on a new lane.
    #[error("the peer finished the lane")]
    FinishedByPeer,
    /// Nothing more can be read.
    #[error("the lane cannot be read any more")]
    Read(#[source] FrameReadError),
    /// Nothing more can be written.
    #[error("the lane cannot be written any more")]
    Write(#[source] FrameWriteError),
    /// The peer sent what is not a message; it was told so. Fix: the peer.
    #[error("the peer sent a frame that is no message")]
    Undecodable(#[source] WireDecodeError),
}

impl LaneOver {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::FinishedByPeer => Advice::Retry,
            Self::Read(error) => error.advice(),
            Self::Write(error) => error.advice(),
            Self::Undecodable(_) => Advice::Fix,
        }
    }
}
