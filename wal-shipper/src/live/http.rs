//! Health, metrics and status over plain HTTP. It reads the newest snapshot, and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use axum::{Router, serve};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::health::SourceHealth;
use super::metrics;
use super::observer::Snapshots;
use super::report::LiveReport;

/// How often the recorder folds what it keeps.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why there is no HTTP. Fix: `http.listen`.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: is another process there? (http.listen)")]
pub struct HttpError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// What the handlers share.
#[derive(Clone)]
pub struct Site {
    /// What to tell.
    pub snapshots: Snapshots,
    /// How the source is.
    pub health: Arc<SourceHealth>,
    /// Renders metrics.
    pub metrics: PrometheusHandle,
}

impl Site {
    fn report(&self) -> LiveReport {
        LiveReport::new(&self.snapshots.newest(), &self.health)
    }
}

/// Takes the address; answers where it is, with the port that it really has.
///
/// # Cancel safety
/// Safe.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), HttpError> {
    let failed = |source| HttpError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Answers until `stop` says so.
///
/// # Cancel safety
/// Safe: open requests break.
pub async fn answer(listener: TcpListener, site: Site, mut stop: watch::Receiver<bool>) {
    let handle = site.metrics.clone();
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status))
        .with_state(site);
    let fold = async {
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            upkeep.tick().await;
            handle.run_upkeep();
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = fold => {}
        served = async { serve(listener, routes).await } => if let Err(error) = served {
            tracing::error!(%error, "HTTP ended by itself");
        },
    }
}

async fn health(State(site): State<Site>) -> impl IntoResponse {
    let report = site.report();
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", report.reason.unwrap_or_else(|| "ready".to_owned())))
}

async fn status(State(site): State<Site>) -> Json<LiveReport> {
    Json(site.report())
}

async fn metrics_text(State(site): State<Site>) -> impl IntoResponse {
    metrics::record(&site.report());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], site.metrics.render())
}
