//! A map by partition, in key order, that takes little more than what it holds.
//!
//! A node keeps a few words for each of a hundred thousand idle partitions, so what a map takes beyond them counts as much as
//! they do: a hash table is half empty on average after it has grown, and so are the nodes of a B-tree that is filled in
//! key order. It knows nothing of what is kept.

use std::fmt;

use kennel_protocol::ids::PartitionKey;

/// Most bytes of a leaf: a size class of jemalloc, so that a full leaf takes what it holds. An insert moves half of that, and
/// the keys that are looked at first are one in fifty: 6 KiB for 12,500 partitions of a shard.
const LEAF_BYTES_MAX: usize = 5 << 10;

/// Values by partition. Sorted leaves of bounded length, and the first key of each.
#[derive(Clone)]
pub struct PartitionMap<V> {
    /// Up to the next of them all keys are in the leaf of the same number. What is below the first is in the first leaf.
    firsts: Vec<PartitionKey>,
    /// None is empty.
    leaves: Vec<Vec<(PartitionKey, V)>>,
    len: usize,
}

impl<V> PartitionMap<V> {
    /// Most entries of a leaf.
    const LEAF_MAX: usize = {
        let fit = LEAF_BYTES_MAX / size_of::<(PartitionKey, V)>();
        if fit < 8 { 8 } else { fit }
    };

    /// A leaf grows by so many entries: a sixteenth of it is room for what is not there, on average, and it is moved eight
    /// times.
    const LEAF_GROWTH: usize = Self::LEAF_MAX / 8;

    /// An empty map, which takes no memory.
    pub const fn new() -> Self {
        Self { firsts: Vec::new(), leaves: Vec::new(), len: 0 }
    }

    /// The value of a partition, which is made if there is none.
    pub fn get_or_insert_with(&mut self, key: PartitionKey, make: impl FnOnce() -> V) -> &mut V {
        let (leaf, index) = match self.find(&key) {
            Ok(found) => found,
            Err(free) => self.insert_at(free, key, make()),
        };
        &mut self.leaves[leaf][index].1
    }

    /// Sets the value of a partition; returns the one before.
    pub fn insert(&mut self, key: PartitionKey, value: V) -> Option<V> {
        match self.find(&key) {
            Ok((leaf, index)) => Some(std::mem::replace(&mut self.leaves[leaf][index].1, value)),
            Err(free) => {
                self.insert_at(free, key, value);
                None
            }
        }
    }

    /// The value of a partition, to change it.
    pub fn get_mut(&mut self, key: &PartitionKey) -> Option<&mut V> {
        let (leaf, index) = self.find(key).ok()?;
        Some(&mut self.leaves[leaf][index].1)
    }

    /// Every value, in key order, to change it.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.leaves.iter_mut().flatten().map(|(_, value)| value)
    }

    /// Keeps what `keep` says, and gives the memory of the rest back.
    pub fn retain(&mut self, mut keep: impl FnMut(&PartitionKey, &mut V) -> bool) {
        self.len = 0;
        let leaves = std::mem::take(&mut self.leaves);
        self.firsts.clear();
        for mut leaf in leaves {
            leaf.retain_mut(|(key, value)| keep(key, value));
            let Some((first, _)) = leaf.first() else { continue };
            self.firsts.push(*first);
            self.len += leaf.len();
            leaf.shrink_to(leaf.len() + Self::LEAF_GROWTH / 2);
            self.leaves.push(leaf);
        }
    }

    /// The value of a partition.
    pub fn get(&self, key: &PartitionKey) -> Option<&V> {
        let (leaf, index) = self.find(key).ok()?;
        Some(&self.leaves[leaf][index].1)
    }

    /// Whether there is a value of a partition.
    pub fn contains_key(&self, key: &PartitionKey) -> bool {
        self.find(key).is_ok()
    }

    /// Every partition with its value, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&PartitionKey, &V)> {
        self.leaves.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Every value, in key order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many partitions have a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no partition has one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the map takes, bytes, without what its values have elsewhere.
    pub fn heap_bytes(&self) -> usize {
        let room: usize = self.leaves.iter().map(Vec::capacity).sum();
        let of_leaves = self.leaves.capacity() * size_of::<Vec<(PartitionKey, V)>>();
        room * size_of::<(PartitionKey, V)>() + of_leaves + self.firsts.capacity() * size_of::<PartitionKey>()
    }

    /// Leaf and index of a key, or where it belongs.
    fn find(&self, key: &PartitionKey) -> Result<(usize, usize), (usize, usize)> {
        let leaf = self.firsts.partition_point(|first| first <= key).saturating_sub(1);
        let Some(entries) = self.leaves.get(leaf) else { return Err((0, 0)) };
        let found = entries.binary_search_by(|(known, _)| known.cmp(key));
        found.map(|index| (leaf, index)).map_err(|index| (leaf, index))
    }

    /// Puts a new key where it belongs; returns where that is by then.
    fn insert_at(&mut self, (leaf, index): (usize, usize), key: PartitionKey, value: V) -> (usize, usize) {
        self.len += 1;
        let (leaf, index) = self.make_room(leaf, index, key);
        let entries = &mut self.leaves[leaf];
        if entries.len() == entries.capacity() {
            entries.reserve_exact(Self::LEAF_GROWTH.min(Self::LEAF_MAX - entries.len()));
        }
        entries.insert(index, (key, value));
        if index == 0 {
            self.firsts[leaf] = key;
        }
        (leaf, index)
    }

    /// Finds or makes room: a key past the end of a full leaf begins the next one, so that keys that come in order, whichever,
    /// fill theirs.
    fn make_room(&mut self, leaf: usize, index: usize, key: PartitionKey) -> (usize, usize) {
        let length = self.leaves.get(leaf).map_or(0, Vec::len);
        if length > 0 && length < Self::LEAF_MAX {
            return (leaf, index);
        }
        if index == length {
            if self.leaves.get(leaf + 1).is_some_and(|next| next.len() < Self::LEAF_MAX) {
                return (leaf + 1, 0);
            }
            let leaf = self.leaves.len().min(leaf + 1);
            self.firsts.insert(leaf, key);
            self.leaves.insert(leaf, Vec::new());
            return (leaf, 0);
        }
        let half = Self::LEAF_MAX / 2;
        let upper = self.leaves[leaf].split_off(half);
        self.leaves[leaf].shrink_to(half + Self::LEAF_GROWTH);
        self.firsts.insert(leaf + 1, upper[0].0);
        self.leaves.insert(leaf + 1, upper);
        if index <= half { (leaf, index) } else { (leaf + 1, index - half) }
    }
}

