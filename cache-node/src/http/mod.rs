//! Health, metrics and status over plain HTTP, for people and their tools.
//!
//! It reads one [`StatusReport`] per request from whoever knows, and changes nothing: there is no way to command a node
//! over HTTP.

mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use report::{
    BucketReport, CacheReport, CatalogReport, DivergedReport, FabricReport, GatewayReport, JournalReport, LocalReport,
    MemberReport, MessageReport, ShardReport, StatusReport, StreamReport, TailReport, TopicReport,
};

use crate::metrics;

/// The status page; it reads `/status` and loads nothing else.
const PAGE: &str = include_str!("page.html");

/// Requests at once that ask the node for its status. A dashboard makes one a second; more than this is a mistake.
const REQUESTS_MAX: usize = 16;

/// A node that does not answer for this long is not healthy, whatever it would have said.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// How often histograms are folded: the recorder keeps single samples until then.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long open requests may finish when the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Asks the node how it is.
pub type StatusSource = Arc<dyn Fn() -> BoxFuture<'static, StatusReport> + Send + Sync>;

/// Why there is no HTTP.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: is another process there? (listen.http)")]
pub struct HttpError {
    /// Which address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// The running listener. Dropping it without [`Http::stop`] ends it too.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Http {
    /// Listens and answers.
    ///
    /// # Cancel safety
    /// Cancelled, it leaves nothing behind.
    pub async fn start(listen: SocketAddr, status: StatusSource, metrics: PrometheusHandle) -> Result<Self, HttpError> {
        let failed = |source| HttpError { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stopping, stop) = watch::channel(false);
        let site = Site { status, metrics, turns: Arc::new(Semaphore::new(REQUESTS_MAX)) };
        let task = tokio::spawn(answer(listener, site, stop));
        Ok(Self { address, stopping, task })
    }

    /// Where it listens, with the port that it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets open requests finish for a moment, and ends.
    ///
    /// # Cancel safety
    /// Cancelled, it ends all the same; only nobody waits for it.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(STOP_PATIENCE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn answer(listener: TcpListener, site: Site, stop: watch::Receiver<bool>) {
    let metrics = site.metrics.clone();
    let mut stopped = stop.clone();
    let serving = serve(listener, site.routes()).with_graceful_shutdown(async move {
        // An error means that the node went away without a word: stop as well.
        let _ = stopped.changed().await;
    });
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    let fold = async {
        loop {
            upkeep.tick().await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        result = serving => if let Err(error) = result {
            tracing::error!(%error, "HTTP ended by itself");
        },
        () = fold => (),
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Site {
    status: StatusSource,
    metrics: PrometheusHandle,
    turns: Arc<Semaphore>,
}

impl Site {
    fn routes(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/health", get(health))
            .route("/metrics", get(metrics_text))
            .route("/status", get(status))
            .with_state(self)
    }

    async fn report(&self) -> Result<StatusReport, NoStatus> {
        let _turn = self.turns.try_acquire().map_err(|_| NoStatus("too many requests at once"))?;
        tokio::time::timeout(STATUS_TIMEOUT, (self.status)())
            .await
            .map_err(|_| NoStatus("the node does not answer; it is overloaded or stuck"))
    }
}

/// The node's state is not known.
struct NoStatus(&'static str);

impl IntoResponse for NoStatus {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

async fn page() -> impl IntoResponse {
    // The page shows names that other processes chose: nothing but the page itself may run or be loaded.
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE))
}

async fn health(State(site): State<Site>) -> Result<Response, NoStatus> {
    let report = site.report().await?;
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let otherwise = if report.ready { "ready" } else { "not ready" };
    let line = report.reason.unwrap_or_else(|| otherwise.to_owned());
    Ok((code, format!("{line}\n")).into_response())
}

async fn status(State(site): State<Site>) -> Result<Json<StatusReport>, NoStatus> {
    site.report().await.map(Json)
}

async fn metrics_text(State(site): State<Site>) -> impl IntoResponse {
    // Counters of a node that does not answer are still worth reading.
    if let Ok(report) = site.report().await {
        metrics::record_status(&report);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], site.metrics.render())
}

#[cfg(test)]
mod tests;
