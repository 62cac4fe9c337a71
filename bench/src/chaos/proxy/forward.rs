//! One request to the bucket itself, over a connection of its own.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, TRANSFER_ENCODING};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::BODY_BYTES_MAX;

/// The way to the bucket.
#[derive(Debug)]
pub(super) struct Forward {
    upstream: SocketAddr,
}

impl Forward {
    pub(super) fn to(upstream: SocketAddr) -> Self {
        Self { upstream }
    }

    /// Sends a request as it is, and takes in the whole answer.
    ///
    /// # Errors
    /// If the bucket cannot be reached or breaks off.
    ///
    /// # Cancel safety
    /// The request may or may not have been performed.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let stream = TcpStream::connect(self.upstream).await.context("connect to the bucket")?;
        stream.set_nodelay(true).ok();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak HTTP to the bucket")?;
        // It ends with the sender, or by itself.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.context("ask the bucket")?;
        let (mut head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error)).context("read the bucket's answer")?.to_bytes();
        connection.abort();
        // These are about the connection to the bucket; the one to the node has its own.
        head.headers.remove(CONNECTION);
        head.headers.remove(TRANSFER_ENCODING);
        Ok(Response::from_parts(head, body))
    }
}
