//! Seeded draws: one stream per purpose, so that a draw for one thing never shifts another.

use core::time::Duration;

use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

/// One purpose's draws.
#[derive(Debug, Clone)]
pub struct Stream(Pcg64Mcg);

impl Stream {
    /// The draws that a seed gives to one purpose, named by its salt.
    pub fn new(seed: u64, salt: u64) -> Self {
        let high = mix(seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let low = mix(high ^ salt);
        Self(Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low)))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A random id.
    pub fn id(&mut self) -> u128 {
        (u128::from(self.number()) << 64) | u128::from(self.number())
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing lies below 0");
        self.number() % end
    }

    /// A place in a list of `len`, which is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number of `[from, to]`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// Whether something happens that happens in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    /// A duration of `[from, to]`, every length as likely.
    pub fn duration(&mut self, from: Duration, to: Duration) -> Duration {
        Duration::from_micros(self.between(micros(from), micros(to)))
    }

    /// A duration of about `[from, to]`, every order of magnitude as likely: most are short, some are very long.
    pub fn scale(&mut self, from: Duration, to: Duration) -> Duration {
        let (from, to) = (micros(from).max(1), micros(to).max(1));
        let doublings = u64::from((to / from).max(1).ilog2());
        let base = from << self.between(0, doublings);
        Duration::from_micros(self.between(base, (base * 2).min(to.max(base))))
    }
}

/// Scatters the bits of a number (the finisher of `SplitMix64`).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("a simulated duration is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, salt| Stream::new(seed, salt).number();
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut stream = Stream::new(1, 1);
        for _ in 0..1000 {
            assert!((3..=5).contains(&stream.between(3, 5)));
            let scale = stream.scale(Duration::from_millis(1), Duration::from_secs(1));
            assert!(scale >= Duration::from_millis(1) && scale <= Duration::from_secs(1));
        }
    }
}
