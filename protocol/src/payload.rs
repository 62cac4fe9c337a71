//! The bodies of a frame: several shared pieces on the way out, one run of bytes on the way in, never concatenated.

use bytes::{Bytes, BytesMut};

use crate::checksum::checksum_shared;

/// The bodies of one frame, in order. Cloning shares the bytes.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    pieces: Pieces,
    bytes: usize,
}

/// One piece is by far the most common and needs no list.
#[derive(Debug, Clone)]
enum Pieces {
    One(Bytes),
    Several {
        pieces: Vec<Bytes>,
        /// The first piece that is not taken yet: moving an index is cheaper than moving the list.
        next: usize,
    },
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

/// A payload ended before a body that the head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload has {available} bytes left where a body of {needed} is announced")]
pub struct PayloadShort {
    /// Length of the body.
    pub needed: usize,
    /// What was left.
    pub available: usize,
}

impl From<Bytes> for Payload {
    fn from(piece: Bytes) -> Self {
        Self { bytes: piece.len(), pieces: Pieces::One(piece) }
    }
}

impl From<Vec<Bytes>> for Payload {
    /// Takes the pieces in order; empty ones are dropped.
    fn from(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        let bytes = pieces.iter().map(Bytes::len).sum();
        Self { pieces: Pieces::Several { pieces, next: 0 }, bytes }
    }
}

impl Payload {
    /// Takes the next `needed` bytes off the front. Shares them unless they cross pieces, which a received payload
    /// does not have and a looped-back one has only where its sender cut bodies differently.
    pub fn take(&mut self, needed: usize) -> Result<Bytes, PayloadShort> {
        if needed > self.bytes {
            return Err(PayloadShort { needed, available: self.bytes });
        }
        self.bytes -= needed;
        match &mut self.pieces {
            Pieces::One(piece) => Ok(piece.split_to(needed)),
            Pieces::Several { pieces, next } => Ok(take_front(pieces, next, needed)),
        }
    }

    /// Length of all pieces together, bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is no byte at all.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The pieces in order, for a vectored write.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(piece) => core::slice::from_ref(piece),
            Pieces::Several { pieces, next } => &pieces[*next..],
        }
    }

    /// XXH3-64 of the pieces as if they lay back to back.
    pub fn checksum(&self) -> u64 {
        checksum_shared(self.pieces())
    }

    /// All bytes as one run. Copies if there are several pieces.
    pub fn into_contiguous(mut self) -> Bytes {
        self.take(self.bytes).expect("a payload holds its own length")
    }
}

impl PartialEq for Payload {
    /// The same bytes, however they are cut.
    fn eq(&self, other: &Self) -> bool {
        let bytes = |payload: &Self| payload.pieces().iter().flatten().copied().collect::<Vec<u8>>();
        self.bytes == other.bytes && bytes(self) == bytes(other)
    }
}

impl Eq for Payload {}

/// Takes `needed` bytes off the pieces from `next` on, which hold at least as many.
fn take_front(pieces: &mut [Bytes], next: &mut usize, needed: usize) -> Bytes {
    if needed == 0 {
        return Bytes::new();
    }
    let mut taken = take_of_piece(pieces, next, needed);
    if taken.len() == needed {
        return taken;
    }
    let mut joined = BytesMut::with_capacity(needed);
    joined.extend_from_slice(&taken);
    while joined.len() < needed {
        taken = take_of_piece(pieces, next, needed - joined.len());
        joined.extend_from_slice(&taken);
    }
    joined.freeze()
}

/// Takes at most `wanted` bytes off the next piece and steps over it once it is used up.
fn take_of_piece(pieces: &mut [Bytes], next: &mut usize, wanted: usize) -> Bytes {
    let piece = &mut pieces[*next];
    let taken = piece.split_to(wanted.min(piece.len()));
    if piece.is_empty() {
        *next += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(words: &[&'static str]) -> Payload {
        Payload::from(words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect::<Vec<_>>())
    }

    #[test]
    fn equal_however_cut() {
        assert_eq!(pieces(&["ab", "", "c"]), Payload::from(Bytes::from_static(b"abc")));
        assert_ne!(pieces(&["ab", "d"]), Payload::from(Bytes::from_static(b"abc")));
        assert_eq!(pieces(&["ab", "c"]).checksum(), pieces(&["abc"]).checksum());
        assert_eq!(pieces(&[]).checksum(), Payload::default().checksum());
    }

    #[test]
    fn taking_follows_the_bytes_and_not_the_cuts() {
        for mut payload in [pieces(&["abcdef"]), pieces(&["ab", "cde", "f"]), pieces(&["abc", "def"])] {
            assert_eq!(payload.take(0), Ok(Bytes::new()));
            assert_eq!(payload.take(3), Ok(Bytes::from_static(b"abc")));
            assert_eq!(payload.take(2), Ok(Bytes::from_static(b"de")));
            assert_eq!(payload.take(2), Err(PayloadShort { needed: 2, available: 1 }));
            assert_eq!(payload.into_contiguous(), Bytes::from_static(b"f"));
        }
    }

    #[test]
    fn a_received_payload_is_never_copied() {
        let whole = Bytes::from(vec![7; 64]);
        let mut payload = Payload::from(whole.clone());
        let body = payload.take(16).expect("16 of 64");
        assert_eq!(body.as_ptr(), whole.as_ptr());
    }
}
