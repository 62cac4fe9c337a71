//! Work by the clock: when each piece is due does not depend on when the one before was done.
//!
//! Timers of the runtime count milliseconds. Each pace has a thread of its own that sleeps by the kernel's clock instead, to
//! some 50 microseconds; what it is late by is part of every time that is measured with it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Due times that wait for their work: past this the thread waits too, and the due times stay what they are.
const WAITING_MAX: usize = 1_024;

/// Due times, one by one. Dropping it ends its thread within an interval.
#[derive(Debug)]
pub(super) struct Pace {
    due: mpsc::Receiver<Instant>,
}

impl Pace {
    /// From `start` on, every `interval`, up to `end`.
    pub(super) fn start(start: Instant, interval: Duration, end: Instant) -> Self {
        let (sender, due) = mpsc::channel(WAITING_MAX);
        std::thread::spawn(move || {
            let mut next = start;
            while next < end {
                // Never early. Finer intervals than the kernel wakes for come in bunches, each piece with its own due time.
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                if sender.blocking_send(next).is_err() {
                    return;
                }
                next += interval;
            }
        });
        Self { due }
    }

    /// The next piece's due time; `None` at the end.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        self.due.recv().await
    }

    /// Whether nothing more will be due.
    pub(super) fn is_over(&self) -> bool {
        self.due.is_closed() && self.due.is_empty()
    }

    /// As [`Pace::next`], if it is due already.
    pub(super) fn try_next(&mut self) -> Option<Instant> {
        self.due.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_comes_before_it_is_due() {
        let start = Instant::now();
        let mut pace = Pace::start(start, Duration::from_micros(50), start + Duration::from_millis(20));
        let mut count = 0;
        while let Some(due) = pace.next().await {
            assert!(Instant::now() >= due, "piece {count} came early");
            count += 1;
        }
        assert_eq!(count, 400);
    }

    #[tokio::test]
    async fn a_slow_worker_moves_no_due_time() {
        let start = Instant::now();
        let mut pace = Pace::start(start, Duration::from_millis(5), start + Duration::from_millis(50));
        let mut dues = Vec::new();
        while let Some(due) = pace.next().await {
            if dues.is_empty() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            dues.push(due - start);
        }
        let expected: Vec<_> = (0..10).map(|step| Duration::from_millis(5 * step)).collect();
        assert_eq!(dues, expected);
    }
}
