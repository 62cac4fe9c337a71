//! One connection to the node's local socket: the slab that came over it, and who waits to be woken.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::local::{LOCAL_MESSAGE_BYTES, WAKE_BYTES, Wake, WakeReason, WakeRequest};
use kennel_slab::SlabReader;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Partitions that are waited for at once: as many as a node takes of one reader. Who waits for more asks the node.
const PARTITIONS_MAX: usize = 4096;

/// Wakes read at once.
const READ_AT_ONCE: usize = 64;

/// A slab, and the connection that it lives as long as.
#[derive(Debug)]
pub(super) struct Link {
    slab: SlabReader,
    stream: UnixStream,
    /// `None` once the connection is over.
    waiting: Mutex<Option<HashMap<PartitionKey, Waiting>>>,
}

/// Who waits for one partition: all of this process together.
#[derive(Debug)]
struct Waiting {
    beyond: Offset,
    woken: watch::Sender<Option<Woken>>,
}

/// What a waiter is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Woken {
    pub(super) reason: WakeReason,
    /// The offset beyond which something was committed.
    pub(super) beyond: Offset,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter(watch::Receiver<Option<Woken>>);

impl Waiter {
    /// `None` if the connection ends first.
    pub(super) async fn woken(mut self) -> Option<Woken> {
        *self.0.wait_for(Option::is_some).await.ok()?
    }
}

impl Link {
    pub(super) fn new(slab: SlabReader, stream: UnixStream) -> Self {
        Self { slab, stream, waiting: Mutex::new(Some(HashMap::new())) }
    }

    pub(super) fn slab(&self) -> &SlabReader {
        &self.slab
    }

    /// Asks to be woken when something beyond an offset is committed. `None` where that cannot be had.
    pub(super) fn wait_beyond(&self, partition: PartitionKey, beyond: Offset) -> Option<Waiter> {
        let mut guard = self.lock();
        let partitions = guard.as_mut()?;
        if let Some(waiting) = partitions.get(&partition).filter(|waiting| waiting.beyond <= beyond) {
            return Some(Waiter(waiting.woken.subscribe()));
        }
        if partitions.len() >= PARTITIONS_MAX {
            // Requests that nobody waits for any more are still with the node, and are answered one day.
            partitions.retain(|_, waiting| waiting.woken.receiver_count() > 0);
            if partitions.len() >= PARTITIONS_MAX {
                return None;
            }
        }
        // A message of this length goes as a whole or not at all.
        let sent = self.stream.try_write(&WakeRequest { partition, beyond }.encode());
        if !matches!(sent, Ok(LOCAL_MESSAGE_BYTES)) {
            return None;
        }
        let waiting =
            partitions.entry(partition).or_insert_with(|| Waiting { beyond, woken: watch::Sender::new(None) });
        waiting.beyond = beyond;
        Some(Waiter(waiting.woken.subscribe()))
    }

    /// Wakes whoever waits, until the connection ends.
    pub(super) async fn listen(&self) {
        let (mut bytes, mut length) = ([0; WAKE_BYTES * READ_AT_ONCE], 0);
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => break,
            }
            let (messages, _) = bytes[..length].as_chunks::<WAKE_BYTES>();
            let Some(wakes) = messages.iter().map(Wake::decode).collect::<Option<Vec<_>>>() else { break };
            let whole = messages.len() * WAKE_BYTES;
            bytes.copy_within(whole..length, 0);
            length -= whole;
            self.wake(&wakes);
        }
    }

    /// Nobody will be woken any more: who waits is told so.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn wake(&self, wakes: &[Wake]) {
        let mut guard = self.lock();
        let Some(partitions) = guard.as_mut() else { return };
        for wake in wakes {
            if let Some(Waiting { beyond, woken }) = partitions.remove(&wake.partition) {
                // Nobody may wait for it any more.
                let _ = woken.send(Some(Woken { reason: wake.reason, beyond }));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<PartitionKey, Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
