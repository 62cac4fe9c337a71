//! The node's readers: memory first, then the cache and the bucket, then waiting.
//!
//! What to do is decided by [`kennel_core::read::plan`]; this file does it. It forwards nothing: where another node
//! knows more it says so.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kennel_core::read::{Authority, ColdStep, IndexRange, PartitionIndex, ReadPlan, ReaderPosition, Standing, plan};
use kennel_protocol::entry::MessageIdentity;
use kennel_protocol::ids::{Offset, PartitionKey, ShardId};
use kennel_protocol::limits::{FETCH_BYTES_MAX, HOLES_PER_FETCH_MAX};
use kennel_protocol::wire::{ErrorCode, Fetch, FetchFrom, PartitionReport, Partitions, Served, WireError};
use tokio::time::{Instant, timeout_at};

use super::answer::{
    BlockSource, FetchedPieces, ReadOutcome, cold_error, diverged, refuse, rewound, stale, trimmed, unknown,
};
use super::cold::{ColdError, ColdIndex, ColdReader, REFRESH_INTERVAL};
use super::gather::{Gather, Limits};
use super::resolve::resolve;
use super::spans::identity_at;
use super::stow::Stow;
use super::tail::{StowedChunk, Tail};

/// Blocks read at once for one reader. A partition of a busy shard has one small block per object; sixteen in
/// flight hide most of the 30 ms that each takes.
const BLOCKS_AT_ONCE: usize = 16;
/// Rounds of blocks in one answer: an answer from tiny blocks ends early rather than late.
const COLD_ROUNDS_MAX: usize = 4;
/// The longest wait that a reader can ask for; a client asks again.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// How often one fetch plans anew because the ground moved under it.
const PLANS_MAX: usize = 16;

/// What a node reads of one shard.
#[derive(Debug)]
pub struct ShardReads {
    /// What is committed, in memory.
    pub tail: Arc<Tail>,
    /// Where what is not stored and in no memory lies.
    pub stow: Arc<dyn Stow>,
    /// Where the rest lies.
    pub index: Arc<ColdIndex>,
}

/// Answers fetches of every shard.
#[derive(Debug)]
pub struct Reader {
    shards: Vec<ShardReads>,
    cold: ColdReader,
}

/// One fetch on its way.
struct Reading<'reader> {
    reads: &'reader ShardReads,
    cold: &'reader ColdReader,
    fetch: &'reader Fetch,
    deadline: Instant,
}

/// What one plan led to.
enum Turn {
    Done(ReadOutcome),
    /// Something changed: plan again.
    Again,
}

impl Reader {
    /// A reader of shards `0..shards.len()`.
    ///
    /// # Panics
    /// If there is no shard.
    pub fn new(shards: Vec<ShardReads>, cold: ColdReader) -> Self {
        assert!(!shards.is_empty(), "a cluster has at least one shard");
        Self { shards, cold }
    }

    /// Answers a fetch, waiting for the first message as long as it asks for.
    ///
    /// # Cancel safety
    /// Safe: reads of the bucket go on for the cache, nothing else is left behind.
    pub async fn fetch(&self, fetch: &Fetch) -> Result<ReadOutcome, WireError> {
        let wait = Duration::from_millis(fetch.wait_millis.into()).min(WAIT_MAX);
        let reading = Reading {
            reads: self.reads(self.shard_of(&fetch.partition)),
            cold: &self.cold,
            fetch,
            deadline: Instant::now() + wait,
        };
        match reading.answer().await? {
            ReadOutcome::AskOwner if fetch.forwarded => {
                let message = format!("this node cannot answer for partition {} here", fetch.partition);
                Err(refuse(ErrorCode::Moved, message, None))
            }
            outcome => Ok(outcome),
        }
    }

    /// The partitions of a shard that this node knows, in key order.
    pub fn partitions(&self, shard: ShardId) -> Partitions {
        let reads = self.reads(shard);
        let mut reports: std::collections::BTreeMap<_, PartitionReport> = reads
            .index
            .with(|index| index.partitions().map(|(key, partition)| (*key, report(*key, partition))).collect());
        for live in reads.tail.partitions() {
            let known = reports.entry(live.partition).or_insert_with(|| live.clone());
            known.trim = known.trim.max(live.trim);
            known.stored = known.stored.max(live.stored);
            known.committed = known.committed.max(live.committed);
        }
        Partitions { shard, epoch: reads.epoch(), partitions: reports.into_values().collect() }
    }

    /// What is read of one shard.
    pub fn reads(&self, shard: ShardId) -> &ShardReads {
        &self.shards[usize::from(shard.0) % self.shards.len()]
    }

    /// The bringer of cold blocks, for its counters.
    pub fn cold(&self) -> &ColdReader {
        &self.cold
    }

    fn shard_of(&self, partition: &PartitionKey) -> ShardId {
        partition.shard(u16::try_from(self.shards.len()).expect("a cluster's shards are counted in 16 bits"))
    }
}

