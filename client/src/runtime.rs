//! A runtime of the client's own, for processes that do not run tokio.
//!
//! What needs tokio (sockets, timers) runs on threads of its own; what the caller gets are plain futures that any
//! executor can poll. It knows nothing of rings or readers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::{JoinError, JoinHandle};

/// Threads of a tokio runtime, to run futures on from anywhere. Cheap to clone; the threads end with the last clone and
/// the last [`Running`].
#[derive(Clone)]
pub struct Runtime {
    threads: Arc<Threads>,
}

struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // The last clone may go away on one of the threads, or in somebody's own runtime, where waiting is forbidden.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts `threads` threads; one serves many thousand fetches a second.
    ///
    /// # Errors
    /// If the system gives no thread.
    ///
    /// # Panics
    /// If no thread is asked for.
    pub fn start(threads: usize) -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).thread_name("kennel-client").enable_all().build()?;
        Ok(Self { threads: Arc::new(Threads(Some(runtime))) })
    }

    /// Runs a future there. What it comes to can be awaited on any executor; to drop that ends the future.
    pub fn run<F>(&self, future: F) -> Running<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let runtime = self.threads.0.as_ref().expect("a runtime is there until its last handle is dropped");
        Running { task: runtime.spawn(future), _runtime: self.clone() }
    }
}

/// A future that runs on a [`Runtime`].
#[derive(Debug)]
#[must_use = "dropping it ends the future"]
pub struct Running<T> {
    task: JoinHandle<T>,
    /// Keeps the threads until the answer is there.
    _runtime: Runtime,
}

impl<T> Future for Running<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.task).poll(context).map(|ended| match ended.map_err(JoinError::try_into_panic) {
            Ok(output) => output,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => unreachable!("nobody but its own drop ends a running future"),
        })
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::executor::block_on;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn timers_run_where_there_is_no_tokio() {
        let runtime = Runtime::start(1).expect("threads");
        let slept = runtime.run(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            7
        });
        drop(runtime);
        assert_eq!(block_on(slept), 7, "the threads live as long as what runs on them");
    }

    #[test]
    fn who_no_longer_waits_ends_the_future() {
        let runtime = Runtime::start(1).expect("threads");
        let (alive, ended) = oneshot::channel::<()>();
        let running = runtime.run(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(running);
        assert!(block_on(ended).is_err(), "dropped with the future");
    }

    #[test]
    #[should_panic(expected = "as the future said")]
    fn a_panic_is_passed_on() {
        let runtime = Runtime::start(1).expect("threads");
        block_on(runtime.run(async { panic!("as the future said") }));
    }

    #[tokio::test]
    async fn the_last_handle_may_go_away_inside_a_runtime() {
        let runtime = Runtime::start(1).expect("threads");
        let moved = runtime.clone();
        assert_eq!(runtime.run(async move { drop(moved) }).await, ());
        drop(runtime);
    }
}
