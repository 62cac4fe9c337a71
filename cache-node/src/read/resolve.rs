//! Turns "first", "last" and a time into an offset.

use std::time::Duration;

use kennel_core::read::{Authority, BlockRead, Standing};
use kennel_protocol::ids::Offset;
use kennel_protocol::wire::{Fetch, FetchFrom};

use super::cold::{ColdError, ColdReader};
use super::reader::ShardReads;
use super::spans::{Span, spans};
use super::tail::Lookup;

/// The offset at which a fetch begins; `None` where the owner has to say.
pub(super) async fn resolve(reads: &ShardReads, cold: &ColdReader, fetch: &Fetch) -> Result<Option<Offset>, ColdError> {
    if let FetchFrom::Offset(offset) = fetch.from {
        return Ok(Some(offset));
    }
    let key = &fetch.partition;
    let mut standing = reads.standing(key);
    let knows = standing.authority == Authority::Owner || standing.tail.is_some();
    if !knows && !fetch.forwarded {
        return Ok(None);
    }
    if needs_index(&standing, fetch.from) {
        reads.index.refresh(Duration::ZERO).await?;
        standing = reads.standing(key);
    }
    match fetch.from {
        FetchFrom::Offset(offset) => Ok(Some(offset)),
        FetchFrom::First => Ok(Some(standing.trim())),
        FetchFrom::Last => last(reads, cold, fetch, &standing).await.map(Some),
        FetchFrom::Timestamp(timestamp) => at_time(reads, cold, fetch, &standing, timestamp).await.map(Some),
    }
}

/// Whether the answer may lie in the bucket, beyond what the index has read.
fn needs_index(standing: &Standing, from: FetchFrom) -> bool {
    let in_memory = standing.tail.map_or(Offset(0), |tail| tail.start);
    let indexed = standing.index.map_or(Offset(0), |index| index.stored);
    match from {
        FetchFrom::Offset(_) | FetchFrom::First => standing.tail.is_none() && standing.index.is_none(),
        FetchFrom::Last => standing.tail.is_none_or(|tail| tail.start == tail.committed && indexed < tail.start),
        FetchFrom::Timestamp(_) => standing.tail.is_none() || indexed < in_memory,
    }
}

async fn last(reads: &ShardReads, cold: &ColdReader, fetch: &Fetch, standing: &Standing) -> Result<Offset, ColdError> {
    if let Some(found) = reads.tail.last_batch(&fetch.partition).filter(|_| standing.tail.is_some()) {
        return brought(reads, found, |spans| spans.last().copied()).await;
    }
    let block = reads.index.with(|index| index.last_block(&fetch.partition));
    let Some(block) = block else { return Ok(standing.committed()) };
    let found = find_in(reads, cold, &block, |spans| spans.last().copied()).await?;
    Ok(found.map_or(block.base, |span| span.base).max(standing.trim()))
}

async fn at_time(
    reads: &ShardReads,
    cold: &ColdReader,
    fetch: &Fetch,
    standing: &Standing,
    timestamp: u64,
) -> Result<Offset, ColdError> {
    let late = |spans: &[Span]| spans.iter().find(|span| span.base_timestamp >= timestamp).copied();
    let in_memory = standing.tail.map_or(Offset(u64::MAX), |tail| tail.start);
    let block = reads.index.with(|index| index.block_at_timestamp(&fetch.partition, timestamp));
    if let Some(block) = block.filter(|block| block.base < in_memory) {
        return Ok(find_in(reads, cold, &block, late).await?.map_or(block.base, |span| span.base).max(standing.trim()));
    }
    let live = reads.tail.at_timestamp(&fetch.partition, timestamp).filter(|_| standing.tail.is_some());
    match live {
        Some(found) => brought(reads, found, late).await,
        None => Ok(standing.committed()),
    }
}

/// The offset that was found, or the one in a chunk that has to be brought from the journal.
async fn brought(
    reads: &ShardReads,
    found: Lookup,
    find: impl FnOnce(&[Span]) -> Option<Span>,
) -> Result<Offset, ColdError> {
    let chunk = match found {
        Lookup::Here(offset) => return Ok(offset),
        Lookup::Stowed(chunk) => chunk,
    };
    let mut bodies = reads.stow.bodies(&[chunk.place]).await?;
    // A body that is gone is in the bucket by now; its chunk begins where it did.
    let found = bodies.pop().flatten().and_then(|body| find(&spans(&body).collect::<Vec<_>>()));
    Ok(found.map_or(chunk.base, |span| span.base))
}

async fn find_in(
    reads: &ShardReads,
    cold: &ColdReader,
    block: &BlockRead,
    find: impl FnOnce(&[Span]) -> Option<Span>,
) -> Result<Option<Span>, ColdError> {
    let (bytes, _) = cold.block(reads.tail.shard(), &reads.index, block).await?;
    Ok(find(&spans(&bytes).collect::<Vec<_>>()))
}
