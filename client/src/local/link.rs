//! One connection to the node's local socket: the slab that came over it, and who waits to be woken.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::local::{LOCAL_MESSAGE_BYTES, WAKE_BYTES, Wake, WakeReason, WakeRequest};
use kennel_slab::SlabReader;
use kennel_slab::socket::Inbox;
use kennel_transport::quiet::QuietStream;
use tokio::sync::watch;

/// Partitions that are waited for at once: as many as a node takes of one reader. Who waits for more asks the node.
const PARTITIONS_MAX: usize = 4096;

/// A slab, and the connection that it lives as long as.
#[derive(Debug)]
pub(super) struct Link {
    slab: SlabReader,
    stream: QuietStream,
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
    pub(super) fn new(slab: SlabReader, stream: QuietStream) -> Self {
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
        let sent = self.stream.socket().write(&WakeRequest { partition, beyond }.encode());
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
        let mut wakes = Inbox::default();
        while self.stream.news().await.is_ok_and(|()| self.read(&mut wakes).is_ok()) {}
    }

    /// Reads the wakes that have come, and wakes.
    fn read(&self, wakes: &mut Inbox<WAKE_BYTES>) -> io::Result<()> {
        while wakes.read(self.stream.socket(), Wake::decode, |wake| self.wake(wake))? {}
        Ok(())
    }

    /// Nobody will be woken any more: who waits is told so.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn wake(&self, wake: Wake) {
        let mut guard = self.lock();
        let waiting = guard.as_mut().and_then(|partitions| partitions.remove(&wake.partition));
        drop(guard);
        if let Some(Waiting { beyond, woken }) = waiting {
            // Nobody may wait for it any more.
            let _ = woken.send(Some(Woken { reason: wake.reason, beyond }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<PartitionKey, Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream as Socket;
    use std::sync::Arc;
    use std::time::Duration;

    use kennel_protocol::ids::SlabId;
    use kennel_slab::Slab;
    use tokio::net::UnixStream;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A link that listens, and the node's end.
    fn link() -> (Socket, Arc<Link>, JoinHandle<()>) {
        let slab = Slab::create(1 << 20, SlabId(1)).expect("memory");
        let slab = SlabReader::map(slab.descriptor(), slab.bytes(), slab.id()).expect("the same");
        let (here, there) = UnixStream::pair().expect("sockets");
        let link = Arc::new(Link::new(slab, QuietStream::new(here).expect("a runtime")));
        let listening = Arc::clone(&link);
        let listening = tokio::spawn(async move { listening.listen().await });
        (there.into_std().expect("a socket"), link, listening)
    }

    fn partition(partition: u32) -> PartitionKey {
        format!("1/1/{partition}").parse().expect("a partition")
    }

    #[tokio::test]
    async fn all_who_wait_are_woken_however_many_wakes_come_at_once() {
        let (mut node, link, _listening) = link();
        for round in 0..3 {
            let waiters: Vec<_> =
                (0..200).map(|at| link.wait_beyond(partition(at), Offset(round)).expect("a request")).collect();
            for partition in (0..200).map(partition) {
                node.write_all(&Wake { partition, reason: WakeReason::Committed }.encode()).expect("room");
            }
            for waiter in waiters {
                let woken = timeout(PATIENCE, waiter.woken()).await.expect("in time").expect("the node is there");
                assert_eq!((woken.beyond, woken.reason), (Offset(round), WakeReason::Committed));
            }
            let mut asked = [0; LOCAL_MESSAGE_BYTES * 200];
            node.read_exact(&mut asked).expect("as many requests");
        }
    }

    #[tokio::test]
    async fn the_end_and_what_is_no_wake_end_it() {
        let (node, _link, listening) = link();
        drop(node);
        timeout(PATIENCE, listening).await.expect("in time").expect("no panic");
        let (mut node, _link, listening) = link();
        node.write_all(&[7; WAKE_BYTES]).expect("room");
        timeout(PATIENCE, listening).await.expect("in time").expect("no panic");
    }
}
