//! One end of a connection that carries Iggy's frames, over TCP or TLS.
//!
//! Frames come in as a header and the front of their body; what lies behind the front is passed on without being kept.
//! This file does not know what frames mean.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::frame::{FrameError, HEADER_BYTES, Header};

/// How much of a body is brought into memory at once. Every body that a gateway looks into is far shorter, and a
/// session takes no more than this in either direction, whatever passes.
pub(crate) const FRONT_BYTES_MAX: usize = 256 << 10;

/// Room for the next read where nothing is known of its length: a poll and its neighbours.
const READ_BYTES: usize = 4 << 10;

/// How long nothing may move in the middle of a frame, in either direction.
const STALL: Duration = Duration::from_secs(30);

/// Why a connection carries nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The other side closed it, or the network did.
    #[error("the connection ended")]
    Ended(#[source] io::Error),
    /// The other side stopped in the middle of a frame, or takes no more of one.
    #[error("the connection stands still in the middle of a frame")]
    Stalled,
    /// The other side does not speak the protocol.
    #[error("the connection carries something else than frames of Iggy")]
    Frame(#[source] FrameError),
}

/// TCP, or TLS over it.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A frame, as much of it as is in memory.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) header: Header,
    /// The front of the body; all of it below [`FRONT_BYTES_MAX`].
    pub(crate) front: Bytes,
    /// What still has to be read of the body.
    pub(crate) rest: usize,
}

impl Incoming {
    /// The body, if it is here whole.
    pub(crate) fn body(&self) -> Option<&Bytes> {
        (self.rest == 0).then_some(&self.front)
    }
}

/// One end of a connection.
pub(crate) struct Wire {
    socket: Box<dyn Socket>,
    unread: BytesMut,
    frame_bytes_max: u32,
}

impl Wire {
    /// Takes frames of at most `frame_bytes_max` bytes from the other side.
    pub(crate) fn new(socket: impl Socket + 'static, frame_bytes_max: u32) -> Self {
        Self { socket: Box::new(socket), unread: BytesMut::new(), frame_bytes_max }
    }

    /// The next header; `None` if the other side closed the connection between two frames.
    /// Cancel safe: what was read stays here.
    pub(crate) async fn header(&mut self) -> Result<Option<Header>, WireError> {
        while self.unread.len() < HEADER_BYTES {
            self.unread.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.unread).await.map_err(WireError::Ended)? == 0 {
                return if self.unread.is_empty() { Ok(None) } else { Err(cut_off()) };
            }
        }
        let bytes = self.unread.split_to(HEADER_BYTES).freeze();
        Header::parse(bytes, self.frame_bytes_max).map(Some).map_err(WireError::Frame)
    }

    /// The front of the body that follows a header. Not cancel safe: the place in the stream is lost.
    pub(crate) async fn front(&mut self, header: Header) -> Result<Incoming, WireError> {
        let front = header.body_bytes().min(FRONT_BYTES_MAX);
        self.unread.reserve(front.saturating_sub(self.unread.len()));
        while self.unread.len() < front {
            self.fill().await?;
        }
        let rest = header.body_bytes() - front;
        Ok(Incoming { header, front: self.unread.split_to(front).freeze(), rest })
    }

    /// A whole frame's front: header and body. `None` at the end. Not cancel safe.
    pub(crate) async fn incoming(&mut self) -> Result<Option<Incoming>, WireError> {
        match self.header().await? {
            Some(header) => self.front(header).await.map(Some),
            None => Ok(None),
        }
    }

    /// The next bytes of a body of which `rest` are still to come: at least one, at most as many as are kept.
    pub(crate) async fn more(&mut self, rest: usize) -> Result<Bytes, WireError> {
        if self.unread.is_empty() {
            self.unread.reserve(rest.min(FRONT_BYTES_MAX));
            self.fill().await?;
        }
        let here = self.unread.len().min(rest);
        Ok(self.unread.split_to(here).freeze())
    }

    /// Reads the rest of a body and forgets it.
    pub(crate) async fn skip(&mut self, mut rest: usize) -> Result<(), WireError> {
        while rest > 0 {
            rest -= self.more(rest).await?.len();
        }
        Ok(())
    }

    /// Writes pieces back to back, without joining them.
    pub(crate) async fn write(&mut self, pieces: Pieces) -> Result<(), WireError> {
        let mut pieces = pieces;
        while pieces.has_remaining() {
            let written = timeout(STALL, self.socket.write_buf(&mut pieces)).await.map_err(|_| WireError::Stalled)?;
            if written.map_err(WireError::Ended)? == 0 {
                return Err(cut_off());
            }
        }
        Ok(())
    }

    /// Reads more of a frame that has begun.
    async fn fill(&mut self) -> Result<(), WireError> {
        let read = timeout(STALL, self.socket.read_buf(&mut self.unread)).await.map_err(|_| WireError::Stalled)?;
        if read.map_err(WireError::Ended)? == 0 { Err(cut_off()) } else { Ok(()) }
    }

    /// Hands what was written to the network. TLS keeps some back until told.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        self.socket.flush().await.map_err(WireError::Ended)
    }

    /// Says that nothing more will come. Errors do not matter any more.
    pub(crate) async fn close(&mut self) {
        drop(self.socket.shutdown().await);
    }
}

