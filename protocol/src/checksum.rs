//! The one checksum: XXH3-64, which Iggy itself uses. It finds damage, not malice.

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// XXH3-64 of one run of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// XXH3-64 of several pieces as if they lay back to back.
pub fn checksum_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = Xxh3::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.digest()
}

/// XXH3-64 of shared pieces; one piece needs no streaming state.
pub fn checksum_shared(pieces: &[Bytes]) -> u64 {
    match pieces {
        [single] => checksum(single),
        several => checksum_pieces(several.iter().map(AsRef::as_ref)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_whole() {
        let whole: Vec<u8> = (0..2000_u16).map(|byte| byte.to_le_bytes()[0]).collect();
        for cut in [0, 1, 240, 1023, 2000] {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(checksum_pieces([head, tail]), checksum(&whole), "cut at {cut}");
        }
    }
}
