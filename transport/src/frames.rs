//! Frames over a lane: the one place where frames become bytes and bytes become frames.
//!
//! Payload pieces are written as they are, shared. A received frame lies in one allocation of exactly its size, made
//! only after its header was checked against the limits; that one copy frees the transport's own buffers, which would
//! otherwise stay pinned by a cached batch. What a frame means is unknown here.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use kennel_protocol::frame::{FRAME_HEADER_BYTES, Frame, FrameError, FrameHeader, Payload};
use kennel_protocol::limits::WIRE_VERSION_MIN;
use kennel_protocol::wire::ErrorCode;

use crate::close::{Advice, CloseCode, SessionError};
use crate::lane::{Lane, PREAMBLE_BYTES, PreambleError};
use crate::pipe::{PipeReadError, PipeReader, PipeWriteError, PipeWriter};

/// Pieces up to this long are copied next to their header: a packet holds 1.4 to 6.5 KB, and a copy of this much costs
/// less than one more piece in the transport's send buffer.
const COPY_BYTES_MAX: usize = 1024;

/// [`FrameSink::feed`] flushes by itself when this much waits: ten packets of 6,500 bytes, one system call's worth.
const FEED_BYTES_MAX: usize = 64 * 1024;

/// Chunks taken from the transport at once. Each is at most one packet.
const CHUNKS_PER_READ: usize = 32;

/// A frame within the limits, with its header: its payload may have been read for the checksum, which for a MiB takes as long
/// as many a lock should be held.
#[derive(Debug)]
pub(crate) struct SealedFrame {
    header: [u8; FRAME_HEADER_BYTES],
    frame: Frame,
}

impl SealedFrame {
    /// For a peer with whom `version` was agreed on.
    pub(crate) fn new(frame: Frame, version: u16) -> Result<Self, FrameError> {
        frame.check_limits()?;
        Ok(Self { header: frame.header_for(version).encode(), frame })
    }

    /// Length on the wire.
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }
}

/// Frames to the peer. Dropping it finishes the lane's direction; what was fed but not flushed is lost.
pub struct FrameSink {
    pipe: PipeWriter,
    /// The highest wire version that the peer is known to speak.
    version: u16,
    /// Headers, heads and small pieces that are not yet in `pieces`.
    copied: BytesMut,
    /// What to write, in order. Those before `written` are empty.
    pieces: Vec<Bytes>,
    written: usize,
    /// Length of `copied` and `pieces` together.
    waiting_bytes: usize,
}

impl FrameSink {
    pub(crate) fn new(pipe: PipeWriter) -> Self {
        let version = WIRE_VERSION_MIN;
        Self { pipe, version, copied: BytesMut::new(), pieces: Vec::new(), written: 0, waiting_bytes: 0 }
    }

    /// From now on to a peer with whom hello and welcome agreed on `version`. Without this word frames are such as every
    /// version reads.
    pub fn speak(&mut self, version: u16) {
        self.version = version;
    }

    /// Sends one frame: [`FrameSink::feed`] and [`FrameSink::flush`]. Ends when the transport has taken it, which is
    /// neither arrival nor acknowledgement; waits while the peer reads too slowly.
    ///
    /// # Cancel safety
    /// The lane stays sound, but the frame may then go with a later flush, or not at all.
    pub async fn send(&mut self, frame: Frame) -> Result<(), FrameWriteError> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Queues one frame, so that many small ones share a packet. Flushes first if much is waiting.
    ///
    /// # Cancel safety
    /// The lane stays sound; the frame is not sent.
    pub async fn feed(&mut self, frame: Frame) -> Result<(), FrameWriteError> {
        let sealed = SealedFrame::new(frame, self.version);
        self.feed_sealed(sealed.map_err(FrameWriteError::TooLarge)?).await
    }

    /// [`FrameSink::send`] of a frame that was sealed before, by somebody who holds nothing up with it.
    pub(crate) async fn send_sealed(&mut self, sealed: SealedFrame) -> Result<(), FrameWriteError> {
        self.feed_sealed(sealed).await?;
        self.flush().await
    }

