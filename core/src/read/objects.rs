//! The log objects of a shard and the blocks in each of them.
//!
//! Knows places and checksums only; whose blocks they are is the partitions' business.

use std::num::NonZeroU32;

use kennel_protocol::ids::{Epoch, PutId, Slot};

/// Small blocks are fetched together with their neighbours in an aligned window of this size, 256 KiB.
///
/// One GET of 256 KiB takes some 3 ms longer than one of 3 KiB (90 MB/s after a first byte at 30 ms), and where an
/// object holds 10,000 partitions it serves eighty of them.
pub const UNIT_BYTES: u32 = 256 * 1024;

/// A log object: where it stands and which exact bytes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// Whose log.
    pub epoch: Epoch,
    /// Which slot.
    pub slot: Slot,
    /// Names the bytes: what caches are keyed by (PROTOCOL R26).
    pub put: PutId,
}

/// One block's place in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// Where it begins, bytes.
    pub position: u32,
    /// Its length in bytes.
    pub bytes: u32,
    /// XXH3-64 of it.
    pub checksum: u64,
}

const _: () = assert!(size_of::<BlockPlace>() == 16, "half of the blocks' share of the index is this");

impl BlockPlace {
    /// The end of the block in its object, bytes.
    pub fn end(&self) -> u64 {
        u64::from(self.position) + u64::from(self.bytes)
    }
}

/// Blocks that are fetched with one request: all that begin in one aligned window of their object, or one large block.
///
/// Which unit a block belongs to depends on the object alone, so concurrent readers of neighbours meet in one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchUnit {
    /// The object.
    pub object: ObjectName,
    /// First byte.
    pub from: u64,
    /// End, exclusive.
    pub to: u64,
    /// The blocks inside, by position.
    pub blocks: Vec<BlockPlace>,
}

/// Which of the objects, counted from one: a run that has none tells its kind in the same four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectNumber(NonZeroU32);

impl ObjectNumber {
    /// The number of the object that stands behind so many others.
    fn after(others: usize) -> Self {
        let number = u32::try_from(others + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("four thousand million slots never fit in memory"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Every object that the index of a shard refers to.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: Vec<Object>,
}

#[derive(Debug)]
struct Object {
    name: ObjectName,
    blocks: Vec<BlockPlace>,
    /// Blocks that are not trimmed; at zero the places are let go.
    live: u32,
}

impl Objects {
    /// Adds an object and returns its number. Blocks must be sorted by position.
    pub(super) fn push(&mut self, name: ObjectName, mut blocks: Vec<BlockPlace>) -> ObjectNumber {
        assert!(blocks.is_sorted_by_key(|block| block.position), "units are found by position");
        blocks.shrink_to_fit();
        let live = u32::try_from(blocks.len()).expect("an object's index is bounded");
        let number = self.next();
        self.objects.push(Object { name, blocks, live });
        number
    }

    /// The next object's number.
    pub(super) fn next(&self) -> ObjectNumber {
        ObjectNumber::after(self.objects.len())
    }

    /// Says that one block of an object is trimmed.
    pub(super) fn release(&mut self, object: ObjectNumber) {
        let object = &mut self.objects[object.index()];
        object.live -= 1;
        if object.live == 0 {
            object.blocks = Vec::new();
        }
    }

    pub(super) fn name(&self, object: ObjectNumber) -> ObjectName {
        self.objects[object.index()].name
    }

    pub(super) fn place(&self, object: ObjectNumber, place: u32) -> BlockPlace {
        self.objects[object.index()].blocks[place as usize]
    }

    /// The unit that holds one block: with its neighbours if they are still known, else alone.
    pub(super) fn unit(&self, object: ObjectNumber, name: ObjectName, wanted: BlockPlace) -> FetchUnit {
        // Between planning and asking, a trim may have let the places go, or the whole index may have begun anew.
        let known = self.objects.get(object.index()).filter(|object| object.name == name);
        let blocks = known.filter(|_| wanted.bytes < UNIT_BYTES).map(|object| window(&object.blocks, wanted));
        let blocks = blocks.filter(|blocks| blocks.contains(&wanted)).unwrap_or_else(|| vec![wanted]);
        let from = u64::from(blocks[0].position);
        let to = blocks.iter().map(BlockPlace::end).max().expect("a unit holds the block asked for");
        FetchUnit { object: name, from, to, blocks }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let blocks: usize = self.objects.iter().map(|object| object.blocks.capacity()).sum();
        self.objects.capacity() * size_of::<Object>() + blocks * size_of::<BlockPlace>()
    }
}

/// The small blocks that begin in the same aligned window as `wanted`.
fn window(blocks: &[BlockPlace], wanted: BlockPlace) -> Vec<BlockPlace> {
    let from = wanted.position - wanted.position % UNIT_BYTES;
    let first = blocks.partition_point(|block| block.position < from);
    let in_window = blocks[first..].iter().take_while(|block| block.position - from < UNIT_BYTES);
    in_window.filter(|block| block.bytes < UNIT_BYTES).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ObjectNumber = ObjectNumber(NonZeroU32::MIN);
    const NAME: ObjectName = ObjectName { epoch: Epoch(1), slot: Slot(1), put: PutId(7) };

    fn objects(sizes: &[u32]) -> Objects {
        let mut position = 128;
        let blocks = sizes
            .iter()
            .map(|&bytes| {
                let place = BlockPlace { position, bytes, checksum: 0 };
                position += bytes;
                place
            })
            .collect();
        let mut objects = Objects::default();
        objects.push(NAME, blocks);
        objects
    }

    fn unit(objects: &Objects, place: u32) -> FetchUnit {
        objects.unit(FIRST, NAME, objects.place(FIRST, place))
    }

    #[test]
    fn neighbours_share_a_unit_and_a_large_block_has_its_own() {
        let objects = objects(&[1000, 1000, UNIT_BYTES, 1000]);
        let first = unit(&objects, 0);
        assert_eq!(first, unit(&objects, 1));
        assert_eq!((first.from, first.to, first.blocks.len()), (128, 2128, 2));
        assert_eq!(unit(&objects, 2).blocks.len(), 1);
        assert_eq!(unit(&objects, 3).blocks.len(), 1, "the last one begins in another window");
    }

    #[test]
    fn a_trimmed_object_lets_its_places_go() {
        let mut objects = objects(&[10, 10]);
        objects.release(FIRST);
        assert_eq!(objects.place(FIRST, 1).bytes, 10);
        let planned = objects.place(FIRST, 1);
        objects.release(FIRST);
        assert!(objects.objects[0].blocks.is_empty());
        assert_eq!(objects.unit(FIRST, NAME, planned).blocks, [planned], "who planned before can still read");
    }
}
