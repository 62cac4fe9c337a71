//! The tail: the newest committed batches of a shard, in memory.
//!
//! Only what is committed gets in, so nothing that it serves can be a dirty read. One writer, the shard's driver; any
//! number of readers. What is not stored yet and too much for memory keeps its place here and its body elsewhere
//! ([`super::stow`]). It knows nothing of journals, copies or the bucket.

mod budget;
mod busy;
mod partition;
mod waiting;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kennel_core::partitions::PartitionMap;
use kennel_core::read::{Authority, TailRange};
use kennel_protocol::entry::{Entry, EntryKind, MessageIdentity};
use kennel_protocol::ids::{Epoch, Offset, PartitionKey, ShardId};
use kennel_protocol::object::slot::PartitionState;
use kennel_protocol::wire::PartitionReport;

use super::gather::Gather;
use super::stow::StowPlace;
pub use budget::TailBudget;
use busy::Freed;
pub(crate) use busy::StowedChunk;
pub(crate) use partition::Lookup;
use partition::PartitionTail;
use waiting::Waiters;

/// What this node may say about a shard besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailStanding {
    /// The newest epoch that the node takes part in or has heard of; 0 at first.
    pub epoch: Epoch,
    /// The part that it plays.
    pub authority: Authority,
    /// Whether everything gathered at the start of the epoch is here.
    pub settled: bool,
    /// What is here of the partition asked about.
    pub range: Option<TailRange>,
}

/// The newest committed batches of one shard.
#[derive(Debug)]
pub struct Tail {
    shard: ShardId,
    budget: Arc<TailBudget>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    epoch: Epoch,
    authority: Authority,
    settled: bool,
    /// Whether it is a follower's, heard or not.
    follows: bool,
    partitions: PartitionMap<PartitionTail>,
    /// Every piece in the order of its arrival, and some that were let go meanwhile.
    order: VecDeque<(u64, PartitionKey)>,
    /// How many of those in `order` were let go.
    gone: usize,
    waiters: Waiters,
}

impl Tail {
    /// An empty tail that plays no part yet and shares the node's budget.
    pub fn new(shard: ShardId, budget: &Arc<TailBudget>) -> Arc<Self> {
        let state = State {
            epoch: Epoch(0),
            authority: Authority::Observer,
            settled: false,
            follows: false,
            partitions: PartitionMap::new(),
            order: VecDeque::new(),
            gone: 0,
            waiters: Waiters::default(),
        };
        let tail = Arc::new(Self { shard, budget: Arc::clone(budget), state: Mutex::new(state) });
        budget.join(&tail);
        tail
    }

    /// Begins an epoch: drops everything at or above the ends that its open record states (PROTOCOL R26) and takes
    /// the partitions as they stand there. What was gathered follows through [`Self::append`], then
    /// [`Self::settle`].
    pub fn begin(&self, epoch: Epoch, authority: Authority, states: &[PartitionState]) {
        let mut state = self.lock();
        let stated: PartitionMap<_> = states.iter().map(|stated| (stated.partition, stated)).collect();
        let mut freed = Freed::default();
        state.partitions.retain(|key, partition| {
            let stated = stated.get(key);
            freed += match stated {
                Some(stated) => partition.rewind(stated),
                None => partition.clear(),
            };
            stated.is_some()
        });
        for (key, stated) in stated.iter() {
            state.partitions.get_or_insert_with(*key, || PartitionTail::stated(stated));
        }
        (state.epoch, state.authority, state.settled) = (epoch, authority, false);
        state.follows = authority == Authority::Follower;
        state.waiters.wake_all();
        state.forget(freed.pieces);
        self.budget.free(freed.bytes);
    }

    /// Everything gathered at the start of the epoch is committed and was appended: from now on an end that lies
    /// below a reader's is a loss and is called one.
    pub fn settle(&self) {
        let mut state = self.lock();
        state.settled = true;
        state.waiters.wake_all();
    }

