//! A shipper of a live source, whole: the watch's thread, the reads, the names, the barrier, and the driver of the machine
//! in the middle. All tasks are started here, and joined here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kennel_core::shipper::{ShipperConfig, Until};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::ahead::{Ahead, Moving};
use super::barrier::keep_barrier;
use super::health::SourceHealth;
use super::names::{keep_names, standing};
use super::observer::{Observer, Snapshots};
use super::pace::{Pace, PaceLimits};
use super::reads::LiveReads;
use super::sizes::Sizes;
use super::source::LiveSource;
use super::watch::Watch;
use super::watch_task::WatchTask;
use crate::ship::{Ring, ShipError, ShipReport, channel, ship_events};
use crate::source::Filter;

/// Catalogues that wait for the watch: it reads them between two rounds.
const STANDING_MAX: usize = 4;

/// How long the tasks may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How often partitions are asked for whose last marks nobody told us. They are those that another shipper shipped, and
/// all of them right after a start: 2,048 partitions of a shard in one question of some 100 KB.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Where the barrier stands.
#[derive(Debug, Clone)]
pub struct BarrierSettings {
    /// The consumer whose offset it is.
    pub consumer: String,
    /// Between two moves for one partition.
    pub interval: Duration,
}

/// How a live source is shipped.
#[derive(Debug, Clone)]
pub struct LiveSettings {
    /// Limits of the machine; `reads_max` is also how many sessions poll.
    pub shipper: ShipperConfig,
    /// How long to look for a node of the ring.
    pub patience: Duration,
    /// What to ship.
    pub filter: Filter,
    /// What the watch may cost.
    pub pace: PaceLimits,
    /// The server's data directory, if it can be read here.
    pub data_dir: Option<PathBuf>,
    /// `None`: the server deletes what it likes.
    pub barrier: Option<BarrierSettings>,
}

/// Ships until `stop` resolves; the report says how it went. `snapshots` and `health` tell how it is going.
///
/// # Cancel safety
/// Safe for what is shipped: the ring is the cursor. Cancelled, its thread ends by itself.
pub async fn serve(
    ring: Ring,
    settings: LiveSettings,
    source: Arc<dyn LiveSource>,
    snapshots: Snapshots,
    health: Arc<SourceHealth>,
    stop: impl Future<Output = ()>,
) -> Result<ShipReport, ShipError> {
    tokio::pin!(stop);
    let (session, welcome) = ring.first_node(settings.patience).await?;
    session.close(kennel_transport::close::CloseCode::DONE, "the ring was found");
    let ring = ring.of_cluster(welcome.cluster);
    let standing = tokio::select! {
        standing = standing(&ring) => standing,
        () = &mut stop => return Ok(ShipReport::default()),
    };
    let (stopping, stopped) = watch::channel(false);
    let (events, inbox) = channel();
    let sizes = Arc::new(Sizes::default());
    let ahead = Arc::new(Ahead::default());
    let reads =
        LiveReads::new(Arc::clone(&source), settings.data_dir, Arc::clone(&sizes), Arc::clone(&ahead), events.clone());
    let (pictures, seen) = watch::channel(None);
    let (agreed, newest) = mpsc::channel(STANDING_MAX);
    let watching = WatchTask {
        source: Arc::clone(&source),
        watch: Watch::new(settings.filter, standing.as_ref()),
        pace: Pace::new(settings.pace),
        sizes,
        ahead,
        moving: Moving::default(),
        health,
        events: events.clone(),
        pictures,
        standing: newest,
    };
    let mut tasks = JoinSet::new();
    let watch_stop = stopped.clone();
    tasks.spawn_blocking(move || {
        if let Err(error) = watching.run(watch_stop) {
            tracing::error!(%error, "the watch cannot run");
        }
    });
    tasks.spawn(keep_names(ring.clone(), seen, agreed, stopped.clone()));
    if let Some(BarrierSettings { consumer, interval }) = settings.barrier {
        tasks.spawn(keep_barrier(source, consumer, interval, snapshots.clone(), stopped));
    }
    let shipper = ShipperConfig { until: Until::Stopped, poll_interval: POLL_INTERVAL, ..settings.shipper };
    let mut observer = Observer::new(snapshots, events.clone());
    let shipped =
        ship_events(ring, settings.patience, shipper, Box::new(reads), (events, inbox), &mut observer, stop).await;
    stopping.send_replace(true);
    if tokio::time::timeout(STOP_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("some tasks still wait for the server; they end with the process");
    }
    shipped
}
