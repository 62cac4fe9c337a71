//! What recovery found damaged: where, how much, and what was saved. It knows places and counts, not what was lost.

use std::fmt;

/// Something that was durable does not verify any more: the journal is not authentic and takes a new id (PROTOCOL R5).
///
/// Counts are lower bounds: a group whose header is gone cannot say how many records it held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Damage {
    /// The places, oldest first, as many as are listed; [`Damage::places_count`] may be more.
    pub places: Vec<DamagedPlace>,
    /// How many places there are.
    pub places_count: u64,
    /// Records that are gone, freed ones among them.
    pub records_lost: u64,
}

/// Groups in a row that do not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedPlace {
    /// Where the first one begins, bytes from the start of the file or device.
    pub offset: u64,
    /// Bytes to the next intact group; the stretch may wrap.
    pub bytes: u64,
    /// Number of the first group.
    pub group: u64,
    /// How many groups.
    pub groups: u64,
    /// Records in them that do verify and were kept.
    pub records_kept: u32,
    /// Records in them that are gone.
    pub records_lost: u64,
}

impl Damage {
    /// Places that are listed by name. The counts go on.
    pub(super) const PLACES_MAX: usize = 64;

    pub(super) fn add(&mut self, place: DamagedPlace) {
        self.places_count += 1;
        self.records_lost = self.records_lost.saturating_add(place.records_lost);
        if self.places.len() < Self::PLACES_MAX {
            self.places.push(place);
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at least {} record(s) do not verify in {} place(s)", self.records_lost, self.places_count)?;
        for place in &self.places {
            write!(f, "; {place}")?;
        }
        if self.places_count > self.places.len() as u64 {
            f.write_str("; and more")?;
        }
        Ok(())
    }
}

impl fmt::Display for DamagedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bytes, group, groups, records_kept, records_lost } = self;
        write!(f, "{groups} group(s) from number {group} at byte {offset}, {bytes} bytes: ")?;
        write!(f, "{records_kept} record(s) kept, at least {records_lost} lost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_where_the_list_ends() {
        let mut damage = Damage::default();
        let place = DamagedPlace { offset: 8192, bytes: 4096, group: 1, groups: 1, records_kept: 2, records_lost: 3 };
        for _ in 0..=Damage::PLACES_MAX {
            damage.add(place);
        }
        let places = damage.places_count;
        assert_eq!((damage.places.len(), places, damage.records_lost), (64, 65, 195));
        assert!(damage.to_string().ends_with("; and more"), "{damage}");
    }
}
