//! The retention barrier: the offset that a named consumer stores at the Iggy server, so that the server deletes nothing
//! which is not in the bucket.
//!
//! Iggy keeps a sealed segment as long as any stored offset is below its end. So the consumer stores the last message below
//! *stored*, and never more. Each store is agreed on by the server's cluster and written to a file of its own: it is done
//! only where something moved, and at most once per partition and interval. What is due is decided here without a clock;
//! the task below asks the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kennel_core::shipper::PartitionPosition;
use kennel_protocol::ids::{Offset, PartitionKey};
use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics;
use super::observer::Snapshots;
use super::source::{LiveError, LiveSession, LiveSource};
use super::watch::place_of;

/// How often what is due is looked for.
const TICK: Duration = Duration::from_secs(1);

/// The most stores in one look: at 0.5 ms each an eighth of a second of the server's time.
const STORES_PER_TICK: usize = 250;

/// What was stored, and when.
#[derive(Debug, Clone, Copy)]
struct Stored {
    end: Offset,
    at: Instant,
}

/// Decides what to store. See the module's documentation.
#[derive(Debug)]
pub struct Barrier {
    interval: Duration,
    stored: BTreeMap<PartitionKey, Stored>,
}

impl Barrier {
    /// A barrier that moves at most once in `interval` per partition.
    pub fn new(interval: Duration) -> Self {
        Self { interval, stored: BTreeMap::new() }
    }

    /// The partitions whose barrier is to move now, and the last message that the server may forget, for as many as fit
    /// into one look. They count as stored; see [`Barrier::failed`].
    pub fn due(&mut self, now: Instant, positions: &[PartitionPosition]) -> Vec<(PartitionKey, Offset)> {
        let here = |key: &PartitionKey| positions.binary_search_by_key(key, |position| position.partition).is_ok();
        self.stored.retain(|key, _| here(key));
        let mut due = Vec::new();
        for position in positions.iter().filter(|position| !position.stopped) {
            // The server may have less than the ring: of what it lost it can forget nothing.
            let end = position.stored.min(position.source_end.unwrap_or(position.stored));
            let Some(last) = end.0.checked_sub(1) else { continue };
            let before = self.stored.get(&position.partition);
            let moved = before.is_none_or(|before| before.end != end && now >= before.at + self.interval);
            if moved {
                self.stored.insert(position.partition, Stored { end, at: now });
                due.push((position.partition, Offset(last)));
            }
            if due.len() == STORES_PER_TICK {
                break;
            }
        }
        due
    }

    /// It was not stored: the next look tries again.
    pub fn failed(&mut self, partition: PartitionKey) {
        self.stored.remove(&partition);
    }
}

/// Keeps the barrier of a consumer where it belongs until `stop` says so.
pub(crate) async fn keep_barrier(
    source: Arc<dyn LiveSource>,
    consumer: String,
    interval: Duration,
    snapshots: Snapshots,
    mut stop: watch::Receiver<bool>,
) {
    let mut barrier = Barrier::new(interval);
    let mut session: Option<Box<dyn LiveSession>> = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        let due = barrier.due(Instant::now(), &snapshots.newest().positions);
        for (partition, last) in due {
            let stored = match store(&*source, &mut session, &consumer, partition, last).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%partition, %error, "the barrier was not stored");
                    if !error.session_stands() {
                        session = None;
                    }
                    barrier.failed(partition);
                    false
                }
            };
            metrics::barrier(stored);
            if session.is_none() {
                // The server is away. What was due stays due.
                break;
            }
        }
    }
}

async fn store(
    source: &dyn LiveSource,
    session: &mut Option<Box<dyn LiveSession>>,
    consumer: &str,
    partition: PartitionKey,
    last: Offset,
) -> Result<(), LiveError> {
    if session.is_none() {
        *session = Some(source.connect().await?);
    }
    let session = session.as_ref().expect("it was just opened");
    session.store_offset(consumer, place_of(partition), last).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(number: u32, end: u64, stored: u64) -> PartitionPosition {
        PartitionPosition {
            partition: format!("0/0/{number}@5").parse().expect("a partition"),
            source_end: Some(Offset(end)),
            next: Some(Offset(end)),
            committed: Offset(end),
            stored: Offset(stored),
            stopped: false,
        }
    }

    fn due(barrier: &mut Barrier, now: Instant, positions: &[PartitionPosition]) -> Vec<u64> {
        barrier.due(now, positions).into_iter().map(|(_, last)| last.0).collect()
    }

    #[test]
    fn it_follows_stored_and_never_more_often_than_it_may() {
        let (mut barrier, start) = (Barrier::new(Duration::from_secs(10)), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(due(&mut barrier, start, &[position(1, 50, 0)]).is_empty(), "nothing is in the bucket");
        assert_eq!(due(&mut barrier, start, &[position(1, 50, 40)]), [39]);
        assert!(due(&mut barrier, after(20), &[position(1, 50, 40)]).is_empty(), "nothing moved");
        assert_eq!(due(&mut barrier, after(20), &[position(1, 50, 41), position(2, 9, 9)]), [40, 8]);
        assert!(due(&mut barrier, after(29), &[position(1, 50, 50)]).is_empty(), "too soon");
        assert_eq!(due(&mut barrier, after(30), &[position(1, 50, 50)]), [49]);
    }

    #[test]
    fn what_failed_is_tried_again_and_what_is_gone_is_forgotten() {
        let (mut barrier, start) = (Barrier::new(Duration::from_secs(10)), Instant::now());
        assert_eq!(due(&mut barrier, start, &[position(1, 50, 40)]), [39]);
        barrier.failed(position(1, 0, 0).partition);
        assert_eq!(due(&mut barrier, start, &[position(1, 50, 40)]), [39]);
        assert!(due(&mut barrier, start, &[]).is_empty());
        assert!(barrier.stored.is_empty());
        // A server that lost its end, and a partition that stopped.
        assert_eq!(due(&mut barrier, start, &[position(1, 30, 40)]), [29]);
        let stopped = PartitionPosition { stopped: true, ..position(2, 30, 30) };
        assert!(due(&mut barrier, start, &[position(1, 30, 40), stopped]).is_empty());
    }

    #[test]
    fn one_look_stores_no_more_than_it_may() {
        let (mut barrier, start) = (Barrier::new(Duration::from_secs(10)), Instant::now());
        let positions: Vec<_> = (0..600).map(|number| position(number, 9, 9)).collect();
        let counts = [(); 4].map(|()| barrier.due(start, &positions).len());
        assert_eq!(counts, [250, 250, 100, 0]);
    }
}
