//! What the node shares with the readers of its own host: a slab of committed batches, and a socket where they get it
//! and are woken.
//!
//! While there is no such reader a shard pays one look at a counter for it. While there are some it pays a copy of what
//! is committed, and never waits for any of them. Only what is committed comes here, from the tail and from answers to
//! fetches, so nothing that lies in the slab can be a dirty read. A new epoch of a shard empties the slab: what a reader
//! finds is of one history.

mod doors;
mod link;
mod tokens;
mod wakes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use kennel_core::read::Authority;
use kennel_protocol::entry::{Entry, EntryKind, MessageIdentity};
use kennel_protocol::ids::{Epoch, HostId, Offset, PartitionKey, ShardId, SlabId};
use kennel_protocol::local::{WakeReason, WakeRequest};
use kennel_protocol::wire::{LocalOffer, LocalRequest, LocalSocket};
use kennel_slab::cut::{RunMarks, records};
use kennel_slab::host::host_id;
use kennel_slab::{RecordHead, Slab};

pub use doors::LocalError;
pub(crate) use doors::open;

use crate::config::LocalSettings;
use crate::http::LocalReport;
use crate::random;
use crate::read::{Tail, TailStanding};
use link::Link;
use tokens::Tokens;
use wakes::Wakes;

/// What the node shares with the readers of its host.
#[derive(Debug)]
pub(crate) struct Local {
    path: PathBuf,
    host: HostId,
    slab: SlabId,
    bytes: u64,
    filled: Mutex<Filled>,
    tails: Vec<Arc<Tail>>,
    tokens: Tokens,
    wakes: Wakes,
    /// Readers that have the slab now.
    readers: AtomicUsize,
    records: AtomicU64,
    record_bytes: AtomicU64,
    /// Readers that were turned away at the socket.
    refused: AtomicU64,
}

/// The slab, and which epoch of each shard it holds.
#[derive(Debug)]
struct Filled {
    slab: Slab,
    epochs: Vec<Epoch>,
}

/// A reader's session, as far as its host's memory is concerned.
#[derive(Debug, Default)]
pub(crate) struct LocalGuest {
    has_slab: AtomicBool,
}

impl LocalGuest {
    /// Whether the reader has the slab: what it fetches belongs there.
    pub(crate) fn has_slab(&self) -> bool {
        self.has_slab.load(Ordering::Relaxed)
    }
}

/// An answer to a fetch, as it lies in memory.
#[derive(Debug)]
pub(crate) struct Answered {
    /// What is known of the partition.
    pub(crate) marks: RunMarks,
    /// Where it begins.
    pub(crate) start: Offset,
    /// The message before, if the reader named one.
    pub(crate) previous: Option<MessageIdentity>,
    /// Whole batches, in as many pieces as there were places.
    pub(crate) pieces: Vec<Bytes>,
}

