//! What a device may hold that is not ours: looked for before a blank one is taken. It reads the two ends and no more.

use std::io;

use super::aligned::AlignedBuffer;
use super::file::BlockFile;
use super::layout::{BLOCK, RING_START, has_superblock_magic};

/// So much of the start is looked at: past the label that lies deepest, that of btrfs at 64 KiB.
pub(super) const HEAD_BYTES: usize = 128 << 10;
/// So much of the end: the second partition table, labels of software RAID.
pub(super) const FOOT_BYTES: usize = 64 << 10;

/// Names for what is found most often, so that the refusal says what would be lost.
const LABELS: [(usize, &[u8], &str); 9] = [
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (510, b"\x55\xaa", "a partition table"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (512, b"LABELONE", "an LVM volume"),
    (0x438, b"\x53\xef", "an ext file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "a member of a software RAID"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
];

/// What lies on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Zeros at both ends.
    Blank,
    /// One of our superblocks, readable or not.
    Journal,
    /// Something else, in words.
    Foreign(String),
}

/// Looks at both ends of a device of `size` bytes.
pub(super) fn look(file: &dyn BlockFile, size: u64) -> io::Result<Content> {
    let head = read(file, 0, size.min(HEAD_BYTES as u64))?;
    let (first, second) = (head.bytes(), head.bytes().get(BLOCK..).unwrap_or_default());
    if size >= RING_START && (has_superblock_magic(first) || has_superblock_magic(second)) {
        return Ok(Content::Journal);
    }
    let is_label = |(offset, label, _): &&(usize, &[u8], &str)| {
        head.bytes().get(*offset..).is_some_and(|rest| rest.starts_with(label))
    };
    if let Some((_, _, name)) = LABELS.iter().find(is_label) {
        return Ok(Content::Foreign(format!("it looks like {name}")));
    }
    let foot_at = size.saturating_sub(FOOT_BYTES as u64) / BLOCK as u64 * BLOCK as u64;
    let foot = read(file, foot_at, size / BLOCK as u64 * BLOCK as u64 - foot_at)?;
    let written = |(start, part): (u64, &[u8])| {
        let at = part.iter().position(|byte| *byte != 0)?;
        Some(start + at as u64)
    };
    let at = [(0, head.bytes()), (foot_at, foot.bytes())].into_iter().find_map(written);
    Ok(at.map_or(Content::Blank, |at| Content::Foreign(format!("byte {at} is not zero"))))
}

fn read(file: &dyn BlockFile, offset: u64, length: u64) -> io::Result<AlignedBuffer> {
    let length = usize::try_from(length).expect("at most one of the constants above") / BLOCK * BLOCK;
    let mut buffer = AlignedBuffer::new(length);
    file.read_exact_at(buffer.bytes_mut(), offset)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::super::faults::FaultyDisk;
    use super::super::ring::Ring;
    use super::*;

    const SIZE: usize = 1 << 20;

    fn content(disk: &FaultyDisk) -> Content {
        look(disk, SIZE as u64).expect("it can be read")
    }

    #[test]
    fn both_ends_are_looked_at_and_the_middle_is_not() {
        let disk = FaultyDisk::new(SIZE);
        assert_eq!(content(&disk), Content::Blank);
        disk.rot(SIZE / 2..SIZE / 2 + 1);
        assert_eq!(content(&disk), Content::Blank);
        disk.rot(SIZE - 1..SIZE);
        assert_eq!(content(&disk), Content::Foreign(format!("byte {} is not zero", SIZE - 1)));
    }

    #[test]
    fn labels_have_names_and_our_own_is_known() {
        for (offset, label, name) in LABELS {
            let disk = FaultyDisk::new(SIZE);
            let mut block = AlignedBuffer::new(BLOCK);
            let at = offset / BLOCK * BLOCK;
            let end = (offset - at + label.len()).min(BLOCK);
            block.bytes_mut()[offset - at..end].copy_from_slice(label);
            disk.write_all_at(block.bytes(), at as u64).expect("it works");
            assert_eq!(content(&disk), Content::Foreign(format!("it looks like {name}")));
        }
        let disk = FaultyDisk::new(SIZE);
        let ring = Ring::new(std::sync::Arc::new(disk.clone()), SIZE as u64 - RING_START);
        ring.write_superblock(&super::super::open::blank_superblock(ring.bytes())).expect("it works");
        assert_eq!(content(&disk), Content::Journal);
        disk.rot(0..8);
        assert_eq!(content(&disk), Content::Journal, "one copy is enough");
    }
}