    /// Says whether a follower hears its owner. One that does not keeps what it has and serves it, but where that ends
    /// is no longer where the partition ends: who reads there asks the owner. No word to an owner's tail.
    /// Returns whether that was news.
    pub fn hears_owner(&self, hears: bool) -> bool {
        let mut state = self.lock();
        let authority = match (state.authority, hears) {
            (Authority::Follower, false) => Authority::Observer,
            (Authority::Observer, true) if state.follows => Authority::Follower,
            _ => return false,
        };
        state.authority = authority;
        state.waiters.wake_all();
        true
    }

    /// Some entries will never come here, of whatever partitions: what is in memory is served on, but until more comes of a
    /// partition, who reads at its end asks the owner.
    pub fn doubt_ends(&self) {
        let mut state = self.lock();
        state.partitions.values_mut().for_each(PartitionTail::doubt);
        state.waiters.wake_all();
    }

    /// Leaves the copy set, or was fenced by `epoch`: drops everything and plays no part any more.
    pub fn retire(&self, epoch: Epoch) {
        let mut state = self.lock();
        let freed = state.partitions.values_mut().map(|partition| partition.clear().bytes).sum();
        state.partitions = PartitionMap::new();
        (state.order, state.gone) = (VecDeque::new(), 0);
        (state.epoch, state.authority, state.settled) = (state.epoch.max(epoch), Authority::Observer, false);
        state.follows = false;
        state.waiters.wake_all();
        self.budget.free(freed);
    }

    /// Takes in a committed entry, in log order, and wakes who waits for it. Shares the body, and remembers where it lies
    /// besides: when memory is short, that is where readers get it from until it is stored.
    ///
    /// # Panics
    /// If a committed entry contradicts one before it, or its body is away and has no place: a bug, and serving on would
    /// move readers to other bytes.
    pub fn append(&self, entry: &Entry, place: Option<StowPlace>) {
        let key = entry.head.partition;
        let number = self.budget.number();
        let mut guard = self.lock();
        let state = &mut *guard;
        if entry.head.kind == EntryKind::Trim && !state.partitions.contains_key(&key) {
            // It says nothing of where the partition ends, and nothing of it is here to let go.
            return;
        }
        let partition = state.partitions.get_or_insert_with(key, || PartitionTail::starting_at(entry.head.base));
        let change = partition.append(entry, place, number);
        if change.added > 0 {
            state.order.push_back((number, key));
        }
        state.waiters.wake(&key);
        state.forget(change.freed.pieces);
        drop(guard);
        self.budget.free(change.freed.bytes);
        self.budget.take(change.added);
    }

