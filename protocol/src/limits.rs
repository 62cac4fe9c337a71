//! Every bound of what is sent, journaled and stored, each with the arithmetic that chose it.
//!
//! A length that a peer or the bucket claims is compared with its bound here before anybody allocates for it. The
//! relations between the bounds are proved at compile time at the end of the file. Limits of behaviour (queues,
//! time-outs, caches) live with the code that behaves.

/// The wire version that this build speaks. Raised by every change that an older build would misread. 2 added the
/// kinds by which catalogues are read and agreed upon, 3 those by which memory is offered to readers of the same host, 4
/// those by which answers are written into readers' memory; 5 leaves batches to their own checksums; 6 added the kinds by
/// which copies are written into followers' memory.
pub const WIRE_VERSION: u16 = 6;
/// The oldest wire version that this build still speaks.
pub const WIRE_VERSION_MIN: u16 = 1;
/// The version of every object in the bucket that this build writes.
pub const OBJECT_VERSION: u16 = 1;
/// The version of the journal records' heads that this build writes.
pub const JOURNAL_RECORD_VERSION: u16 = 1;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- Iggy's own limits -------------------------------------------------------------------------------------------

/// Longest payload of one Iggy message, bytes. Iggy's own limit.
pub const MESSAGE_PAYLOAD_BYTES_MAX: usize = 64_000_000;
/// Most bytes of one Iggy message's user headers. Iggy's own limit.
pub const MESSAGE_USER_HEADERS_BYTES_MAX: usize = 100_000;
/// Longest Iggy batch, header included, bytes. Iggy refuses larger frames.
pub const BATCH_BYTES_MAX: usize = 64 * MIB;
/// Longest name of a stream or topic in bytes. Iggy's own limit.
pub const NAME_BYTES_MAX: usize = 255;

// ---- frames ------------------------------------------------------------------------------------------------------

/// Longest rkyv head of a frame. The largest honest one is a view or a partition list of some 5 MiB.
pub const FRAME_HEAD_BYTES_MAX: usize = 16 * MIB;
/// Longest payload of a frame: the largest Iggy batch and a target's worth of others before it.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 72 * MIB;
/// A shipper and an owner close a frame of chunks at this size: long enough that a frame's fixed cost (some 400
/// bytes of head per chunk, one ack) is below 1%, short enough that a frame takes 1 ms on a 10 Gbit/s link.
pub const SHIP_BYTES_TARGET: usize = MIB;
/// The most that a reader can ask for at once. One whole batch comes even if it alone is longer.
pub const FETCH_BYTES_MAX: usize = 8 * MIB;
/// What a reader asks for where it does not say: some 1,000 messages of 1 KiB.
pub const FETCH_BYTES_DEFAULT: usize = MIB;
/// Most entries (chunks, holes) in one frame. 8,192 heads of up to 400 bytes are 3.2 MiB.
pub const ENTRIES_PER_FRAME_MAX: usize = 8 * KIB;
/// Most messages that one frame compares: each may be a read of the bucket.
pub const COMPARISONS_PER_FRAME_MAX: usize = 64;
/// Most partitions that one frame reports on, and so the most that are asked about at once.
pub const PARTITIONS_PER_FRAME_MAX: usize = 64 * KIB;
/// Most declared holes in one answer to a fetch. An answer ends early where there are more.
pub const HOLES_PER_FETCH_MAX: usize = 4 * KIB;
/// Most nodes of one cluster.
pub const NODES_MAX: usize = 1024;
/// Longest agent name, address or zone, bytes.
pub const LABEL_BYTES_MAX: usize = 256;
/// Longest path of a Unix socket, bytes: what Linux has room for, without the zero behind it.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest advert of a reader's landing, bytes: a head of 24 and an address of the fabric of at most 256.
pub const ADVERT_BYTES_MAX: usize = 24 + 256;
/// Most landings that one node lends another in a session: copies on their way to it at once, of all shards.
pub const LANDINGS_MAX: usize = 64;
/// Longest text of an error, bytes. Enough for a sentence and a path; no place to hide a body.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 * KIB;

// ---- shards and copies -------------------------------------------------------------------------------------------

/// Shards of a new cluster: eight parallel files, 20 PUTs a second at the default flush interval.
pub const SHARD_COUNT_DEFAULT: u16 = 8;
/// Most shards of a cluster. 4,096 at 2.5 objects a second are 10,000 PUTs a second: more than a prefix takes.
pub const SHARD_COUNT_MAX: u16 = 4096;
/// Copies of a shard's entries where nothing else is configured.
pub const COPIES_DEFAULT: usize = 3;
/// Most copies of a shard's entries. Seven survive three losses; more only costs.
pub const COPIES_MAX: usize = 7;

// ---- objects -----------------------------------------------------------------------------------------------------

