//! The bytes below frames: one direction of one lane, over whichever backend carries it.
//!
//! Two backends, so an enum: a frame costs no boxed future. Frames and messages are unknown here.

use bytes::Bytes;

use crate::close::{CloseCode, SessionError};
use crate::{loopback, quic};

/// The end that writes.
#[derive(Debug)]
pub(crate) enum PipeWriter {
    Quic(quic::Writer),
    Loopback(loopback::Writer),
}

/// The end that reads.
#[derive(Debug)]
pub(crate) enum PipeReader {
    Quic(quic::Reader),
    Loopback(loopback::Reader),
}

/// Why nothing more can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PipeWriteError {
    /// The peer does not want the rest.
    Stopped(CloseCode),
    /// This side has finished or given up before.
    Finished,
    /// The session is over.
    Session(SessionError),
}

/// Why nothing more can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PipeReadError {
    /// The peer gave up before the end.
    Reset(CloseCode),
    /// The session is over.
    Session(SessionError),
}

impl PipeWriter {
    /// Takes bytes off the front of `pieces`, at least one, and says how many pieces were taken whole. Waits for room.
    /// Cancel safe: a future that did not end took nothing.
    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<usize, PipeWriteError> {
        match self {
            Self::Quic(writer) => writer.write(pieces).await,
            Self::Loopback(writer) => writer.write(pieces).await,
        }
    }

    /// Who goes first on a busy session; higher is earlier.
    pub(crate) fn set_priority(&mut self, priority: i32) {
        match self {
            Self::Quic(writer) => writer.set_priority(priority),
            // Nothing is shared between the lanes of a loopback session, so nobody goes first.
            Self::Loopback(_) => {}
        }
    }

    /// No more will come. What was written still arrives.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Quic(writer) => writer.finish(),
            Self::Loopback(writer) => writer.finish(),
        }
    }

    /// No more will come, and what was written may be dropped.
    pub(crate) fn reset(&mut self, code: CloseCode) {
        match self {
            Self::Quic(writer) => writer.reset(code),
            Self::Loopback(writer) => writer.reset(code),
        }
    }

    /// Waits until the peer's transport has everything up to the finish, or stops reading. Cancel safe.
    pub(crate) async fn drained(&mut self) -> Result<(), PipeWriteError> {
        match self {
            Self::Quic(writer) => writer.drained().await,
            Self::Loopback(writer) => writer.drained().await,
        }
    }
}

impl PipeReader {
    /// Fills the front of `chunks` with what has come, at least one, and says how many; `None` at the end. Cancel safe.
    pub(crate) async fn read(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, PipeReadError> {
        match self {
            Self::Quic(reader) => reader.read(chunks).await,
            Self::Loopback(reader) => reader.read(chunks).await,
        }
    }

    /// Wants no more, and tells the peer why.
    pub(crate) fn stop(&mut self, code: CloseCode) {
        match self {
            Self::Quic(reader) => reader.stop(code),
            Self::Loopback(reader) => reader.stop(code),
        }
    }
}
