//! `wal-shipper run`: ships from a running server until told to stop.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::import::open_ring;
use crate::live::{LiveReport, Site, Snapshots, SourceHealth, answer, bind, install_metrics, serve};

/// Runs until SIGTERM or SIGINT; answers how it was at the end. An error means that it could not begin.
///
/// # Cancel safety
/// Safe: the ring is the cursor, the next run continues.
pub async fn run(config: &Config) -> anyhow::Result<LiveReport> {
    let (settings, server) = (config.live()?, config.iggy_server()?);
    let ring = open_ring(config)?;
    let (snapshots, health) = (Snapshots::default(), Arc::new(SourceHealth::new()));
    let metrics = install_metrics().context("cannot install the metrics' recorder")?;
    let (stopping, stopped) = watch::channel(false);
    let telling = match config.http_address()? {
        Some(address) => {
            let (listener, bound) = bind(address).await?;
            tracing::info!(%bound, "health, status and metrics are here");
            let site = Site { snapshots: snapshots.clone(), health: Arc::clone(&health), metrics };
            Some(tokio::spawn(answer(listener, site, stopped)))
        }
        None => None,
    };
    let told = told_to_stop().context("cannot hear signals")?;
    let shipped = serve(ring, settings, Arc::new(server), snapshots.clone(), Arc::clone(&health), told).await;
    stopping.send_replace(true);
    if let Some(telling) = telling {
        telling.await.context("HTTP broke")?;
    }
    shipped?;
    Ok(LiveReport::new(&snapshots.newest(), &health))
}

/// What a configuration amounts to, for people; nothing secret.
pub fn describe(config: &Config) -> anyhow::Result<String> {
    let (settings, server) = (config.live()?, config.iggy_server()?);
    let (ring, http) = (config.seeds()?, config.http_address()?);
    config.tls_files()?;
    let barrier = settings.barrier.as_ref().map_or("none", |barrier| barrier.consumer.as_str());
    let files = settings.data_dir.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    let http = http.map_or("none".to_owned(), |address| address.to_string());
    let (user, from) = (&server.username, server.addresses.join(", "));
    Ok(format!("from {user} at {from}\nto {ring:?}\nfiles {files}\nbarrier {barrier}\nhttp {http}\n"))
}

fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
