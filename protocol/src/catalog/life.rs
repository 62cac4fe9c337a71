//! Which life of its ids a partition is in, derived from what Iggy tells of it, without any state of a shipper's own.
//!
//! Iggy gives the ids of what was deleted to what comes next, and starts a purged partition again at offset 0. A life is
//! an [`Incarnation`]. For a live server it is the time at which the partition came to be, which two shippers read
//! alike; a purge adds one to what stands in the catalogue, which they agree on by offering the next catalogue
//! (PROTOCOL R29). Purges are far rarer than one a microsecond, so the lives of a partition that is created again lie
//! above those that its purges used up.
//!
//! The rules decide nothing but numbers: whether a partition was purged is the source's to see.

use crate::ids::Incarnation;

/// When a partition came to be, microseconds since 1970: a topic, or a stream, that was created again brings new
/// partitions under the old ids.
pub fn born(stream_created_micros: u64, topic_created_micros: u64, partition_created_micros: u64) -> u64 {
    stream_created_micros.max(topic_created_micros).max(partition_created_micros)
}

/// The life of a partition that was born at `born_micros`, where `standing` is what the catalogue says of its ids. A
/// standing one that is not below the time of birth is the same life, perhaps after purges.
pub fn life_of(standing: Option<Incarnation>, born_micros: u64) -> Incarnation {
    standing.unwrap_or_default().max(Incarnation(born_micros))
}

/// The life that follows a purge which was seen while `seen_under` was the partition's life. If the catalogue has
/// already gone beyond that, another shipper saw the same purge first, and its word holds.
pub fn life_after_purge(seen_under: Incarnation, standing: Option<Incarnation>) -> Incarnation {
    let next = Incarnation(seen_under.0.saturating_add(1));
    standing.unwrap_or_default().max(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BORN: u64 = 1_790_000_000_000_000;

    #[test]
    fn a_standing_entry_not_below_the_birth_is_the_same_life() {
        let of = |standing: Option<u64>| life_of(standing.map(Incarnation), BORN).0;
        assert_eq!(of(None), BORN);
        assert_eq!(of(Some(BORN)), BORN);
        assert_eq!(of(Some(BORN + 3)), BORN + 3, "purged three times");
        assert_eq!(of(Some(BORN - 1)), BORN, "another topic had the ids before");
        assert_eq!(of(Some(2)), BORN, "files, with purge generations, had them before");
    }

    #[test]
    fn the_youngest_part_gives_the_birth() {
        assert_eq!((born(9, 1, 1), born(1, 9, 1), born(1, 1, 9)), (9, 9, 9));
    }

    #[test]
    fn several_shippers_agree_on_a_purge() {
        let before = life_of(None, BORN);
        let first = life_after_purge(before, Some(before));
        assert_eq!(first, Incarnation(BORN + 1));
        assert_eq!(life_after_purge(before, Some(first)), first, "the second shipper saw the same purge");
        assert_eq!(life_after_purge(first, Some(first)), Incarnation(BORN + 2), "a second purge");
        assert_eq!(life_of(Some(first), BORN), first, "a third shipper starts afterwards");
        assert!(life_of(Some(first), BORN + 1_000_000) > first, "created again");
        assert_eq!(life_after_purge(before, None), first, "nothing stands yet");
    }
}
