//! Keeps the index of one shard's log, for owners and strangers alike.
//!
//! The owner feeds it what it publishes; everybody else reads the log on demand, many slots at once, and never
//! oftener than a bound allows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use kennel_core::read::ShardIndex;
use kennel_protocol::ids::{Epoch, ShardId, Slot};
use kennel_protocol::object::{LogPosition, SlotObject};

use super::ColdError;
use crate::read::flight::Flights;
use crate::read::store::{LogStore, StoreError};

/// Slots read at once while there are more. Each costs some 30 ms; sixteen in flight read five hundred a second.
const WINDOW_MAX: u64 = 16;
/// How old the news may be before a reader who waits for more makes the node look again. The owner writes every
/// 200-800 ms.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_millis(200);
/// How often an absent next slot makes the node look at the manifests, a listing each time (PROTOCOL R22). Until
/// then an absent slot means only that nothing more is known.
const MANIFEST_INTERVAL: Duration = Duration::from_secs(5);

/// Where everything of one shard lies in the bucket.
#[derive(Debug)]
pub struct ColdIndex {
    inner: Arc<Inner>,
    refreshes: Flights<(), Result<(), ColdError>>,
}

#[derive(Debug)]
struct Inner {
    shard: ShardId,
    store: Arc<dyn LogStore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    index: ShardIndex,
    /// When the log was last read to its end.
    looked: Option<Instant>,
    manifest_looked: Option<Instant>,
}

impl ColdIndex {
    /// An index that has read nothing yet.
    pub fn new(shard: ShardId, store: Arc<dyn LogStore>) -> Self {
        let state = State { index: ShardIndex::new(shard), looked: None, manifest_looked: None };
        let inner = Inner { shard, store, state: Mutex::new(state) };
        Self { inner: Arc::new(inner), refreshes: Flights::default() }
    }

    /// Takes in what this node itself put into a slot, or read there. Whatever is known already, or does not follow,
    /// is left to [`Self::refresh`].
    pub fn publish(&self, object: &SlotObject) -> Result<(), ColdError> {
        self.inner.offer(object)
    }

    /// Looks into the index. Short: the index is locked meanwhile.
    pub fn with<R>(&self, look: impl FnOnce(&ShardIndex) -> R) -> R {
        look(&self.inner.lock().index)
    }

    /// Reads the log to its end, unless somebody did within `age_max`. Calls at one time are one.
    ///
    /// # Cancel safety
    /// Safe: the reading goes on for the others.
    pub async fn refresh(&self, age_max: Duration) -> Result<(), ColdError> {
        if self.inner.lock().looked.is_some_and(|looked| looked.elapsed() < age_max) {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        self.refreshes.join((), || async move { inner.read_on().await }).await?
    }
}

impl Inner {
    /// Reads slot after slot until one is absent.
    async fn read_on(&self) -> Result<(), ColdError> {
        if self.lock().manifest_looked.is_none() {
            self.start_at_manifest().await?;
        }
        let mut window = 1;
        loop {
            let before = self.lock().index.next();
            let found = self.read_window(before, window).await?;
            let after = self.lock().index.next();
            if found < window && after == before && !self.start_at_manifest().await? {
                self.lock().looked = Some(Instant::now());
                return Ok(());
            }
            window = if found == window { (window * 2).min(WINDOW_MAX) } else { 1 };
        }
    }

    /// Reads `window` slots at once and takes in those before the first gap. Returns how many those were.
    async fn read_window(&self, from: LogPosition, window: u64) -> Result<u64, ColdError> {
        let slots = (from.slot.0..from.slot.0 + window).map(|slot| LogPosition { slot: Slot(slot), ..from });
        let reads = slots.map(|at| self.store.slot(self.shard, at));
        let mut taken = 0;
        for found in join_all(reads).await {
            let Some(object) = found? else { break };
            self.offer(&object)?;
            taken += 1;
            if matches!(object, SlotObject::Seal(_)) {
                break;
            }
        }
        Ok(taken)
    }

    /// Begins anew where the newest manifest says that the log begins, if that lies ahead. Returns whether it did.
    async fn start_at_manifest(&self) -> Result<bool, StoreError> {
        let looked = self.lock().manifest_looked;
        if looked.is_some_and(|looked| looked.elapsed() < MANIFEST_INTERVAL) {
            return Ok(false);
        }
        let manifest = self.store.manifest(self.shard).await?;
        let mut state = self.lock();
        state.manifest_looked = Some(Instant::now());
        match manifest.filter(|manifest| manifest.log_start > state.index.next()) {
            Some(manifest) => {
                state.index = ShardIndex::from_manifest(&manifest);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn offer(&self, object: &SlotObject) -> Result<(), ColdError> {
        let mut state = self.lock();
        if position(object) != state.index.next() {
            return Ok(());
        }
        state.index.feed(object).map_err(ColdError::Log)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The index changes all at once or not at all, so a poisoned lock still guards a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(object: &SlotObject) -> LogPosition {
    let (epoch, slot): (Epoch, Slot) = match object {
        SlotObject::Open(record) => (record.epoch, Slot(0)),
        SlotObject::Log(index) => (index.header.epoch, index.header.slot),
        SlotObject::Seal(seal) => (seal.epoch, seal.slot),
    };
    LogPosition { epoch, slot }
}
