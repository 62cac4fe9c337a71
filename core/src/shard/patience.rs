//! How long an answer may take until what it answers is sent again.
//!
//! As long as answers took lately, twice; and twice as long again after each time that brought nothing. With a fixed time
//! whoever is slow, because it has much to do, is sent the same work a second and a third time, and becomes slower: three
//! nodes that were kept busy carried three times the bytes that they were given. After RFC 6298, with the rule of Karn and
//! Partridge that what was sent twice tells no time.

use core::time::Duration;

use kennel_protocol::ids::Lsn;

use crate::time::Instant;

/// Longest patience, in shortest ones: a peer that is back after minutes is not left waiting for minutes more.
const LONGEST: u32 = 8;

/// With one peer.
#[derive(Debug)]
pub(crate) struct Patience {
    shortest: Duration,
    now: Duration,
    /// What an answer took lately; not longer for having waited in vain.
    took: Duration,
    /// What is waited for to learn how long answers take, and since when.
    timed: Option<(Lsn, Instant)>,
    /// Up to here it may have been sent twice.
    again: Lsn,
}

impl Patience {
    pub(crate) fn new(shortest: Duration) -> Self {
        Self { shortest, now: shortest, took: Duration::ZERO, timed: None, again: Lsn(0) }
    }

    /// How long to wait.
    pub(crate) fn get(&self) -> Duration {
        self.now
    }

    /// What an answer takes: what comes sooner may answer what was sent before.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// Something was sent that is answered once the peer has all up to `end`.
    pub(crate) fn sent(&mut self, end: Lsn, now: Instant) {
        if end > self.again {
            self.timed.get_or_insert((end, now));
        }
    }

    /// The peer has all up to `end`.
    pub(crate) fn answered(&mut self, end: Lsn, now: Instant) {
        if let Some((_, since)) = self.timed.take_if(|(awaited, _)| *awaited <= end) {
            // What is slow is learned at once, what is quicker bit by bit.
            self.took = now.since(since).max(self.took / 4 * 3);
            self.set((now.since(since) * 2).max(self.now / 4 * 3));
        }
    }

    /// What was sent, up to `end`, was waited for in vain, and is sent again.
    pub(crate) fn in_vain(&mut self, end: Lsn) {
        self.lost(end);
        self.set(self.now * 2);
    }

    /// What was sent, up to `end`, is known not to have come, and is sent again.
    pub(crate) fn lost(&mut self, end: Lsn) {
        (self.timed, self.again) = (None, self.again.max(end));
    }

    /// The peer is back: what it did not get, of all up to `end`, is lost and need not be waited for, and how long it was away says
    /// nothing about its answers.
    pub(crate) fn back(&mut self, end: Lsn) {
        self.lost(end);
        (self.now, self.took) = (self.shortest, Duration::ZERO);
    }

    fn set(&mut self, patience: Duration) {
        self.now = patience.clamp(self.shortest, self.shortest * LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Instant {
        Instant::default() + Duration::from_millis(millis)
    }

    #[test]
    fn it_follows_what_answers_take() {
        let mut patience = Patience::new(SHORTEST);
        patience.sent(Lsn(5), at(0));
        patience.sent(Lsn(9), at(10));
        patience.answered(Lsn(4), at(200));
        assert_eq!(patience.get(), SHORTEST, "nothing was learned yet");
        patience.answered(Lsn(7), at(300));
        assert_eq!(patience.get(), Duration::from_millis(600), "twice 300");
        patience.sent(Lsn(12), at(300));
        patience.answered(Lsn(12), at(301));
        assert_eq!(patience.get(), Duration::from_millis(450), "three quarters");
        assert_eq!(patience.took(), Duration::from_millis(225), "and of 300");
    }

    #[test]
    fn what_was_sent_twice_tells_no_time_and_longest_is_an_end() {
        let mut patience = Patience::new(SHORTEST);
        patience.sent(Lsn(5), at(0));
        patience.in_vain(Lsn(5));
        patience.sent(Lsn(5), at(4_999));
        patience.answered(Lsn(5), at(5_000));
        assert_eq!(
            (patience.get(), patience.took()),
            (SHORTEST * 2, Duration::ZERO),
            "nobody knows which of the two was answered"
        );
        patience.sent(Lsn(6), at(5_000));
        patience.answered(Lsn(6), at(5_010));
        assert_eq!(patience.get(), SHORTEST * 3 / 2);
        (0..9).for_each(|_| patience.in_vain(Lsn(6)));
        assert_eq!(patience.get(), SHORTEST * LONGEST);
        patience.sent(Lsn(9), at(6_000));
        patience.back(Lsn(9));
        patience.answered(Lsn(9), at(9_000));
        assert_eq!((patience.get(), patience.took()), (SHORTEST, Duration::ZERO));
    }
}
