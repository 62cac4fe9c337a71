//! What will happen next: events in order of time, and of their making where times are equal.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

use kennel_core::time::Instant;

/// A queue of events in virtual time.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Due<E>>,
    made: u64,
}

#[derive(Debug)]
struct Due<E> {
    at: Instant,
    order: u64,
    event: E,
}

impl<E> Queue<E> {
    /// Nothing will happen.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), made: 0 }
    }

    /// Something will happen.
    pub fn push(&mut self, at: Instant, event: E) {
        self.made += 1;
        self.heap.push(Due { at, order: self.made, event });
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    /// Takes the next thing.
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        self.heap.pop().map(|due| (due.at, due.event))
    }

    /// How much lies ahead.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing lies ahead.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Due<E> {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.order)
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_the_order_of_making() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.push(Instant::from_micros(at), event);
        }
        let order: String = core::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }
}
