//! Reads bodies back from the disk while the journal runs: what waits long for the bucket lies here and not in memory.
//!
//! Places move when records are copied forward, and vanish when they are freed. So a read looks the place up, reads
//! without any lock, and lets the checksum say whether it read what it was to read.

use std::io;
use std::ops::Range;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::aligned::AlignedBuffer;
use super::error::JournalError;
use super::layout::{BLOCK, RECORD_HEADER_BYTES, RecordHeader};
use super::record::RecordId;
use super::ring::Ring;
use super::shared::Shared;
use super::space::{Located, Spot};

/// Records are read in one go while together they span at most this much.
const SPAN_BYTES_MAX: u64 = 4 << 20;
/// Bytes between two records that are read along rather than skipped.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// How often a record that does not verify is looked up again: it may have been copied forward meanwhile.
const LOOKS_MAX: usize = 4;
/// How long a record on its way to the disk is waited for before the journal is asked again whether it still lives.
const WAIT: Duration = Duration::from_millis(50);

/// One record that is asked for.
struct Wanted {
    /// Its place in the answer.
    index: usize,
    id: RecordId,
    spot: Spot,
}

pub(super) fn read(shared: &Shared, ring: &Ring, ids: &[RecordId]) -> Result<Vec<Option<Bytes>>, JournalError> {
    let mut bodies = vec![None; ids.len()];
    let mut missing: Vec<(usize, RecordId)> = ids.iter().copied().enumerate().collect();
    for _ in 0..LOOKS_MAX {
        let mut wanted = locate(shared, &missing)?;
        wanted.sort_unstable_by_key(|wanted| wanted.spot.position);
        missing.clear();
        for span in spans(&wanted) {
            let bytes = read_span(ring, &wanted[span.clone()]).map_err(|error| stop(shared, error))?;
            for wanted in &wanted[span] {
                match body(wanted, &bytes) {
                    Some(body) => bodies[wanted.index] = Some(body),
                    None => missing.push((wanted.index, wanted.id)),
                }
            }
        }
        if missing.is_empty() {
            return Ok(bodies);
        }
    }
    Err(stop(shared, io::Error::other("a record that was durable does not verify any more")))
}

/// Where the records lie, those that were freed left out. Waits for those on their way to the disk.
fn locate(shared: &Shared, ids: &[(usize, RecordId)]) -> Result<Vec<Wanted>, JournalError> {
    let mut wanted = Vec::with_capacity(ids.len());
    let mut state = shared.state();
    for &(index, id) in ids {
        loop {
            if let Some(poison) = &state.poison {
                return Err(poison.clone());
            }
            match state.space.locate(id) {
                Located::Freed => break,
                Located::At(spot) => {
                    wanted.push(Wanted { index, id, spot });
                    break;
                }
                Located::Waiting => {
                    let woken = shared.wake.wait_timeout(state, WAIT);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
    Ok(wanted)
}

/// Which of the records, sorted by place, are read in one go.
fn spans(wanted: &[Wanted]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (index, next) in wanted.iter().enumerate() {
        let end = next.spot.position + next.spot.bytes;
        let joined = spans.last_mut().filter(|span| {
            let (first, last) = (&wanted[span.start].spot, &wanted[span.end - 1].spot);
            next.spot.position <= last.position + last.bytes + GAP_BYTES_MAX && end - first.position <= SPAN_BYTES_MAX
        });
        match joined {
            Some(span) => span.end = index + 1,
            None => spans.push(index..index + 1),
        }
    }
    spans
}

/// A stretch of the ring as it was read.
struct Stretch {
    from: u64,
    bytes: Bytes,
}

fn read_span(ring: &Ring, wanted: &[Wanted]) -> io::Result<Stretch> {
    let block = BLOCK as u64;
    let (first, last) = (&wanted[0].spot, &wanted[wanted.len() - 1].spot);
    let from = first.position / block * block;
    let end = (last.position + last.bytes).next_multiple_of(block);
    let mut buffer = AlignedBuffer::new(usize::try_from(end - from).expect("a record fits memory"));
    ring.read(from, buffer.bytes_mut())?;
    Ok(Stretch { from, bytes: Bytes::from_owner(buffer) })
}

/// The body of a record in a stretch, sharing its memory; `None` if another record lies there by now, or damage.
fn body(wanted: &Wanted, stretch: &Stretch) -> Option<Bytes> {
    let begin = usize::try_from(wanted.spot.position - stretch.from).expect("it lies inside the stretch");
    let whole = begin + usize::try_from(wanted.spot.bytes).expect("a record fits memory");
    let (header, verifies) = RecordHeader::decode(&stretch.bytes[begin..whole], wanted.spot.seed)?;
    let same = verifies && header.id == wanted.id.0 && header.record_bytes() == wanted.spot.bytes;
    same.then(|| stretch.bytes.slice(begin + RECORD_HEADER_BYTES + header.head_bytes as usize..whole))
}

fn stop(shared: &Shared, error: io::Error) -> JournalError {
    let error = JournalError::poisoned("read a record")(error);
    shared.set_poison(error.clone());
    error
}
