//! One partition: finds where the target goes on, sends the rest, and compares all of it in the end.
//!
//! The target's offsets are its own: its n-th message is the ring's n-th, whatever holes the ring has. Whoever writes to
//! the partition beside us is noticed, and the partition stops.

use std::collections::VecDeque;
use std::time::Duration;

use kennel_client::{FetchError, Message};
use kennel_protocol::ids::{Offset, PartitionKey};

use super::batches::batches;
use super::origin::{Origin, Page};
use super::target::{Place, Target, TargetError, TargetMessage};

/// How often a session is opened anew for one partition before it is given up: with the pause, half a minute of a server
/// that starts again.
const SESSIONS_MAX: u32 = 60;

/// Before a new session is opened.
const SESSION_PAUSE: Duration = Duration::from_millis(500);

/// Messages that are read back at once.
const READ_BACK: u32 = 1000;

/// What became of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Messages that were there before.
    pub present: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes of their payloads and headers.
    pub bytes: u64,
    /// Messages that were read back and are the ring's.
    pub verified: u64,
}

/// Why a partition is not whole.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The ring did not give it. Its own advice holds.
    #[error("the ring could not be read")]
    Ring(#[source] FetchError),
    /// The target did not take it. Retry, or fix what it names.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target holds something else than the ring. Stop: restore into another topic.
    #[error("the target's message {at} is not the ring's: {what}")]
    Foreign {
        /// Which of the target's messages, from 0.
        at: u64,
        /// What is different.
        what: &'static str,
    },
    /// The target has deleted messages. Stop: what is missing cannot be put before what is there.
    #[error("the target has deleted the beginning of the partition: restore into another topic, without expiry")]
    BeginningGone,
}

impl CopyError {
    /// Whether the target holds other messages.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. } | Self::BeginningGone)
    }
}

/// Restores a partition up to what was committed when it began, and compares all of it. `seen` is told how many messages
/// have come to be in the target.
///
/// # Cancel safety
/// Safe: the next call goes on where the target ends.
pub async fn copy(
    origin: &dyn Origin,
    target: &mut dyn Target,
    (partition, place): (PartitionKey, &Place),
    seen: &(dyn Fn(u64) + Send + Sync),
) -> Result<Copied, CopyError> {
    let mut work = Work { origin, target, partition, place, sessions: 0 };
    let goal = work.page(Offset(0)).await?.committed;
    let (mut at, present) = work.resume().await?;
    let mut copied = Copied { present, ..Copied::default() };
    seen(present);
    while at < goal {
        let page = work.page(at).await?;
        for batch in batches(&page.messages) {
            work.send(present + copied.sent, batch).await?;
            copied.sent += batch.len() as u64;
            copied.bytes += batch.iter().map(bytes_of).sum::<u64>();
            seen(batch.len() as u64);
        }
        if page.next <= at {
            break;
        }
        at = page.next;
    }
    copied.verified = work.verify(present + copied.sent).await?;
    Ok(copied)
}

/// Whether the target's message is the ring's.
pub fn same(ring: &Message, target: &TargetMessage) -> Result<(), &'static str> {
    // The SDK gives an id to whatever has none.
    if ring.id != 0 && ring.id != target.id {
        return Err("its id differs");
    }
    if ring.payload != target.payload {
        return Err("its payload differs");
    }
    if ring.user_headers != target.user_headers {
        return Err("its user headers differ");
    }
    if ring.origin_timestamp != target.origin_timestamp {
        return Err("the time at which it was made differs");
    }
    Ok(())
}

fn bytes_of(message: &Message) -> u64 {
    (message.payload.len() + message.user_headers.len()) as u64
}

struct Work<'a> {
    origin: &'a dyn Origin,
    target: &'a mut dyn Target,
    partition: PartitionKey,
    place: &'a Place,
    sessions: u32,
}