fn cut_off() -> WireError {
    WireError::Ended(io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// Bytes in several places, written as if they lay back to back.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    next: usize,
}

impl Pieces {
    pub(crate) fn new(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        Self { pieces, next: 0 }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.pieces[self.next..].iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.get(self.next).map_or(&[], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let pieces = &self.pieces[self.next..];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = io::IoSlice::new(piece);
        }
        slices.len().min(pieces.len())
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let piece = &mut self.pieces[self.next];
            let here = piece.len().min(bytes);
            piece.advance(here);
            bytes -= here;
            if piece.is_empty() {
                self.next += 1;
            }
        }
    }
}

impl core::fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Wire").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::REQUEST_BYTES_MAX;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[48..52].copy_from_slice(&u32::try_from(HEADER_BYTES + body.len()).expect("small").to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn frames_come_whole_however_they_were_cut() {
        let (mut sender, receiver) = tokio::io::duplex(64);
        let bytes = [frame(b"one"), frame(b""), frame(&[7; 1000])].concat();
        let sending = tokio::spawn(async move { sender.write_all(&bytes).await });
        let mut wire = Wire::new(receiver, REQUEST_BYTES_MAX);
        for expected in [&b"one"[..], b"", &[7; 1000]] {
            let incoming = wire.incoming().await.expect("a frame").expect("not the end");
            assert_eq!(incoming.body().expect("whole"), expected);
        }
        assert!(wire.incoming().await.expect("a clean end").is_none());
        sending.await.expect("no panic").expect("all was read");
    }

    #[tokio::test]
    async fn a_long_body_is_not_kept() {
        let (mut sender, receiver) = tokio::io::duplex(1 << 16);
        let bytes = [frame(&vec![1; FRONT_BYTES_MAX + 10]), frame(b"next")].concat();
        let sending = tokio::spawn(async move { sender.write_all(&bytes).await });
        let mut wire = Wire::new(receiver, REQUEST_BYTES_MAX);
        let long = wire.incoming().await.expect("a frame").expect("not the end");
        assert_eq!((long.front.len(), long.rest, long.body()), (FRONT_BYTES_MAX, 10, None));
        wire.skip(long.rest).await.expect("the rest");
        assert_eq!(wire.incoming().await.expect("a frame").expect("not the end").front, "next");
        sending.await.expect("no panic").expect("all was read");
    }

    #[tokio::test]
    async fn sizes_are_checked_before_room_is_made() {
        for (size, expected) in [
            (255, FrameError::TooSmall { size: 255 }),
            (REQUEST_BYTES_MAX + 1, FrameError::TooLarge { size: REQUEST_BYTES_MAX + 1, most: REQUEST_BYTES_MAX }),
        ] {
            let (mut sender, receiver) = tokio::io::duplex(1024);
            let mut bytes = frame(b"");
            bytes[48..52].copy_from_slice(&u32::to_le_bytes(size));
            sender.write_all(&bytes).await.expect("room");
            let error = Wire::new(receiver, REQUEST_BYTES_MAX).incoming().await.expect_err("a refusal");
            assert!(matches!(error, WireError::Frame(found) if found == expected), "{error:?}");
        }
    }

    #[test]
    fn pieces_advance_over_their_edges() {
        let mut pieces = Pieces::new(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")]);
        assert_eq!(pieces.remaining(), 5);
        pieces.advance(3);
        assert_eq!((pieces.chunk(), pieces.remaining()), (&b"de"[..], 2));
    }
}
