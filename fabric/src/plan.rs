//! A placement cut into writes that the provider takes. Pure.

use bytes::Bytes;

/// One write: these pieces, so far into the landing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) at: u64,
    pub(crate) pieces: Vec<Bytes>,
}

/// Cuts pieces into writes of at most so many bytes and pieces, in order and without copying.
pub(crate) fn cut(pieces: Vec<Bytes>, bytes_max: usize, pieces_max: usize) -> Vec<Write> {
    assert!(bytes_max > 0 && pieces_max > 0, "a provider takes something");
    let mut writes: Vec<Write> = Vec::new();
    let (mut at, mut room) = (0, 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let full = writes.last().is_none_or(|write| write.pieces.len() == pieces_max);
            if full || room == 0 {
                writes.push(Write { at, pieces: Vec::new() });
                room = bytes_max;
            }
            let part = piece.split_to(piece.len().min(room));
            at += part.len() as u64;
            room -= part.len();
            writes.last_mut().expect("one was begun").pieces.push(part);
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_write_where_it_fits() {
        let pieces = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")];
        let writes = cut(pieces, 100, 4);
        assert_eq!(writes.len(), 1);
        assert_eq!((writes[0].at, writes[0].pieces.concat()), (0, b"abc".to_vec()));
        assert!(cut(vec![Bytes::new()], 1, 1).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_bound_holds(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..12),
            bytes_max in 1..70_usize, pieces_max in 1..5_usize,
        ) {
            let whole = pieces.concat();
            let writes = cut(pieces.into_iter().map(Bytes::from).collect(), bytes_max, pieces_max);
            let mut at = 0;
            for write in &writes {
                prop_assert_eq!(write.at, at);
                let bytes = write.pieces.concat().len();
                prop_assert!(bytes > 0 && bytes <= bytes_max && write.pieces.len() <= pieces_max);
                at += bytes as u64;
            }
            prop_assert_eq!(writes.iter().flat_map(|write| write.pieces.concat()).collect::<Vec<_>>(), whole);
        }
    }
}
