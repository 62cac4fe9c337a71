//! Iggy's sparse index as a hint: 24-byte entries `[offset u64][timestamp u64][position u64]`, one per flush.
//!
//! The index is never believed: whoever uses a position looks at the batch that stands there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use kennel_protocol::ids::Offset;

const ENTRY_BYTES: u64 = 24;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    /// The batch's base offset.
    pub(super) offset: Offset,
    /// Where it stands in the `.log` file, bytes.
    pub(super) position: u64,
}

/// The last entry at or below `offset`. `None` if there is none, or no readable index: begin at the start.
pub(super) fn find(index: &Path, offset: Offset) -> Option<Hint> {
    let file = File::open(index).ok()?;
    let (mut low, mut high) = (0, count(&file).ok()?);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(&file, middle).ok()?.offset <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    entry(&file, low.checked_sub(1)?).ok()
}

/// The last entry of all.
pub(super) fn last(index: &Path) -> Option<Hint> {
    let file = File::open(index).ok()?;
    entry(&file, count(&file).ok()?.checked_sub(1)?).ok()
}

fn count(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len() / ENTRY_BYTES)
}

fn entry(file: &File, number: u64) -> io::Result<Hint> {
    let mut bytes = [0; 24];
    file.read_exact_at(&mut bytes, number * ENTRY_BYTES)?;
    let field = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("24 bytes hold three fields"));
    Ok(Hint { offset: Offset(field(0)), position: field(16) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_at_or_below() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        let entries = [(100_u64, 0_u64), (200, 5_000), (205, 9_000)];
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|(offset, position)| [offset.to_le_bytes(), 7_u64.to_le_bytes(), position.to_le_bytes()])
            .flatten()
            .chain([1, 2, 3])
            .collect();
        std::fs::write(&path, bytes).expect("an index");
        let position = |offset| find(&path, Offset(offset)).map(|hint| hint.position);
        assert_eq!(position(99), None);
        assert_eq!(position(100), Some(0));
        assert_eq!(position(204), Some(5_000));
        assert_eq!(position(u64::MAX), Some(9_000));
        assert_eq!(last(&path), Some(Hint { offset: Offset(205), position: 9_000 }));
        assert_eq!(find(&directory.path().join("absent"), Offset(1)), None);
    }
}