impl ShardReads {
    /// What this node knows about where a partition stands.
    pub(super) fn standing(&self, key: &PartitionKey) -> Standing {
        let live = self.tail.standing(key);
        let (index_epoch, index) = self.index.with(|index| (index.epoch(), index.partition(key).map(range)));
        // The log knows of a newer epoch than our memory: whatever we play a part in is over, only we have not heard.
        let overtaken = index_epoch > live.epoch;
        Standing {
            epoch: live.epoch.max(index_epoch),
            authority: if overtaken { Authority::Observer } else { live.authority },
            settled: live.settled && !overtaken,
            tail: live.range.filter(|_| !overtaken),
            index,
        }
    }

    fn epoch(&self) -> kennel_protocol::ids::Epoch {
        self.index.with(kennel_core::read::ShardIndex::epoch).max(self.tail.epoch())
    }

    /// The identity of a message, where it is known without reading a block.
    fn identity(&self, key: &PartitionKey, offset: Offset) -> Option<MessageIdentity> {
        let live = self.tail.identity(key, offset);
        live.or_else(|| self.index.with(|index| index.partition(key).and_then(|known| known.identity(offset))))
    }
}

impl Reading<'_> {
    async fn answer(&self) -> Result<ReadOutcome, WireError> {
        let key = &self.fetch.partition;
        let resolved = resolve(self.reads, self.cold, self.fetch).await.map_err(|error| cold_error(*key, &error))?;
        let Some(at) = resolved else { return Ok(ReadOutcome::AskOwner) };
        let has_read = self.fetch.last.is_some() && matches!(self.fetch.from, FetchFrom::Offset(_));
        let position = ReaderPosition { at, epoch: self.fetch.epoch, has_read };
        let mut refreshed = false;
        for _ in 0..PLANS_MAX {
            let standing = self.reads.standing(key);
            let planned = plan(position, &standing);
            if planned != ReadPlan::Stale {
                self.check_last()?;
            }
            let turn = match planned {
                ReadPlan::Tail => self.read_tail(at, &standing).await?,
                ReadPlan::Cold => self.read_cold(at, &standing).await?,
                ReadPlan::Wait => self.wait(at, &standing).await,
                ReadPlan::AskOwner if !self.fetch.forwarded => Turn::Done(ReadOutcome::AskOwner),
                ReadPlan::Trimmed { first } => return Err(trimmed(key, first)),
                ReadPlan::Rewound { to } => return Err(rewound(key, to)),
                // What is left may be cured by reading on in the log, once.
                _ if !refreshed => {
                    refreshed = true;
                    let age_max = if planned == ReadPlan::Refresh { Duration::ZERO } else { REFRESH_INTERVAL };
                    self.reads.index.refresh(age_max).await.map_err(|error| cold_error(*key, &error))?;
                    Turn::Again
                }
                ReadPlan::Refresh | ReadPlan::AskOwner => Turn::Done(ReadOutcome::AskOwner),
                ReadPlan::Unknown => return Err(unknown(key)),
                ReadPlan::Stale => return Err(stale(self.fetch.epoch, standing.epoch)),
            };
            if let Turn::Done(outcome) = turn {
                return Ok(outcome);
            }
        }
        Err(refuse(ErrorCode::Busy, format!("partition {key} moved on too often while it was read"), None))
    }

    async fn read_tail(&self, at: Offset, standing: &Standing) -> Result<Turn, WireError> {
        let mut gather = Gather::new(at, self.limits());
        let mut served = Served::Tail;
        loop {
            let stowed = self.reads.tail.read(&self.fetch.partition, &mut gather);
            if stowed.is_empty() || !self.bring(&stowed, &mut gather).await? {
                break;
            }
            served = Served::Journal;
        }
        if gather.is_empty() {
            return Ok(Turn::Again);
        }
        Ok(Turn::Done(ReadOutcome::Answer(self.pieces(at, standing, gather, served, Vec::new()))))
    }

    /// Adds chunks that lie in the journal. Returns whether there is more to add; what is stored by now ends it.
    async fn bring(&self, stowed: &[StowedChunk], gather: &mut Gather) -> Result<bool, WireError> {
        let places: Vec<_> = stowed.iter().map(|chunk| chunk.place).collect();
        let bodies = match self.reads.stow.bodies(&places).await {
            Ok(bodies) => bodies,
            // What came before is still good; the reader meets the error when it gets there.
            Err(_) if !gather.is_empty() => return Ok(false),
            Err(error) => return Err(cold_error(self.fetch.partition, &ColdError::Store(error))),
        };
        for (chunk, body) in stowed.iter().zip(bodies) {
            let Some(body) = body else { return Ok(false) };
            gather.chunk(chunk.base, chunk.end, &body);
        }
        Ok(!gather.is_full())
    }

    async fn read_cold(&self, at: Offset, standing: &Standing) -> Result<Turn, WireError> {
        let mut gather = Gather::new(at, self.limits());
        let mut sources = Vec::new();
        for _ in 0..COLD_ROUNDS_MAX {
            if !self.cold_round(&mut gather, &mut sources).await? || gather.is_full() {
                break;
            }
        }
        if gather.is_empty() {
            return Ok(Turn::Again);
        }
        let served = sources.iter().map(|source: &BlockSource| source.served).max_by_key(|served| slowness(*served));
        let served = served.unwrap_or(Served::Nothing);
        Ok(Turn::Done(ReadOutcome::Answer(self.pieces(at, standing, gather, served, sources))))
    }

    /// Reads some blocks at once and adds what fits. Returns whether there were any steps.
    async fn cold_round(&self, gather: &mut Gather, sources: &mut Vec<BlockSource>) -> Result<bool, WireError> {
        let key = self.fetch.partition;
        let index = &self.reads.index;
        let steps = index.with(|index| index.plan_cold(&key, gather.next(), gather.bytes_left(), BLOCKS_AT_ONCE).steps);
        let shard = self.reads.tail.shard();
        let blocks = steps.iter().filter_map(|step| match step {
            ColdStep::Block(block) => Some(self.cold.block(shard, index, block)),
            ColdStep::Hole(_) => None,
        });
        let mut brought = join_all(blocks).await.into_iter();
        for step in &steps {
            let block = match step {
                ColdStep::Hole(hole) => {
                    gather.hole(*hole);
                    continue;
                }
                ColdStep::Block(block) => block,
            };
            let (bytes, served) = match brought.next().expect("one result for each block") {
                Ok(found) => found,
                // What came before the broken block is still good; the reader meets the error when it gets there.
                Err(_) if !gather.is_empty() => return Ok(false),
                Err(error @ ColdError::Gone { .. }) => {
                    tracing::info!(%key, %error, "reading the log again");
                    index.refresh(Duration::ZERO).await.map_err(|error| cold_error(key, &error))?;
                    return Err(cold_error(key, &error));
                }
                Err(error) => return Err(cold_error(key, &error)),
            };
            if let Some(last) = self.fetch.last {
                self.check(last, identity_at_start(block.base, &bytes, last.offset))?;
            }
            gather.chunk(block.base, block.end, &bytes);
            let (position, bytes) = (block.place.position, block.place.bytes);
            sources.push(BlockSource { object: block.object, position, bytes, served });
        }
        Ok(!steps.is_empty())
    }

    /// Waits for a commit, or answers that there is nothing when the time is over.
    async fn wait(&self, at: Offset, standing: &Standing) -> Turn {
        let committed = self.reads.tail.wait(self.fetch.partition, at, standing.epoch);
        match timeout_at(self.deadline, committed).await {
            Ok(()) => Turn::Again,
            Err(_) => Turn::Done(ReadOutcome::Answer(FetchedPieces::empty(self.fetch.partition, at, standing))),
        }
    }

    fn pieces(
        &self,
        at: Offset,
        standing: &Standing,
        gather: Gather,
        served: Served,
        sources: Vec<BlockSource>,
    ) -> FetchedPieces {
        let mut answer = FetchedPieces::empty(self.fetch.partition, at, standing);
        (answer.next, answer.served, answer.sources) = (gather.next(), served, sources);
        // A commit may have come since the plan was made; never name an end below what is handed out.
        answer.committed = answer.committed.max(answer.next);
        let (batches, holes) = gather.finish();
        answer.declare(&holes);
        answer.batches = batches;
        answer
    }

    fn limits(&self) -> Limits {
        Limits {
            bytes: u64::from(self.fetch.bytes_max).min(FETCH_BYTES_MAX as u64),
            messages: u64::from(self.fetch.messages_max.max(1)),
            holes: HOLES_PER_FETCH_MAX,
        }
    }

    /// Compares the last message that the reader has with what lies here (PROTOCOL R26).
    fn check_last(&self) -> Result<(), WireError> {
        match self.fetch.last {
            Some(last) => self.check(last, self.reads.identity(&self.fetch.partition, last.offset)),
            None => Ok(()),
        }
    }

    fn check(&self, last: MessageIdentity, ours: Option<MessageIdentity>) -> Result<(), WireError> {
        if ours.is_none_or(|ours| ours == last) {
            return Ok(());
        }
        Err(diverged(&self.fetch.partition, last.offset))
    }
}

/// The identity of a message in a block, if it lies there at all.
fn identity_at_start(base: Offset, block: &[u8], offset: Offset) -> Option<MessageIdentity> {
    if offset < base { None } else { identity_at(block, offset) }
}

fn range(partition: &PartitionIndex) -> IndexRange {
    IndexRange { start: partition.start(), stored: partition.end(), trim: partition.trim() }
}

fn report(key: PartitionKey, partition: &PartitionIndex) -> PartitionReport {
    let end = partition.end();
    PartitionReport { partition: key, trim: partition.trim(), stored: end, committed: end }
}

fn slowness(served: Served) -> u8 {
    match served {
        Served::Nothing => 0,
        Served::Tail => 1,
        Served::CacheMemory => 2,
        Served::CacheDisk => 3,
        Served::Journal => 4,
        Served::Bucket => 5,
    }
}

#[cfg(test)]
mod tests;
