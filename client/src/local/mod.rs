//! The memory of the node on this host: read first, waited at, and never depended on.
//!
//! What is not there, not whole, or not of the history that the reader has read is asked of the node, which says what it
//! means. So is everything where there is no such memory: another host or container, an older node, a limit.

mod attach;
mod link;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kennel_protocol::ids::Offset;
use kennel_protocol::local::WakeReason;
use kennel_protocol::wire::FetchFrom;
use kennel_slab::{Miss, Wanted};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::fetched::Fetched;
use crate::settings::FetchRequest;
pub(crate) use attach::keep;
use link::{Link, Woken};

/// The memory of the node on this host, if it shares any.
#[derive(Debug, Default)]
pub(crate) struct Local {
    link: Mutex<Option<Arc<Link>>>,
    keeper: OnceLock<Keeper>,
}

/// The task that attaches, and ends with the client.
#[derive(Debug)]
struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Local {
    /// Ends the task when the client ends.
    pub(crate) fn kept_by(&self, task: AbortHandle) {
        drop(self.keeper.set(Keeper(task)));
    }

    /// Whether there is such memory now.
    pub(crate) fn is_attached(&self) -> bool {
        self.link().is_some()
    }

    /// How old the newest record there is.
    pub(crate) fn newest_age(&self) -> Option<Duration> {
        self.link()?.slab().newest_age()
    }

    /// What is there now. Waits for nothing.
    pub(crate) fn look(&self, request: &FetchRequest) -> Option<Fetched> {
        let FetchFrom::Offset(from) = request.from else { return None };
        read(&*self.link()?, request, from)
    }

    /// Waits until there is something, as long as the request does. `None` where the node is to be asked: nothing came, or
    /// what came is not there.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub(crate) async fn wait(&self, request: &FetchRequest) -> Option<Fetched> {
        let FetchFrom::Offset(from) = request.from else { return None };
        let (link, deadline) = (self.link()?, Instant::now() + request.wait);
        loop {
            let waiter = link.wait_beyond(request.partition, from)?;
            let Woken { reason, beyond } = timeout_at(deadline, waiter.woken()).await.ok().flatten()?;
            if reason == WakeReason::AskNode {
                return None;
            }
            let found = read(&link, request, from);
            // Another reader of this process waited at an earlier offset, and this one's has not come yet.
            if found.is_some() || beyond >= from {
                return found;
            }
        }
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, link: Option<Arc<Link>>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }
}

fn read(link: &Link, request: &FetchRequest, from: Offset) -> Option<Fetched> {
    let partition = request.partition;
    let wanted = Wanted {
        partition,
        from,
        bytes_max: request.bytes_wanted() as usize,
        messages_max: request.messages_max.max(1).into(),
        epoch: request.epoch,
        last: request.last,
    };
    match link.slab().read(&wanted) {
        Ok(whole) => {
            let fetched = Fetched::of_shared_memory(partition, from, whole);
            if fetched.is_none() {
                tracing::warn!(%partition, %from, "what the node's memory holds are no batches; asking the node");
            }
            fetched
        }
        Err(Miss::Absent) => None,
        Err(miss) => {
            tracing::debug!(%partition, %from, ?miss, "not from the node's memory; asking the node");
            None
        }
    }
}
