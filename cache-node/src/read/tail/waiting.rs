//! Who waits for a partition's next commit. Costs nothing for the partitions that nobody waits for.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use kennel_protocol::ids::PartitionKey;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The partitions that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    partitions: HashMap<PartitionKey, Arc<Notify>>,
}

/// A place among those who wait. Woken even if it is polled for the first time after the wake.
#[derive(Debug)]
pub(super) struct Registered {
    woken: Pin<Box<OwnedNotified>>,
}

impl Registered {
    pub(super) async fn woken(&mut self) {
        self.woken.as_mut().await;
    }
}

impl Waiters {
    pub(super) fn register(&mut self, key: PartitionKey) -> Registered {
        let notify = self.partitions.entry(key).or_default();
        Registered { woken: Box::pin(Arc::clone(notify).notified_owned()) }
    }

    pub(super) fn leave(&mut self, key: &PartitionKey, registered: Registered) {
        drop(registered);
        if self.partitions.get(key).is_some_and(|notify| Arc::strong_count(notify) == 1) {
            self.partitions.remove(key);
        }
    }

    /// Wakes everybody who waits for one partition. Whoever still has nothing to read waits again.
    pub(super) fn wake(&mut self, key: &PartitionKey) {
        // The map is empty most of the time; then not even the key is hashed.
        if self.partitions.is_empty() {
            return;
        }
        if let Some(notify) = self.partitions.remove(key) {
            notify.notify_waiters();
        }
    }

    pub(super) fn wake_all(&mut self) {
        for (_, notify) in self.partitions.drain() {
            notify.notify_waiters();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }
}