    /// [`FrameSink::feed`] of a frame that was sealed before.
    pub(crate) async fn feed_sealed(&mut self, sealed: SealedFrame) -> Result<(), FrameWriteError> {
        let SealedFrame { header, frame } = sealed;
        if self.waiting_bytes >= FEED_BYTES_MAX {
            self.flush().await?;
        }
        self.push_copy(&header);
        self.push(&frame.head);
        for piece in frame.payload.pieces() {
            self.push(piece);
        }
        Ok(())
    }

    /// Hands everything that was fed to the transport.
    ///
    /// # Cancel safety
    /// Safe: what the transport has not taken goes with the next flush.
    pub async fn flush(&mut self) -> Result<(), FrameWriteError> {
        self.seal_copied();
        while self.written < self.pieces.len() {
            let before = remaining(&self.pieces[self.written..]);
            let whole = self.pipe.write(&mut self.pieces[self.written..]).await?;
            self.waiting_bytes -= before - remaining(&self.pieces[self.written..]);
            self.written += whole;
        }
        self.pieces.clear();
        self.written = 0;
        Ok(())
    }

    /// Sends bytes as they are. They bypass every check that frames get: only a test that plays a broken peer, or a tool
    /// that replays captured bytes, has a use for it.
    ///
    /// # Cancel safety
    /// As for [`FrameSink::flush`].
    pub async fn send_unframed(&mut self, bytes: Bytes) -> Result<(), FrameWriteError> {
        self.push(&bytes);
        self.flush().await
    }

    /// Says that no more frames will come. Those handed over still arrive; see [`FrameSink::drained`].
    pub fn finish(&mut self) {
        self.pipe.finish();
    }

    /// Waits until the peer's transport has everything up to [`FrameSink::finish`]. That the peer has read it, or acted
    /// upon it, only an answer can say.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn drained(&mut self) -> Result<(), FrameWriteError> {
        Ok(self.pipe.drained().await?)
    }

    /// Gives the direction up: what is in flight may be dropped, and the peer learns the code.
    pub fn give_up(&mut self, code: CloseCode) {
        self.pipe.reset(code);
    }

    /// Who goes first on a busy session; higher is earlier.
    pub(crate) fn set_priority(&mut self, priority: i32) {
        self.pipe.set_priority(priority);
    }

    fn push(&mut self, piece: &Bytes) {
        if piece.len() <= COPY_BYTES_MAX {
            return self.push_copy(piece);
        }
        self.seal_copied();
        self.waiting_bytes += piece.len();
        self.pieces.push(piece.clone());
    }

    fn push_copy(&mut self, bytes: &[u8]) {
        self.waiting_bytes += bytes.len();
        self.copied.extend_from_slice(bytes);
    }

    fn seal_copied(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push(self.copied.split().freeze());
        }
    }
}

fn remaining(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

impl fmt::Debug for FrameSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSink").field("waiting_bytes", &self.waiting_bytes).finish_non_exhaustive()
    }
}

/// Why a frame could not be sent. Except for `TooLarge`, the lane is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameWriteError {
    /// The peer would refuse the frame; nothing was sent and the lane is sound. Fix: send less at once.
    #[error("the frame is too large to send")]
    TooLarge(#[source] FrameError),
    /// The peer reads no further. What it got before may have happened.
    #[error("the peer stopped reading the lane: {code}")]
    StoppedByPeer {
        /// Why; its advice says what to do.
        code: CloseCode,
    },
    /// This side finished the lane or gave it up before. Fix: the caller.
    #[error("the lane was finished by this side")]
    Finished,
    /// The session is over.
    #[error("the session ended")]
    Session(#[source] SessionError),
}

impl FrameWriteError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::TooLarge(_) | Self::Finished => Advice::Fix,
            Self::StoppedByPeer { code } => code.advice(),
            Self::Session(error) => error.advice(),
        }
    }
}

impl From<PipeWriteError> for FrameWriteError {
    fn from(error: PipeWriteError) -> Self {
        match error {
            PipeWriteError::Stopped(code) => Self::StoppedByPeer { code },
            PipeWriteError::Finished => Self::Finished,
            PipeWriteError::Session(error) => Self::Session(error),
        }
    }
}