impl<V> Default for PartitionMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for PartitionMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V> FromIterator<(PartitionKey, V)> for PartitionMap<V> {
    /// The last value of a partition counts.
    fn from_iter<I: IntoIterator<Item = (PartitionKey, V)>>(values: I) -> Self {
        let mut map = Self::new();
        for (key, value) in values {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kennel_protocol::ids::{Incarnation, PartitionId, StreamId, TopicId};
    use proptest::prelude::*;

    use super::*;

    fn key(number: u32) -> PartitionKey {
        let (stream, topic, partition) = (StreamId(number / 1000), TopicId(1), PartitionId(number));
        PartitionKey { stream, topic, partition, incarnation: Incarnation(0) }
    }

    /// It is whole: leaves hold something and not too much, and every key is where it is looked for.
    fn check(map: &PartitionMap<u32>) {
        assert_eq!(map.firsts.len(), map.leaves.len());
        for (first, leaf) in map.firsts.iter().zip(&map.leaves) {
            assert_eq!(Some(first), leaf.first().map(|(key, _)| key));
            assert!(leaf.len() <= PartitionMap::<u32>::LEAF_MAX && leaf.capacity() * 32 <= LEAF_BYTES_MAX);
        }
        assert!(map.iter().is_sorted_by(|(one, _), (next, _)| one < next));
        assert_eq!(map.iter().count(), map.len());
    }

    proptest! {
        #[test]
        fn it_is_a_map(
            inserts in prop::collection::vec((0u32..2000, any::<u32>()), 0..1500),
            keep in 1u32..5,
            more in prop::collection::vec(0u32..2000, 0..200),
        ) {
            let mut map = PartitionMap::new();
            let mut model = BTreeMap::new();
            for (number, value) in inserts {
                prop_assert_eq!(map.insert(key(number), value), model.insert(key(number), value));
            }
            check(&map);
            map.retain(|key, _| key.partition.0 % keep == 0);
            model.retain(|key, _| key.partition.0 % keep == 0);
            check(&map);
            for number in more {
                *map.get_or_insert_with(key(number), || 7) += 1;
                *model.entry(key(number)).or_insert(7) += 1;
            }
            check(&map);
            for number in 0..2000 {
                prop_assert_eq!(map.get(&key(number)), model.get(&key(number)));
            }
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        }
    }

    #[test]
    fn it_takes_little_more_than_what_it_holds() {
        let of = |numbers: &mut dyn Iterator<Item = u32>| {
            let map: PartitionMap<u32> = numbers.map(|number| (key(number), number)).collect();
            check(&map);
            map.heap_bytes() / map.len()
        };
        let entry = size_of::<(PartitionKey, u32)>();
        assert!(of(&mut (0..12_500)) <= entry + 2, "in order");
        let full = 50 * u32::try_from(PartitionMap::<u32>::LEAF_MAX).expect("some");
        let into_a_gap = of(&mut (0..full).chain(100_000..112_500).chain((50_000..62_500).rev()));
        assert!(into_a_gap <= entry + 2, "backwards between others: {into_a_gap} of {entry}");
        let scattered = of(&mut (0..12_500).map(|number| number * 7919 % 12_500));
        assert!(scattered <= entry + entry / 8 + 3, "in any order: {scattered} of {entry}");
        assert_eq!(PartitionMap::<u32>::new().heap_bytes(), 0);
    }
}