/// A log object closes at this size in quiet times.
pub const LOG_OBJECT_BYTES_TARGET: usize = 8 * MIB;
/// A log object closes at this size under load.
pub const LOG_OBJECT_BYTES_TARGET_LOADED: usize = 32 * MIB;
/// Longest log object: closed at its target by the entry that crosses it, and that entry may be a whole frame.
pub const LOG_OBJECT_BYTES_MAX: usize = 160 * MIB;
/// Most entries that one log object covers, and so the most lines of its index.
pub const LOG_OBJECT_ENTRIES_MAX: usize = 64 * KIB;
/// A block takes no further entry that would make it longer than this: the unit of a read from a log object.
pub const LOG_BLOCK_BYTES_TARGET: usize = 4 * MIB;
/// Longest rkyv index of a log object. 65,536 lines of up to 256 bytes are 16 MiB.
pub const LOG_INDEX_BYTES_MAX: usize = 16 * MIB;
/// Most partitions of one shard.
pub const PARTITIONS_PER_SHARD_MAX: usize = 256 * KIB;
/// Longest body of a small object. An open record or manifest of 262,144 partitions of up to 128 bytes is 32 MiB.
pub const RECORD_BYTES_MAX: usize = 64 * MIB;
/// A reader asks for this much of a log object's end: the footer and the index of some 250 blocks.
pub const LOG_SUFFIX_BYTES: usize = 64 * KIB;

// ---- the catalogue -----------------------------------------------------------------------------------------------

/// Most streams in a catalogue.
pub const STREAMS_MAX: usize = 16 * KIB;
/// Most topics in a catalogue, over all streams.
pub const TOPICS_MAX: usize = 256 * KIB;
/// Most partitions in a catalogue, over all topics.
pub const CATALOG_PARTITIONS_MAX: usize = 1024 * KIB;

// ---- the journal -------------------------------------------------------------------------------------------------

/// Longest head of a journal record. An entry's head is the largest, below 400 bytes.
pub const JOURNAL_RECORD_HEAD_BYTES_MAX: usize = 512;

const _: () = {
    assert!(WIRE_VERSION_MIN >= 1 && WIRE_VERSION_MIN <= WIRE_VERSION);
    // A frame holds a target's worth of bytes and then one more batch of any size, whether shipped or fetched.
    assert!(SHIP_BYTES_TARGET + BATCH_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
    assert!(FETCH_BYTES_MAX + BATCH_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
    assert!(FETCH_BYTES_DEFAULT <= FETCH_BYTES_MAX);
    // A batch of one message of the longest payload and headers fits.
    assert!(256 + 48 + MESSAGE_PAYLOAD_BYTES_MAX + MESSAGE_USER_HEADERS_BYTES_MAX <= BATCH_BYTES_MAX);
    // Heads of full lists fit a frame's head, with 400 bytes for an entry and 128 for the marks of a partition.
    assert!(ENTRIES_PER_FRAME_MAX * 400 <= FRAME_HEAD_BYTES_MAX);
    assert!(PARTITIONS_PER_FRAME_MAX * 128 <= FRAME_HEAD_BYTES_MAX);
    assert!(NODES_MAX * 2 * (LABEL_BYTES_MAX + 32) <= FRAME_HEAD_BYTES_MAX);
    // Every length above travels as a u32.
    assert!(FRAME_PAYLOAD_BYTES_MAX <= u32::MAX as usize);
    assert!(LOG_OBJECT_BYTES_MAX <= u32::MAX as usize);
    // The quorum of the largest copy set is a small number, and two quorums always meet.
    assert!(COPIES_DEFAULT <= COPIES_MAX && COPIES_MAX <= u8::MAX as usize);
    assert!(SHARD_COUNT_DEFAULT <= SHARD_COUNT_MAX);
    // An object at its loaded target takes one more frame's worth, its index and its fixed parts.
    assert!(
        LOG_OBJECT_BYTES_TARGET_LOADED + FRAME_PAYLOAD_BYTES_MAX + LOG_INDEX_BYTES_MAX + 4096 <= LOG_OBJECT_BYTES_MAX
    );
    assert!(LOG_OBJECT_BYTES_TARGET <= LOG_OBJECT_BYTES_TARGET_LOADED);
    assert!(LOG_BLOCK_BYTES_TARGET <= LOG_OBJECT_BYTES_TARGET);
    assert!(LOG_OBJECT_ENTRIES_MAX * 256 <= LOG_INDEX_BYTES_MAX);
    assert!(PARTITIONS_PER_SHARD_MAX * 128 <= RECORD_BYTES_MAX);
    // A catalogue travels as a payload.
    assert!(RECORD_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
};

#[cfg(test)]
mod tests {
    use rkyv::Archived;

    use super::*;
    use crate::entry::EntryHead;
    use crate::ids::PartitionKey;
    use crate::object::{IndexEntry, PartitionState};
    use crate::wire::{PartitionMarks, PartitionReport, ShipProblem};

    #[test]
    fn archived_sizes_are_what_the_arithmetic_assumes() {
        assert!(size_of::<Archived<EntryHead>>() <= 400);
        assert!(size_of::<Archived<IndexEntry>>() <= 256);
        assert!(size_of::<Archived<PartitionState>>() <= 128);
        assert!(size_of::<Archived<PartitionMarks>>() <= 128);
        assert!(size_of::<Archived<PartitionReport>>() <= 128);
        let marks_and_problems =
            size_of::<Archived<PartitionMarks>>() + size_of::<Archived<(PartitionKey, ShipProblem)>>();
        assert!(PARTITIONS_PER_FRAME_MAX * marks_and_problems <= FRAME_HEAD_BYTES_MAX);
    }
}