impl Work<'_> {
    async fn page(&self, from: Offset) -> Result<Page, CopyError> {
        self.origin.page(self.partition, from).await.map_err(CopyError::Ring)
    }

    /// The ring's offset at which the target goes on, and how many messages it has.
    async fn resume(&mut self) -> Result<(Offset, u64), CopyError> {
        let count = self.count().await?;
        let Some(before) = count.checked_sub(1) else { return Ok((Offset(0), 0)) };
        let last = self.read(before, 1).await?.pop();
        let last = last.ok_or(CopyError::Foreign { at: before, what: "it cannot be read" })?;
        // Without holes the offsets are the same, which one page tells.
        let page = self.page(Offset(before)).await?;
        let straight = page.messages.first().filter(|message| message.offset == Offset(before));
        if straight.is_some_and(|message| message.id != 0 && same(message, &last).is_ok()) {
            return Ok((Offset(before).plus(1), count));
        }
        self.walk_to(count, &last).await
    }

    /// Counts the ring's messages up to the target's last.
    async fn walk_to(&mut self, count: u64, last: &TargetMessage) -> Result<(Offset, u64), CopyError> {
        let (mut at, mut passed) = (Offset(0), 0);
        loop {
            let page = self.page(at).await?;
            let within = usize::try_from(count - passed - 1).ok().and_then(|index| page.messages.get(index));
            if let Some(message) = within {
                same(message, last).map_err(|what| CopyError::Foreign { at: count - 1, what })?;
                return Ok((message.offset.plus(1), count));
            }
            passed += page.messages.len() as u64;
            if page.next <= at {
                return Err(CopyError::Foreign { at: passed, what: "the ring ends before it" });
            }
            at = page.next;
        }
    }

    /// Appends a batch behind `count` messages, once.
    async fn send(&mut self, count: u64, batch: &[Message]) -> Result<(), CopyError> {
        loop {
            match self.target.send(self.place, batch).await {
                Ok(()) => return Ok(()),
                Err(error @ TargetError::Refused { .. }) => return Err(error.into()),
                Err(error @ TargetError::Unanswered(_)) => self.renew(error).await?,
            }
            // It may have happened: only the target knows.
            let now = self.count().await?;
            if now == count + batch.len() as u64 {
                return Ok(());
            }
            if now != count {
                return Err(CopyError::Foreign { at: count, what: "somebody else writes to the partition" });
            }
        }
    }

    /// Reads everything back, beside the ring.
    async fn verify(&mut self, count: u64) -> Result<u64, CopyError> {
        if self.count().await? != count {
            return Err(CopyError::Foreign { at: count, what: "somebody else writes to the partition" });
        }
        let (mut at, mut verified) = (Offset(0), 0);
        let mut here: VecDeque<TargetMessage> = VecDeque::new();
        while verified < count {
            let page = self.page(at).await?;
            for message in page.messages.iter().take(usize::try_from(count - verified).unwrap_or(usize::MAX)) {
                if here.is_empty() {
                    here.extend(self.read(verified, READ_BACK).await?);
                }
                let found = here.pop_front().ok_or(CopyError::Foreign { at: verified, what: "it cannot be read" })?;
                same(message, &found).map_err(|what| CopyError::Foreign { at: verified, what })?;
                verified += 1;
            }
            if page.next <= at {
                break;
            }
            at = page.next;
        }
        Ok(verified)
    }

    async fn count(&mut self) -> Result<u64, CopyError> {
        loop {
            match self.target.count(self.place).await {
                Ok(count) => return count.ok_or(CopyError::BeginningGone),
                Err(error @ TargetError::Refused { .. }) => return Err(error.into()),
                Err(error @ TargetError::Unanswered(_)) => self.renew(error).await?,
            }
        }
    }

    async fn read(&mut self, from: u64, count: u32) -> Result<Vec<TargetMessage>, CopyError> {
        loop {
            match self.target.read(self.place, from, count).await {
                Ok(messages) => return Ok(messages),
                Err(error @ TargetError::Refused { .. }) => return Err(error.into()),
                Err(error @ TargetError::Unanswered(_)) => self.renew(error).await?,
            }
        }
    }

    /// Opens a new session, unless that was tried too often; `error` is then what there is to say.
    async fn renew(&mut self, error: TargetError) -> Result<(), CopyError> {
        let mut error = error;
        while self.sessions < SESSIONS_MAX {
            self.sessions += 1;
            tokio::time::sleep(SESSION_PAUSE).await;
            match self.target.reconnect().await {
                Ok(()) => return Ok(()),
                Err(refused @ TargetError::Refused { .. }) => return Err(refused.into()),
                Err(unanswered) => error = unanswered,
            }
        }
        Err(error.into())
    }
}
