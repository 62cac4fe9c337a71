//! The lane of one shard to one node: messages leave it in the order in which they were given to it, also where bodies go by
//! the fabric.
//!
//! ```text
//! shard task ──► Road ──small, nothing waits──────────────────────────────► lane
//!                  └──► queue ──► Link ──► bodies into a landing, or not ──► lane
//! ```

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, ready};
use futures::stream::{FuturesOrdered, StreamExt};
use kennel_protocol::ids::{NodeId, ShardId};
use kennel_protocol::wire::{Copy, Message, ShardMessage};
use kennel_transport::lane::Lane;
use kennel_transport::rpc::Caller;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::peers::{PeerSession, Peers, lock};
use crate::fabric::{Borrowed, Taken};

/// Messages of one shard to one node that wait for the link. A gigabyte of chunks is some thousand messages.
const QUEUE_MAX: usize = 512;

/// A message with more bytes of bodies is sent by the link's task.
pub(super) const AT_ONCE_BYTES_MAX: usize = 128 << 10;

/// Messages whose bodies are being placed, and those behind them: a window of copies.
const PLACING_MAX: usize = 16;

/// How long a node that could not be reached is left alone.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// The way to the lane: past the link's task where it has nothing to do, which saves each message a switch between tasks.
#[derive(Debug)]
pub(super) struct Road {
    queue: mpsc::Sender<ShardMessage>,
    /// The lane, while nothing waits before it.
    open: Mutex<Option<Caller>>,
    at_once_bytes_max: usize,
}

/// A road, and the task at its end. Copies from `placed_bytes_min` on may go by the fabric.
pub(super) fn new(
    peers: Peers,
    to: NodeId,
    shard: ShardId,
    placed_bytes_min: Option<usize>,
) -> (Arc<Road>, impl Future<Output = ()> + Send + 'static) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let below = placed_bytes_min.map_or(AT_ONCE_BYTES_MAX, |bytes| bytes.saturating_sub(1).min(AT_ONCE_BYTES_MAX));
    let road = Arc::new(Road { queue: sender, open: Mutex::default(), at_once_bytes_max: below });
    let link = Link { peers, to, shard, lane: None, placing: FuturesOrdered::new(), road: Arc::downgrade(&road) };
    (road, link.run(queue))
}

impl Road {
    /// Sends in the order of the calls. Says whether there was room.
    pub(super) fn send(&self, message: ShardMessage) -> bool {
        // Large ones are left to the link's task: what they cost runs beside the sender.
        let is_small = message.body_bytes() <= self.at_once_bytes_max;
        let mut open = lock(&self.open);
        if !is_small {
            *open = None;
            return self.queue.try_send(message).is_ok();
        }
        let Some(caller) = open.as_ref() else { return self.queue.try_send(message).is_ok() };
        let message = Message::Shard(message);
        if caller.try_send(&message).is_ok() {
            return true;
        }
        *open = None;
        let Message::Shard(message) = message else { return false };
        self.queue.try_send(message).is_ok()
    }

    /// Everything that was queued has gone over this lane.
    fn opens(&self, caller: &Caller) {
        let mut open = lock(&self.open);
        if self.queue.capacity() == self.queue.max_capacity() {
            *open = Some(caller.clone());
        }
    }
}

/// The other end of a road.
struct Link {
    peers: Peers,
    to: NodeId,
    shard: ShardId,
    lane: Option<Open>,
    /// What is next on the lane, once its bodies are where they should be.
    placing: FuturesOrdered<BoxFuture<'static, Ready>>,
    road: Weak<Road>,
}

/// A lane, and the landings of its session.
struct Open {
    caller: Caller,
    borrowed: Option<Arc<Borrowed>>,
}

/// A message that can leave, and the landing that it speaks of.
struct Ready {
    message: Message,
    landing: Option<Taken>,
}

impl Link {
    async fn run(mut self, mut queue: mpsc::Receiver<ShardMessage>) {
        loop {
            let has_room = self.placing.len() < PLACING_MAX;
            let done = tokio::select! {
                Some(ready) = self.placing.next() => self.deliver(ready).await,
                message = queue.recv(), if has_room => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
            };
            if done.is_none() {
                self.lane = None;
                self.placing.clear();
                sleep(RECONNECT_DELAY).await;
                // What waited meanwhile is old news: its senders repeat what still matters.
                while queue.try_recv().is_ok() {}
            } else if self.placing.is_empty()
                && let (Some(road), Some(lane)) = (self.road.upgrade(), &self.lane)
            {
                road.opens(&lane.caller);
            }
        }
    }

    /// Sends a message, or begins to place its bodies. Behind one that is being placed, all others wait.
    async fn take(&mut self, message: ShardMessage) -> Option<()> {
        let borrowed = self.lane().await?.borrowed.clone();
        let is_copy = matches!(message, ShardMessage::Copy(_));
        let taken = borrowed.filter(|_| is_copy).and_then(|borrowed| borrowed.take(message.body_bytes()));
        let message = match (taken, message) {
            (Some(taken), ShardMessage::Copy(copy)) => {
                self.placing.push_back(place(taken, copy).boxed());
                return Some(());
            }
            (_, message) => Ready { message: Message::Shard(message), landing: None },
        };
        if self.placing.is_empty() {
            return self.deliver(message).await;
        }
        self.placing.push_back(ready(message).boxed());
        Some(())
    }

    /// Over the lane that was there when the message was taken: another session knows nothing of this one's landings.
    async fn deliver(&mut self, ready: Ready) -> Option<()> {
        self.lane.as_ref()?.caller.send(ready.message).await.ok()?;
        if let Some(landing) = ready.landing {
            landing.sent();
        }
        Some(())
    }

    async fn lane(&mut self) -> Option<&Open> {
        if self.lane.as_ref().is_none_or(|lane| lane.caller.over().is_some()) {
            let PeerSession { session, version, borrowed } = self.peers.session(self.to).await.ok()?;
            let lane = session.open(Lane::Shard(self.shard)).await.ok()?;
            // The peer answers over its own link: nothing comes back here.
            let (caller, _) = Caller::new(lane);
            self.lane = Some(Open { caller: caller.speaking(version), borrowed });
        }
        self.lane.as_ref()
    }
}

/// Places a copy's bodies; where that fails, they go with the copy.
async fn place(taken: Taken, copy: Copy) -> Ready {
    match taken.place(&copy).await {
        Some((placed, landing)) => Ready { message: Message::PlacedCopy(placed), landing: Some(landing) },
        None => Ready { message: Message::Shard(ShardMessage::Copy(copy)), landing: None },
    }
}