impl Local {
    fn new(settings: &LocalSettings, path: PathBuf, tails: Vec<Arc<Tail>>, wakes: Wakes) -> Result<Self, LocalError> {
        let slab = Slab::create(settings.bytes, SlabId(random::id())).map_err(LocalError::Memory)?;
        let host = host_id().ok_or(LocalError::NoHost)?;
        Ok(Self {
            path,
            host,
            slab: slab.id(),
            bytes: slab.bytes(),
            filled: Mutex::new(Filled { slab, epochs: vec![Epoch(0); tails.len()] }),
            tails,
            tokens: Tokens::default(),
            wakes,
            readers: AtomicUsize::new(0),
            records: AtomicU64::new(0),
            record_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Offers the slab to a reader, if it is on this host.
    pub(crate) fn offer(&self, request: LocalRequest, guest: &Arc<LocalGuest>) -> LocalOffer {
        if request.host != self.host {
            return LocalOffer { socket: None };
        }
        let token = self.tokens.issue(Instant::now(), guest);
        let path = self.path.to_str().map(str::to_owned);
        let socket = token.zip(path).map(|(token, path)| LocalSocket { path, token, slab: self.slab });
        LocalOffer { socket }
    }

    /// Takes in a committed entry that the tail has, and wakes who waits for it.
    pub(crate) fn committed(&self, shard: ShardId, epoch: Epoch, entry: &Entry) {
        if !self.has_readers() {
            return;
        }
        let head = &entry.head;
        let tail = self.tail(shard);
        if head.kind == EntryKind::Chunk && !entry.is_away() {
            let before = head.base.0.checked_sub(1).map(Offset);
            let previous = head.previous.or_else(|| before.and_then(|before| tail.identity(&head.partition, before)));
            if let Some(report) = tail.report(&head.partition) {
                let (trim, stored, committed) = (report.trim, report.stored, report.committed);
                let marks = RunMarks { partition: head.partition, epoch, trim, stored, committed };
                let run: Vec<_> = records(marks, head.base, previous, &entry.body).collect();
                self.put(shard, epoch, &run);
            }
        }
        // A hole wakes, too: who waits there asks the node, which declares it.
        if matches!(head.kind, EntryKind::Chunk | EntryKind::Hole(_)) {
            let late = self.wakes.committed(head.partition, head.end);
            for (link, request) in late {
                self.request_wake(&link, request);
            }
        }
    }

    /// Takes in what a reader of this host was answered: others of the same host may be about to ask.
    pub(crate) fn answered(&self, shard: ShardId, answered: &Answered) {
        let RunMarks { partition, epoch, .. } = answered.marks;
        let (mut base, mut previous) = (answered.start, answered.previous);
        for piece in &answered.pieces {
            let run: Vec<_> = records(answered.marks, base, previous, piece).collect();
            let Some((last, _)) = run.last() else { return };
            (base, previous) = (last.end, Some(last.last));
            let new: Vec<_> = {
                let filled = self.filled();
                let held = |head: &RecordHead| filled.slab.holds(&partition, head.base, epoch, head.previous);
                run.into_iter().filter(|(head, _)| !held(head)).collect()
            };
            self.put(shard, epoch, &new);
        }
    }

    /// A shard's part or epoch changed: nothing older is shown any more, and who waits asks the node.
    pub(crate) fn changed(&self, shard: ShardId, epoch: Epoch) {
        self.filled().begin(shard, epoch);
        self.wakes.changed(shard);
    }

    /// The node's word on when something is committed in a shard may not hold any more: who waits asks the node.
    pub(crate) fn moved(&self, shard: ShardId) {
        self.wakes.changed(shard);
    }

    /// Whether there is a reader to share anything with.
    pub(crate) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// For people.
    pub(crate) fn report(&self) -> LocalReport {
        LocalReport {
            socket: self.path.display().to_string(),
            readers: self.readers.load(Ordering::Relaxed) as u64,
            refused: self.refused.load(Ordering::Relaxed),
            slab_bytes: self.bytes,
            records: self.records.load(Ordering::Relaxed),
            record_bytes: self.record_bytes.load(Ordering::Relaxed),
            wakes: self.wakes.count(),
        }
    }

    fn put(&self, shard: ShardId, epoch: Epoch, run: &[(RecordHead, Bytes)]) {
        let mut taken = (0, 0);
        {
            let mut filled = self.filled();
            if !filled.begin(shard, epoch) {
                return;
            }
            for (head, body) in run {
                if filled.slab.put(head, body) {
                    taken = (taken.0 + 1, taken.1 + body.len() as u64);
                }
            }
        }
        self.records.fetch_add(taken.0, Ordering::Relaxed);
        self.record_bytes.fetch_add(taken.1, Ordering::Relaxed);
    }

    /// Wakes a reader when a partition moves, or at once where it has moved or the node cannot say.
    fn request_wake(&self, link: &Arc<Link>, request: WakeRequest) {
        let WakeRequest { partition, beyond } = request;
        let shard = self.shard_of(&partition);
        if !self.wakes.register(link, request, shard) {
            link.wake(partition, WakeReason::AskNode);
            return;
        }
        // Only now: what is committed between a look and a registration would wake nobody.
        let standing = self.tail(shard).standing(&partition);
        let reason = if !says_when(&standing) {
            WakeReason::AskNode
        } else if standing.range.is_some_and(|range| range.committed > beyond) {
            WakeReason::Committed
        } else {
            return;
        };
        if self.wakes.withdraw(link, &partition) {
            link.wake(partition, reason);
        }
    }

    fn shard_of(&self, partition: &PartitionKey) -> ShardId {
        partition.shard(u16::try_from(self.tails.len()).expect("a cluster's shards are counted in 16 bits"))
    }

    fn tail(&self, shard: ShardId) -> &Tail {
        &self.tails[usize::from(shard.0)]
    }

    fn filled(&self) -> MutexGuard<'_, Filled> {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filled {
    /// Says which epoch of a shard comes next. Returns whether it may come: an older one may not.
    fn begin(&mut self, shard: ShardId, epoch: Epoch) -> bool {
        let known = &mut self.epochs[usize::from(shard.0)];
        if epoch > *known {
            *known = epoch;
            self.slab.clear();
        }
        epoch == *known
    }
}

/// Whether commits of the partition reach this node's tail, so that it can say when there is one.
fn says_when(standing: &TailStanding) -> bool {
    standing.authority != Authority::Observer && standing.range.is_some()
}

#[cfg(test)]
mod tests;
