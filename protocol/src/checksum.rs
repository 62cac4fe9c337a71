//! The one checksum: XXH3-64, which Iggy itself uses. It finds damage, not malice.

use std::hash::Hasher as _;

use bytes::Bytes;
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};

/// XXH3-64 of one run of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// XXH3-64 of one run of bytes under a seed, so that the same bytes verify only where they were written.
pub fn checksum_seeded(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// XXH3-64 of several pieces as if they lay back to back.
pub fn checksum_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut running = RunningChecksum::new();
    for piece in pieces {
        running.update(piece);
    }
    running.value()
}

/// XXH3-64 of bytes that come one after the other. It lives on the stack: some 600 bytes, nothing allocated.
pub(crate) struct RunningChecksum(RawHasher<&'static [u8; DEFAULT_SECRET_LENGTH]>);

impl RunningChecksum {
    pub(crate) fn new() -> Self {
        Self(RawHasher::new(SecretBuffer::default()))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finish()
    }
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

    /// Values of another implementation (`xxhash-rust` 0.8.19), one for each way that the algorithm treats a length.
    #[test]
    fn another_implementation_says_the_same() {
        let seed = 0x9e37_79b1_85eb_ca8d;
        for (length, plain, seeded) in [
            (1, 0xc44b_dff4_074e_ecdb, 0x032b_e332_dd76_6ef8),
            (100, 0x004e_4f92_1a64_bd1c, 0xbb8b_d137_3296_c821),
            (240, 0x375a_384d_957f_e865, 0x331d_5d4a_f197_fb6b),
            (241, 0x02e8_cd95_421c_6d02, 0x1f04_9462_ca4e_df9a),
            (1000, 0x33ef_703f_b2b2_0ed1, 0x6578_6809_6248_4091),
            (70_000, 0xc30e_bc4b_e7b9_4cbb, 0x4770_dc7f_95bb_68c8),
        ] {
            let bytes: Vec<u8> = (0..length).map(|at: usize| u8::try_from(at % 251).expect("below 251")).collect();
            assert_eq!(checksum(&bytes), plain, "{length} bytes");
            assert_eq!(checksum_seeded(seed, &bytes), seeded, "{length} bytes under a seed");
        }
    }
}
