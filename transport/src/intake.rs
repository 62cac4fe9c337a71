//! Accepting lanes without losing one: the step from two pipes that the peer opened to a lane with a purpose.
//!
//! Both backends accept through it. It knows preambles; it knows neither backends nor frames.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kennel_protocol::wire::ErrorCode;
use tokio::time::Instant;

use crate::close::SessionError;
use crate::frames::{FrameReadError, FrameSink, FrameSource, LaneRefused, Preamble};
use crate::lane::Lane;
use crate::pipe::{PipeReader, PipeWriter};
use crate::session::{LaneStream, Opener};

/// A preamble travels in the packet that opens the lane: one that takes longer comes from a broken peer, which would
/// otherwise hold up the lanes behind it.
const PREAMBLE_WAIT: Duration = Duration::from_secs(5);

/// The lane that is being accepted, kept here when the accepting future is dropped.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    half_open: Mutex<Option<HalfOpen>>,
}

#[derive(Debug)]
struct HalfOpen {
    sink: FrameSink,
    source: FrameSource,
    preamble: Preamble,
    give_up_at: Instant,
}

impl Intake {
    /// The next lane, whose pipes `next` waits for. Lanes with a wrong preamble are refused and skipped. Cancel safe if
    /// `next` is.
    pub(crate) async fn accept<F>(&self, next: impl Fn() -> F) -> Result<LaneStream, SessionError>
    where
        F: Future<Output = Result<(PipeWriter, PipeReader), SessionError>>,
    {
        loop {
            let kept = self.slot().take();
            let half_open = match kept {
                Some(half_open) => half_open,
                None => HalfOpen::new(next().await?),
            };
            let mut holding = Holding { intake: self, half_open: Some(half_open) };
            let lane = holding.half_open().read_preamble().await;
            let mut half_open = holding.finish();
            match lane {
                Ok(lane) => return Ok(half_open.into_lane(lane)),
                Err(LaneRefused::Read(FrameReadError::Session(error))) => return Err(error),
                Err(error) => {
                    half_open.source.refuse(ErrorCode::Malformed);
                    half_open.sink.give_up(ErrorCode::Malformed.into());
                    tracing::warn!(error = &error as &dyn std::error::Error, "refused a lane");
                }
            }
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<HalfOpen>> {
        // The slot is replaced whole, so a panic elsewhere cannot have left it half written.
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HalfOpen {
    fn new((writer, reader): (PipeWriter, PipeReader)) -> Self {
        Self {
            sink: FrameSink::new(writer),
            source: FrameSource::new(reader),
            preamble: Preamble::default(),
            give_up_at: Instant::now() + PREAMBLE_WAIT,
        }
    }

    async fn read_preamble(&mut self) -> Result<Lane, LaneRefused> {
        let read = self.source.read_preamble(&mut self.preamble);
        tokio::time::timeout_at(self.give_up_at, read).await.unwrap_or(Err(LaneRefused::Late))
    }

    fn into_lane(self, lane: Lane) -> LaneStream {
        let Self { mut sink, source, .. } = self;
        sink.set_priority(lane.priority());
        LaneStream { lane, opener: Opener::Peer, sink, source }
    }
}

/// Puts the lane back if the future that waits for its preamble is dropped.
struct Holding<'a> {
    intake: &'a Intake,
    half_open: Option<HalfOpen>,
}

impl Holding<'_> {
    fn half_open(&mut self) -> &mut HalfOpen {
        self.half_open.as_mut().expect("held until finished")
    }

    fn finish(mut self) -> HalfOpen {
        self.half_open.take().expect("held until finished")
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        if let Some(half_open) = self.half_open.take() {
            *self.intake.slot() = Some(half_open);
        }
    }
}