    /// Says up to where partitions are in the bucket: what is stored may be let go when memory is short.
    pub fn stored(&self, ends: impl IntoIterator<Item = (PartitionKey, Offset)>) {
        let mut state = self.lock();
        let mut freed = Freed::default();
        for (key, end) in ends {
            if let Some(partition) = state.partitions.get_mut(&key) {
                freed += partition.set_stored(end);
            }
        }
        state.forget(freed.pieces);
        drop(state);
        self.budget.free(freed.bytes);
        self.budget.evict();
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The newest epoch that the node takes part in or has heard of; 0 at first.
    pub fn epoch(&self) -> Epoch {
        self.lock().epoch
    }

    /// What this node may say about the shard, and about one partition.
    pub fn standing(&self, key: &PartitionKey) -> TailStanding {
        let state = self.lock();
        let partition = state.partitions.get(key);
        let doubted = partition.is_some_and(PartitionTail::is_doubted);
        let authority = if doubted { Authority::Observer } else { state.authority };
        let range = partition.map(PartitionTail::range);
        TailStanding { epoch: state.epoch, authority, settled: state.settled, range }
    }

    /// Adds what is in memory from `gather.next()` on, without copying. Returns the chunks that follow and have to be
    /// brought first.
    pub(crate) fn read(&self, key: &PartitionKey, gather: &mut Gather) -> Vec<StowedChunk> {
        self.lock().partitions.get(key).map(|partition| partition.read(gather)).unwrap_or_default()
    }

    /// The identity of a message, if it is in memory (PROTOCOL R14).
    pub fn identity(&self, key: &PartitionKey, offset: Offset) -> Option<MessageIdentity> {
        self.lock().partitions.get(key)?.identity(offset)
    }

    /// The first batch that was appended at or after `timestamp`, microseconds since 1970.
    pub(crate) fn at_timestamp(&self, key: &PartitionKey, timestamp: u64) -> Option<Lookup> {
        self.lock().partitions.get(key)?.at_timestamp(timestamp)
    }

    /// The newest batch.
    pub(crate) fn last_batch(&self, key: &PartitionKey) -> Option<Lookup> {
        self.lock().partitions.get(key)?.last_batch()
    }

    /// Where a partition stands, if it is in memory.
    pub fn report(&self, key: &PartitionKey) -> Option<PartitionReport> {
        self.lock().partitions.get(key).map(|partition| partition.report(*key))
    }

    /// Where every partition in memory stands, in key order.
    pub fn partitions(&self) -> Vec<PartitionReport> {
        self.lock().partitions.iter().map(|(key, partition)| partition.report(*key)).collect()
    }

    /// Returns when something beyond `end` is committed, or when the node's part in the shard changes from `epoch`.
    ///
    /// # Cancel safety
    /// Safe: a waiter that goes away leaves nothing behind.
    pub async fn wait(&self, key: PartitionKey, end: Offset, epoch: Epoch) {
        let waiter = {
            let mut state = self.lock();
            let beyond = state.partitions.get(&key).is_some_and(|partition| partition.range().committed > end);
            if beyond || state.epoch != epoch {
                return;
            }
            let notify = state.waiters.register(key);
            drop(state);
            Waiter { tail: self, key, notify: Some(notify) }
        };
        waiter.woken().await;
    }

    /// Lets go of the oldest pieces until `wanted` bytes are free or a piece is younger than `younger_than`.
    /// Returns how many bytes that freed.
    fn evict(&self, wanted: u64, younger_than: u64) -> u64 {
        let mut guard = self.lock();
        let mut freed = 0;
        while freed < wanted {
            match guard.oldest() {
                Some(number) if number <= younger_than => freed += guard.let_go_oldest(),
                _ => break,
            }
        }
        freed
    }

    /// The number of the oldest piece that may be let go.
    fn oldest(&self) -> Option<u64> {
        self.lock().oldest()
    }

    #[cfg(test)]
    pub(crate) fn holds_no_bodies(&self, key: &PartitionKey) -> bool {
        self.lock().partitions.get(key).is_none_or(PartitionTail::holds_no_bodies)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole before it can panic, so a poisoned lock still guards a good state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of the oldest piece with memory to let go. What can neither be dropped nor stowed keeps everything
    /// younger: it was closed into objects in the same order.
    fn oldest(&mut self) -> Option<u64> {
        while let Some((number, key)) = self.order.front() {
            match self.partitions.get(key).and_then(PartitionTail::oldest) {
                Some(oldest) if oldest.number == *number => return oldest.may_go.then_some(*number),
                _ => {
                    self.order.pop_front();
                    self.gone = self.gone.saturating_sub(1);
                }
            }
        }
        None
    }

    /// Counts pieces that left out of order, and sweeps their numbers out before they outnumber the rest.
    fn forget(&mut self, pieces: usize) {
        self.gone += pieces;
        if self.gone > 64 + self.order.len() / 2 {
            let partitions = &self.partitions;
            self.order.retain(|(number, key)| partitions.get(key).is_some_and(|partition| partition.holds(*number)));
            self.gone = 0;
        }
    }

    fn let_go_oldest(&mut self) -> u64 {
        let Some((_, key)) = self.order.pop_front() else { return 0 };
        self.partitions.get_mut(&key).map_or(0, |partition| partition.let_go_oldest().bytes)
    }
}

/// One waiting reader; takes its mark away when it goes.
struct Waiter<'tail> {
    tail: &'tail Tail,
    key: PartitionKey,
    notify: Option<waiting::Registered>,
}

impl Waiter<'_> {
    async fn woken(mut self) {
        if let Some(registered) = self.notify.as_mut() {
            registered.woken().await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(registered) = self.notify.take() {
            self.tail.lock().waiters.leave(&self.key, registered);
        }
    }
}

#[cfg(test)]
mod tests;
