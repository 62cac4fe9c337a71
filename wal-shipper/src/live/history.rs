//! The past of a live partition, out of the server's own files: what is far behind is read there, at no cost to the server,
//! and whatever is near its end is polled.
//!
//! Only segments that are followed by another one are read: those are never written again. Before anything of a partition
//! is taken from a file, one message is polled and found to be the same: the directory may be of another server, of an
//! earlier life of the ids, or hold what the server encrypts and a poll decrypts.

use std::path::Path;

use kennel_core::shipper::SourceRest;
use kennel_protocol::entry::{EntryKind, MessageIdentity};
use kennel_protocol::ids::{Offset, PartitionKey};
use kennel_protocol::wire::ShipChunk;

use super::source::Polled;
use crate::source::{FoundPartition, PartitionReader, find};

/// A partition that is less than this behind is polled: some reads' worth, so that opening files pays.
pub(super) const BEHIND_BYTES_MIN: u64 = 8 << 20;

/// The files of one partition.
#[derive(Debug)]
pub(super) struct History {
    reader: PartitionReader,
    /// The files were seen to hold what polls bring.
    same: bool,
}

/// What the files have of what is wanted.
#[derive(Debug)]
pub(super) struct Past {
    /// One chunk of whole batches.
    pub(super) chunk: ShipChunk,
    /// The first message of it must be compared with a poll before it may be used.
    pub(super) to_compare: bool,
}

impl History {
    /// Finds the files of a partition in a server's data directory; `None` if there are none to use. Blocks.
    pub(super) fn open(data_dir: &Path, partition: PartitionKey) -> Option<Self> {
        match find(data_dir, partition) {
            Ok(found) => Some(Self { reader: PartitionReader::new(found), same: false }),
            Err(error) => {
                tracing::warn!(%partition, %error, "its files cannot be listed; it is polled instead");
                None
            }
        }
    }

    /// Whether the sealed segments, as they were listed, hold an offset.
    pub(super) fn holds(&self, from: Offset) -> bool {
        sealed(self.reader.found(), from)
    }

    /// Reads from an offset on; `None` if polls must do. Blocks.
    pub(super) fn read(&mut self, from: Offset, bytes_max: usize) -> Option<Past> {
        if !self.holds(from) {
            return None;
        }
        let mut read = self.reader.read(from, bytes_max);
        let chunk = read.chunks.pop()?;
        let usable = read.chunks.is_empty()
            && chunk.head.kind == EntryKind::Chunk
            && chunk.head.base == from
            && !matches!(read.rest, SourceRest::Damaged(_));
        usable.then_some(Past { chunk, to_compare: !self.same })
    }

    /// Takes what a poll of the first message of a chunk brought; answers whether the files can be used.
    pub(super) fn compare(&mut self, first: MessageIdentity, polled: &Polled) -> bool {
        let found = super::polled::first_message(polled).ok().flatten();
        self.same = found == Some(first);
        self.same
    }
}

fn sealed(found: &FoundPartition, from: Offset) -> bool {
    let ends = found.segments.last().is_some_and(|last| from < last.start);
    ends && found.start() <= from
}
