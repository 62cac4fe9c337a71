//! One quinn connection as a session, and its streams as pipes.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use rustls::pki_types::CertificateDer;

use super::errors::session_error;
use crate::close::{CloseCode, SessionError};
use crate::frames::{FrameSink, FrameSource};
use crate::intake::Intake;
use crate::lane::Lane;
use crate::pipe::{PipeReadError, PipeReader, PipeWriteError, PipeWriter};
use crate::session::{LaneStream, Opener, Peer, Session, bounded_reason};
use crate::tls::read_name;

/// A session over QUIC.
#[derive(Debug)]
pub(super) struct QuicSession {
    connection: Connection,
    peer: Peer,
    intake: Intake,
}

impl QuicSession {
    /// Wraps a connection whose handshake is complete.
    pub(super) fn new(connection: Connection) -> Result<Self, SessionError> {
        let peer = identify(&connection)?;
        Ok(Self { connection, peer, intake: Intake::default() })
    }

    async fn next_pipes(&self) -> Result<(PipeWriter, PipeReader), SessionError> {
        let (send, recv) = self.connection.accept_bi().await.map_err(|error| session_error(&error))?;
        Ok((PipeWriter::Quic(Writer::new(send)), PipeReader::Quic(Reader(recv))))
    }
}

#[async_trait]
impl Session for QuicSession {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    async fn open(&self, lane: Lane) -> Result<LaneStream, SessionError> {
        let (mut send, recv) = self.connection.open_bi().await.map_err(|error| session_error(&error))?;
        // A new stream has no reader that could have stopped it: only the end of the connection is left.
        send.write_chunk(Bytes::copy_from_slice(&lane.encode())).await.map_err(|error| match error {
            WriteError::ConnectionLost(error) => session_error(&error),
            other => SessionError::Broken { reason: other.to_string() },
        })?;
        let mut sink = FrameSink::new(PipeWriter::Quic(Writer::new(send)));
        sink.set_priority(lane.priority());
        Ok(LaneStream { lane, opener: Opener::Here, sink, source: FrameSource::new(PipeReader::Quic(Reader(recv))) })
    }

    async fn accept(&self) -> Result<LaneStream, SessionError> {
        self.intake.accept(|| self.next_pipes()).await
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(VarInt::from_u32(code.number()), bounded_reason(reason).as_bytes());
    }

    async fn closed(&self) -> SessionError {
        session_error(&self.connection.closed().await)
    }
}

/// Who the verified certificate of the peer names.
fn identify(connection: &Connection) -> Result<Peer, SessionError> {
    let unusable = |reason: &str| SessionError::NotTrusted { reason: reason.to_owned() };
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or_else(|| unusable("the peer presented no certificate"))?;
    let leaf = chain.first().ok_or_else(|| unusable("the peer presented no certificate"))?;
    let named = read_name(leaf).map_err(|_| unusable("the peer's certificate cannot be read"))?;
    let address = canonical(connection.remote_address());
    Ok(Peer { address, common_name: named.common_name, role_hint: named.role })
}

/// Undoes the mapping that a dual-stack socket does to IPv4 addresses.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The sending half of a stream. Dropping it finishes.
#[derive(Debug)]
pub(crate) struct Writer {
    send: SendStream,
    given_up: bool,
}

impl Writer {
    fn new(send: SendStream) -> Self {
        Self { send, given_up: false }
    }

    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<usize, PipeWriteError> {
        match self.send.write_chunks(pieces).await {
            Ok(written) => Ok(written.chunks),
            Err(WriteError::Stopped(code)) => Err(PipeWriteError::Stopped(CloseCode::from_number(code.into()))),
            Err(WriteError::ConnectionLost(error)) => Err(PipeWriteError::Session(session_error(&error))),
            Err(WriteError::ClosedStream | WriteError::ZeroRttRejected) => Err(PipeWriteError::Finished),
        }
    }

    pub(crate) fn set_priority(&mut self, priority: i32) {
        // Fails on a finished stream only, where nobody waits for anything.
        let _ = self.send.set_priority(priority);
    }

    pub(crate) fn finish(&mut self) {
        // Fails if it was finished before.
        let _ = self.send.finish();
    }

    pub(crate) fn reset(&mut self, code: CloseCode) {
        self.given_up = true;
        // Fails if everything has arrived, so that there is nothing to give up.
        let _ = self.send.reset(VarInt::from_u32(code.number()));
    }

    pub(crate) async fn drained(&mut self) -> Result<(), PipeWriteError> {
        if self.given_up {
            return Err(PipeWriteError::Finished);
        }
        match self.send.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(PipeWriteError::Stopped(CloseCode::from_number(code.into()))),
            Err(StoppedError::ConnectionLost(error)) => Err(PipeWriteError::Session(session_error(&error))),
            Err(StoppedError::ZeroRttRejected) => Err(PipeWriteError::Finished),
        }
    }
}

/// The receiving half of a stream. Dropping it stops the peer.
#[derive(Debug)]
pub(crate) struct Reader(RecvStream);

impl Reader {
    pub(crate) async fn read(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, PipeReadError> {
        match self.0.read_chunks(chunks).await {
            Ok(count) => Ok(count),
            Err(ReadError::Reset(code)) => Err(PipeReadError::Reset(CloseCode::from_number(code.into()))),
            Err(ReadError::ConnectionLost(error)) => Err(PipeReadError::Session(session_error(&error))),
            // This side stopped the stream before: there is nothing more to read.
            Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => Ok(None),
        }
    }

    pub(crate) fn stop(&mut self, code: CloseCode) {
        // Fails if the stream is over anyway.
        let _ = self.0.stop(VarInt::from_u32(code.number()));
    }
}
