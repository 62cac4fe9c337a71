//! The reads of a live source: each is one poll or a few, over one of a handful of sessions, or a piece of a sealed file.
//!
//! A session answers one question at a time, so there are as many sessions as the machine may have reads under way. A
//! read is answered exactly once, whatever becomes of its session: while the server is away it waits, and asks again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kennel_core::shipper::{SourceAnswer, SourceDamage, SourceRead, SourceRest};
use kennel_protocol::batch::BatchError;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::ShipChunk;
use tokio::sync::mpsc;

use super::ahead::Ahead;
use super::history::{BEHIND_BYTES_MIN, History};
use super::metrics;
use super::polled::{Meaning, Wanted, examine, last_message, whole_batch};
use super::sizes::{COUNT_MAX, Sizes};
use super::source::{LiveError, LiveSession, LiveSource, Poll, Polled};
use super::watch::place_of;
use crate::ship::{Event, Reads};

/// First and longest pause before a session is opened again. The first follows a session that may only have been idle for
/// too long; the longest is what a server that is back waits for its shipper.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// The polls of one read: batches of 2^20 messages are found after six of them, and a source that grows while its end is
/// looked for is asked again.
const POLLS_MAX: u32 = 16;

/// A read that finds nothing where the watch saw more is answered after this: the watch is about to know better, and must
/// not be outrun by reads that find nothing again.
const NOTHING_PAUSE: Duration = Duration::from_millis(5);

/// Files are listed again after so long.
const LISTING_AGE_MAX: Duration = Duration::from_secs(10);

