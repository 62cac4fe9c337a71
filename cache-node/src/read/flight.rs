//! Single flight: many callers of one piece of work at one time are one piece of work.
//!
//! The work runs as a task of its own, so a caller that goes away takes nothing from the others.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tracing::Instrument;

/// The work broke down: it panicked, or the runtime is going away. Retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared read broke down inside this node")]
pub struct FlightBroken;

type Landing<V> = Shared<BoxFuture<'static, Result<V, FlightBroken>>>;

/// Work in flight by key.
pub(crate) struct Flights<K, V> {
    flying: Arc<Mutex<HashMap<K, Landing<V>>>>,
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Flights").field("flying", &flying).finish()
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { flying: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work in flight for `key`, or starts it.
    ///
    /// # Cancel safety
    /// Safe: the work goes on, and whoever asks next joins it.
    pub(crate) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<V, FlightBroken>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let landing = {
            let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(landing) = flying.get(&key) {
                landing.clone()
            } else {
                let landing = self.launch(key.clone(), work());
                flying.insert(key, landing.clone());
                landing
            }
        };
        landing.await
    }

    fn launch<F>(&self, key: K, work: F) -> Landing<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let over = Over { flying: Arc::clone(&self.flying), key: Some(key) };
        let task = async move {
            // Moved in whole, so that the key is free again whether the work ends, panics or is dropped.
            let _over = over;
            work.await
        };
        let task = tokio::spawn(task.in_current_span());
        async move { task.await.map_err(|_| FlightBroken) }.boxed().shared()
    }
}

/// Takes the key out when the work is over.
struct Over<K: Hash + Eq, V> {
    flying: Arc<Mutex<HashMap<K, Landing<V>>>>,
    key: Option<K>,
}

impl<K: Hash + Eq, V> Drop for Over<K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let landed = self.flying.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            // Dropped after the lock: it may be the last handle of the task.
            drop(landed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_thousand_callers_are_one_and_the_first_may_leave() {
        let flights = Arc::new(Flights::<u32, u32>::default());
        let runs = Arc::new(AtomicU32::new(0));
        let work = |runs: Arc<AtomicU32>| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            runs.fetch_add(1, Ordering::SeqCst)
        };
        let first = tokio::spawn({
            let (flights, runs) = (Arc::clone(&flights), Arc::clone(&runs));
            async move { flights.join(7, || work(runs)).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        let callers = (0..1000).map(|_| flights.join(7, || work(Arc::clone(&runs))));
        let landed = futures::future::join_all(callers).await;
        assert!(landed.iter().all(|value| *value == Ok(0)));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(flights.join(7, || work(Arc::clone(&runs))).await, Ok(1), "afterwards it is work again");
    }

    #[tokio::test]
    async fn broken_work_is_an_error_and_frees_its_key() {
        let flights = Flights::<u32, u32>::default();
        let broken = flights.join(1, || async { panic!("on purpose") }).await;
        assert_eq!(broken, Err(FlightBroken));
        assert_eq!(flights.join(1, || async { 5 }).await, Ok(5));
    }
}
