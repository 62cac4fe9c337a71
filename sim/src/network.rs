//! The network: which messages arrive, how often and when. Ends are numbered: nodes first, then shippers.

use core::time::Duration;
use std::collections::BTreeMap;

use kennel_core::time::Instant;
use kennel_protocol::ids::{Epoch, Lsn};
use kennel_protocol::wire::{Copy, CopySource};

use crate::plan::Weather;
use crate::stream::Stream;

/// How much longer than usual a straggler takes at most.
const STRAGGLE_TIMES: u32 = 100;

/// Links between all ends.
#[derive(Debug)]
pub struct Network {
    ends: usize,
    /// How many cuts lie on each directed link.
    cuts: Vec<u8>,
    stream: Stream,
    copied: Copied,
}

/// Entries that owners sent to followers, bodies and all.
#[derive(Debug, Clone, Default)]
pub struct Copied {
    /// How often an entry was sent.
    pub sent: u64,
    /// How many of those had been sent to the same follower before.
    pub again: u64,
    ends: BTreeMap<(usize, Epoch), Lsn>,
}

impl Network {
    /// A whole network between `ends` ends.
    pub fn new(ends: usize, seed: u64) -> Self {
        Self { ends, cuts: vec![0; ends * ends], stream: Stream::new(seed, 0x6E65_7477), copied: Copied::default() }
    }

    /// Counts what an owner sends.
    pub fn count(&mut self, to: usize, copy: &Copy) {
        let Copied { sent, again, ends } = &mut self.copied;
        let end = ends.entry((to, copy.stamp.epoch)).or_default();
        for entry in copy.entries.iter().filter(|entry| matches!(entry.source, CopySource::Inline(_))) {
            *sent += 1;
            *again += u64::from(entry.lsn < *end);
            *end = (*end).max(entry.lsn.next());
        }
    }

    /// What owners sent.
    pub fn copied(&self) -> &Copied {
        &self.copied
    }

    /// When a message sent now arrives: never, once or twice.
    pub fn arrivals(&mut self, weather: &Weather, from: usize, to: usize, now: Instant) -> [Option<Instant>; 2] {
        if self.is_cut(from, to) || self.stream.chance(weather.loss) {
            return [None, None];
        }
        let first = now + self.delay(weather);
        let second = self.stream.chance(weather.duplicate).then(|| now + self.delay(weather));
        [Some(first), second]
    }

    /// Cuts one direction of one link. Cuts add up.
    pub fn cut(&mut self, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.ends + to];
        *cuts = cuts.saturating_add(1);
    }

    /// Takes one cut back.
    pub fn mend(&mut self, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.ends + to];
        *cuts = cuts.saturating_sub(1);
    }

    /// Takes all cuts back.
    pub fn mend_all(&mut self) {
        self.cuts.fill(0);
    }

    /// Whether nothing passes from one end to another.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.ends + to] > 0
    }

    fn delay(&mut self, weather: &Weather) -> Duration {
        let delay = self.stream.duration(weather.delay_min, weather.delay_max);
        if self.stream.chance(weather.straggle) {
            return self.stream.scale(delay, delay * STRAGGLE_TIMES);
        }
        delay
    }
}