/// Frames from the peer, each verified. Dropping it tells the peer to stop sending.
pub struct FrameSource {
    pipe: PipeReader,
    /// What the transport gave and no frame has taken yet, from `next_chunk` to `chunk_count`.
    chunks: [Bytes; CHUNKS_PER_READ],
    next_chunk: usize,
    chunk_count: usize,
    partial: Partial,
    /// Set once the lane is over, so that asking again gives the same answer.
    ended: Option<Result<(), FrameReadError>>,
}

/// What has come of the frame that is being put together.
enum Partial {
    Header { bytes: [u8; FRAME_HEADER_BYTES], filled: usize },
    Body { header: FrameHeader, bytes: BytesMut, bytes_total: usize },
}

impl Partial {
    fn new() -> Self {
        Self::Header { bytes: [0; FRAME_HEADER_BYTES], filled: 0 }
    }
}

impl FrameSource {
    pub(crate) fn new(pipe: PipeReader) -> Self {
        Self {
            pipe,
            chunks: std::array::from_fn(|_| Bytes::new()),
            next_chunk: 0,
            chunk_count: 0,
            partial: Partial::new(),
            ended: None,
        }
    }

    /// The next frame, verified; `None` when the peer has finished the lane. A frame that fails a check stops the lane with
    /// the frame's error code, which the peer's sink then reports: there is no telling where the next frame starts.
    ///
    /// # Cancel safety
    /// Safe: what has come of a frame is kept for the next call.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameReadError> {
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        loop {
            match self.assemble() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => {
                    self.refuse(error.code());
                    return Err(self.end(FrameReadError::Refused(error)));
                }
            }
            if !self.fill().await? {
                self.ended = Some(Ok(()));
                return Ok(None);
            }
        }
    }

    /// Reads no further and tells the peer why.
    pub fn refuse(&mut self, code: ErrorCode) {
        self.pipe.stop(code.into());
    }

    /// Reads the preamble that an accepted lane starts with. Cancel safe, as `filled` is the caller's.
    pub(crate) async fn read_preamble(&mut self, filled: &mut Preamble) -> Result<Lane, LaneRefused> {
        loop {
            while filled.count < PREAMBLE_BYTES {
                let Some(chunk) = front(&mut self.chunks, &mut self.next_chunk, self.chunk_count) else { break };
                let taken = chunk.len().min(PREAMBLE_BYTES - filled.count);
                filled.bytes[filled.count..][..taken].copy_from_slice(&chunk[..taken]);
                chunk.advance(taken);
                filled.count += taken;
            }
            if filled.count == PREAMBLE_BYTES {
                return Lane::decode(filled.bytes).map_err(LaneRefused::Preamble);
            }
            if !self.fill().await.map_err(LaneRefused::Read)? {
                return Err(LaneRefused::Empty);
            }
        }
    }

    /// Gets more chunks, which all must have been used up; `false` at the orderly end of the lane.
    async fn fill(&mut self) -> Result<bool, FrameReadError> {
        match self.pipe.read(&mut self.chunks).await {
            Ok(Some(count)) => {
                self.next_chunk = 0;
                self.chunk_count = count;
                Ok(true)
            }
            Ok(None) => match self.missing_bytes() {
                0 => Ok(false),
                missing => Err(self.end(FrameReadError::Cut { missing })),
            },
            Err(PipeReadError::Reset(code)) => Err(self.end(FrameReadError::GivenUp { code })),
            Err(PipeReadError::Session(error)) => Err(self.end(FrameReadError::Session(error))),
        }
    }

    /// Moves chunks into the partial frame until it is whole or the chunks are used up.
    fn assemble(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Partial::Body { header, bytes, bytes_total } = &mut self.partial
                && bytes.len() == *bytes_total
            {
                let (header, body) = (*header, std::mem::take(bytes).freeze());
                self.partial = Partial::new();
                return verify(header, body).map(Some);
            }
            let Some(chunk) = front(&mut self.chunks, &mut self.next_chunk, self.chunk_count) else {
                return Ok(None);
            };
            match &mut self.partial {
                Partial::Header { bytes, filled } => {
                    let taken = chunk.len().min(FRAME_HEADER_BYTES - *filled);
                    bytes[*filled..][..taken].copy_from_slice(&chunk[..taken]);
                    chunk.advance(taken);
                    *filled += taken;
                    if *filled == FRAME_HEADER_BYTES {
                        let header = FrameHeader::decode(bytes)?;
                        self.partial = body_of(header);
                    }
                }
                Partial::Body { bytes, bytes_total, .. } => {
                    let taken = chunk.len().min(*bytes_total - bytes.len());
                    bytes.extend_from_slice(&chunk[..taken]);
                    chunk.advance(taken);
                }
            }
        }
    }

    /// How much of a begun frame has not come; 0 between frames.
    fn missing_bytes(&self) -> usize {
        match &self.partial {
            Partial::Header { filled: 0, .. } => 0,
            Partial::Header { filled, .. } => FRAME_HEADER_BYTES - filled,
            Partial::Body { bytes, bytes_total, .. } => bytes_total - bytes.len(),
        }
    }

    /// Frees what a broken lane held and remembers why it broke.
    fn end(&mut self, error: FrameReadError) -> FrameReadError {
        self.partial = Partial::new();
        self.chunks.fill(Bytes::new());
        self.chunk_count = 0;
        self.ended = Some(Err(error.clone()));
        error
    }
}