/// What a read brought.
struct Found {
    chunks: Vec<ShipChunk>,
    rest: SourceRest,
}

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub(super) struct LiveReads {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

struct Shared {
    source: Arc<dyn LiveSource>,
    data_dir: Option<PathBuf>,
    sizes: Arc<Sizes>,
    ahead: Arc<Ahead>,
    idle: Mutex<Vec<Box<dyn LiveSession>>>,
    histories: Mutex<BTreeMap<PartitionKey, Arc<Mutex<Filed>>>>,
}

/// The files of one partition, and when they were listed.
#[derive(Debug, Default)]
struct Filed {
    history: Option<History>,
    listed: Option<Instant>,
    /// They do not hold what polls bring.
    unusable: bool,
}

impl LiveReads {
    /// Reads of `source`, and of `data_dir` where a partition is far behind. What `ahead` has is not asked for again.
    pub(super) fn new(
        source: Arc<dyn LiveSource>,
        data_dir: Option<PathBuf>,
        sizes: Arc<Sizes>,
        ahead: Arc<Ahead>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let shared = Shared { source, data_dir, sizes, ahead, idle: Mutex::default(), histories: Mutex::default() };
        Self { shared: Arc::new(shared), events }
    }
}

impl Reads for LiveReads {
    fn start(&self, read: SourceRead) {
        // What was polled ahead is answered here and now: a task of its own would only be waited for.
        if let Some(found) = self.shared.read_early(&self.shared.wanted(&read))
            && self.events.try_send(answer(&read, found)).is_ok()
        {
            return;
        }
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        tokio::spawn(async move {
            let found = shared.read(&read).await;
            // A closed channel means that the driver is done.
            let _ = events.send(answer(&read, found)).await;
        });
    }

    fn forget(&self, partition: PartitionKey) {
        self.shared.histories.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }
}

fn answer(read: &SourceRead, found: Found) -> Event {
    let answer = SourceAnswer { ticket: read.ticket, chunks: found.chunks, rest: found.rest };
    Event::Read { partition: read.partition, torn_bytes: 0, answer }
}

impl Shared {
    fn wanted(&self, read: &SourceRead) -> Wanted {
        let chunk_bytes = usize::try_from(read.bytes_max).unwrap_or(usize::MAX);
        let end_seen = self.sizes.end(read.partition);
        Wanted { partition: read.partition, from: read.from, chunk_bytes, end_seen }
    }

    async fn read(self: &Arc<Self>, read: &SourceRead) -> Found {
        let mut pause = RECONNECT_MIN;
        loop {
            let failed = match self.try_read(read).await {
                Ok(found) => {
                    if found.chunks.is_empty() && self.should_have_more(read.partition, &found.rest) {
                        tokio::time::sleep(NOTHING_PAUSE).await;
                    }
                    return found;
                }
                Err(failed) => failed,
            };
            if failed.session_stands() {
                // The partition is about to be gone, or is not there yet: the watch will say so.
                tracing::debug!(partition = %read.partition, error = %failed, "nothing was read");
                tokio::time::sleep(NOTHING_PAUSE).await;
                return Found::nothing(read.from);
            }
            tracing::debug!(error = %failed, "the session is given up");
            metrics::session_lost();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    async fn try_read(self: &Arc<Self>, read: &SourceRead) -> Result<Found, LiveError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = match idle {
            Some(session) => session,
            None => self.source.connect().await?,
        };
        let found = match self.read_files(read, &*session).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.read_polls(read, &*session).await,
            Err(failed) => Err(failed),
        };
        if found.as_ref().err().is_none_or(LiveError::session_stands) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
        found
    }

    fn should_have_more(&self, partition: PartitionKey, rest: &SourceRest) -> bool {
        matches!(rest, SourceRest::Exhausted { end, .. } if *end < self.sizes.end(partition))
    }

    async fn read_polls(&self, read: &SourceRead, session: &dyn LiveSession) -> Result<Found, LiveError> {
        let wanted = self.wanted(read);
        let mut count = self.sizes.count(read.partition, read.bytes_max);
        let mut damaged = None;
        for _ in 0..POLLS_MAX {
            let asked = wanted.poll_count(count);
            let polled = poll(session, read.partition, wanted.poll_from(), asked).await?;
            match examine(&wanted, asked, &polled) {
                Ok(Meaning::Chunks { chunks, rest }) => return Ok(Found { chunks, rest }),
                Ok(Meaning::Uncommitted) => return Ok(Found::nothing(read.from)),
                Ok(Meaning::TooFew) => count = self.sizes.too_few(read.partition, count),
                Ok(Meaning::Inside { base }) => match inside(session, &wanted, base, count).await? {
                    Ok(found) => return Ok(found),
                    Err(error) => damaged = Some(error),
                },
                Ok(Meaning::Ended { current }) => {
                    if let Some(found) = ended(session, &wanted, current).await? {
                        return Ok(found);
                    }
                }
                // Once may be the way, twice is the source.
                Err(error) if damaged.is_some() => return Ok(Found::damaged(read, &error)),
                Err(error) => damaged = Some(error),
            }
        }
        Ok(damaged.map_or_else(|| Found::nothing(read.from), |error| Found::damaged(read, &error)))
    }

    /// What was polled ahead for this read, if it says anything by itself.
    fn read_early(&self, wanted: &Wanted) -> Option<Found> {
        let early = self.ahead.take(Instant::now(), &wanted.partition, wanted.from)?;
        match examine(wanted, early.count, &early.polled) {
            Ok(Meaning::Chunks { chunks, rest }) if !chunks.is_empty() => Some(Found { chunks, rest }),
            _ => None,
        }
    }

    /// What the server's files have, if the partition is far behind and they have been seen to be the server's.
    async fn read_files(
        self: &Arc<Self>,
        read: &SourceRead,
        session: &dyn LiveSession,
    ) -> Result<Option<Found>, LiveError> {
        let partition = read.partition;
        let Some(data_dir) = self.data_dir.clone() else { return Ok(None) };
        if self.sizes.bytes_behind(partition, read.from) < BEHIND_BYTES_MIN {
            return Ok(None);
        }
        let filed =
            Arc::clone(self.histories.lock().unwrap_or_else(PoisonError::into_inner).entry(partition).or_default());
        let (read, to_read) = (*read, Arc::clone(&filed));
        let past = tokio::task::spawn_blocking(move || {
            let mut filed = to_read.lock().unwrap_or_else(PoisonError::into_inner);
            filed.read(&data_dir, &read)
        });
        // A panic there is a bug; polls bring the same.
        let Ok(Some(past)) = past.await else { return Ok(None) };
        if past.to_compare {
            let first = past.chunk.head.first.expect("a chunk has a first message");
            let polled = poll(session, partition, first.offset, 1).await?;
            let mut filed = filed.lock().unwrap_or_else(PoisonError::into_inner);
            if !filed.history.as_mut().is_some_and(|history| history.compare(first, &polled)) {
                tracing::warn!(%partition, "the files hold something else than the server tells; they are not used");
                filed.unusable = true;
                return Ok(None);
            }
        }
        metrics::read_from_files(past.chunk.body.len());
        Ok(Some(Found { chunks: vec![past.chunk], rest: SourceRest::More }))
    }
}

impl Filed {
    fn read(&mut self, data_dir: &Path, read: &SourceRead) -> Option<super::history::Past> {
        if self.unusable {
            return None;
        }
        let holds = self.history.as_ref().is_some_and(|history| history.holds(read.from));
        if !holds && self.listed.is_none_or(|listed| listed.elapsed() >= LISTING_AGE_MAX) {
            self.history = History::open(data_dir, read.partition);
            self.listed = Some(Instant::now());
        }
        self.history.as_mut()?.read(read.from, usize::try_from(read.bytes_max).unwrap_or(usize::MAX))
    }
}

impl Found {
    /// Nothing, for now: the watch says when to look again.
    fn nothing(from: Offset) -> Self {
        Self { chunks: Vec::new(), rest: SourceRest::Exhausted { end: from, last: None } }
    }

    fn damaged(read: &SourceRead, error: &BatchError) -> Self {
        let place = format!("a poll of {} from offset {}", read.partition, read.from);
        let damage = SourceDamage { place, position: error.position as u64, reason: error.reason.to_string() };
        Self { chunks: Vec::new(), rest: SourceRest::Damaged(damage) }
    }
}

async fn poll(
    session: &dyn LiveSession,
    partition: PartitionKey,
    from: Offset,
    count: u32,
) -> Result<Polled, LiveError> {
    let polled = session.poll(Poll { place: place_of(partition), from, count }).await?;
    metrics::polled(polled.batches.len());
    Ok(polled)
}

/// The source ends before the wanted offset, or right there: what is its last message? `None` if it grew meanwhile.
async fn ended(session: &dyn LiveSession, wanted: &Wanted, current: Offset) -> Result<Option<Found>, LiveError> {
    let polled = poll(session, wanted.partition, current, 1).await?;
    let last = last_message(&polled).ok().flatten();
    let end = match last {
        Some(last) => last.offset.plus(1),
        None if polled.current == Offset(0) => Offset(0),
        // All of it was deleted by retention. What comes next will begin behind a hole.
        None => wanted.from.min(polled.current.plus(1)),
    };
    let grew = last.is_some() && end >= wanted.from;
    Ok((!grew).then_some(Found { chunks: Vec::new(), rest: SourceRest::Exhausted { end, last } }))
}

/// The whole batch around the wanted offset.
async fn inside(
    session: &dyn LiveSession,
    wanted: &Wanted,
    base: Offset,
    count: u32,
) -> Result<Result<Found, BatchError>, LiveError> {
    let mut count = count.max(u32::try_from(wanted.from.0 - base.0).unwrap_or(COUNT_MAX)).saturating_add(1);
    for _ in 0..POLLS_MAX {
        let polled = poll(session, wanted.partition, base, count).await?;
        match whole_batch(wanted, &polled) {
            Ok(Some(chunk)) => return Ok(Ok(Found { chunks: vec![chunk], rest: SourceRest::More })),
            Ok(None) => count = count.saturating_mul(4),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(Found::nothing(wanted.from)))
}
