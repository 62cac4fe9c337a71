//! Where a poll begins, as an offset.

use kennel_protocol::batch::batches;
use kennel_protocol::entry::HoleReason;
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::FetchFrom;

use crate::poll::{ForwardReason, Poll, PollStart, StoredOffset, read_from};
use crate::ring::{Ring, RingRead};

/// A start, and what was read to find it.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) at: Offset,
    /// What no batch of the answer may be older than, microseconds since 1970.
    pub(super) timestamp: Option<u64>,
    /// A read that begins at or below the start.
    pub(super) read: Option<RingRead>,
}

impl Start {
    fn at(at: Offset) -> Self {
        Self { at, timestamp: None, read: None }
    }
}

pub(super) async fn find(ring: &dyn Ring, partition: PartitionKey, poll: &Poll) -> Result<Start, ForwardReason> {
    match poll.start {
        PollStart::Offset(at) => Ok(Start::at(at)),
        // Iggy walks up from 0 and so begins with the oldest message; the ring must be able to do the same.
        PollStart::First | PollStart::Next(StoredOffset::Missing) => Ok(Start::at(Offset(0))),
        PollStart::Next(StoredOffset::At(stored)) => Ok(Start::at(stored.plus(1))),
        PollStart::Next(StoredOffset::Unasked) => Err(ForwardReason::NoStoredOffset),
        PollStart::Last => last(ring, partition, poll.count).await,
        PollStart::Timestamp(timestamp) => at_time(ring, partition, timestamp, poll.count).await,
    }
}

async fn last(ring: &dyn Ring, partition: PartitionKey, count: u32) -> Result<Start, ForwardReason> {
    let read = ring.read(partition, FetchFrom::Last, count).await?;
    let at = Offset(read.committed.0.saturating_sub(count.into()));
    let begins = first_batch(&read)?.map(|(first, _)| first);
    // The newest batch is often all that is wanted. An empty log has none, and needs no second look either.
    let enough = begins.is_some_and(|begins| begins <= at) || read.committed == Offset(0);
    Ok(Start { at, timestamp: None, read: enough.then_some(read) })
}

async fn at_time(ring: &dyn Ring, partition: PartitionKey, timestamp: u64, count: u32) -> Result<Start, ForwardReason> {
    let read = ring.read(partition, FetchFrom::Timestamp(timestamp), count).await?;
    let at = match first_batch(&read)? {
        Some((first, _)) => first,
        None => read.committed,
    };
    if at > Offset(0) {
        older(ring, partition, at, timestamp).await?;
    }
    Ok(Start { at, timestamp: Some(timestamp), read: Some(read) })
}

/// Makes sure that nothing as new as `timestamp` lies below `at`: neither a batch, nor what the ring lacks and the
/// server may have.
async fn older(ring: &dyn Ring, partition: PartitionKey, at: Offset, timestamp: u64) -> Result<(), ForwardReason> {
    let below = Offset(at.0 - 1);
    let read = read_from(ring, partition, below, 1).await?;
    if let Some(hole) = read.holes.iter().find(|hole| hole.from <= below && below < hole.to) {
        let gone = hole.reason == HoleReason::SourceRetention;
        return if gone { Ok(()) } else { Err(ForwardReason::Hole { at: below, reason: hole.reason }) };
    }
    match first_batch(&read)? {
        Some((first, appended)) if first <= below && appended < timestamp => Ok(()),
        Some((first, _)) if first <= below => Err(ForwardReason::TimestampsFall { at: first }),
        _ => Err(ForwardReason::Behind),
    }
}

/// Where the first batch of a read begins, and when it was appended.
fn first_batch(read: &RingRead) -> Result<Option<(Offset, u64)>, ForwardReason> {
    let Some(view) = read.batches.iter().flat_map(|run| batches(run)).next() else { return Ok(None) };
    let view = view.map_err(|_| ForwardReason::Broken { at: read.first })?;
    Ok(Some((view.first_offset(), view.header().base_timestamp)))
}
