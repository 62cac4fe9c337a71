//! Who is to be woken when a partition moves. A commit costs its shard a look-up, and a few writes at most.
//!
//! Each request wakes once. A reader has one request per partition: a new one takes the place of the one before. Many
//! readers of one partition are woken by a task, and the shard hands them over without touching one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kennel_protocol::ids::{Offset, PartitionKey, ShardId};
use kennel_protocol::local::{WakeReason, WakeRequest};
use tokio::sync::mpsc;

use super::link::Link;

/// Readers of one partition that are woken where the commit is seen: a write each, some 2 us. More go to the task.
const AT_ONCE_MAX: usize = 4;

/// Wakes that wait for the task. Each is one commit of a partition with many readers, or one change of a shard.
const LATER_MAX: usize = 1024;

/// Everybody who waits.
#[derive(Debug)]
pub(super) struct Wakes {
    partitions: Mutex<HashMap<PartitionKey, Waiting>>,
    /// Partitions that somebody waits for. While it is zero no lock is taken.
    waiting: AtomicUsize,
    later: mpsc::Sender<Later>,
    woken: AtomicU64,
}

/// Who waits for one partition.
#[derive(Debug)]
struct Waiting {
    shard: ShardId,
    readers: HashMap<u64, (Arc<Link>, Offset)>,
}

/// What the task does.
#[derive(Debug)]
pub(super) enum Later {
    /// A partition moved, and these may be behind.
    Committed(PartitionKey, Vec<(Arc<Link>, Offset)>),
    /// Everybody who waits for a partition of the shard asks the node.
    Changed(ShardId),
}

impl Wakes {
    /// Nobody waits. What comes out of the other end is for the task.
    pub(super) fn new() -> (Self, mpsc::Receiver<Later>) {
        let (later, queue) = mpsc::channel(LATER_MAX);
        let (waiting, woken) = (AtomicUsize::new(0), AtomicU64::new(0));
        (Self { partitions: Mutex::default(), waiting, later, woken }, queue)
    }

    /// Remembers a request. Returns whether the reader may have another one.
    pub(super) fn register(&self, link: &Arc<Link>, request: WakeRequest, shard: ShardId) -> bool {
        let mut partitions = self.lock();
        let entry = partitions.entry(request.partition);
        let waiting = entry.or_insert_with(|| Waiting { shard, readers: HashMap::new() });
        let is_new = !waiting.readers.contains_key(&link.id());
        let may = !is_new || link.takes_request();
        if may {
            waiting.readers.insert(link.id(), (Arc::clone(link), request.beyond));
        } else if waiting.readers.is_empty() {
            partitions.remove(&request.partition);
        }
        self.count_partitions(&partitions);
        may
    }

    /// Takes a request back. Returns whether it was still there: then nobody else answers it.
    pub(super) fn withdraw(&self, link: &Arc<Link>, partition: &PartitionKey) -> bool {
        let mut partitions = self.lock();
        let Some(waiting) = partitions.get_mut(partition) else { return false };
        let was_there = waiting.readers.remove(&link.id()).is_some();
        if waiting.readers.is_empty() {
            partitions.remove(partition);
        }
        self.count_partitions(&partitions);
        if was_there {
            link.gives_request_back();
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
        was_there
    }

    /// A partition is committed up to `end`: wakes who waits below. Returns whom to look at here, because the task has no
    /// room: with the room that it has that means that the task is stuck.
    pub(super) fn committed(&self, partition: PartitionKey, end: Offset) -> Vec<(Arc<Link>, WakeRequest)> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let Some(due) = self.take_due(&partition, end) else { return Vec::new() };
        if due.len() > AT_ONCE_MAX {
            return match self.later.try_send(Later::Committed(partition, due)) {
                Ok(()) => Vec::new(),
                Err(mpsc::error::TrySendError::Full(later) | mpsc::error::TrySendError::Closed(later)) => {
                    later.requests()
                }
            };
        }
        for (link, _) in due {
            self.wake(&link, partition, WakeReason::Committed);
        }
        Vec::new()
    }

    /// Takes out who is to be woken: where many wait, all of them unseen.
    fn take_due(&self, partition: &PartitionKey, end: Offset) -> Option<Vec<(Arc<Link>, Offset)>> {
        let mut partitions = self.lock();
        let waiting = partitions.get_mut(partition)?;
        if waiting.readers.len() > AT_ONCE_MAX {
            let waiting = partitions.remove(partition)?;
            self.count_partitions(&partitions);
            drop(partitions);
            return Some(waiting.readers.into_values().collect());
        }
        let due = waiting.readers.extract_if(|_, (_, beyond)| *beyond < end).map(|(_, reader)| reader).collect();
        if waiting.readers.is_empty() {
            partitions.remove(partition);
        }
        self.count_partitions(&partitions);
        Some(due)
    }

    /// A shard's part or epoch changed: whoever waits for one of its partitions is woken soon.
    pub(super) fn changed(&self, shard: ShardId) {
        if self.waiting.load(Ordering::Acquire) > 0 && self.later.try_send(Later::Changed(shard)).is_err() {
            self.wake_shard(shard);
        }
    }

    /// Wakes everybody who waits for a partition of the shard.
    pub(super) fn wake_shard(&self, shard: ShardId) {
        let due: Vec<_> = {
            let mut partitions = self.lock();
            let due = partitions.extract_if(|_, waiting| waiting.shard == shard).collect();
            self.count_partitions(&partitions);
            due
        };
        for (partition, waiting) in due {
            for (link, _) in waiting.readers.into_values() {
                self.wake(&link, partition, WakeReason::AskNode);
            }
        }
    }

    /// Forgets everything of a reader that has gone.
    pub(super) fn leave(&self, link: &Link) {
        let mut partitions = self.lock();
        partitions.retain(|_, waiting| {
            waiting.readers.remove(&link.id());
            !waiting.readers.is_empty()
        });
        self.count_partitions(&partitions);
    }

    /// How many were woken.
    pub(super) fn count(&self) -> u64 {
        self.woken.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn partitions(&self) -> usize {
        self.lock().len()
    }

    #[cfg(test)]
    pub(super) fn waiting_readers(&self) -> usize {
        self.lock().values().map(|waiting| waiting.readers.len()).sum()
    }

    fn wake(&self, link: &Link, partition: PartitionKey, reason: WakeReason) {
        link.gives_request_back();
        self.woken.fetch_add(1, Ordering::Relaxed);
        link.wake(partition, reason);
    }

    fn count_partitions(&self, partitions: &HashMap<PartitionKey, Waiting>) {
        self.waiting.store(partitions.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PartitionKey, Waiting>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Later {
    /// The requests that were taken out, to be looked at again: whoever is behind is woken, the others wait on.
    pub(super) fn requests(self) -> Vec<(Arc<Link>, WakeRequest)> {
        match self {
            Self::Committed(partition, readers) => readers
                .into_iter()
                .map(|(link, beyond)| {
                    link.gives_request_back();
                    (link, WakeRequest { partition, beyond })
                })
                .collect(),
            Self::Changed(_) => Vec::new(),
        }
    }
}
