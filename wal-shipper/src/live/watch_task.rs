//! Drives the watch: a thread of its own with one session, so that a rest of 300 us is one, and so that what the watch
//! costs can be read off the thread's own clock.
//!
//! A timer of the runtime sleeps for one to two milliseconds whatever is asked of it; a thread sleeps for 50 us more than
//! is asked. Nothing else runs here, so nothing waits while it sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kennel_core::shipper::{Input, SourceState};
use kennel_protocol::catalog::Catalog;
use kennel_protocol::ids::{Offset, PartitionKey};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

use super::ahead::{AHEAD_BYTES, Ahead, Early, Moving};
use super::health::SourceHealth;
use super::metrics;
use super::pace::Pace;
use super::polled::Wanted;
use super::sizes::Sizes;
use super::source::{LiveError, LiveSession, LiveSource, Poll};
use super::watch::{Answer, Ask, News, Watch, place_of};
use crate::ship::Event;

/// First and longest pause before the session is opened again.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// While few partitions move and are polled ahead, everything else is asked about at this interval, as when nothing moves:
/// what moves is kept waiting by every such round, which is three questions.
const ASK_INTERVAL: Duration = Duration::from_millis(5);

/// The watch with all that it talks to.
pub(crate) struct WatchTask {
    pub(crate) source: Arc<dyn LiveSource>,
    pub(crate) watch: Watch,
    pub(crate) pace: Pace,
    pub(crate) sizes: Arc<Sizes>,
    /// Answers for reads that are to come.
    pub(crate) ahead: Arc<Ahead>,
    pub(crate) moving: Moving,
    pub(crate) health: Arc<SourceHealth>,
    pub(crate) events: mpsc::Sender<Event>,
    /// The newest whole picture, for whoever puts catalogues.
    pub(crate) pictures: watch::Sender<Option<Catalog>>,
    /// What stands in the ring, whenever that is another than was known.
    pub(crate) standing: mpsc::Receiver<Catalog>,
}

/// Nobody takes the news any more.
struct Unheard;

impl WatchTask {
    /// Runs until `stop` says so.
    pub(crate) fn run(mut self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            tokio::select! {
                // A sender that is gone means the same.
                _ = stop.wait_for(|stop| *stop) => {}
                () = self.watch() => {}
            }
        });
        Ok(())
    }

    async fn watch(&mut self) {
        let mut pause = RECONNECT_MIN;
        loop {
            let failed = match self.source.connect().await {
                Ok(session) => {
                    self.health.connected();
                    self.watch.new_session();
                    pause = RECONNECT_MIN;
                    match self.rounds(&*session).await {
                        Ok(Unheard) => return,
                        Err(failed) => failed,
                    }
                }
                Err(failed) => failed,
            };
            if self.health.trouble().is_none() {
                tracing::warn!(error = %failed, "the watch lost the Iggy server; it is tried again");
            }
            metrics::session_lost();
            self.health.lost(failed.to_string());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    async fn rounds(&mut self, session: &dyn LiveSession) -> Result<Unheard, LiveError> {
        let (mut last, mut asked) = (Instant::now(), None);
        loop {
            let (started, cpu) = (Instant::now(), thread_cpu());
            self.watch.pass(started - core::mem::replace(&mut last, started));
            while let Ok(standing) = self.standing.try_recv() {
                self.watch.take_standing(&standing);
            }
            let due = self.moving.due(started);
            let Ok(mut moved) = self.poll_ahead(session, &due).await? else { return Ok(Unheard) };
            if due.is_empty() || asked.is_none_or(|asked| started.duration_since(asked) >= ASK_INTERVAL) {
                asked = Some(started);
                if self.ask_round(session).await?.is_err() {
                    return Ok(Unheard);
                }
                moved |= self.watch.take_moved();
            }
            if self.watch.take_named() {
                self.pictures.send_replace(Some(self.watch.catalog()));
            }
            let used = thread_cpu();
            self.health.round(used);
            std::thread::sleep(self.pace.rest(used.saturating_sub(cpu), started.elapsed(), moved));
            // A stop, and the SDK's own tasks, get their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Asks what there is until the watch knows.
    async fn ask_round(&mut self, session: &dyn LiveSession) -> Result<Result<(), Unheard>, LiveError> {
        loop {
            let answer = match self.watch.ask() {
                Ask::Streams => Answer::Streams(session.streams().await?),
                Ask::Topics(stream) => Answer::Topics(session.topics(stream).await?),
                Ask::Partitions(topic) => Answer::Partitions(session.partitions(topic).await?),
                Ask::Rest => return Ok(Ok(())),
            };
            self.watch.answer(answer);
            if let Err(unheard) = self.tell().await {
                return Ok(Err(unheard));
            }
        }
    }

    /// Polls what is likely to have moved again. Returns whether something had.
    async fn poll_ahead(
        &mut self,
        session: &dyn LiveSession,
        due: &[(PartitionKey, Offset)],
    ) -> Result<Result<bool, Unheard>, LiveError> {
        let mut moved = false;
        for (partition, from) in due {
            let (partition, from) = (*partition, *from);
            if self.ahead.waits(Instant::now(), &partition) {
                continue;
            }
            let wanted = Wanted { partition, from, chunk_bytes: AHEAD_BYTES as usize, end_seen: from };
            let count = wanted.poll_count(self.sizes.count(partition, AHEAD_BYTES));
            let polled = match session.poll(Poll { place: place_of(partition), from: wanted.poll_from(), count }).await
            {
                Ok(polled) => polled,
                Err(denied) if denied.session_stands() => {
                    // It is about to be gone: the next round of questions says so.
                    self.moving.forget(&partition);
                    continue;
                }
                Err(failed) => return Err(failed),
            };
            metrics::polled(polled.batches.len());
            let end = polled.current.plus(1);
            if end <= from {
                continue;
            }
            moved = true;
            let now = Instant::now();
            self.moving.moved(now, partition, end);
            self.ahead.put(now, partition, Early { from, count, polled });
            let grown = Input::Source(SourceState { partition, start: Offset(0), end: Some(end) });
            if self.events.send(Event::Input(grown)).await.is_err() {
                return Ok(Err(Unheard));
            }
        }
        Ok(Ok(moved))
    }

    async fn tell(&mut self) -> Result<(), Unheard> {
        for news in self.watch.take_news() {
            let input = match news {
                News::Partition { key, seen } => {
                    self.sizes.saw(key, &seen);
                    self.moving.moved(Instant::now(), key, seen.end);
                    // Where it really starts, only a poll says.
                    Input::Source(SourceState { partition: key, start: Offset(0), end: Some(seen.end) })
                }
                News::Gone(key) => {
                    self.sizes.forget(key);
                    self.moving.forget(&key);
                    Input::SourceGone(key)
                }
            };
            self.events.send(Event::Input(input)).await.map_err(|_| Unheard)?;
        }
        Ok(())
    }
}

/// How much of a processor this thread has used.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}
