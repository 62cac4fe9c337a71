//! Keeps the ring's catalogue as the server's names, ids and lives are, and brings back what other shippers put there.

use std::time::Duration;

use kennel_protocol::catalog::{Catalog, Scope, merge};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::ship::{AgreeError, Ring, agree, chain};

/// Between two agreements: each is an object in the bucket, and topics that are created one after the other become one.
const PAUSE: Duration = Duration::from_millis(500);

/// How often what stands is read although nothing changed here: another shipper may have seen a purge that this one slept
/// through.
const READ_INTERVAL: Duration = Duration::from_secs(10);

/// What stands in the ring before anything is shipped: it says in which life partitions are. Asks until there is an
/// answer, since nothing can be shipped either while nobody owns the catalogue.
pub(crate) async fn standing(ring: &Ring) -> Option<Catalog> {
    let mut told = false;
    loop {
        match agree(ring, &|_| Ok(None)).await {
            Ok(standing) => return standing,
            Err(error) if !core::mem::replace(&mut told, true) => {
                tracing::warn!(error = chain(&error), "the ring's catalogue cannot be read yet; waiting");
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Puts every new picture until `stop` says so, and passes on what stands whenever it is another.
pub(crate) async fn keep_names(
    ring: Ring,
    mut pictures: watch::Receiver<Option<Catalog>>,
    standing: mpsc::Sender<Catalog>,
    mut stop: watch::Receiver<bool>,
) {
    let mut known: Option<u64> = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = timeout(READ_INTERVAL, pictures.changed()) => if matches!(changed, Ok(Err(_))) {
                return;
            }
        }
        let Some(seen) = pictures.borrow_and_update().clone() else { continue };
        match agree(&ring, &|standing| merge(standing, &seen, Scope::Whole)).await {
            Ok(Some(agreed)) => {
                if known != Some(agreed.revision) {
                    known = Some(agreed.revision);
                    // The watch reads it between two rounds; one that is over does not.
                    let _ = standing.send(agreed).await;
                }
            }
            Ok(None) => {}
            Err(error @ AgreeError::Merge(_)) => {
                tracing::warn!(error = chain(&error), "the names are not put");
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "no agreement on the catalogue yet");
                pictures.mark_changed();
            }
        }
        sleep(PAUSE).await;
    }
}
