//! Polls answered from the ring, byte for byte as an Iggy server of protocol 0.11 answers them.
//!
//! [`Poll::plain`] says which polls are plain enough, [`answer`] answers them or names why the server must. An answer
//! is sixteen bytes of head and Iggy's own batches: whole ones are handles to what the ring brought, a batch that the
//! poll cuts gets a new header and shares its messages. What the server does and this does not reproduce is told, never
//! guessed. Nothing here knows sessions, permissions or stored offsets.
//!
//! | poll | begins at |
//! |---|---|
//! | offset `v` | `v`; a range that Iggy's retention removed is jumped, as Iggy does |
//! | first | 0, hence the oldest message |
//! | last | `count` messages before the end |
//! | next | behind the stored offset, which the caller knows; 0 without one |
//! | timestamp `v` | the first batch that was appended at or after `v` |
//!
//! It ends after `count` messages, at the end of what is committed, or at a hole: no answer spans one.

mod answer;
mod request;
mod start;
#[cfg(test)]
mod tests;
mod walk;

pub use answer::{ForwardReason, PollAnswer, Reach, Served};
pub use request::{Poll, PollStart, StoredOffset};

use kennel_protocol::ids::{Offset, PartitionKey};

use crate::ring::{Ring, RingRead};
use start::Start;
use walk::{Step, Walk};

/// Answers a poll from the ring, or says why the Iggy server must.
///
/// # Cancel safety
/// Safe: it only reads.
pub async fn answer(ring: &dyn Ring, poll: &Poll) -> PollAnswer {
    match read(ring, poll).await {
        Ok(walk) => walk.into_answer(poll.partition),
        Err(reason) => PollAnswer::Forward(reason),
    }
}

async fn read(ring: &dyn Ring, poll: &Poll) -> Result<Walk, ForwardReason> {
    if poll.count == 0 {
        return Err(ForwardReason::NoCount);
    }
    let located = ring.locate(&poll.stream, &poll.topic, poll.partition).await?;
    let partition = located.ok_or(ForwardReason::UnknownPartition)?;
    let Start { at, timestamp, mut read } = start::find(ring, partition, poll).await?;
    let mut walk = Walk::new(partition, at, timestamp, poll.count);
    loop {
        let (before, brought) = (walk.at(), read_at(ring, partition, &walk, read.take()).await?);
        if walk.take(&brought)? == Step::Done {
            return Ok(walk);
        }
        // Neither a message nor a hole, and not the end: the ring knows of more than it can show.
        if walk.at() == before {
            return Err(ForwardReason::Behind);
        }
    }
}

/// What was read already while looking for the start, else the next read.
async fn read_at(
    ring: &dyn Ring,
    partition: PartitionKey,
    walk: &Walk,
    read: Option<RingRead>,
) -> Result<RingRead, ForwardReason> {
    match read {
        Some(read) => Ok(read),
        None => read_from(ring, partition, walk.at(), walk.left()).await,
    }
}

async fn read_from(
    ring: &dyn Ring,
    partition: PartitionKey,
    at: Offset,
    count: u32,
) -> Result<RingRead, ForwardReason> {
    Ok(ring.read(partition, kennel_protocol::wire::FetchFrom::Offset(at), count).await?)
}
