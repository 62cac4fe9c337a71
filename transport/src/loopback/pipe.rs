//! One direction of a loopback lane: a queue of shared bytes with an end at either side.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::session::End;
use crate::close::CloseCode;
use crate::pipe::{PipeReadError, PipeWriteError};

/// What a pipe holds before its writer waits, bytes: the stream window of the QUIC backend.
const PIPE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What lies between a writer and a reader. One task at either end.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
    reset: Option<CloseCode>,
    stopped: Option<CloseCode>,
}

impl Pipe {
    /// Puts the first bytes into a pipe that nobody else has seen.
    pub(super) fn preload(&self, bytes: Bytes) {
        let mut state = self.state();
        state.bytes += bytes.len();
        state.chunks.push_back(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in another task leaves at worst a count that is too high: the writer waits, nobody misreads.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that writes. Dropping it finishes.
#[derive(Debug)]
pub(crate) struct Writer {
    pipe: Arc<Pipe>,
    end: Arc<End>,
}

impl Writer {
    pub(super) fn new(pipe: Arc<Pipe>, end: Arc<End>) -> Self {
        Self { pipe, end }
    }

    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<usize, PipeWriteError> {
        loop {
            if let Some(error) = self.end.over() {
                return Err(PipeWriteError::Session(error));
            }
            if let Some(whole) = self.try_write(pieces)? {
                self.pipe.readable.notify_one();
                return Ok(whole);
            }
            self.wait_for_reader().await?;
        }
    }

    /// How many pieces went whole; `None` if there was no room at all.
    fn try_write(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, PipeWriteError> {
        let mut state = self.pipe.state();
        if let Some(code) = state.stopped {
            return Err(PipeWriteError::Stopped(code));
        }
        if state.finished || state.reset.is_some() {
            return Err(PipeWriteError::Finished);
        }
        if state.bytes >= PIPE_BYTES_MAX {
            return Ok(None);
        }
        let mut whole = 0;
        for piece in pieces {
            let room = PIPE_BYTES_MAX - state.bytes;
            let part = piece.split_to(piece.len().min(room));
            state.bytes += part.len();
            state.chunks.push_back(part);
            if !piece.is_empty() {
                break;
            }
            whole += 1;
        }
        Ok(Some(whole))
    }

    async fn wait_for_reader(&self) -> Result<(), PipeWriteError> {
        tokio::select! {
            error = self.end.until_over() => Err(PipeWriteError::Session(error)),
            () = self.pipe.writable.notified() => Ok(()),
        }
    }

    pub(crate) fn finish(&mut self) {
        self.pipe.state().finished = true;
        self.pipe.readable.notify_one();
    }

    pub(crate) fn reset(&mut self, code: CloseCode) {
        let mut state = self.pipe.state();
        // After an orderly end there is nothing left to give up.
        if !state.finished && state.reset.is_none() {
            state.reset = Some(code);
            state.chunks.clear();
            state.bytes = 0;
        }
        drop(state);
        self.pipe.readable.notify_one();
    }

    pub(crate) async fn drained(&mut self) -> Result<(), PipeWriteError> {
        loop {
            {
                let state = self.pipe.state();
                if let Some(code) = state.stopped {
                    return Err(PipeWriteError::Stopped(code));
                }
                if state.reset.is_some() {
                    return Err(PipeWriteError::Finished);
                }
                // In memory the peer's transport is the queue itself.
                if state.finished {
                    return Ok(());
                }
            }
            self.wait_for_reader().await?;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The end that reads. Dropping it stops the writer.
#[derive(Debug)]
pub(crate) struct Reader {
    pipe: Arc<Pipe>,
    end: Arc<End>,
}

impl Reader {
    pub(super) fn new(pipe: Arc<Pipe>, end: Arc<End>) -> Self {
        Self { pipe, end }
    }

    pub(crate) async fn read(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, PipeReadError> {
        loop {
            match self.try_read(chunks)? {
                Taken::Chunks(count) => {
                    self.pipe.writable.notify_one();
                    return Ok(Some(count));
                }
                Taken::End => return Ok(None),
                Taken::NothingYet => self.wait_for_writer().await?,
            }
        }
    }

    fn try_read(&self, chunks: &mut [Bytes]) -> Result<Taken, PipeReadError> {
        let mut state = self.pipe.state();
        if let Some(code) = state.reset {
            return Err(PipeReadError::Reset(code));
        }
        let mut count = 0;
        while count < chunks.len()
            && let Some(chunk) = state.chunks.pop_front()
        {
            state.bytes -= chunk.len();
            chunks[count] = chunk;
            count += 1;
        }
        match count {
            0 if state.finished => Ok(Taken::End),
            0 => Ok(Taken::NothingYet),
            count => Ok(Taken::Chunks(count)),
        }
    }

    async fn wait_for_writer(&self) -> Result<(), PipeReadError> {
        tokio::select! {
            // What has come is read before the end of the session counts.
            biased;
            () = self.pipe.readable.notified() => Ok(()),
            error = self.end.until_over() => Err(PipeReadError::Session(error)),
        }
    }

    pub(crate) fn stop(&mut self, code: CloseCode) {
        let mut state = self.pipe.state();
        state.stopped.get_or_insert(code);
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.pipe.writable.notify_one();
    }
}

/// What one look into the queue found.
enum Taken {
    Chunks(usize),
    End,
    NothingYet,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop(CloseCode::DONE);
    }
}
