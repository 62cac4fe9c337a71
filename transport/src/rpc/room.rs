//! Bounds a queue by the bytes in it, where counting its entries would bound nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many bytes.
#[derive(Debug, Clone)]
pub(super) struct Room {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

impl Room {
    pub(super) fn new(bytes_max: u32) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// Waits for room, in the order of asking. Whoever needs more than all of it waits until it is alone. Cancel safe.
    pub(super) async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.bytes.clone().acquire_many_owned(self.permits(bytes)).await.expect("the semaphore is never closed")
    }

    /// Room, if there is some and nobody waits for it.
    pub(super) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.bytes.clone().try_acquire_many_owned(self.permits(bytes)).ok()
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use futures_like::poll_once;

    use super::*;

    #[tokio::test]
    async fn one_larger_than_all_goes_alone() {
        let room = Room::new(10);
        let small = room.take(4).await;
        let mut large = Box::pin(room.take(1_000_000));
        assert!(poll_once(large.as_mut()).is_none());
        drop(small);
        let large = large.await;
        assert!(poll_once(Box::pin(room.take(1)).as_mut()).is_none());
        drop(large);
        drop(room.take(1).await);
    }

    /// Polling by hand, so that a test can say "not yet".
    mod futures_like {
        use std::pin::Pin;
        use std::task::{Context, Poll, Waker};

        pub(super) fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
            match future.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }
    }
}
