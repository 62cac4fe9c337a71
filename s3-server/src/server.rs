//! The listener: connections in, faults and latency around each request, the S3 service inside.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::debug;

use crate::api::Api;
use crate::faults::{Fault, Faults, Operation};
use crate::latency::{LatencyModel, RequestRates, Weather};
use crate::state::Contents;

/// Connections served at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 4_096;
/// Largest body that is held back for a late effect.
const LATE_BODY_BYTES_MAX: usize = 64 << 20;

/// What the server is to be.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// The one access key id that is accepted.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Most bytes of all bodies together.
    pub bytes_max: u64,
    /// Latency to add; `None` answers as fast as it can.
    pub latency: Option<LatencyModel>,
    /// Requests a second above which 503 is answered; `None` has no ceiling.
    pub rates: Option<RequestRates>,
    /// Seed of latency and chance.
    pub seed: u64,
}

impl Default for ServerSettings {
    /// A bucket named `kennel` on a free port of the loopback, without latency, for the key `kennel` / `kennel-secret`.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            buckets: vec!["kennel".to_owned()],
            access_key_id: "kennel".to_owned(),
            secret_access_key: "kennel-secret".to_owned(),
            bytes_max: 4 << 30,
            latency: None,
            rates: None,
            seed: 0,
        }
    }
}

/// Why the server did not start. *Fix* the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is the port taken?")]
pub struct StartError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Starts servers.
pub struct Server;

impl Server {
    /// Listens and serves until [`RunningServer::stop`], or until the handle is dropped.
    ///
    /// Cancel safety: nothing is left behind when dropped.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(settings: ServerSettings) -> Result<RunningServer, StartError> {
        let failed = |source| StartError { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let contents = Contents::new(&settings.buckets, settings.bytes_max);
        let faults = Faults::default();
        let mut service = S3ServiceBuilder::new(Api { contents: contents.clone(), faults: faults.clone() });
        service.set_auth(SimpleAuth::from_single(settings.access_key_id, settings.secret_access_key));
        let front = Arc::new(Front {
            service: service.build(),
            faults: faults.clone(),
            weather: Weather::new(settings.latency, settings.rates, settings.seed),
        });
        let (stop, stopped) = watch::channel(());
        let serving = tokio::spawn(serve(listener, front, stopped));
        Ok(RunningServer { address, contents, faults, stop, serving })
    }
}

/// A server at work. Dropping it stops it.
#[derive(Debug)]
pub struct RunningServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it holds.
    pub contents: Contents,
    /// How to make it misbehave.
    pub faults: Faults,
    stop: watch::Sender<()>,
    serving: JoinHandle<()>,
}

impl RunningServer {
    /// `http://address`, as clients want it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the listener and every connection. The objects are gone with the last handle of [`Contents`].
    ///
    /// Cancel safety: once called, it stops.
    pub async fn stop(self) {
        drop(self.stop);
        // A panic of the task has been reported by the runtime; there is nothing more to stop.
        self.serving.await.ok();
    }
}

async fn serve(listener: TcpListener, front: Arc<Front>, mut stopped: watch::Receiver<()>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // The sender never sends: it is dropped to stop.
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => {
                let Some((stream, permit)) = accepted else { continue };
                let front = Arc::clone(&front);
                connections.spawn(async move {
                    let _permit = permit;
                    front.connection(stream).await;
                });
            }
        }
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it small answers wait for a delayed acknowledgement, 40 ms each.
            stream.set_nodelay(true).ok();
            Some((stream, permit))
        }
        Err(error) => {
            debug!(%error, "accept failed");
            None
        }
    }
}

/// What stands between a connection and the S3 service.
struct Front {
    service: S3Service,
    faults: Faults,
    weather: Weather,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed on purpose")]
struct HangUp;

impl Front {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let answer = service_fn(|request| Arc::clone(&self).answer(request));
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        if let Err(error) = served {
            debug!(%error, "connection ended");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<HttpResponse, HangUp> {
        let operation = Operation::of(request.method().as_str(), request.uri().query().unwrap_or_default());
        let key = request.uri().path().to_owned();
        let fault = self.faults.pick(operation, &key, self.weather.chance());
        debug!(?operation, key, ?fault, "request");
        match fault {
            None if self.weather.is_throttled(operation) => Ok(refusal(503)),
            None => Ok(self.perform(operation, request.map(Body::from)).await),
            Some(Fault::Reset) => Err(HangUp),
            Some(Fault::Refuse(status)) => Ok(refusal(status)),
            Some(Fault::RefuseAfterEffect(status)) => {
                self.perform(operation, request.map(Body::from)).await;
                Ok(refusal(status))
            }
            Some(Fault::LostAnswer) => {
                self.perform(operation, request.map(Body::from)).await;
                Err(HangUp)
            }
            Some(Fault::Stall(pause)) => {
                sleep(pause).await;
                Ok(self.perform(operation, request.map(Body::from)).await)
            }
            Some(Fault::LateEffect(late)) => {
                self.perform_later(operation, request, late).await;
                Err(HangUp)
            }
        }
    }

    /// The request itself, with its latency: half before it takes effect, half after.
    async fn perform(&self, operation: Operation, request: Request<Body>) -> HttpResponse {
        let first_byte = self.weather.first_byte(operation);
        pause(first_byte / 2 + self.weather.upload(request.body().size_hint().lower())).await;
        let response = match self.service.call(request).await {
            Ok(response) => response,
            Err(error) => {
                debug!(?error, "the service gave no answer");
                refusal(500)
            }
        };
        pause(first_byte / 2 + self.weather.download(response.body().size_hint().lower())).await;
        response
    }

    /// Takes the whole request now and performs it when its sender has given up.
    async fn perform_later(self: Arc<Self>, operation: Operation, request: Request<Incoming>, late: Duration) {
        let mut request = request.map(Body::from);
        if request.body_mut().store_all_limited(LATE_BODY_BYTES_MAX).await.is_err() {
            return;
        }
        // On its own: the connection that brought it is about to close. It ends by itself.
        tokio::spawn(async move {
            sleep(late).await;
            self.perform(operation, request).await;
        });
    }
}

async fn pause(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

/// An S3 error answer with `status`.
fn refusal(status: u16) -> HttpResponse {
    let code = match status {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>"
    );
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(Body::from(body))
        .unwrap_or_else(|_: hyper::http::Error| Response::new(Body::empty()))
}
