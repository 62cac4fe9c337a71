//! What stands between the nodes and their bucket: an HTTP proxy that misbehaves on request.
//!
//! Every node has a listener of its own, so a fault can hit one node and spare the others. It knows requests and
//! answers, and nothing of S3: signatures pass through untouched.

mod faults;
mod forward;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use faults::{BucketFault, BucketFaults};
use faults::{Fate, Verdict};
use forward::Forward;

/// Largest body that is taken in: above every object of a node.
const BODY_BYTES_MAX: usize = 256 << 20;

/// A proxy at work. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    /// What it does wrong.
    pub faults: BucketFaults,
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on `address` once for each of `nodes` nodes, and forwards to `upstream`.
    ///
    /// # Errors
    /// If it cannot listen.
    ///
    /// # Cancel safety
    /// Nothing is left behind when dropped.
    pub async fn start(address: IpAddr, nodes: u8, upstream: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let faults = BucketFaults::new(seed);
        let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
        for node in 1..=nodes {
            let listener = TcpListener::bind((address, 0)).await.with_context(|| format!("listen on {address}"))?;
            addresses.push(listener.local_addr().context("ask for the port")?);
            let gate = Arc::new(Gate { node, faults: faults.clone(), forward: Forward::to(upstream) });
            tasks.spawn(gate.serve(listener));
        }
        Ok(Self { faults, addresses, tasks })
    }

    /// Where node `node`, counted from 1, finds the bucket.
    pub fn endpoint(&self, node: u8) -> String {
        format!("http://{}", self.addresses[usize::from(node) - 1])
    }

    /// Ends it and every connection.
    ///
    /// # Cancel safety
    /// Safe: dropping it does the same.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// One node's way to the bucket.
struct Gate {
    node: u8,
    faults: BucketFaults,
    forward: Forward,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed on purpose")]
struct HangUp;

impl Gate {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(Arc::clone(&self).connection(stream));
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        // Without it small answers wait for a delayed acknowledgement.
        stream.set_nodelay(true).ok();
        let answer = service_fn(|request| Arc::clone(&self).answer(request));
        // An error is a connection that ended, on purpose or because its node did.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, HangUp> {
        let Verdict { pause, bytes_per_second, fate } = self.faults.judge(self.node, request.method() == Method::PUT);
        sleep(pause).await;
        match fate {
            Fate::Reset => return Err(HangUp),
            Fate::Refused(status) => return Ok(refusal(status)),
            Fate::Silence => return std::future::pending().await,
            Fate::Pass | Fate::Unanswered(_) => {}
        }
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_| HangUp)?.to_bytes();
        pass(body.len(), bytes_per_second).await;
        // On its own: what was sent arrives, whether or not its sender still lives.
        let late = if let Fate::Unanswered(late) = fate { late } else { Duration::ZERO };
        let gate = Arc::clone(&self);
        let forwarded = tokio::spawn(async move {
            sleep(late).await;
            gate.forward.send(Request::from_parts(head, Full::new(body))).await
        });
        if let Fate::Unanswered(late) = fate {
            // A late one is given up at once: whoever sent it shall act while it still flies.
            if late.is_zero() {
                forwarded.await.ok();
            }
            return Err(HangUp);
        }
        let answer = forwarded.await.ok().and_then(Result::ok).ok_or(HangUp)?;
        pass(answer.body().len(), bytes_per_second).await;
        Ok(answer.map(Full::new))
    }
}

/// Waits as long as so many bytes take.
async fn pass(bytes: usize, bytes_per_second: u64) {
    let millis = (bytes as u64).saturating_mul(1_000).checked_div(bytes_per_second);
    sleep(Duration::from_millis(millis.unwrap_or(0))).await;
}

/// An S3 error with `status`.
fn refusal(status: u16) -> Response<Full<Bytes>> {
    let code = match status {
        409 => "ConditionalRequestConflict",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    let answer = Response::builder().status(status).header("content-type", "application/xml");
    answer.body(Full::new(body.into())).unwrap_or_default()
}