/// The first chunk that has bytes left. Free-standing, so that the caller may hold the partial frame as well.
fn front<'a>(chunks: &'a mut [Bytes], next_chunk: &mut usize, chunk_count: usize) -> Option<&'a mut Bytes> {
    while *next_chunk < chunk_count && chunks[*next_chunk].is_empty() {
        // Not the empty rest but the handle on the packet's buffer is let go.
        chunks[*next_chunk] = Bytes::new();
        *next_chunk += 1;
    }
    if *next_chunk < chunk_count { Some(&mut chunks[*next_chunk]) } else { None }
}

/// The header's limits were checked when it was decoded, so its lengths may be allocated.
fn body_of(header: FrameHeader) -> Partial {
    let bytes_total = header.head_bytes as usize + header.payload_bytes as usize;
    Partial::Body { header, bytes: BytesMut::with_capacity(bytes_total), bytes_total }
}

fn verify(header: FrameHeader, mut body: Bytes) -> Result<Frame, FrameError> {
    let head = body.split_to(header.head_bytes as usize);
    Frame::verify(header, head, Payload::from(body))
}

impl fmt::Debug for FrameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSource").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What has come of an accepted lane's preamble.
#[derive(Debug, Default)]
pub(crate) struct Preamble {
    bytes: [u8; PREAMBLE_BYTES],
    count: usize,
}

/// Why an accepted lane is dropped before anybody sees it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneRefused {
    #[error("its preamble is wrong")]
    Preamble(#[source] PreambleError),
    #[error("it ended before its preamble")]
    Empty,
    #[error("its preamble did not come in time")]
    Late,
    #[error("its preamble could not be read")]
    Read(#[source] FrameReadError),
}

/// Why no further frame will come. The lane is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameReadError {
    /// A frame is damaged, too large or not one of ours. The peer was told the error's code.
    #[error("a frame was refused")]
    Refused(#[source] FrameError),
    /// The peer ended the lane inside a frame: it died, or dropped a send. Retry.
    #[error("the lane ended inside a frame, {missing} bytes short")]
    Cut {
        /// How much of the frame's current part had not come.
        missing: usize,
    },
    /// The peer gave the lane up.
    #[error("the peer gave the lane up: {code}")]
    GivenUp {
        /// Why; its advice says what to do.
        code: CloseCode,
    },
    /// The session is over.
    #[error("the session ended")]
    Session(#[source] SessionError),
}

impl FrameReadError {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Refused(error) => error.code().into(),
            Self::Cut { .. } => Advice::Retry,
            Self::GivenUp { code } => code.advice(),
            Self::Session(error) => error.advice(),
        }
    }
}
