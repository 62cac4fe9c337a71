//! One reader of this host: its connection, and what it is still to be told.
//!
//! A reader that does not read is not waited for. Its wakes queue up to a bound, and past that it is cut off: a wake that
//! is lost is a reader that waits for nothing.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kennel_protocol::ids::PartitionKey;
use kennel_protocol::local::{WAKE_BYTES, Wake, WakeReason, WakeRequest};
use kennel_slab::socket::Inbox;
use kennel_transport::quiet::QuietStream;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// Partitions that one reader waits for at once. 4,096 take some 300 KiB.
pub(super) const REQUESTS_MAX: usize = 4096;

/// Wakes that wait for a reader to read. As many as it can have asked for, once more.
const UNSENT_MAX: usize = 2 * REQUESTS_MAX;

/// A reader's connection.
#[derive(Debug)]
pub(super) struct Link {
    id: u64,
    stream: QuietStream,
    requests: AtomicUsize,
    unsent: Mutex<Vec<Wake>>,
    has_unsent: Notify,
    is_broken: AtomicBool,
}

/// The connection is over.
#[derive(Debug)]
pub(super) struct LinkOver;

impl Link {
    pub(super) fn new(id: u64, stream: QuietStream) -> Arc<Self> {
        Arc::new(Self {
            id,
            stream,
            requests: AtomicUsize::new(0),
            unsent: Mutex::default(),
            has_unsent: Notify::new(),
            is_broken: AtomicBool::new(false),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Counts a request; refuses where there are too many.
    pub(super) fn takes_request(&self) -> bool {
        let counted = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |requests| {
            (requests < REQUESTS_MAX).then_some(requests + 1)
        });
        counted.is_ok()
    }

    /// A request was answered, or is put anew.
    pub(super) fn gives_request_back(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells the reader. Never waits.
    pub(super) fn wake(&self, partition: PartitionKey, reason: WakeReason) {
        let wake = Wake { partition, reason };
        match self.stream.socket().write(&wake.encode()) {
            Ok(WAKE_BYTES) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.later(wake),
            // A message that went in part leaves nothing that could be understood.
            Ok(_) | Err(_) => self.break_off(),
        }
    }

    fn later(&self, wake: Wake) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        if unsent.len() >= UNSENT_MAX {
            drop(unsent);
            self.break_off();
            return;
        }
        unsent.push(wake);
        self.has_unsent.notify_one();
    }

    fn break_off(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
        self.has_unsent.notify_one();
    }

    /// Serves the connection to its end: hands requests to `request`, and tells the reader what could not be told at once.
    pub(super) async fn serve(&self, mut request: impl FnMut(WakeRequest)) -> LinkOver {
        let (mut requests, mut is_behind) = (Inbox::default(), false);
        loop {
            let step = tokio::select! {
                news = self.news(is_behind) => match news {
                    Ok(()) => {
                        let read = requests.read(self.stream.socket(), WakeRequest::decode, &mut request);
                        // What is no request ends the connection as its end does.
                        read.map(|more| is_behind = more).map_err(|_| LinkOver)
                    }
                    Err(_) => Err(LinkOver),
                },
                () = self.has_unsent.notified() => self.send_unsent().await,
            };
            if let Err(over) = step {
                return over;
            }
        }
    }

    /// Waits until requests may have come, which they may where more were there than one read takes.
    async fn news(&self, is_behind: bool) -> io::Result<()> {
        if is_behind {
            // A reader that asks on and on lets others have their turn.
            yield_now().await;
            return Ok(());
        }
        self.stream.news().await
    }

    async fn send_unsent(&self) -> Result<(), LinkOver> {
        loop {
            if self.is_broken.load(Ordering::Relaxed) {
                return Err(LinkOver);
            }
            let Some(wake) = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
            tokio::select! {
                room = self.stream.room() => room.map_err(|_| LinkOver)?,
                () = self.cut_off() => return Err(LinkOver),
            }
            self.wake(wake.partition, wake.reason);
        }
    }

    /// Waits until the reader is given up.
    async fn cut_off(&self) {
        while !self.is_broken.load(Ordering::Relaxed) {
            self.has_unsent.notified().await;
        }
    }
}
